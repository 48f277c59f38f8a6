"""A static student from teacher to artifact: where it starts, what training does, what is done
again, what is refused.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny

import leafkit
from leafkit.config import StaticConfig, StudentConfig
from leafkit.config.load import load_recipe
from leafkit.core.artifact import open_artifact
from leafkit.core.errors import UsageError
from leafkit.data.stored.flat_tokens import flatten
from leafkit.embedders.lookup_table import LookupTableEmbedder
from leafkit.models.checkpoint import load_encoder, read_encoder
from leafkit.models.folder import read_space
from leafkit.models.static_encoder import (
    bare_tokenizer,
    is_static,
    read_static,
    token_texts,
    tokenize,
)
from leafkit.pipeline.corpus import load_corpus
from leafkit.pipeline.distill import load_targets, save_student
from leafkit.pipeline.model_handle import load_teacher
from leafkit.pipeline.run import Run, open_run
from leafkit.pipeline.space_guard import check_student
from leafkit.pipeline.student.checks import summarize_table
from leafkit.pipeline.student.static import places_of_tokens, plan_batches, texts_with_vectors
from leafkit.pipeline.student.targets import Target
from leafkit.pipeline.student.validation import Agreed, Validation

WIDTH = 16


def recipe(home: Path, folder: Path, **changes) -> Path:
    value = tiny.tiny_recipe(home, folder / "ck")
    value["student"] |= {
        "kind": "static",
        "static": {
            "width": WIDTH,
            "texts_per_batch": 16,
            "document_epochs": 6.0,
            "query_epochs": 6.0,
            "lr": 0.02,
            "query_lr": 0.01,
        },
    }
    return tiny.write_recipe(folder / "tiny.yaml", value | changes)


def distil(path: Path, *overrides: str) -> Run:
    with open_run(load_recipe(str(path), overrides)) as run:
        corpus, teacher = load_corpus(run, run.recipe.data.corpus), load_teacher(run)
        save_student(run, teacher, corpus, load_targets(run, teacher, corpus))
    return run


@pytest.fixture(scope="module")
def made(home, tmp_path_factory) -> Path:
    """Folder of a run's recipe and checkpoints; read only."""
    folder = tmp_path_factory.mktemp("static")
    distil(recipe(home, folder))
    return folder


def test_it_leaves_a_verified_student_of_the_teachers_space(made, home):
    folder, teacher = made / "ck" / "tiny" / "student", read_encoder(home / "big")
    manifest = open_artifact(folder, "student")
    assert is_static(folder)
    student = read_static(folder)
    check_student(folder, student, teacher.fingerprint, 48)
    assert (student.hidden_size, student.dim, student.spec.mrl_dims) == (
        WIDTH,
        48,
        teacher.spec.mrl_dims,
    )
    assert read_space(folder)["teacher"] == teacher.fingerprint
    assert manifest.metrics["parameters"] == student.num_parameters()
    assert manifest.metrics["spectrum"]["rank"] == WIDTH
    assert 0 < manifest.metrics["spectrum"]["ridge_cosine"] < 1


def test_documents_come_first_and_both_losses_fall(made):
    losses = json.loads((made / "ck" / "tiny" / "student" / "losses.json").read_text())
    num_document_steps = -(-6 * 72 // 16)
    documents, queries = losses[:num_document_steps], losses[num_document_steps:]
    assert len(queries) == -(-6 * (56 + 16) // 16)  # train queries and pseudo-texts
    for part in (documents, queries):
        assert np.mean(part[-4:]) < 0.8 * np.mean(part[:4])


def test_its_queries_find_the_teachers_documents(made, home):
    student = LookupTableEmbedder(read_static(made / "ck" / "tiny" / "student"))
    teacher = read_encoder(home / "big")
    with open_run(load_recipe(str(made / "tiny.yaml"))) as run:
        corpus = load_corpus(run, run.recipe.data.corpus)
        model = load_teacher(run).model
        documents = model.embed([d.full_text for d in corpus.collection.documents], "document", 48)
        queries = [q.text for q in corpus.collection.queries if q.split == "train"]
        wanted = model.embed(queries, "query", 32)
    found = student.embed(queries, "query", 32)
    assert np.einsum("nd,nd->n", found, wanted).mean() > 0.9
    first = (wanted @ documents.T).argmax(axis=1)
    places = (-(found @ documents.T)).argsort(axis=1).argsort(axis=1)[np.arange(len(first)), first]
    assert (places < 5).mean() > 0.5  # chance: 5 in 72
    assert teacher.dim == student.dim


@pytest.mark.slow
def test_whole_words_get_rows_of_their_own_in_the_saved_student(home, tmp_path):
    path = recipe(home, tmp_path)
    distil(path, "student.init=builtin:minilm", "student.static.num_words=5")
    student = read_static(tmp_path / "ck" / "tiny" / "student")
    pieces = bare_tokenizer(load_encoder("builtin:minilm").tokenizer)
    assert len(student.table.weight) == pieces.get_vocab_size() + 5
    words = token_texts(student.tokenizer)[-5:]
    assert all(len(ids) > 1 for ids in tokenize(pieces, words))
    assert all(len(ids) == 1 for ids in student.tokenize(words))
    added, others = student.table.weight[-5:], student.table.weight[:-5]
    assert added.norm(dim=1).min() > 0.1 * others.norm(dim=1).median()


@pytest.mark.slow
def test_it_is_not_made_again_unless_its_inputs_change(home, tmp_path):
    path = recipe(home, tmp_path)
    first = distil(path)
    before = read_static(tmp_path / "ck" / "tiny" / "student").fingerprint
    again = distil(path)
    changed = distil(path, "student.static.query_lr=0.02")
    status = [
        {s["name"]: s["status"] for s in run.steps}["student"] for run in (first, again, changed)
    ]
    assert status == ["done", "up to date", "done"]
    assert {s["name"]: s["status"] for s in changed.steps}[
        "big vectors of single tokens"
    ] == "up to date"
    assert read_static(tmp_path / "ck" / "tiny" / "student").fingerprint != before


def test_the_same_recipe_gives_the_same_student(made, home, tmp_path):
    distil(recipe(home, tmp_path))
    same = [
        read_static(folder / "ck" / "tiny" / "student").fingerprint for folder in (made, tmp_path)
    ]
    assert same[0] == same[1]


def test_a_table_that_is_too_large_is_refused_before_anything_is_trained(home, tmp_path):
    with pytest.raises(UsageError, match=r"student\.static\.width"):
        distil(recipe(home, tmp_path), "student.static.width=150000")
    assert not (tmp_path / "ck" / "tiny" / "student").exists()


def test_a_teacher_that_is_vectors_alone_starts_from_the_texts(home, tmp_path):
    teacher = read_encoder(home / "big")
    rows = [json.loads(line) for line in (home / "pairs.jsonl").read_text().splitlines()]
    folder = tmp_path / "vectors"
    folder.mkdir()
    for name, role, key in (("documents", "document", "positive"), ("queries", "query", "query")):
        texts = [row[key] for row in rows]
        vectors = teacher.finish(teacher(teacher.tokenize(texts, role, 48))).detach().numpy()
        np.save(folder / f"{name}.npy", vectors)
        (folder / f"{name}.jsonl").write_text(
            "".join(json.dumps({"text": text}) + "\n" for text in texts)
        )
    distil(recipe(home, tmp_path, teacher={"source": f"vectors:{folder}"}))
    metrics = open_artifact(tmp_path / "ck" / "tiny" / "student", "student").metrics
    assert metrics["spectrum"]["ridge_cosine"] > 0.5
    assert metrics["last_loss"] < 0.5 * metrics["first_loss"]


QUERIES = [f"{query} number {n}" for query, _ in tiny.make_pairs()[:50] for n in range(10)]


def distil_in_memory(home, **changes) -> np.ndarray:
    """Weights of a student of 500 queries, of which 25 are held out."""
    static = {"width": WIDTH, "texts_per_batch": 32, "document_epochs": 2.0, "query_epochs": 2.0}
    rates = {key: changes.pop(key) for key in ("lr", "query_lr") if key in changes}
    pair = leafkit.distill(
        f"model:{home / 'big'}",
        f"model:{home / 'small'}",
        [document for _, document in tiny.make_pairs()],
        QUERIES,
        config=StudentConfig(kind="static", static=StaticConfig(**static | rates), **changes),
        max_query_tokens=32,
        max_document_tokens=48,
        num_pseudo_texts=16,
        device="cpu",
    )
    weights = pair.student.state_dict().values()
    return np.concatenate([weight.numpy().ravel() for weight in weights])


def test_start_and_end_on_held_out_queries_are_told_and_the_best_is_kept(home, caplog):
    with caplog.at_level("INFO", logger="leafkit"):
        distil_in_memory(home)
    figures = r"cosine (0\.\d+), overlap@10 (0\.\d+)"
    [told] = re.findall(
        rf"on 25 queries held out: {figures} at the start, {figures} after (\d+) of 36 batches",
        caplog.text,
    )
    *_, kept_after = told
    assert float(told[3]) >= float(told[1])
    assert 0 < int(kept_after) <= 5 + 31  # 2 x 72 documents and 2 x (475 + 16) queries, by 32


def test_a_training_that_finds_no_more_ends_as_its_start(home, caplog, monkeypatch):
    # what is enough from the first on trains nothing
    start = distil_in_memory(home, enough_overlap=1e-6)
    measured = []

    def less_and_less(self, vectors):
        measured.append(vectors)
        return Agreed(0.5, 0.5 / len(measured))

    monkeypatch.setattr(Validation, "measure", less_and_less)
    with caplog.at_level("INFO", logger="leafkit"):
        kept = distil_in_memory(home, num_checks=2)
    assert "found no more than the table of its start on 25 queries held out" in caplog.text
    assert "A lower student.static.lr and query_lr may find more" in caplog.text
    assert np.array_equal(kept, start)
    # each of two trainings is measured at its start and twice, as it then is
    assert [len(vectors) for vectors in measured] == [25] * 6
    assert np.array_equal(measured[0], measured[3])
    assert not np.array_equal(measured[0], measured[1])
    assert not np.array_equal(distil_in_memory(home, num_checks=0), start)


def test_held_out_texts_train_nothing(home):
    """Tokens of theirs alone are no rows that train, nor is a teacher's vector of them in a start
    made of texts.
    """
    token_ids = [flatten([[[1, 2], [3]]]), flatten([[[2, 4], [4, 5], [3, 3, 1]]])]
    targets = [
        Target(["a", "b"], "document", np.eye(2, dtype="f4")),
        Target(["c", "d", "e"], "query", np.eye(3, dtype="f4")),
    ]
    task, table = SimpleNamespace(targets=targets), SimpleNamespace(num_embeddings=8)
    student = SimpleNamespace(table=table)
    used, place = places_of_tokens(student, task, token_ids, {"b", "d"})
    assert used.tolist() == [1, 2, 3, 4]
    assert place[used].tolist() == [0, 1, 2, 3]
    assert places_of_tokens(student, task, token_ids, frozenset())[0].tolist() == [1, 2, 3, 4, 5]
    parts = texts_with_vectors(task, token_ids, SimpleNamespace(texts={"b", "d"}))
    found = [([ids.tolist() for ids in texts], vectors.tolist()) for texts, vectors in parts]
    assert found == [
        ([[1, 2]], [[1, 0]]),
        ([[2, 4], [3, 3, 1]], [[1, 0, 0], [0, 0, 1]]),
    ]


@pytest.mark.parametrize(
    ("bests", "kept_after", "overlap"),
    [((0, 0), 0, 0.1), ((4, 0), 4, 0.4), ((4, 6), 16, 0.6), ((0, 6), 16, 0.6)],
)
def test_two_trainings_are_told_as_one(bests, kept_after, overlap):
    """By hand: 10 of 10 batches on documents, then 8 of 20 on queries, where checks ended it."""
    first = {0: Agreed(0.5, 0.1), 4: Agreed(0.6, 0.4), 10: Agreed(0.6, 0.05)}
    second = {0: first[bests[0]], 6: Agreed(0.7, 0.6), 8: Agreed(0.7, 0.0)}
    phases = [
        (SimpleNamespace(best=at, checks=list(c.items()), num_done=max(c), found_best=c[at]), n)
        for at, c, n in zip(bests, (first, second), (10, 20), strict=True)
    ]
    held = SimpleNamespace(asked="queries", rows=range(25), judgments=None)
    found = summarize_table(held, phases)
    assert (found.start_cosine, found.start_overlap) == (0.5, 0.1)
    assert (found.kept_after, found.overlap) == (kept_after, overlap)
    assert (found.num_batches, found.num_done, found.ended_early) == (30, 18, True)


@pytest.mark.parametrize(
    ("num_rows", "batch_size", "epochs"),
    [(10, 4, 1.0), (10, 4, 2.5), (10, 4, 0.2), (3, 8, 2.0), (5, 5, 0.01)],
)
def test_batches_cover_whole_passes_before_rows_come_again(num_rows, batch_size, epochs):
    batches = plan_batches(num_rows, batch_size, epochs, seed=3)
    rows = np.concatenate(batches)
    assert len(rows) == max(1, round(epochs * num_rows))
    assert {len(b) for b in batches[:-1]} <= {batch_size}
    for start in range(0, len(rows) - num_rows + 1, num_rows):
        assert sorted(rows[start : start + num_rows]) == list(range(num_rows))
    assert all(
        np.array_equal(a, b)
        for a, b in zip(batches, plan_batches(num_rows, batch_size, epochs, seed=3), strict=True)
    )
