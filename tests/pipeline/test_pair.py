"""Asking a finished pair: the right answers, and no answer where the pair does not belong together."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tiny
import torch

from leafkit.core.artifact import publish
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.models.checkpoint import read_encoder, write_encoder
from leafkit.pipeline.pair import Searcher, run_embed


@pytest.fixture(scope="module")
def searcher(finished) -> Searcher:
    return Searcher(finished / "ck" / "tiny")


def test_answers_are_the_nearest_teacher_vectors_of_the_students_query(searcher, finished, home):
    student, teacher = (
        read_encoder(finished / "ck" / "tiny" / "student"),
        read_encoder(home / "big"),
    )
    pairs = tiny.make_pairs()
    with torch.no_grad():
        documents = teacher.finish(teacher(teacher.tokenize([d for _, d in pairs], "document", 48)))
        query = student.finish(student(student.tokenize([pairs[3][0]], "query")))
    scores = (query @ documents.T)[0].numpy()
    answer = searcher.search(pairs[3][0], k=5)
    assert answer.num_documents == 72
    # the index is float16
    assert [hit.score for hit in answer.hits] == pytest.approx(-np.sort(-scores)[:5], abs=2e-3)
    assert answer.hits[0].text == pairs[int(scores.argmax())][1]
    assert answer.embed_ms > 0 < answer.search_ms


def test_scores_fall_and_k_is_kept(searcher):
    for k in (1, 7, 72):
        scores = [hit.score for hit in searcher.search("compute the matrix", k).hits]
        assert len(scores) == k
        assert scores == sorted(scores, reverse=True)


def test_k_above_the_number_of_documents_gives_all(searcher):
    assert len(searcher.search("compute the matrix", 1000).hits) == 72


@pytest.mark.parametrize("question", ["", "  ", "\n\t"])
def test_an_empty_question_is_a_usage_error(searcher, question):
    with pytest.raises(UsageError, match="the question is empty"):
        searcher.search(question)


@pytest.mark.parametrize(
    "question", ["broken \udcff byte", "nul \0 here", "matrix " * 20000, "日本語 🙂"]
)
def test_odd_questions_are_answered(searcher, question):
    """A byte of the terminal that is no UTF-8 arrives as a lone surrogate, which the tokenizer
    alone would not survive.
    """
    answer = searcher.search(question, 3)
    assert len(answer.hits) == 3
    assert np.isfinite([hit.score for hit in answer.hits]).all()


def test_a_missing_folder_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        Searcher(tmp_path / "nothing")


@pytest.mark.parametrize("part", ["index", "student"])
def test_a_folder_without_a_finished_pair_says_what_is_missing(done, part):
    folder = done.parent / "ck" / "tiny"
    shutil.rmtree(folder / part)
    with pytest.raises(
        LeafkitError, match=f"has no {part}: it is not the folder of a finished run"
    ) as caught:
        Searcher(folder)
    assert "leafkit distill" in caught.value.hint


@pytest.mark.parametrize(
    "name", ["index/vectors.npy", "student/model.safetensors", "index/documents.jsonl"]
)
def test_a_damaged_pair_is_refused(done, name):
    path = done.parent / "ck" / "tiny" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(LeafkitError, match="does not have the sha256"):
        Searcher(done.parent / "ck" / "tiny")


def test_a_student_of_another_teacher_is_refused(done):
    """Both artifacts are whole, but their vectors must not be compared."""
    folder = done.parent / "ck" / "tiny"
    stranger = tiny.make_encoder(hidden=32, dim=48, seed=5)
    with publish(folder / "student", "student", {}, {}) as draft:
        write_encoder(stranger, draft, {"kind": "student", "teacher": "0123456789abcdef"})
    with pytest.raises(LeafkitError, match="lives in the space of teacher 0123456789abcdef"):
        Searcher(folder)


def test_a_student_of_another_dimension_is_refused(done, home):
    folder = done.parent / "ck" / "tiny"
    stranger = tiny.make_encoder(hidden=32, dim=40, seed=5)
    with publish(folder / "student", "student", {}, {}) as draft:
        write_encoder(
            stranger,
            draft,
            {"teacher": read_encoder(home / "big").fingerprint, "prompts": stranger.spec.prompts},
        )
    with pytest.raises(LeafkitError, match="vectors have 40 dimensions and the teacher's 48"):
        Searcher(folder)


def test_embed_alone_makes_the_same_index(home, tmp_path, start, finished):
    recipe = tiny.write_recipe(tmp_path / "tiny.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    run = start(recipe, work=run_embed)
    assert not (run.folder / "student").exists()
    for name in ("vectors.npy", "documents.jsonl", "space.json"):
        assert (run.folder / "index" / name).read_bytes() == (
            finished / "ck" / "tiny" / "index" / name
        ).read_bytes()
    space = json.loads((run.folder / "index" / "space.json").read_text())
    assert space["teacher"] == read_encoder(home / "big").fingerprint
