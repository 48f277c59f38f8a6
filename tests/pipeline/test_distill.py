"""The whole road on tiny models: what it leaves, what it does again, what it refuses."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file

from leafkit.config.load import load_recipe
from leafkit.core.artifact import open_artifact, read_manifest
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.process.lock import exclusive
from leafkit.data.vector_store import Space, VectorStore
from leafkit.evaluation.per_query import read_per_query
from leafkit.models.checkpoint import read_encoder, write_encoder
from leafkit.models.folder import read_space
from leafkit.pipeline.collect import collect_report
from leafkit.pipeline.distill import run_distill
from leafkit.pipeline.evaluate.bench import run_bench
from leafkit.pipeline.evaluate.inherit import run_inherit
from leafkit.pipeline.run import folder_name, open_run
from leafkit.pipeline.student.targets import Target, read_targets
from leafkit.results import EvaluationResult, InheritanceGrid, RunReport

STAGES = ("student", "index", "bench", "inherit")


def redone(run) -> set[str]:
    """Names of the steps that were not up to date."""
    return {step["name"] for step in run.steps if step["status"] == "done"}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors") | {
        f"dense.{k}": v for k, v in load_file(folder / "2_Dense" / "model.safetensors").items()
    }


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_every_stage_leaves_a_verified_artifact(finished):
    for stage in STAGES:
        manifest = open_artifact(finished / "ck" / "tiny" / stage, stage)
        assert manifest.files
        assert manifest.recipe["student"]["optimizer"]["lr"] == 3e-4
        assert manifest.metrics["seconds"] >= 0
    assert not list((finished / "ck").rglob("*.draft"))


def test_the_student_lives_in_the_teachers_space(finished, home):
    folder = finished / "ck" / "tiny" / "student"
    student, teacher = read_encoder(folder), read_encoder(home / "big")
    space = read_space(folder)
    assert (space["kind"], space["teacher"], space["dim"]) == ("student", teacher.fingerprint, 48)
    assert student.spec == teacher.spec
    assert student.dim == teacher.dim
    texts = [document for _, document in tiny.make_pairs()]
    with torch.no_grad():
        vectors = [e.finish(e(e.tokenize(texts, "document", 48))) for e in (student, teacher)]
    cosines = vectors[0] @ vectors[1].T
    assert float(cosines.diagonal().mean()) > 0.95
    # chance: 1 in 72
    assert float((cosines.argmax(dim=1) == torch.arange(len(texts))).float().mean()) > 0.4


@pytest.mark.slow
def test_training_lowers_the_loss_below_the_closed_form_start(home, tmp_path, start):
    recipe = tiny.write_recipe(tmp_path / "tiny.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    start(
        recipe, "student.num_epochs=6", "student.optimizer.lr=0.001", "inherit.precisions=[float32]"
    )
    losses = json.loads((tmp_path / "ck" / "tiny" / "student" / "losses.json").read_text())
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    metrics = read_manifest(tmp_path / "ck" / "tiny" / "student").metrics
    assert metrics["first_loss"] == losses[0]
    assert 0 < metrics["loader"]["waited_s"] < metrics["loader"]["training_s"]
    assert 0.9 < metrics["spectrum"]["ridge_cosine"] <= 1
    assert metrics["spectrum"]["rank"] == 32
    assert metrics["spectrum"]["num_held_out"] == 8  # an eighth of the 64 that it is fitted to
    assert 0.9 < metrics["spectrum"]["variance_kept"] <= 1


def test_a_second_run_does_nothing_again(done, start, capsys):
    before = {
        p: (p.stat().st_mtime_ns, p.stat().st_ino)
        for p in done.parent.rglob("*")
        # the lock and what is remembered of files are part of no artifact
        if p.is_file() and not p.name.startswith(".")
    }
    run = start(done)
    assert redone(run) == set()
    assert {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in before} == before
    shown = capsys.readouterr().out
    for stage in (*STAGES, "corpus pairs.jsonl"):
        assert f"{stage}: up to date" in shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("student.optimizer.lr=0.002", {"student", "bench", "inherit"}),
        ("bench.num_resamples=100", {"bench", "inherit"}),
        ("inherit.precisions=[float32]", {"inherit"}),
        ("bench.num_samples=1", {"bench"}),
        ("seed=7", {"student", "bench", "inherit"}),
        ("student.init_layers=last:1", {"student", "bench", "inherit"}),
        ("force=true", {"corpus pairs.jsonl", "student", "index", "bench", "inherit"}),
    ],
)
def test_a_changed_key_runs_again_only_what_depends_on_it(done, start, override, expected):
    stages = {"corpus pairs.jsonl", *STAGES}
    assert redone(start(done, override)) & stages == expected
    assert redone(start(done, override.replace("force=true", "force=false"))) == set()


@pytest.mark.slow
def test_another_teacher_runs_everything_but_the_corpus_again(done, start, tmp_path):
    tiny.write_model(
        tmp_path / "other", hidden=48, seed=9, prompts={"query": tiny.PROMPT}, mrl_dims=(48, 24)
    )
    found = redone(start(done, f"teacher.source=model:{tmp_path / 'other'}"))
    assert set(STAGES) <= found
    assert "corpus pairs.jsonl" not in found
    assert "other vectors of pairs documents" in found


@pytest.mark.slow
def test_a_changed_file_runs_everything_again(home, tmp_path, start):
    data = shutil.copy(home / "pairs.jsonl", tmp_path / "pairs.jsonl")
    recipe = tiny.tiny_recipe(home, tmp_path / "ck")
    recipe["data"]["corpus"] = f"jsonl:{data}"
    path = tiny.write_recipe(tmp_path / "tiny.yaml", recipe)
    start(path)
    lines = Path(data).read_text().splitlines()
    Path(data).write_text("\n".join([*lines[:-1], lines[-1].replace("the", "that")]) + "\n")
    assert {"corpus pairs.jsonl", *STAGES} <= redone(start(path))


@pytest.mark.slow
def test_other_texts_of_another_source_train_the_student_again(home, tmp_path, start):
    """As many rows as before, other words: the student must not be taken for up to date."""
    extra = tiny.write_documents(tmp_path / "extra.jsonl", count=20)
    recipe = tiny.tiny_recipe(home, tmp_path / "ck")
    recipe["data"]["sources"] = {"extra": {"uri": f"jsonl:{extra}", "limit": 12}}
    path = tiny.write_recipe(tmp_path / "tiny.yaml", recipe)
    run = start(path)
    assert "big vectors of extra documents" in redone(run)
    assert redone(start(path)) == set()
    extra.write_text(extra.read_text().replace("value", "kernel"))
    assert "student" in redone(start(path))


@pytest.mark.slow
def test_equal_seeds_give_equal_weights_and_others_do_not(finished, home, tmp_path, start):
    recipe = tiny.write_recipe(tmp_path / "tiny.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    start(recipe)
    first = weights(finished / "ck" / "tiny" / "student")
    assert equal(first, weights(tmp_path / "ck" / "tiny" / "student"))
    start(recipe, "seed=1")
    assert not equal(first, weights(tmp_path / "ck" / "tiny" / "student"))


@pytest.mark.slow
@pytest.mark.parametrize(("epochs", "share"), [(0.5, 0.5), (1.0, 1.0), (2.5, 2.5)])
def test_a_share_of_an_epoch_is_a_share_of_the_steps(home, tmp_path, start, epochs, share):
    recipe = tiny.tiny_recipe(home, tmp_path / "ck")
    recipe["student"]["max_texts_per_batch"] = 8
    path = tiny.write_recipe(tmp_path / "tiny.yaml", recipe)

    def count(*overrides: str) -> int:
        start(path, "inherit.precisions=[float32]", *overrides)
        return len(json.loads((tmp_path / "ck" / "tiny" / "student" / "losses.json").read_text()))

    assert count(f"student.num_epochs={epochs}") == pytest.approx(
        share * count("student.num_epochs=1"), abs=2.5
    )


def test_repeated_queries_are_seen_more_often(done, start):
    before = len(json.loads((done.parent / "ck/tiny/student/losses.json").read_text()))
    start(done, "student.query_repeats=5")
    assert len(json.loads((done.parent / "ck/tiny/student/losses.json").read_text())) > before


@pytest.mark.slow
def test_a_teacher_that_does_not_normalize_has_such_a_student(home, tmp_path, start):
    tiny.write_model(tmp_path / "raw", hidden=48, seed=1, normalized=False)
    recipe = tiny.write_recipe(tmp_path / "tiny.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    start(recipe, f"teacher.source=model:{tmp_path / 'raw'}", "inherit.precisions=[float32]")
    assert not read_encoder(tmp_path / "ck" / "tiny" / "student").spec.normalized
    spectrum = read_manifest(tmp_path / "ck" / "tiny" / "student").metrics["spectrum"]
    assert 0.9 < spectrum["ridge_cosine"] <= 1


def test_one_text_of_each_origin_is_enough_to_start_the_projection_from(done, start):
    run = start(done, "student.num_ridge_texts=1")
    # of each origin: documents, queries, pseudo-texts
    assert read_manifest(run.folder / "student").metrics["spectrum"]["num_texts"] == 3


@pytest.mark.slow
def test_documents_alone_train_a_student_that_is_measured_by_its_agreement(
    home, tmp_path, start, capsys
):
    documents = tiny.write_documents(tmp_path / "docs.jsonl")
    recipe = tiny.tiny_recipe(home, tmp_path / "ck")
    recipe["data"]["corpus"] = f"jsonl:{documents}"
    run = start(tiny.write_recipe(tmp_path / "tiny.yaml", recipe))
    shown = capsys.readouterr().out
    assert "docs has no judged test query: the student is measured by its agreement" in shown
    assert (run.folder / "student" / "manifest.json").is_file()
    assert not (run.folder / "inherit").exists()
    result = EvaluationResult.load(run.folder / "bench" / "results.json")
    (found,) = result.agreements
    assert result == EvaluationResult(agreements=(found,))
    assert (found.asked_with, found.training) == ("documents as queries", "seen in training")


@pytest.mark.slow
def test_other_collections_are_measured_where_the_corpus_has_no_queries(home, tmp_path, start):
    documents = tiny.write_documents(tmp_path / "docs.jsonl")
    recipe = tiny.tiny_recipe(home, tmp_path / "ck")
    recipe["data"]["corpus"] = f"jsonl:{documents}"
    recipe["bench"]["collections"] = [f"jsonl:{home / 'pairs.jsonl'}"]
    run = start(tiny.write_recipe(tmp_path / "tiny.yaml", recipe))
    result = EvaluationResult.load(run.folder / "bench" / "results.json")
    assert [(c.name, c.kind) for c in result.collections] == [("pairs", "out-of-domain")]
    assert len(result.latency) == 2


def test_a_further_collection_without_judged_queries_is_refused(done, start, tmp_path):
    documents = tiny.write_documents(tmp_path / "docs.jsonl")
    with pytest.raises(LeafkitError, match="docs has no judged test query"):
        start(done, f"bench.collections=[jsonl:{documents}]", work=run_bench)


def test_the_benchmark_measures_teacher_student_and_bm25(finished):
    result = EvaluationResult.load(finished / "ck" / "tiny" / "bench" / "results.json")
    (collection,) = result.collections
    assert {row.system for row in collection.systems} == {
        "teacher",
        "symmetric",
        "asymmetric",
        "reversed",
        "bm25",
    }
    assert (collection.num_queries, collection.num_documents) == (12, 72)
    assert collection.kind == "in-domain"
    assert [row.encoder for row in result.latency] == ["teacher", "student"]
    assert len(result.samples) == 2
    (per_query,) = read_per_query(finished / "ck" / "tiny" / "bench" / "per_query.parquet")
    assert per_query.values["teacher"]["ndcg@10"].shape == (12,)


def test_a_baseline_is_measured_beside_them(done, start, home):
    run = start(done, f"bench.baseline=model:{home / 'small'}", work=run_bench)
    result = EvaluationResult.load(run.folder / "bench" / "results.json")
    assert "baseline" in {row.system for row in result.collections[0].systems}


def test_the_grid_holds_every_cell_of_the_teachers_dimensions(finished):
    grid = InheritanceGrid.load(finished / "ck" / "tiny" / "inherit" / "grid.json")
    assert {cell.dim for cell in grid.cells} == {48, 24}
    assert {cell.precision for cell in grid.cells} == {"float32", "int8", "binary"}
    assert grid.num_queries == 12


def test_everything_a_report_needs_is_collected(done):
    with open_run(load_recipe(str(done))) as run:
        run_distill(run)
        report = collect_report(run, "leafkit distill recipe=tiny")
    assert RunReport.from_json(json.loads(json.dumps(report.to_json()))) == report
    student = read_encoder(run.folder / "student")
    assert report.student.parameters == student.num_parameters()
    assert list(report.losses) == ["student"]
    assert report.spectrum.rank == student.hidden_size
    assert report.corpora[0].queries == {"test": 12, "train": 56, "validation": 4}
    assert [step.name for step in report.steps] == list(
        dict.fromkeys(step["name"] for step in run.steps)
    )
    assert report.machine.precision == "float32"
    assert len(report.inheritance.cells) == 12


@pytest.mark.parametrize(
    "name",
    [
        "tiny/student/model.safetensors",
        "tiny/student/losses.json",
        "tiny/index/vectors.npy",
        "tiny/bench/results.json",
        "tiny/inherit/grid.json",
    ],
)
def test_a_damaged_artifact_is_named_with_a_remedy(done, start, name):
    path = done.parent / "ck" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(LeafkitError, match="does not have the sha256 in its manifest") as caught:
        start(done)
    assert name in str(caught.value)
    assert f"delete {path.parent}" in caught.value.hint
    shutil.rmtree(path.parent)
    start(done)
    open_artifact(path.parent)


def test_a_damaged_corpus_is_named(done, start):
    (path,) = (done.parent / "ck" / "corpora").glob("*/documents.jsonl")
    path.write_text(path.read_text().replace("the", "le", 1))
    with pytest.raises(LeafkitError, match=r"documents\.jsonl does not have the sha256"):
        start(done)


def test_a_truncated_store_is_named(done, start):
    path = next((done.parent / "ck" / "vectors").glob("big-document-*/00000.vectors"))
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(LeafkitError, match=r"00000\.vectors is missing or has not the") as caught:
        start(done)
    assert f"delete {path.parent}" in caught.value.hint


def test_a_store_of_another_teacher_is_refused(done, start, home):
    """The folder's name carries the space; a folder that was renamed or copied by hand is caught by
    its commit record.
    """
    path = next((done.parent / "ck" / "vectors").glob("big-document-*/00000.json"))
    record = json.loads(path.read_text())
    record["space"]["teacher"] = "0123456789abcdef"
    path.write_text(json.dumps(record))
    with pytest.raises(
        LeafkitError, match="holds vectors of another space: teacher is '0123456789abcdef' there"
    ):
        start(done)


def test_layers_that_the_start_lacks_are_refused_before_anything_is_embedded(home, tmp_path, start):
    recipe = tiny.tiny_recipe(home, tmp_path / "ck")
    recipe["student"]["init_layers"] = "first:1,last:2"
    with pytest.raises(UsageError, match="of a start of 2 layers names layer 1 twice"):
        start(tiny.write_recipe(tmp_path / "tiny.yaml", recipe))
    assert not list((tmp_path / "ck").rglob("*.vectors"))


def test_a_student_of_another_teacher_is_refused(done, start, tmp_path):
    stranger = tiny.make_encoder(hidden=32, dim=48, seed=5)
    write_encoder(
        stranger, tmp_path / "stranger", {"kind": "student", "teacher": "0123456789abcdef"}
    )
    for work in (run_bench, run_inherit):
        with pytest.raises(
            LeafkitError, match="lives in the space of teacher 0123456789abcdef, not of teacher"
        ) as caught:
            start(done, f"bench.student=model:{tmp_path / 'stranger'}", work=work)
        assert "distil again" in caught.value.hint


def test_a_student_of_another_dimension_is_refused(done, start, home):
    shutil.copytree(home / "small", done.parent / "plain")
    (done.parent / "plain" / "leafkit.json").unlink()
    with pytest.raises(
        LeafkitError, match="the student's vectors have 32 dimensions and the teacher's 48"
    ):
        start(done, f"bench.student=model:{done.parent / 'plain'}", work=run_bench)


def test_two_runs_at_once_are_refused(done, start):
    with (
        exclusive(done.parent / "ck"),
        pytest.raises(LeafkitError, match=f"in use by process {os.getpid()}") as caught,
    ):
        start(done)
    assert "checkpoints=DIR" in caught.value.hint
    start(done)


def test_finished_models_are_measured_beside_a_run_that_trains(done, start):
    checkpoints = done.parent / "ck"
    shutil.rmtree(checkpoints / "measured")
    shutil.rmtree(checkpoints / "tiny" / "bench")
    with exclusive(checkpoints):
        with open_run(load_recipe(str(done)), trains=False) as run:
            run_bench(run)
        # what another run is making of the same recipe is not measured meanwhile
        with (
            exclusive(checkpoints / "tiny"),
            pytest.raises(LeafkitError, match="tiny is in use by process"),
            open_run(load_recipe(str(done)), trains=False),
        ):
            pass
    assert read_manifest(checkpoints / "tiny" / "bench").step == "bench"
    with (
        open_run(load_recipe(str(done)), trains=False),
        pytest.raises(LeafkitError, match="in use"),
    ):
        start(done)


def test_a_failed_stage_leaves_the_old_artifact_and_no_draft(done, start, monkeypatch):
    before = weights(done.parent / "ck" / "tiny" / "student")
    monkeypatch.setattr(
        "leafkit.models.encoder_protocol.write_encoder",
        lambda *a: (_ for _ in ()).throw(OSError(28, "No space left on device")),
    )
    with pytest.raises(LeafkitError, match="No space left on device"):
        start(done, "student.optimizer.lr=0.5")
    assert equal(before, weights(done.parent / "ck" / "tiny" / "student"))
    assert not list((done.parent / "ck" / "tiny").glob(".*draft"))


def test_a_teacher_is_needed(done, start):
    with pytest.raises(UsageError, match="recipe tiny names no teacher"):
        start(done, "teacher.source=")


def test_inherit_without_judged_queries_is_refused(done, start, home, tmp_path):
    pairs = [
        line
        for line in (home / "pairs.jsonl").read_text().splitlines()
        if '"validation"' not in line
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(pairs))
    with pytest.raises(
        LeafkitError,
        match=r"pairs has no judged validation query \(splits with queries: test, train\)",
    ):
        start(
            done,
            "bench.split=validation",
            f"data.corpus=jsonl:{tmp_path / 'pairs.jsonl'}",
            work=run_inherit,
        )


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("builtin:pydocs", "pydocs"),
        ("jsonl:/data/pairs.jsonl", "pairs.jsonl"),
        ("owner/model-v1.5", "model-v1.5"),
        ("/a/b/", "b"),
        ("..", "unnamed"),
        ("", "unnamed"),
        ("a b*c", "a-b-c"),
    ],
)
def test_references_become_folder_names(reference, name):
    assert folder_name(reference) == name


def test_targets_of_several_stores_are_the_rows_one_by_one(tmp_path):
    """What licenses one gather per store and batch."""
    space = Space(teacher="f00d", dim=4, prompt="", max_tokens=64, pooling="mean", normalized=True)
    targets = []
    for g, count in enumerate((10, 3)):
        store = VectorStore(
            tmp_path / str(g), space, [f"text {i}" for i in range(count)], rows_per_shard=4
        )
        for shard in store.missing():
            store.write(
                shard,
                np.random.default_rng([g, shard.number]).normal(size=(shard.stop - shard.start, 4)),
            )
        targets.append(Target([f"text {i}" for i in range(count)], "document", store))
    rows = [(0, 9), (1, 2), (0, 0), (0, 9), (1, 0), (0, 4)]
    expected = np.stack([targets[g].vectors[np.array([i])][0] for g, i in rows])
    np.testing.assert_array_equal(read_targets(targets, rows), expected)
