"""A prediction from a folder of vectors, and from a teacher that is at hand."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from finished_runs import make_runs
from synth_server import MODEL, chat_server

from leafkit.config.load import load_recipe
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.data.records import Document
from leafkit.data.vector_store import Space, VectorStore
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.models.checkpoint import read_encoder
from leafkit.pipeline.model_handle import load_teacher
from leafkit.pipeline.predict import load_part, load_sample
from leafkit.pipeline.predict import predict as predict_module
from leafkit.pipeline.predict.closed_probe import apply_head, fit_head
from leafkit.pipeline.predict.predict import PredictionInputs, run_predict
from leafkit.pipeline.predict.sample import choose_queries, make_sample, shuffle_by_hash
from leafkit.pipeline.predict.settings import PredictSettings
from leafkit.pipeline.predict.start_states import StartStates
from leafkit.pipeline.run import open_run
from leafkit.results import Prediction
from leafkit.results.prediction import (
    ALL_LAYERS,
    DOCUMENTS_ALONE,
    GIVEN_QUERIES,
    LAST_LAYER,
    MADE_QUERIES,
    STATIC,
    TRAINED,
)

NUM_DOCUMENTS = 260
SMALL = PredictSettings(minutes=5, kinds=(STATIC, LAST_LAYER, ALL_LAYERS, TRAINED))


@pytest.fixture(scope="module")
def documents() -> list[str]:
    return [document for _, document in tiny.make_pairs(NUM_DOCUMENTS)]


@pytest.fixture(scope="module")
def folder(home, documents, tmp_path_factory) -> Path:
    """Texts and vectors as vectors:FOLDER reads them."""
    made = tmp_path_factory.mktemp("vectors")
    rows = [{"id": f"d{i}", "text": text} for i, text in enumerate(documents)]
    tiny.write_lines(made / "documents.jsonl", rows)
    teacher = read_encoder(home / "big")
    index = teacher.finish(teacher(teacher.tokenize(documents, "document"))).detach().numpy()
    np.save(made / "documents.npy", index)
    return made


@pytest.fixture(autouse=True)
def _known_runs(monkeypatch):
    monkeypatch.setattr(predict_module, "shipped_runs", make_runs)


def predicted(home, place, source, corpus, settings=SMALL) -> Prediction:
    plain = tiny.tiny_recipe(home, place / "ck")
    plain["teacher"] = {"source": source}
    plain["data"] = {"corpus": corpus}
    path = tiny.write_recipe(place / "mine.yaml", plain)
    with open_run(load_recipe(str(path)), trains=False) as run:
        return run_predict(run, settings)


def test_a_folder_of_vectors(home, folder, tmp_path):
    corpus = f"jsonl:{folder / 'documents.jsonl'}"
    found = predicted(home, tmp_path, f"vectors:{folder}", corpus)
    assert found.asked_with == DOCUMENTS_ALONE
    assert found.num_documents == found.num_corpus == NUM_DOCUMENTS
    assert found.num_held_out == NUM_DOCUMENTS // 5
    assert [one.kind for one in found.students] == [STATIC, LAST_LAYER, ALL_LAYERS, TRAINED]
    for student in found.students:
        assert 0 < student.retention.low < student.retention.value < student.retention.high
        assert [p.num_texts for p in student.probes] == [104, 208]
        assert student.expected.query_overlap is None
        made = dict(word.split("=", 1) for word in student.settings.split())
        assert made["student.init"] == f"model:{home / 'small'}"
        # the tiny recipe's closed form takes 64 texts, and this is a forecast for all
        if student.kind in (LAST_LAYER, ALL_LAYERS):
            assert int(made["student.num_ridge_texts"]) >= NUM_DOCUMENTS
    last, trained = found.students[1], found.students[3]
    assert trained.expected == last.expected
    assert trained.retention.value > last.retention.value
    # a random start under a map that was fitted lands nearer than chance, and all layers nearer
    assert last.expected.document_cosine > 0.5
    ways = {(way.documents, way.precision) for way in found.ways}
    assert ways == {("teacher's", "int8"), ("teacher's", "binary"), ("student's", "float32")}
    assert {one.kind for one in found.efforts} <= {STATIC, LAST_LAYER, ALL_LAYERS}
    assert found.teacher_seconds == 0
    assert found.diagnosis is None
    kept = tmp_path / "ck" / "mine" / "prediction"
    assert Prediction.load(kept / "prediction.json") == found
    assert "What students will be worth" in (kept / "prediction.html").read_text()


def test_a_teacher_at_hand_embeds_its_part_and_the_made_queries(home, folder, tmp_path):
    corpus = f"jsonl:{folder / 'documents.jsonl'}"
    settings = PredictSettings(
        minutes=5, texts=220, kinds=(LAST_LAYER,), target=0.01, has_diagnosis=True
    )
    found = predicted(home, tmp_path, f"model:{home / 'big'}", corpus, settings)
    assert found.asked_with == MADE_QUERIES
    assert (found.num_documents, found.num_corpus) == (220, NUM_DOCUMENTS)
    assert found.teacher_seconds > 0
    (student,) = found.students
    assert student.expected.query_overlap is not None
    assert student.num_texts == NUM_DOCUMENTS
    # so low a target is reached by the smallest probe
    assert student.texts_needed == student.probes[0].num_texts
    assert {one.kind for one in found.efforts} == {"teacher", LAST_LAYER}
    assert 24 in {way.dim for way in found.ways}
    assert found.diagnosis is not None
    assert found.diagnosis.figures.num_texts == 220
    assert found.diagnosis.sentence() in str(found)


def test_what_is_told_of_more_texts_than_runs_had_is_marked_everywhere(
    home, folder, tmp_path, monkeypatch
):
    runs = [replace(run, num_texts=run.num_probed) for run in make_runs()]
    monkeypatch.setattr(predict_module, "shipped_runs", lambda: runs)
    corpus, settings = f"jsonl:{folder / 'documents.jsonl'}", replace(SMALL, kinds=(LAST_LAYER,))
    found = predicted(home, tmp_path, f"vectors:{folder}", corpus, settings)
    told = [one.retention for one in (*found.students, *found.ways)]
    assert len(told) == 4
    for one in told:  # 260 texts, probes of 208
        assert "1.2 times the texts of the largest probe (finished runs: 1.0)" in one.outside
    assert "more than 1.0 times the texts of the largest probe" in " ".join(found.not_predicted)


def test_of_a_pruned_start_the_kept_layers_are_read_and_named(home, folder, tmp_path):
    plain = tiny.tiny_recipe(home, tmp_path / "ck")
    plain["teacher"] = {"source": f"vectors:{folder}"}
    plain["data"] = {"corpus": f"jsonl:{folder / 'documents.jsonl'}"}
    plain["student"] |= {"init_layers": "last:1"}
    path = tiny.write_recipe(tmp_path / "mine.yaml", plain)
    with open_run(load_recipe(str(path)), trains=False) as run:
        found = run_predict(run, PredictSettings(minutes=5, kinds=("2-layers", ALL_LAYERS)))
    (student,) = found.students  # one layer is left: there is no student of two
    assert student.kind == ALL_LAYERS
    assert "student.init_layers=last:1" in student.settings


@pytest.mark.slow
def test_queries_in_the_folder_are_asked_where_there_are_enough(
    home, folder, documents, tmp_path, capsys
):
    rows = [
        {"query": f"Find {text[:30]} number {i}", "positive": text, "split": "train"}
        for i, text in enumerate(documents)
    ]
    corpus = tiny.write_lines(tmp_path / "pairs.jsonl", rows)
    index = np.load(folder / "documents.npy")
    for count, asked_with in ((30, GIVEN_QUERIES), (5, DOCUMENTS_ALONE)):
        place = tmp_path / str(count)
        place.mkdir()
        tiny.write_lines(place / "documents.jsonl", [{"text": text} for text in documents])
        np.save(place / "documents.npy", index)
        tiny.write_lines(place / "queries.jsonl", [{"text": r["query"]} for r in rows[:count]])
        np.save(place / "queries.npy", index[:count])
        settings = PredictSettings(minutes=5, kinds=(LAST_LAYER,))
        found = predicted(home, place, f"vectors:{place}", f"jsonl:{corpus}", settings)
        assert found.asked_with == asked_with
        assert found.num_queries == (count if asked_with == GIVEN_QUERIES else found.num_queries)
    assert "5 queries with vectors are too few to ask" in capsys.readouterr().out


def test_too_few_documents_for_the_dimensions_are_refused(home, tmp_path):
    corpus = tiny.write_documents(tmp_path / "few.jsonl", 60)
    with pytest.raises(UsageError, match=r"60 documents; a prediction .* needs 200"):
        predicted(home, tmp_path, f"model:{home / 'big'}", f"jsonl:{corpus}")


def test_documents_without_vectors_are_named(home, folder, documents, tmp_path):
    texts = [*documents[:220], *(f"what nobody embedded {i}" for i in range(30))]
    corpus = tiny.write_lines(tmp_path / "other.jsonl", [{"text": text} for text in texts])
    with pytest.raises(LeafkitError, match="lacks the document vectors of 30 of 250 texts"):
        predicted(home, tmp_path, f"vectors:{folder}", f"jsonl:{corpus}")


def test_vectors_by_inner_product_are_refused(home, folder, documents, tmp_path):
    tiny.write_lines(tmp_path / "documents.jsonl", [{"text": text} for text in documents])
    np.save(tmp_path / "documents.npy", 3 * np.load(folder / "documents.npy"))
    corpus = f"jsonl:{tmp_path / 'documents.jsonl'}"
    with pytest.raises(UsageError, match="inner product"):
        predicted(home, tmp_path, f"vectors:{tmp_path}", corpus)


# --- a large corpus


def test_of_a_large_corpus_a_part_is_read_and_said(
    home, folder, documents, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(load_part, "MOST_DOCUMENTS", 220)
    monkeypatch.setattr(load_sample, "MOST_DOCUMENTS", 220)
    corpus = f"jsonl:{folder / 'documents.jsonl'}"
    settings = PredictSettings(minutes=5, kinds=(LAST_LAYER,))
    found = predicted(home, tmp_path, f"vectors:{folder}", corpus, settings)
    assert (found.num_read, found.num_documents, found.num_corpus) == (220, 220, NUM_DOCUMENTS)
    assert found.students[0].num_texts == NUM_DOCUMENTS
    assert "Of 260 rows 220 documents were read" in str(found)
    said = " ".join(capsys.readouterr().out.split())
    assert "220 of 260 rows are read, drawn by a hash of their content" in said
    # nothing is read twice otherwise: the same rows, so the prediction is up to date
    again = predicted(home, tmp_path, f"vectors:{folder}", corpus, settings)
    assert again == found
    more = replace(settings, texts=240)
    assert predicted(home, tmp_path, f"vectors:{folder}", corpus, more).num_read == 240


def test_fewer_texts_than_it_can_tell_by_are_refused(home, folder, tmp_path):
    corpus, settings = f"jsonl:{folder / 'documents.jsonl'}", PredictSettings(texts=199)
    with pytest.raises(UsageError, match="texts=199: a prediction looks at 200 documents"):
        predicted(home, tmp_path, f"model:{home / 'big'}", corpus, settings)


# --- what decides about a prediction


def inputs_of(home, place, source, corpus, settings=None, **changes) -> PredictionInputs:
    settings = settings or PredictSettings()
    plain = tiny.tiny_recipe(home, place / "ck")
    plain["teacher"] = {"source": source}
    plain["data"] = {"corpus": corpus}
    for section, keys in changes.items():
        plain[section] = plain.get(section, {}) | keys
    path = tiny.write_recipe(place / "mine.yaml", plain)
    with open_run(load_recipe(str(path)), trains=False) as run:
        teacher = load_teacher(run)
        part = load_part.load_part(run, settings)
        return predict_module.describe_inputs(
            run, teacher, part.corpus, settings, runs=predict_module.shipped_runs()
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"student": {"static": {"width": 8}}},
        {"student": {"dim": 24}},
        {"bench": {"indexes": {"hnsw_links": 8}}},
        {"student": {"init_layers": "last:1"}},
        {"student": {"attention": "bidirectional"}},
        {"student": {"pooling": "cls"}},
        {"student": {"num_ridge_texts": 63}},  # of the words that make the students
        {"student": {"optimizer": {"warmup_ratio": 0.2}}},
        {"inherit": {"dims": [24]}},
        {"inherit": {"int8_range": 0.3}},
        {"inherit": {"pq_bytes": 8}},
    ],
)
def test_what_changes_a_prediction_makes_it_anew(home, folder, tmp_path, changes):
    corpus, source = f"jsonl:{folder / 'documents.jsonl'}", f"model:{home / 'big'}"
    before = inputs_of(home, tmp_path, source, corpus)
    assert inputs_of(home, tmp_path, source, corpus) == before
    assert inputs_of(home, tmp_path, source, corpus, **changes) != before


def test_resamples_decide_where_the_teacher_is_diagnosed(home, folder, tmp_path):
    corpus, source = f"jsonl:{folder / 'documents.jsonl'}", f"vectors:{folder}"
    for has_diagnosis in (False, True):
        settings = PredictSettings(has_diagnosis=has_diagnosis)
        before, after = (
            inputs_of(home, tmp_path, source, corpus, settings, bench={"num_resamples": count})
            for count in (200, 300)
        )
        assert (before != after) == has_diagnosis


def test_another_prompt_of_the_teacher_does_too(home, folder, tmp_path, monkeypatch):
    corpus, source = f"jsonl:{folder / 'documents.jsonl'}", f"model:{home / 'big'}"
    before = inputs_of(home, tmp_path, source, corpus)
    monkeypatch.setattr(TransformerEmbedder, "prompt", lambda self, role: f"{role}: ")
    after = inputs_of(home, tmp_path, source, corpus)
    assert after != before
    assert after.prompts == ["query: ", "document: "]


def test_other_finished_runs_of_the_same_number_do_too(home, folder, tmp_path, monkeypatch):
    corpus, source = f"jsonl:{folder / 'documents.jsonl'}", f"vectors:{folder}"
    before = inputs_of(home, tmp_path, source, corpus)
    runs = make_runs()
    runs[0] = replace(runs[0], outcome=replace(runs[0].outcome, value=0.111))
    monkeypatch.setattr(predict_module, "shipped_runs", lambda: runs)
    assert inputs_of(home, tmp_path, source, corpus) != before


def fill(place: Path, texts: list[str], vectors: np.ndarray) -> None:
    """A vector store anew, of one model whatever it holds."""
    shutil.rmtree(place, ignore_errors=True)
    space = Space("one model", vectors.shape[1], "", 64, "mean", True)
    store = VectorStore(place, space, texts, rows_per_shard=256)
    for shard in store.missing():
        store.write(shard, vectors[shard.start : shard.stop])


def test_what_a_store_gains_makes_it_anew_though_its_model_stays(home, folder, documents, tmp_path):
    vectors, place = np.load(folder / "documents.npy"), tmp_path / "stores"
    corpus, source = f"jsonl:{folder / 'documents.jsonl'}", f"vectors:{place}"
    known = []

    def look() -> None:
        known.append(inputs_of(home, tmp_path, source, corpus))

    fill(place / "documents", documents, vectors)
    look()
    fill(place / "documents", documents, vectors)
    look()
    assert known[1] == known[0]
    fill(place / "queries", [f"ask {i}?" for i in range(30)], vectors[:30])
    look()
    fill(place / "documents", [*documents, "one more"], np.concatenate([vectors, vectors[:1]]))
    look()
    fill(place / "documents", documents, np.roll(vectors, 1, axis=0))
    look()
    assert len({one.teacher for one in known}) == 1
    assert len({one.vectors for one in known}) == len(known) - 1


def test_other_vectors_of_a_store_are_read_and_not_the_kept_ones(home, folder, documents, tmp_path):
    vectors, place = np.load(folder / "documents.npy"), tmp_path / "stores"
    corpus, settings = (
        f"jsonl:{folder / 'documents.jsonl'}",
        PredictSettings(minutes=5, kinds=(LAST_LAYER,)),
    )
    told = []
    for noise in (0.0, 1.0):
        drawn = np.random.default_rng(1).normal(size=vectors.shape) / 48**0.5
        noisy = vectors + noise * drawn
        noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
        fill(place / "documents", documents, noisy)
        told.append(predicted(home, tmp_path, f"vectors:{place}", corpus, settings))
    first, second = (one.students[0].expected.document_cosine for one in told)
    assert second < first - 0.1


def test_dimensions_that_the_vectors_lack_are_said(home, folder, tmp_path, capsys):
    plain = tiny.tiny_recipe(home, tmp_path / "ck")
    plain["teacher"], plain["inherit"] = {"source": f"vectors:{folder}"}, {"dims": [4096, 48, 24]}
    plain["data"] = {"corpus": f"jsonl:{folder / 'documents.jsonl'}"}
    path = tiny.write_recipe(tmp_path / "mine.yaml", plain)
    settings = PredictSettings(minutes=5, kinds=(LAST_LAYER,), has_diagnosis=True)
    with open_run(load_recipe(str(path)), trains=False) as run:
        found = run_predict(run, settings)
    assert found.dim == 48
    assert {way.dim for way in found.ways} == {24, 48}  # 48 of other precisions
    told = "inherit.dims 4,096, 48: the teacher's vectors have 48 dimensions"
    assert told in " ".join(found.not_predicted)
    assert told in " ".join(capsys.readouterr().out.split())


def vectors_with_queries(folder, documents, place, count=30) -> Path:
    """A folder whose queries' texts lie beside their vectors, as is usual."""
    place.mkdir()
    index = np.load(folder / "documents.npy")
    tiny.write_lines(place / "documents.jsonl", [{"text": text} for text in documents])
    np.save(place / "documents.npy", index)
    tiny.write_lines(place / "queries.jsonl", [{"text": f"ask {i}?"} for i in range(count)])
    np.save(place / "queries.npy", index[:count])
    (place / "about.json").write_text(json.dumps({"mrl_dims": [48, 24]}))
    return place


@pytest.mark.parametrize("dim", [0, 24])
def test_queries_beside_their_vectors_are_asked_of_first_dimensions_too(
    home, folder, documents, tmp_path, dim
):
    place = vectors_with_queries(folder, documents, tmp_path / "vectors")
    plain = tiny.tiny_recipe(home, tmp_path / "ck")
    plain["teacher"] = {"source": f"vectors:{place}"}
    plain["data"] = {"corpus": f"jsonl:{place / 'documents.jsonl'}"}
    plain["student"] = plain.get("student", {}) | {"dim": dim}
    path = tiny.write_recipe(tmp_path / "mine.yaml", plain)
    with open_run(load_recipe(str(path)), trains=False) as run:
        found = run_predict(run, PredictSettings(minutes=5, kinds=(LAST_LAYER,)))
    assert (found.asked_with, found.num_queries) == (GIVEN_QUERIES, 30)
    assert found.dim == (dim or 48)
    assert found.students[0].expected.query_overlap is not None


def test_an_endpoint_is_asked_for_what_is_looked_at_and_no_more(home, folder, documents, tmp_path):
    teacher = read_encoder(home / "big")

    def embed(texts, dim):
        told = [text.removeprefix(tiny.PROMPT) for text in texts]
        made = teacher.finish(teacher(teacher.tokenize(told, "document"))).detach().numpy()
        return made[:, :dim] if dim else made

    with chat_server() as server:
        server.embed, server.dim = embed, 48
        plain = tiny.tiny_recipe(home, tmp_path / "ck")
        plain["teacher"] = {"source": f"endpoint:{MODEL}", "query_prompt": tiny.PROMPT}
        plain["data"] = {"corpus": f"jsonl:{folder / 'documents.jsonl'}"}
        plain["embeddings"] = {"endpoint": {"base_url": server.url}}
        path = tiny.write_recipe(tmp_path / "mine.yaml", plain)
        settings = PredictSettings(minutes=5, texts=210, kinds=(LAST_LAYER,))
        with open_run(load_recipe(str(path)), trains=False) as run:
            found = run_predict(run, settings)
        sent = [text for request in server.requests for text in request.texts]
        count = len(server.requests)
        with open_run(load_recipe(str(path)), trains=False) as run:
            assert run_predict(run, settings) == found
    assert (found.asked_with, found.num_documents) == (MADE_QUERIES, 210)
    asked = [text for text in sent if text.startswith(tiny.PROMPT)]
    assert len(asked) == found.num_queries
    # 18 texts are timed, and one tells the dimensions
    assert len(sent) - len(asked) <= 210 + 18 + 2
    assert len(server.requests) - count <= 1


# --- the sample


def as_documents(texts: list[str]) -> list[Document]:
    return [Document(f"d{i}", text) for i, text in enumerate(texts)]


def test_what_is_held_out_is_neither_fitted_nor_asked_whole(folder, documents):
    vectors = np.load(folder / "documents.npy")
    sample = make_sample(as_documents(documents), vectors, seed=1)
    assert not set(sample.held_out.tolist()) & set(sample.fit.tolist())
    assert len(sample.held_out) + len(sample.fit) == NUM_DOCUMENTS
    assert not set(sample.queries) & set(documents)
    assert set(sample.yardstick.sources.tolist()) <= set(sample.held_out.tolist())
    again = make_sample(as_documents(documents), vectors, seed=1)
    assert again.queries == sample.queries
    assert make_sample(as_documents(documents), vectors, seed=2).queries != sample.queries


def test_more_documents_move_few_from_one_side_to_the_other(documents):
    first = {documents[i] for i in shuffle_by_hash(documents[:200], 1)[:40].tolist()}
    second = {documents[i] for i in shuffle_by_hash(documents, 1)[:52].tolist()}
    assert len(first & second) >= 35


def test_given_queries_are_asked_as_they_are(folder, documents):
    vectors = np.load(folder / "documents.npy")
    given = [f"query {i}" for i in range(30)]
    sample = make_sample(as_documents(documents), vectors, given=(given, vectors[:30]), seed=1)
    assert sample.asked_with == GIVEN_QUERIES
    assert sorted(sample.queries) == sorted(given)
    place = given.index(sample.queries[0])
    assert sample.yardstick.queries is not None
    assert sample.yardstick.queries[0] == pytest.approx(vectors[place], abs=1e-5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d, v: (d, v[:-1]), "260 documents have 259 vectors"),
        (lambda d, v: (d[:150], v[:150]), "150 documents with vectors are too few"),
        (lambda d, v: (d, np.repeat(v[:1], len(v), axis=0)), "one and the same"),
        (lambda d, v: (d, np.where(np.arange(len(v))[:, None] == 9, np.nan, v)), ""),
    ],
)
def test_bad_vectors_are_refused(folder, documents, change, says):
    changed = change(as_documents(documents), np.load(folder / "documents.npy"))
    says = says or re.escape(f"vector of the document '{documents[9][:80]}")
    with pytest.raises(LeafkitError, match=says):
        make_sample(*changed, seed=1)


def test_a_bad_vector_of_a_query_is_not_said_to_be_a_documents(folder, documents):
    """A row of the sample tells nobody which text it is: texts are shown."""
    vectors = np.load(folder / "documents.npy")
    given = [f"query {i} {'and on ' * 30}" for i in range(30)]
    asked = np.where(np.arange(30)[:, None] == 7, np.inf, vectors[:30])
    with pytest.raises(
        LeafkitError, match=r"vector of the query 'query 7 and on .*\.\.\.'"
    ) as wrong:
        make_sample(as_documents(documents), vectors, given=(given, asked), seed=1)
    assert "that query's text" in wrong.value.hint
    assert len(str(wrong.value)) < 200

    def embed(queries):
        made = np.repeat(vectors[:1], len(queries), axis=0)
        made[3] = np.nan
        return made

    with pytest.raises(LeafkitError, match="vector of the query '"):
        make_sample(as_documents(documents), vectors, embed=embed, seed=1)


def test_documents_of_a_word_make_no_queries():
    words = [Document(f"d{i}", f"word{i}") for i in range(300)]
    with pytest.raises(LeafkitError, match="0 queries can be made of 60 held-out documents"):
        choose_queries(words, np.arange(60), 1)


# --- the closed form


@pytest.mark.parametrize("num_texts", [20, 90])
def test_in_the_span_of_few_texts_the_solution_is_the_same(num_texts, monkeypatch):
    """Fewer texts than numbers in a state are solved among themselves: the same map."""
    from leafkit.evaluation.diagnosis.spectrum import sum_for_ridge
    from leafkit.pipeline.predict import closed_probe
    from leafkit.pipeline.student.fit.closed_form import follow_lengths

    chooser = np.random.default_rng(0)
    states = chooser.normal(size=(num_texts, 60)).astype(np.float32) + 1
    vectors = chooser.normal(size=(num_texts, 7)).astype(np.float32)
    monkeypatch.setattr(closed_probe, "RIDGES", (0.01,))
    found = fit_head(states, vectors)
    plain = sum_for_ridge(states, follow_lengths(states, vectors)).solve(0.01)
    asked = chooser.normal(size=(5, 60)).astype(np.float32) + 1
    expected = asked @ plain.weight + plain.bias
    assert asked @ found.weight + found.bias == pytest.approx(expected, abs=2e-3)


def test_a_linear_space_is_found_from_enough_texts():
    chooser = np.random.default_rng(1)
    states = chooser.normal(size=(300, 16)).astype(np.float32)
    turn = np.linalg.qr(chooser.normal(size=(16, 16)))[0].astype(np.float32)
    vectors = states @ turn
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    head = fit_head(states[:200], vectors[:200])
    found = apply_head(head, states[200:])
    assert np.einsum("nd,nd->n", found, vectors[200:]).min() > 0.999


# --- the start's states


def test_states_of_all_layers_hold_the_models_own_pooled_ones(home, documents):
    start = read_encoder(home / "small")
    reader = StartStates(start, torch.device("cpu"), torch.float32)
    states = reader.read(documents[:5], "document", 0)
    own = start.pool(start.tokenize(documents[:5], "document")).detach().numpy()
    last = reader.layers_of(LAST_LAYER)
    assert last is not None
    assert states[:, last.columns] == pytest.approx(own, abs=1e-5)
    assert states.shape == (5, 3 * 32)
    assert reader.layers_of("2-layers") is None  # all of its layers are last-layer
    assert reader.layers_of(STATIC) is None
    assert reader.num_texts == 5
