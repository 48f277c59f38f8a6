"""Teaching on tiny models: stages, growth, averaging, questions, anchors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file

from leafkit.config import DataConfig, StageConfig, TrainSourceConfig, rules
from leafkit.core.artifact import open_artifact, read_manifest
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.data.training_rows import TrainingRows
from leafkit.models.checkpoint import read_encoder
from leafkit.pipeline.distill import run_distill
from leafkit.pipeline.teacher import recipe_library, stage
from leafkit.pipeline.teacher.memory_library import MemoryLibrary
from leafkit.pipeline.teacher.stage import prepare_encoder
from leafkit.pipeline.teacher.task import Source, StageTask
from leafkit.pipeline.teacher.teach import run_stage, run_teach
from leafkit.train.world import read_world

PROMPT = "find the answer : "


@pytest.fixture(autouse=True)
def _tiny_pairs_are_english_documentation(monkeypatch):
    """What is rewritten as questions is worded like a docstring here."""
    monkeypatch.setattr(rules, "ENGLISH_DOCUMENTATION", ("jsonl:",))


@pytest.fixture
def recipe(home, tmp_path) -> Path:
    """Two stages: a weak one with questions, then one that grows and is averaged with its start."""
    stages = {
        "weak": tiny.tiny_stage(home, question_ratio=0.5),
        "tune": tiny.tiny_stage(
            home,
            init="stage:weak",
            hidden_size=64,
            intermediate_size=96,
            batching="random",
            wise_ft_alpha=0.6,
            loss={"mrl_dims": [64, 32, 16], "mrl_weights": [1.0, 0.3, 0.1]},
        ),
    }
    return tiny.write_recipe(
        tmp_path / "teach.yaml", tiny.tiny_recipe(home, tmp_path / "ck") | {"stages": stages}
    )


def statuses(run) -> dict[str, str]:
    return {step["name"]: step["status"] for step in run.steps}


def run_weak_stage(run) -> None:
    run_stage(run, "weak", run.recipe.stages["weak"])


def catch_batches(monkeypatch) -> list[dict]:
    """Rows and plan of every stage; none is trained."""
    seen: list[dict] = []
    monkeypatch.setattr(stage, "make_batches", lambda *parts, **named: seen.append(named))
    monkeypatch.setattr(stage, "fit", lambda *parts, **named: [1.0])
    return seen


def home_source(template: str = f"{PROMPT}{{query}}", instruction: str = "") -> Source:
    """A source without rows."""
    return Source(
        "home",
        TrainSourceConfig(),
        TrainingRows("home"),
        instruction=instruction,
        template=template,
    )


def test_each_stage_is_an_artifact_and_a_model(recipe, start, capsys):
    run = start(recipe, work=run_teach)
    weak, tune = read_encoder(run.folder / "weak"), read_encoder(run.folder / "tune")
    assert (weak.dim, tune.dim, tune.backbone.config.intermediate_size) == (32, 64, 96)
    assert tune.spec.mrl_dims == (64, 32, 16)
    assert weak.spec.prompts == tune.spec.prompts == {"query": PROMPT}
    assert tune.spec.templates == {"query": "{instruction} : {query}"}
    assert tune.prompt("document") == ""
    for name in ("weak", "tune"):
        manifest = open_artifact(run.folder / name, name)
        losses = json.loads((run.folder / name / "losses.json").read_text())
        assert len(losses) == 4
        assert manifest.metrics["first_loss"] == losses[0]
        assert manifest.metrics["parameters"] == (weak if name == "weak" else tune).num_parameters()
    assert statuses(run)["weak"] == statuses(run)["tune"] == "done"
    assert f"{tune.num_parameters():,} parameters" in capsys.readouterr().out


@pytest.mark.slow
def test_a_second_run_does_nothing_and_a_change_goes_on_to_the_later_stages(recipe, start):
    start(recipe, work=run_teach)
    assert set(statuses(start(recipe, work=run_teach)).values()) == {"up to date"}
    later = statuses(start(recipe, "stages.tune.optimizer.lr=0.002", work=run_teach))
    assert (later["weak"], later["tune"]) == ("up to date", "done")
    both = statuses(
        start(
            recipe,
            "stages.weak.optimizer.lr=0.002",
            "stages.tune.optimizer.lr=0.002",
            work=run_teach,
        )
    )
    assert (both["weak"], both["tune"]) == ("done", "done")


def test_training_learns_the_pairs(recipe, start):
    longer = [
        "stages.weak.num_steps=60",
        "stages.weak.optimizer.lr=0.001",
        "stages.weak.loss.anchor_weight=0",
        "stages.weak.question_ratio=0",
    ]
    run = start(recipe, *longer, work=run_weak_stage)
    losses = json.loads((run.folder / "weak" / "losses.json").read_text())
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:5])


def test_soup_share_zero_gives_the_start_back(recipe, start, home):
    run = start(recipe, "stages.weak.wise_ft_alpha=0", work=run_weak_stage)
    mine, theirs = (
        load_file(run.folder / "weak" / "model.safetensors"),
        load_file(home / "small" / "model.safetensors"),
    )
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_the_soup_lies_between_start_and_trained_weights(recipe, start):
    run = start(recipe, work=run_teach)
    half = load_file(run.folder / "tune" / "model.safetensors")
    run = start(recipe, "stages.tune.wise_ft_alpha=1.0", work=run_teach)
    full = load_file(run.folder / "tune" / "model.safetensors")
    config = run.recipe.stages["tune"]
    begin = prepare_encoder(
        read_encoder(run.folder / "weak"), config, run.recipe.seed, [home_source()]
    ).backbone.state_dict()
    assert len(begin) > 10  # files hold zeros for a pooler that no vector goes through
    for name, value in ((name, half[name]) for name in begin):
        assert torch.allclose(value, 0.6 * full[name] + 0.4 * begin[name], atol=1e-6)


@pytest.mark.slow
def test_equal_seeds_give_equal_teachers(recipe, start, tmp_path):
    first = start(recipe, work=run_teach)
    second = start(recipe, f"checkpoints={tmp_path / 'other'}", work=run_teach)
    a, b = (load_file(run.folder / "tune" / "model.safetensors") for run in (first, second))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_questions_are_trained_on(recipe, start, monkeypatch):
    seen = catch_batches(monkeypatch)
    start(recipe, work=run_teach)
    weak, tune = (parts["rows"] for parts in seen)
    assert sum(q.endswith("?") for q in weak.queries) == 28  # half of 56
    assert sum(q.endswith("?") for q in tune.queries) == 0  # the default
    assert (
        len(weak) == len(tune) == len(set(weak.queries)) == len(set(weak.positives.tolist())) == 56
    )
    assert all(q.startswith(PROMPT) for q in weak.queries)
    assert not any(d.startswith(PROMPT) for d in weak.documents)


def test_batches_hold_neighbors_or_random_pairs(recipe, start, monkeypatch):
    seen = catch_batches(monkeypatch)
    start(recipe, work=run_teach)
    plans = [parts["plan"] for parts in seen]
    assert len(plans) == 2
    for plan in plans:
        assert len(plan.batches) == 4
        assert all(len(set(batch.tolist())) == 8 for batch in plan.batches)
    assert not all(
        np.array_equal(a, b) for a, b in zip(*(plan.batches for plan in plans), strict=True)
    )


def test_anchors_start_where_the_start_model_put_them(home, start, recipe, monkeypatch):
    """A start model without prompts, a trained one without prompts: the first step's anchors are at
    distance zero.
    """
    batches = []

    def catch(module, batch_list, **rest):
        batches.append((module.encoder, batch_list[0]))
        return [1.0]

    monkeypatch.setattr(stage, "fit", catch)
    plain = ["stages.weak.query_template={query}", "stages.tune.query_template={query}"]
    start(recipe, *plain, work=run_teach)
    for encoder, batch in batches:
        with torch.no_grad():
            vectors = torch.nn.functional.normalize(encoder(batch.anchors), dim=1)
        assert len(batch.anchors) == 4
        assert torch.allclose(vectors, batch.anchor_targets, atol=1e-5)


def test_without_anchor_weight_there_are_no_anchors(start, recipe, monkeypatch):
    batches = []
    monkeypatch.setattr(
        stage, "fit", lambda module, batch_list, **rest: batches.append(batch_list[0]) or [1.0]
    )
    start(recipe, "stages.weak.loss.anchor_weight=0", "data.num_pseudo_texts=0", work=run_teach)
    assert [len(batch.anchors) for batch in batches] == [0, 0]


@pytest.mark.parametrize("question_ratio", [0, 0.5])
def test_a_query_with_two_answers_gives_two_rows_that_mask_each_other(
    start, recipe, tmp_path, monkeypatch, question_ratio
):
    """Also where one of the two asks a question and the other does not."""
    pairs = tiny.make_pairs(24)
    rows = [{"query": q, "positives": [d, f"{d} twice"], "split": "train"} for q, d in pairs]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    batches = []
    monkeypatch.setattr(
        stage, "fit", lambda module, batch_list, **rest: batches.append(batch_list[0]) or [1.0]
    )
    words = [f"data.corpus=jsonl:{tmp_path / 'pairs.jsonl'}", "stages.weak.batch_size=48"]
    start(recipe, *words, f"stages.weak.question_ratio={question_ratio}", work=run_weak_stage)
    batch = batches[0]
    assert batch.masked.shape == (48, 48)
    # its own document and the query's other one
    assert set(batch.masked.sum(dim=1).tolist()) == {2}
    assert batch.masked[torch.arange(48), batch.positives].all()
    assert len(batch.positives.unique()) == 48
    masking = batch.masked[:, batch.positives]
    queries = [ids.tolist() for ids in batch.queries]
    same_query = torch.tensor([[a == b for b in queries] for a in queries])
    assert masking[same_query].all()
    assert torch.equal(masking, same_query) == (question_ratio == 0)


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        (
            ["stages.weak.batch_size=57"],
            "batch_size=57 is more than the 56 training pairs there are",
        ),
        (
            ["stages.weak.loss.mrl_dims=[64,16]"],
            r"mrl_dims \[64\] are above the model's 32 dimensions",
        ),
        (["stages.weak.hidden_size=48"], "cannot grow 32/64 to 48"),
        (["stages.weak.init=model:/no/such/folder"], "no such folder"),
        (
            ["stages.weak.init=builtin:nothing"],
            "stages.weak.init: 'builtin:nothing' is not builtin:minilm, builtin:mpnet, stage:NAME",
        ),
    ],
)
def test_settings_that_do_not_fit_are_usage_errors(recipe, start, overrides, match):
    with pytest.raises(UsageError, match=match) as caught:
        start(recipe, *overrides, work=run_teach)
    assert caught.value.hint


def test_a_recipe_without_stages_trains_no_teacher(home, tmp_path, start):
    recipe = tiny.write_recipe(tmp_path / "bare.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    with pytest.raises(UsageError, match="recipe bare trains no teacher: it has no stages"):
        start(recipe, work=run_teach)


def test_a_collection_without_train_queries_is_refused(recipe, start, tmp_path):
    documents = tiny.write_documents(tmp_path / "docs.jsonl")
    with pytest.raises(LeafkitError, match="docs has no judged train queries") as caught:
        start(recipe, f"data.corpus=jsonl:{documents}", work=run_teach)
    assert "teacher.source=model:" in caught.value.hint


@pytest.mark.slow
def test_a_failed_later_stage_keeps_the_earlier_one(recipe, start):
    with pytest.raises(UsageError):
        start(recipe, "stages.tune.hidden_size=48", work=run_teach)
    assert statuses(start(recipe, work=run_teach))["weak"] == "up to date"


@pytest.mark.slow
def test_a_damaged_stage_is_named_before_it_is_built_upon(recipe, start):
    run = start(recipe, work=run_teach)
    path = run.folder / "weak" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(LeafkitError, match=r"weak/model\.safetensors does not have the sha256"):
        start(recipe, work=run_teach)


@pytest.mark.slow
def test_a_student_of_a_teacher_trained_here(recipe, start, home, tmp_path):
    """teacher.source=recipe:... trains the teacher first; a second run trains neither."""
    mine = tiny.tiny_recipe(home, tmp_path / "ck") | {"teacher": {"source": f"recipe:{recipe}"}}
    student = tiny.write_recipe(tmp_path / "student.yaml", mine)
    run = start(student)
    assert {"weak", "tune", "student", "bench", "inherit"} <= {
        name for name, status in statuses(run).items() if status == "done"
    }
    assert (
        read_encoder(tmp_path / "ck" / "student" / "student").spec
        == read_encoder(tmp_path / "ck" / "teach" / "tune").spec
    )
    assert set(statuses(start(student)).values()) == {"up to date"}
    later = statuses(start(student, "student.optimizer.lr=0.002", work=run_distill))
    assert (later["tune"], later["student"]) == ("up to date", "done")


def test_a_teacher_that_was_never_trained_is_named(home, tmp_path, start, recipe):
    from leafkit.pipeline.evaluate.bench import run_bench

    mine = tiny.tiny_recipe(home, tmp_path / "ck") | {"teacher": {"source": f"recipe:{recipe}"}}
    with pytest.raises(LeafkitError, match=r"teach/tune: no such artifact"):
        start(tiny.write_recipe(tmp_path / "student.yaml", mine), work=run_bench)


def test_a_prompt_stands_in_the_spec_and_dims_default_to_the_full_one():
    config = StageConfig(
        query_template="unused: the sources have theirs {query}",
        instruction="likewise",
    )
    source = home_source("task {instruction} | {query}", "seek")
    encoder = prepare_encoder(tiny.make_encoder(), config, 0, [source])
    assert encoder.spec.prompts == {"query": "task seek | "}
    assert encoder.spec.templates == {"query": "task {instruction} | {query}"}
    assert encoder.spec.mrl_dims == (32,)


def test_every_source_has_a_prompt_under_its_name_and_the_first_ones_is_the_querys():
    sources = [
        Source(name, TrainSourceConfig(), TrainingRows(name), template=f"{name} : {{query}}")
        for name in ("wiki", "news")
    ]
    encoder = prepare_encoder(
        tiny.make_encoder(prompts={"query": "old : "}), StageConfig(), 0, sources
    )
    assert encoder.spec.prompts == {"query": "wiki : ", "wiki": "wiki : ", "news": "news : "}


@pytest.mark.slow
def test_the_start_is_loaded_once_and_read_again_for_an_average_alone(recipe, start, monkeypatch):
    """Whoever asks for it, mining too, gets the one that is then trained."""
    loaded: list[str] = []
    load = recipe_library.load_encoder
    monkeypatch.setattr(
        recipe_library, "load_encoder", lambda name: loaded.append(name) or load(name)
    )
    settings = ["stages.weak.mining.model=start", "stages.weak.mining.num_negatives=1"]
    run = start(recipe, *settings, work=run_weak_stage)
    begin = run.recipe.stages["weak"].init
    assert loaded.count(begin) == 1
    start(recipe, *settings, "stages.weak.wise_ft_alpha=0.5", work=run_weak_stage)
    assert loaded.count(begin) == 3


def test_a_model_that_another_stage_starts_from_stays_as_it_is():
    library = MemoryLibrary(DataConfig())
    library.stages["first"] = tiny.make_encoder()
    task = StageTask(
        "second",
        StageConfig(init="stage:first"),
        library.data,
        library=library,
        device=torch.device("cpu"),
        precision=torch.float32,
        world=read_world(),
        seed=0,
    )
    held = task.hold_start()
    assert held is library.stages["first"] is task.load_model("start").encoder
    taken = task.take_start()
    assert taken is not held
    assert taken.backbone is not held.backbone


@pytest.mark.slow
def test_the_start_of_a_later_stage_is_fingerprinted(recipe, start):
    run = start(recipe, work=run_teach)
    assert (
        read_manifest(run.folder / "tune").inputs["start"]
        == read_manifest(run.folder / "weak").fingerprint()
    )
    shutil.rmtree(run.folder / "weak")
    again = start(recipe, work=run_teach)
    assert statuses(again)["weak"] == "done"
