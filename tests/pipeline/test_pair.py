"""Asking a finished pair: the right answers, and none where the pair does not belong together."""

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
from leafkit.pipeline.document_index import run_embed
from leafkit.pipeline.load_pair import load_pair
from leafkit.pipeline.pair import Pair


@pytest.fixture(scope="module")
def pair(finished) -> Pair:
    return load_pair(finished / "ck" / "tiny")


def test_answers_are_the_nearest_teacher_vectors_of_the_students_query(pair, finished, home):
    student, teacher = (
        read_encoder(finished / "ck" / "tiny" / "student"),
        read_encoder(home / "big"),
    )
    pairs = tiny.make_pairs()
    with torch.no_grad():
        documents = teacher.finish(teacher(teacher.tokenize([d for _, d in pairs], "document", 48)))
        query = student.finish(student(student.tokenize([pairs[3][0]], "query")))
    scores = (query @ documents.T)[0].numpy()
    answer = pair.search(pairs[3][0], k=5)
    assert answer.num_documents == 72
    # the index is float16
    assert [hit.score for hit in answer] == pytest.approx(-np.sort(-scores)[:5], abs=2e-3)
    assert answer[0].text == pairs[int(scores.argmax())][1]
    assert answer.embed_ms > 0 < answer.search_ms


def test_scores_fall_and_k_is_kept(pair):
    for k in (1, 7, 72):
        scores = [hit.score for hit in pair.search("compute the matrix", k)]
        assert len(scores) == k
        assert scores == sorted(scores, reverse=True)


def test_k_above_the_number_of_documents_gives_all(pair):
    assert len(pair.search("compute the matrix", 1000)) == 72


@pytest.mark.parametrize("question", ["", "  ", "\n\t"])
def test_an_empty_question_is_a_usage_error(pair, question):
    with pytest.raises(UsageError, match="the question is empty"):
        pair.search(question)


@pytest.mark.parametrize(
    "question", ["broken \udcff byte", "nul \0 here", "matrix " * 20000, "日本語 🙂"]
)
def test_odd_questions_are_answered(pair, question):
    """A byte of the terminal that is no UTF-8 arrives as a lone surrogate, which the tokenizer
    alone would not survive.
    """
    answer = pair.search(question, 3)
    assert len(answer) == 3
    assert np.isfinite([hit.score for hit in answer]).all()


def test_a_missing_folder_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        load_pair(tmp_path / "nothing")


@pytest.mark.parametrize("part", ["index", "student"])
def test_a_folder_without_a_finished_pair_says_what_is_missing(done, part):
    folder = done.parent / "ck" / "tiny"
    shutil.rmtree(folder / part)
    with pytest.raises(
        LeafkitError, match=f"has no {part}: it is not the folder of a finished run"
    ) as caught:
        load_pair(folder)
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
        load_pair(done.parent / "ck" / "tiny")


def test_a_student_of_another_teacher_is_refused(done):
    """Both artifacts are whole, but their vectors must not be compared."""
    folder = done.parent / "ck" / "tiny"
    stranger = tiny.make_encoder(hidden=32, dim=48, seed=5)
    with publish(folder / "student", "student", {}, {}) as draft:
        write_encoder(stranger, draft, {"kind": "student", "teacher": "0123456789abcdef"})
    with pytest.raises(LeafkitError, match="lives in the space of teacher 0123456789abcdef"):
        load_pair(folder)


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
        load_pair(folder)


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


# --- what a pair does beside answering


def test_queries_are_the_students_and_documents_the_teachers(pair, finished, home):
    student, teacher = (
        read_encoder(finished / "ck" / "tiny" / "student"),
        read_encoder(home / "big"),
    )
    query, document = tiny.make_pairs()[3]
    with torch.no_grad():
        expected = [
            model.finish(model(model.tokenize([text], role, limit)))[0].numpy()
            for model, text, role, limit in (
                (student, query, "query", None),
                (teacher, document, "document", 48),
            )
        ]
    np.testing.assert_allclose(pair.encode_query(query), expected[0], atol=1e-6)
    np.testing.assert_allclose(pair.encode_document(document), expected[1], atol=1e-6)
    assert pair.encode_query([query, query]).shape == (2, 48)
    assert not hasattr(pair, "encode")


def test_a_cut_vector_has_length_one_and_finds_what_cut_vectors_find(pair):
    question = tiny.make_pairs()[3][0]
    short = pair.encode_query(question, dim=24)
    assert short.shape == (24,)
    assert np.linalg.norm(short) == pytest.approx(1.0, abs=1e-6)
    full = pair.encode_query(question)
    np.testing.assert_allclose(short, full[:24] / np.linalg.norm(full[:24]), atol=1e-6)
    documents = np.asarray(pair.vectors, dtype=np.float32)[:, :24]
    scores = (documents / np.linalg.norm(documents, axis=1, keepdims=True)) @ short
    hits = pair.search(question, 3, dim=24)
    assert [hit.score for hit in hits] == pytest.approx(np.sort(scores)[::-1][:3], abs=1e-6)


@pytest.mark.parametrize("dim", [0, -1, 49, 2.0, True, "24"])
def test_a_dimension_out_of_range_is_refused(pair, dim):
    with pytest.raises(UsageError, match="dim="):
        pair.encode_query("compute", dim=dim)
    with pytest.raises(UsageError, match="dim="):
        pair.search("compute", dim=dim)


def test_a_dimension_without_training_is_allowed_and_said_once(pair, capsys):
    for _ in range(2):
        pair.encode_query("compute", dim=17)
    pair.encode_query("compute", dim=24)
    shown = capsys.readouterr().out
    assert shown.count("dim=17 is not a Matryoshka dimension") == 1
    assert "dim=24" not in shown


@pytest.mark.parametrize("k", [0, -1, 1.5, True])
def test_k_must_be_a_positive_whole_number(pair, k):
    with pytest.raises(UsageError, match="is not a positive whole number"):
        pair.search("compute", k)


def test_several_questions_get_several_lists(pair):
    questions = [query for query, _ in tiny.make_pairs()[:3]]
    lists = pair.search(questions, k=2)
    assert [hits.question for hits in lists] == questions
    for question, hits in zip(questions, lists, strict=True):
        assert [hit.id for hit in hits] == [hit.id for hit in pair.search(question, 2)]
    assert pair.search([], k=2) == []


def test_a_pair_says_what_it_is_and_what_was_measured(pair, finished):
    shown = repr(pair)
    results = json.loads((finished / "ck" / "tiny" / "bench" / "results.json").read_text())
    assert "72 in pairs" in shown
    assert "48 (Matryoshka 48, 24)" in shown
    assert pair.space.teacher in shown
    assert pair.retention is not None
    assert pair.retention.measured_on == results["collections"][0]["name"] == "pairs"
    assert f"asymmetric {pair.retention.intervals['asymmetric'].percent()}" in shown
    assert "n = 12 queries" in shown
    assert "<th>retention</th>" in pair._repr_html_()


def test_a_saved_pair_comes_back(pair, tmp_path):
    pair.save(tmp_path / "saved")
    again = load_pair(tmp_path / "saved")
    question = tiny.make_pairs()[3][0]
    assert [h.id for h in again.search(question)] == [h.id for h in pair.search(question)]
    np.testing.assert_allclose(again.encode_query(question), pair.encode_query(question), atol=1e-6)
    np.testing.assert_array_equal(again.vectors, pair.vectors)
    assert again.space == pair.space
    assert again.retention == pair.retention
    np.testing.assert_allclose(again.encode_document("a"), pair.encode_document("a"), atol=1e-6)
    pair.save(tmp_path / "saved")  # an earlier pair is replaced


def test_a_pair_is_not_saved_over_something_else(pair, tmp_path):
    (tmp_path / "thesis.tex").write_text("irreplaceable")
    with pytest.raises(LeafkitError, match=r"holds 'thesis\.tex', which is no part of a pair"):
        pair.save(tmp_path)
    with pytest.raises(LeafkitError, match="is not a folder"):
        pair.save(tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_another_teacher_is_refused_when_it_is_needed(finished, home):
    pair = load_pair(finished / "ck" / "tiny", teacher=f"model:{home / 'small'}")
    pair.encode_query("compute")
    with pytest.raises(LeafkitError, match="lives in the space of teacher"):
        pair.encode_document("compute")


def test_a_teacher_that_is_not_at_hand_is_named(pair):
    alone = Pair(
        pair.student,
        pair._collection,
        pair.vectors,
        pair.space,
        embedder=pair.embedder,
        reference="model:gone",
    )
    with pytest.raises(LeafkitError, match=r"\(model:gone\) is not available") as caught:
        alone.encode_document("compute")
    assert "teacher=" in caught.value.hint


def test_vectors_that_do_not_fit_are_refused(pair):
    with pytest.raises(LeafkitError, match="71 vectors of 72 documents"):
        Pair(
            pair.student,
            pair._collection,
            pair.vectors[:-1],
            pair.space,
            embedder=pair.embedder,
        )


def test_the_judged_queries_of_a_run_are_found_again(pair, tmp_path):
    assert len(pair.collection.judged("test")) == 12
    pair.save(tmp_path / "saved")  # with them
    assert len(load_pair(tmp_path / "saved").collection.judged("test")) == 12
