"""Every key against every command: what nothing reads there is refused, and nothing else is."""

from __future__ import annotations

import json
import sys
from dataclasses import fields, is_dataclass

import pytest
import tiny

from leafkit import config
from leafkit.cli import main, recipe_words
from leafkit.cli.recipe_words import read_recipe
from leafkit.config.effects import EFFECTS, find_useless, has_effect
from leafkit.config.load import load_recipe
from leafkit.config.reference import list_keys
from leafkit.config.teacher_recipe import load_teacher_recipe
from leafkit.core.errors import UsageError

KEYS = [key.name.replace("NAME", "tune", 1) for key in list_keys()]
RUNS = [command for command in EFFECTS if command != "show"]
OF_SECTIONS = {
    "data.corpus=builtin:pydocs": {"synth"},
    "data.exclude_self=never": {"predict", "rescue", "teach", "mine", "synth", "embed", "export"},
    "data.max_train_queries=9": set(RUNS) - {"distill", "ladder"},
    "data.num_pseudo_texts=9": {
        "predict",
        "rescue",
        "synth",
        "embed",
        "bench",
        "inherit",
        "export",
    },
    "student.num_epochs=2": set(RUNS) - {"distill", "rescue"},
    "student.init=builtin:minilm": set(RUNS)
    - {"distill", "predict", "rescue", "inherit", "ladder"},
    "student.init_layers=first:3": set(RUNS) - {"distill", "predict", "rescue", "inherit"},
    "synth.model=x": set(RUNS) - {"synth"},
    "bench.num_samples=1": set(RUNS) - {"distill", "bench"},
    "bench.split=test": {"predict", "rescue", "teach", "mine", "synth", "embed"},
    "inherit.precisions=[int8]": set(RUNS) - {"distill", "predict", "inherit"},
    "inherit.diagnose=true": set(RUNS) - {"inherit"},
    "ladder.rungs=[table]": set(RUNS) - {"ladder"},
    "trainer.accumulate_grad_batches=2": set(RUNS) - {"distill", "rescue", "teach", "mine"},
    "teacher.source=builtin:minilm": {"rescue", "teach", "mine", "synth"},
    "stages.tune.num_steps=2": set(RUNS) - {"teach", "mine"},
    "seed=3": {"embed"},
    "embed.engine=ray": {"synth"},
    "precision=float32": {"synth"},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tiny.make_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def whole(home):
    """A recipe with everything: it trains a teacher, and distils another one."""
    plain = tiny.tiny_recipe(home, home / "ck")
    return tiny.write_recipe(
        home / "whole.yaml", plain | {"stages": {"tune": tiny.tiny_stage(home)}}
    )


def test_every_key_counts_somewhere_and_is_refused_elsewhere() -> None:
    recipe = load_recipe("kalm-to-23m")
    for key in KEYS:
        counts = [command for command in RUNS if has_effect(command, key)]
        assert counts, f"{key} has no effect in any command"
        for command in set(RUNS) - set(counts):
            useless = dict(find_useless(command, recipe, [key]))
            assert all(name in useless[key] for name in counts), (command, key)


@pytest.mark.parametrize("command", RUNS)
def test_a_command_takes_what_it_reads_and_refuses_the_rest(command: str, whole) -> None:
    refused = [word for word, commands in OF_SECTIONS.items() if command in commands]
    diagnoses = ["inherit.diagnose=true"] if command == "inherit" else []
    taken = [word for word in OF_SECTIONS if word not in [*refused, *diagnoses]]
    assert read_recipe(command, [f"recipe={whole}", *taken, *diagnoses]).name == "whole"
    with pytest.raises(UsageError, match=f"have no effect in leafkit {command}") as error:
        read_recipe(command, [f"recipe={whole}", *refused, *taken, *diagnoses])
    for word in refused:
        assert word.partition("=")[0] in str(error.value)
        assert f"{word.partition('=')[0]}: it " in error.value.hint
    for word in taken:
        assert f"{word.partition('=')[0]}," not in str(error.value)


@pytest.mark.parametrize(
    ("command", "words", "needs"),
    [
        ("distill", ["data.packages=[numpy]"], "a source builtin:pydocs"),
        ("bench", ["data.out_of_domain_packages=[rich]"], "builtin:pydocs-out-of-domain"),
        ("distill", ["data.max_bad_rows=3"], "data.on_bad_row=skip"),
        ("embed", ["embeddings.dimensions=8"], "endpoint:MODEL"),
        ("embed", ["embed.num_workers=2"], "embed.engine=ray"),
        ("distill", ["data.made_query_vectors=source"], "data.num_made_queries"),
        ("distill", ["student.static.width=8"], "student.kind=static"),
        ("distill", ["student.kind=static", "student.num_epochs=2"], "student.kind=transformer"),
        ("distill", ["student.kind=static", "student.losses.gor=1"], "student.kind=transformer"),
        (
            "distill",
            ["student.kind=static", "student.num_checks=0", "student.num_held_out=9"],
            "student.num_checks of one",
        ),
        ("distill", ["student.kind=instant", "student.num_checks=2"], "takes no steps"),
        ("distill", ["student.kind=instant", "student.losses.begin.l2=.1"], "takes no steps"),
        ("distill", ["student.kind=instant", "trainer.loggers=[csv]"], "takes no steps"),
        ("rescue", ["student.minutes=0", "trainer.loggers=[csv]"], "takes no steps"),
        (
            "distill",
            ["student.losses.score_kl=1", "student.losses.candidates.margin=1"],
            "student.losses.triplet",
        ),
        (
            "distill",
            [
                "student.losses.score_mse=1",
                "student.head_steps=0",
                "student.losses.candidates.temperature=1",
            ],
            "student.losses.score_kl, ranking",
        ),
        ("bench", ["bench.indexes.ef_search=[16]"], "indexes.kinds"),
        ("inherit", ["inherit.pq_bytes=8"], "pq among inherit.precisions"),
        ("inherit", ["inherit.ranks=[8]"], "inherit.diagnose=true"),
        ("distill", ["student.start_weight=1"], "score_kl"),
        (
            "distill",
            ["student.kind=instant", "student.head_steps=0", "student.start_weight=1"],
            "head_steps",
        ),
        ("distill", ["student.head=none", "student.ridge=0.1"], "student.head=linear"),
        ("distill", ["student.head_hidden=64"], "student.head=two_layer"),
        ("inherit", ["inherit.diagnose=true", "inherit.strict=true"], "inherit.diagnose=false"),
        ("teach", ["stages.tune.lora.alpha=8"], "lora.rank"),
        ("teach", ["stages.tune.mining.first_rank=1"], "mining.model"),
        ("teach", ["stages.tune.soup.temperature=1"], "soup.members"),
        ("teach", ["stages.tune.soft_labels.kind=mse"], "soft_labels.models"),
        ("teach", ["stages.tune.batching=random", "stages.tune.num_neighbors=3"], "neighbors"),
    ],
)
def test_a_key_that_another_one_switches_off_is_refused(command, words, needs, whole) -> None:
    with pytest.raises(UsageError, match="no effect") as refused:
        read_recipe(command, [f"recipe={whole}", *words])
    assert needs in refused.value.hint


def test_what_a_file_sets_for_another_kind_is_told_and_not_refused(capsys) -> None:
    read_recipe("distill", ["recipe=mpnet-to-23m"])
    assert "has no use for" not in capsys.readouterr().out
    recipe = read_recipe("distill", ["recipe=mpnet-to-23m", "student.kind=instant"])
    assert (recipe.student.kind, recipe.student.minutes) == ("instant", 20)
    [told] = [line for line in capsys.readouterr().out.split("\n\n") if "has no use for" in line]
    told = " ".join(told.split())
    assert "an instant student as it is set has no use for student.max_texts_per_batch=64" in told
    assert all(f"student.{key}=" in told for key in ("minutes", "optimizer.lr", "losses.score_kl"))
    # both count for it
    assert not any(f"student.{key}" in told for key in ("start_weight", "num_ridge_texts"))
    with pytest.raises(UsageError, match=r"student\.minutes has no effect"):
        read_recipe("distill", ["recipe=mpnet-to-23m", "student.kind=instant", "student.minutes=5"])


def test_what_trains_the_teacher_is_not_told_to_have_no_use(capsys) -> None:
    words = ["recipe=kalm-to-23m", "student.kind=instant", "trainer.loggers=[csv]"]
    assert load_teacher_recipe(read_recipe("distill", words)).trainer.loggers == ["csv"]
    assert "trainer.loggers" not in capsys.readouterr().out.partition("has no use for")[2]


def test_what_the_command_line_sets_reaches_the_teachers_recipe() -> None:
    words = ["stages.tune.optimizer.lr=1e-6", "seed=7", "data.packages=[json]", "name=other"]
    recipe = read_recipe("distill", ["recipe=kalm-to-23m", *words, "student.num_epochs=2"])
    teacher = load_teacher_recipe(recipe)
    assert (recipe.seed, recipe.data.packages, recipe.student.num_epochs) == (7, ["json"], 2)
    assert (teacher.seed, teacher.data.packages, teacher.name) == (7, ["json"], "kalm-mini-lite")
    assert teacher.stages["tune"].optimizer.lr == 1e-6
    assert recipe.stages == {}
    assert recipe.teacher.overrides == words[:-1]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("stages.tune.lr=1", "stages.tune.lr is now called stages.tune.optimizer.lr"),
        ("stages.none.batch_size=x", "'x' is not a whole number"),
        ("stages.tune.lora.alpha=3", "stages.tune.lora.alpha has no effect"),
        ("data.corpus=jsonl:x", "question_ratio"),
        ("teacher.source=model:x", "stages.tune.num_steps has no effect in leafkit distill"),
    ],
)
def test_what_the_teachers_recipe_cannot_take_is_refused(word: str, message: str) -> None:
    words = ["recipe=kalm-to-23m", "student.question_ratio=0", "stages.tune.num_steps=1", word]
    with pytest.raises(UsageError, match=message):
        read_recipe("distill", words)


def test_a_recipe_names_overrides_of_its_teacher_itself(home, tmp_path) -> None:
    plain = tiny.tiny_recipe(home, tmp_path / "ck")
    del plain["teacher"]
    teacher = plain | {"stages": {"tune": tiny.tiny_stage(home)}}
    path = tiny.write_recipe(tmp_path / "teacher.yaml", teacher)
    section = {"source": f"recipe:{path}", "overrides": ["stages.tune.num_steps=3"]}
    recipe = tiny.write_recipe(tmp_path / "pair.yaml", plain | {"teacher": section})
    assert load_teacher_recipe(load_recipe(str(recipe))).stages["tune"].num_steps == 3
    with pytest.raises(UsageError, match=r"teacher\.overrides: is for recipe:NAME"):
        load_recipe(str(recipe), ["teacher.source=builtin:minilm"])


# --- what the commands really read


@pytest.mark.slow
def test_no_command_reads_a_key_that_it_refuses(whole, monkeypatch) -> None:
    """Every read of a key is recorded while tiny recipes run through the commands."""
    places: dict[int, str] = {}
    read: set[str] = set()
    kept: list[object] = []

    def place(section: object, prefix: str) -> None:
        kept.append(section)
        places[id(section)] = prefix
        for declared in fields(section):
            value = object.__getattribute__(section, declared.name)
            for name, inner in value.items() if isinstance(value, dict) else [("", value)]:
                if is_dataclass(inner):
                    place(inner, f"{prefix}{declared.name}." + (f"{name}." if name else ""))

    def get(section: object, name: str) -> object:
        value = object.__getattribute__(section, name)
        # a manifest holds the whole recipe, and two recipes are compared as wholes; neither decides
        is_copied = sys._getframe(1).f_code.co_name in {"to_plain", "<dictcomp>", "__eq__"}
        if id(section) in places and not is_copied and not name.startswith("__"):
            inner = list(value.values()) if isinstance(value, dict) else [value]
            if not any(map(is_dataclass, inner)) and value != {}:
                read.add(places[id(section)] + name)
        return value

    for kind in vars(config).values():
        if isinstance(kind, type) and is_dataclass(kind):
            monkeypatch.setattr(kind, "__getattribute__", get)

    def recorded(*words, **options):
        recipe = read_recipe(*words, **options)
        places.clear()
        place(recipe, "")
        read.clear()
        return recipe

    runs = (
        ["distill"],
        ["bench", "force=true"],
        ["inherit"],
        ["inherit", "inherit.diagnose=true"],
        ["embed", "force=true"],
        ["teach"],
    )
    for command, *words in runs:
        module = sys.modules.get(f"leafkit.cli.commands.{command}")
        module = module or __import__(f"leafkit.cli.commands.{command}", fromlist=["run"])
        monkeypatch.setattr(module, "read_recipe", recorded)
        # what a tiny student inherits is not asked here
        status = main.main([command, f"recipe={whole}", *words])
        assert status == 0 or (command == "inherit" and status == 1)
        assert len(read) > 10
        wrong = {key for key in read if not has_effect(command, key)}
        # asked whether it is so, and refused where it says yes
        assert wrong <= {"dry_run", "inherit.diagnose"}, command
    assert recipe_words.read_recipe is read_recipe


@pytest.mark.slow
def test_a_teacher_is_trained_with_what_the_command_line_sets(home, tmp_path, capsys) -> None:
    """What used to be "up to date" although the report called it used."""
    plain = tiny.tiny_recipe(home, tmp_path / "ck")
    del plain["teacher"]
    teacher = tiny.write_recipe(
        tmp_path / "teacher.yaml", plain | {"stages": {"tune": tiny.tiny_stage(home)}}
    )
    section = {"teacher": {"source": f"recipe:{teacher}"}}
    recipe = tiny.write_recipe(tmp_path / "pair.yaml", plain | section)
    words = ["distill", f"recipe={recipe}", "student.num_epochs=.1", "bench.num_resamples=20"]
    assert main.main([*words, "stages.tune.num_steps=2"]) == 0
    folder = tmp_path / "ck" / "teacher" / "tune"
    assert len(json.loads((folder / "losses.json").read_text())) == 2
    capsys.readouterr()
    assert main.main([*words, "stages.tune.num_steps=3", "seed=7"]) == 0
    shown = capsys.readouterr().out
    assert "is trained with stages.tune.num_steps=3, seed=7" in shown
    assert "nothing has changed" not in shown
    assert len(json.loads((folder / "losses.json").read_text())) == 3
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["recipe"]["seed"] == 7
    report = json.loads((tmp_path / "ck" / "pair" / "report.json").read_text())
    assert report["recipe"]["teacher"]["overrides"] == ["stages.tune.num_steps=3", "seed=7"]
    assert set(report["losses"]) == {"tune", "student"}
    assert main.main([*words, "stages.tune.num_steps=3", "seed=7"]) == 0
    assert "nothing has changed" in capsys.readouterr().out


def test_a_prediction_reads_what_its_probes_do_and_refuses_what_they_do_not() -> None:
    recipe = load_recipe("measure")
    read = ["student.dim", "student.static.width", "student.static.document_epochs"]
    read += ["bench.indexes.hnsw_links", "bench.indexes.ef_search", "bench.num_resamples"]
    read += [f"student.{key}" for key in ("init_layers", "attention", "pooling")]
    read += ["student.optimizer.warmup_ratio"]
    unread = ["student.static.num_words", "student.static.query_epochs", "student.static.query_lr"]
    assert not list(find_useless("predict", recipe, read))
    unread += ["bench.indexes.kinds", "bench.indexes.num_lists", "student.optimizer.lr"]
    unread += ["inherit.int8_range", "inherit.pq_bytes"]  # of precisions that are not asked for
    assert {key for key, _ in find_useless("predict", recipe, unread)} == set(unread)
    coded = load_recipe("measure", ["inherit.precisions=[int8_fixed,pq]"])
    assert not list(find_useless("predict", coded, ["inherit.int8_range", "inherit.pq_bytes"]))
