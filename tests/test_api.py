"""The Python API: what it takes, gives and refuses; nothing is written, nothing printed."""

from __future__ import annotations

import doctest
import importlib
import traceback
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

import leafkit
from leafkit.config import CandidatesConfig, StudentLosses
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.data.records import Collection, Document, Query
from leafkit.embedders.make_embedder import make_embedder
from leafkit.models.checkpoint import read_encoder

PACKAGE = Path(leafkit.__file__).parent
PAIRS = tiny.make_pairs()
TEXTS = [document for _, document in PAIRS]
QUESTIONS = [query for query, _ in PAIRS[12:]]
CONFIG = leafkit.StudentConfig(tokens_per_batch=512, num_ridge_texts=64)
ONE_CANDIDATE = leafkit.StudentConfig(
    losses=StudentLosses(score_mse=1.0, candidates=CandidatesConfig(num_nearest=1, num_random=0))
)
LIMITS = {"max_query_tokens": 32, "max_document_tokens": 48, "num_pseudo_texts": 16}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Pairs, a teacher and a student's start model; read only."""
    return tiny.make_home(tmp_path_factory.mktemp("home"))


def distill(home: Path, **changes) -> leafkit.Pair:
    arguments = {
        "teacher": f"model:{home / 'big'}",
        "student": f"model:{home / 'small'}",
        "texts": TEXTS,
        "queries": QUESTIONS,
        "config": CONFIG,
        "device": "cpu",
        "precision": "float32",
    }
    return leafkit.distill(**arguments | LIMITS | changes)


@pytest.fixture(scope="module")
def judged() -> Collection:
    """The documents with twelve judged queries, which no pair has seen, and train queries."""
    documents = [Document(f"d{i}", text) for i, text in enumerate(TEXTS)]
    queries = [
        Query(f"q{i}", text, "test" if i < 12 else "train") for i, (text, _) in enumerate(PAIRS)
    ]
    return Collection("judged", documents, queries, {f"q{i}": {f"d{i}": 1} for i in range(72)})


@pytest.fixture(scope="module")
def pair(home, judged) -> leafkit.Pair:
    return distill(home, texts=judged, queries=())


def test_documents_have_the_teachers_vectors_and_queries_live_among_them(home, pair):
    teacher = make_embedder(read_encoder(home / "big"))
    np.testing.assert_allclose(pair.vectors, teacher.embed(TEXTS, "document", 48), atol=1e-6)
    assert pair.space == teacher.space("document", 48)
    cosines = (pair.encode_query(QUESTIONS) * teacher.embed(QUESTIONS, "query", 32)).sum(axis=1)
    assert cosines.mean() > 0.9
    assert pair.student.spec.prompts == {"query": tiny.PROMPT}
    assert pair.student.fingerprint


def test_the_recipe_and_the_api_train_the_same_student(home, tmp_path):
    """Both call the same functions; the recipe's vectors went through float16."""
    from leafkit.config.load import load_recipe
    from leafkit.pipeline.corpus import load_corpus
    from leafkit.pipeline.distill import load_targets, save_student
    from leafkit.pipeline.model_handle import load_teacher
    from leafkit.pipeline.run import open_run

    recipe = tiny.write_recipe(tmp_path / "tiny.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    with open_run(load_recipe(str(recipe))) as run:
        corpus, teacher = load_corpus(run, run.recipe.data.corpus), load_teacher(run)
        folder = save_student(run, teacher, corpus, load_targets(run, teacher, corpus))
        ours = distill(home, texts=corpus.collection, queries=(), config=run.recipe.student)
    theirs = make_embedder(read_encoder(folder))
    ours_BD, theirs_BD = ours.encode_query(TEXTS), theirs.encode_query(TEXTS)
    assert (ours_BD * theirs_BD).sum(axis=1).min() > 1 - 1e-4


def test_objects_do_as_references_do_and_stay_as_they_are(home):
    teacher, start = leafkit.load_model(home / "big"), leafkit.load_model(home / "small")
    before = {name: weight.clone() for name, weight in start.state_dict().items()}
    by_object = distill(home, teacher=teacher, student=start)
    by_name = distill(home)
    np.testing.assert_array_equal(by_object.encode_query("a"), by_name.encode_query("a"))
    assert all(torch.equal(before[name], weight) for name, weight in start.state_dict().items())
    assert start.projection is None
    assert by_object.encode_document("a").shape == (48,)


class OwnEmbedder:
    """Somebody else's teacher: vectors of a text's letters, in a space of its own."""

    def __init__(self, home: Path) -> None:
        self._model = make_embedder(read_encoder(home / "big"))

    fingerprint = space_id = "mine"
    dim, mrl_dims, encoder, precision, max_tokens = 48, (), None, "", 128

    def prompt(self, role):
        return ""

    def require(self, texts, role):
        pass

    def space(self, role, max_tokens):
        from dataclasses import replace

        return replace(self._model.space(role, max_tokens), teacher="mine", prompt="")

    def embed(self, texts, role, max_tokens, bar=None):
        return self._model.embed(texts, role, max_tokens, bar)


def test_any_object_that_embeds_teaches(home):
    pair = distill(home, teacher=OwnEmbedder(home), num_pseudo_texts=0)
    assert pair.space.teacher == "mine"
    assert len(pair.search("compute the matrix", k=3)) == 3


def test_a_table_student_is_a_pair_too(home):
    config = leafkit.StudentConfig(
        kind="static", static=leafkit.StaticConfig(width=16, texts_per_batch=16)
    )
    pair = distill(home, config=config)
    assert pair.student.num_parameters() < 20_000
    assert len(pair.search("compute the matrix", k=3)) == 3


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"texts": []}, "there is no text"),
        ({"texts": "one text"}, "texts and queries are lists"),
        ({"texts": ["a", "  "]}, "text 1 is empty"),
        ({"texts": ["a", 7]}, "text 1 is a int"),
        ({"texts": [{"id": "x", "txt": "a"}]}, "text 0 has a key 'txt'"),
        ({"texts": [{"text": None}]}, "text 0: text is a NoneType"),
        ({"texts": [{"id": "x", "text": "a"}, {"id": "x", "text": "b"}]}, "'x' comes more than"),
        ({"queries": ["a", ""]}, "query 1 is ''"),
        ({"queries": "one"}, "texts and queries are lists"),
        ({"teacher": "modle:x"}, "'modle:x' is not recipe:NAME, builtin:minilm, builtin:mpnet, "),
        ({"teacher": 7}, "a int gives no vectors"),
        ({"student": 7}, "a int cannot be trained"),
        ({"config": leafkit.StudentConfig(num_epochs=-1)}, "student.num_epochs"),
        ({"config": leafkit.StudentConfig(init="model:x")}, "are two models"),
        ({"config": ONE_CANDIDATE}, "score_mse compares several: 2 at least"),
        ({"max_query_tokens": -1}, "data.max_query_tokens"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(home, changes, complaint):
    with pytest.raises(UsageError, match=complaint) as caught:
        distill(home, **changes)
    assert caught.value.hint


def test_rows_keep_their_ids_and_titles(home):
    pair = distill(home, texts=[{"id": "x", "title": "Head", "text": "matrix"}, "vector \ud800 a"])
    assert [(d.id, d.full_text) for d in pair.documents] == [
        ("x", "Head matrix"),
        ("1", "vector ? a"),
    ]


def test_an_evaluation_gives_typed_figures_and_the_pair_remembers(pair, judged):
    result = leafkit.evaluate(pair, judged, num_resamples=200)
    (collection,) = result.collections
    assert [row.system for row in collection.systems] == [
        "teacher",
        "symmetric",
        "asymmetric",
        "bm25",
    ]
    assert (collection.kind, collection.num_queries) == ("in-domain", 12)
    teacher, asymmetric = (
        next(row for row in collection.systems if row.system == name).metrics["ndcg@10"].value
        for name in ("teacher", "asymmetric")
    )
    assert collection.retention["asymmetric"].value == pytest.approx(asymmetric / teacher)
    assert pair.retention is not None
    assert pair.retention.intervals == collection.retention
    assert collection.retention["asymmetric"].percent() in repr(pair)
    assert result.to_markdown()
    assert result.to_latex()
    # the pair's own judged queries, without BM25
    again = leafkit.evaluate(pair, num_resamples=200, bm25=False)
    assert [row.system for row in again.collections[0].systems] == [
        "teacher",
        "symmetric",
        "asymmetric",
    ]
    assert again.collections[0].retention == collection.retention


def test_several_collections_are_averaged(pair, judged, tmp_path):
    other = tiny.write_pairs(tmp_path / "other.jsonl", count=40)
    result = leafkit.evaluate(pair, [judged, f"jsonl:{other}"], num_resamples=200)
    assert [c.kind for c in result.collections] == ["in-domain", "out-of-domain"]
    assert result.macro is not None
    assert pair.retention is not None
    assert pair.retention.measured_on == "mean of 2 collections"
    with pytest.raises(UsageError, match="two collections are called 'judged'"):
        leafkit.evaluate(pair, [judged, judged])


def test_an_evaluation_without_judgments_is_refused(home):
    pair = distill(home)
    with pytest.raises(LeafkitError, match="comes without judged queries"):
        leafkit.evaluate(pair)
    with pytest.raises(UsageError, match="num_resamples"):
        leafkit.evaluate(pair, num_resamples=0)


def test_the_gates_of_a_pair(pair, judged):
    loose = leafkit.InheritConfig(
        precisions=["float32", "int8"], max_gap=dict.fromkeys(("float32", "int8"), 1.0)
    )
    grid = leafkit.check_inheritance(pair, config=loose, num_resamples=200)
    assert {(cell.dim, cell.precision) for cell in grid.cells} == {
        (48, "float32"),
        (48, "int8"),
        (24, "float32"),
        (24, "int8"),
    }
    # a gap is never below -1, so this gate cannot be met
    tight = leafkit.InheritConfig(precisions=["float32"], max_gap={"float32": 0.0}, strict=True)
    spoiled = leafkit.Pair(
        _spoiled(pair),
        judged,
        pair.vectors,
        pair.space,
        embedder=make_embedder(_spoiled(pair)),
        teacher=pair._teacher,
    )
    with pytest.raises(AssertionError, match="asymmetric"):
        leafkit.check_inheritance(spoiled, config=tight, num_resamples=200)
    with pytest.raises(UsageError, match=r"inherit\.precisions"):
        leafkit.check_inheritance(pair, config=leafkit.InheritConfig(precisions=["int9"]))


def _spoiled(pair: leafkit.Pair):
    """The student with its output turned around in the head dimensions."""
    import copy

    student = copy.deepcopy(pair.student)
    with torch.no_grad():
        student.projection.weight[:24].neg_()
        student.projection.bias[:24].neg_()
    return student


def test_judged_train_queries_are_learned_from_and_measured(home, caplog):
    """As they are by ``leafkit distill``; they were dropped, and nobody judged anything."""
    pairs = tiny.make_pairs(240)
    documents = [Document(f"d{i}", text) for i, (_, text) in enumerate(pairs)]
    queries = [Query(f"q{i}", text, "train") for i, (text, _) in enumerate(pairs)]
    grades = {f"q{i}": {f"d{i}": 1} for i in range(len(pairs))}
    config = leafkit.StudentConfig(
        losses=StudentLosses(contrastive=1.0), num_epochs=0.2, head_steps=0, num_checks=1
    )
    with caplog.at_level("INFO", logger="leafkit"):
        distill(home, texts=Collection("j", documents, queries, grades), queries=(), config=config)
    assert "contrastive: 240 of 240 training queries are judged" in caplog.text
    assert "nDCG@10" in caplog.text


@pytest.mark.parametrize(
    ("losses", "queries", "reason"),
    [
        (StudentLosses(score_kl=1.0), [], "no queries to score"),
        (StudentLosses(contrastive=1.0), QUESTIONS, "no train query has judged documents"),
    ],
)
def test_scores_of_nothing_are_refused_before_the_teacher_embeds(
    home, monkeypatch, losses, queries, reason
):
    monkeypatch.setattr("leafkit.api.embed_groups", None)
    with pytest.raises(UsageError, match=reason):
        distill(home, queries=queries, config=leafkit.StudentConfig(losses=losses))


class _InsideTheLoss(Exception):
    """Raised in the loss's place."""


def test_from_distill_to_the_loss_are_at_most_six_calls(home, monkeypatch):
    """Frames of leafkit's own code, from ``leafkit.distill`` to the loss, the loss included."""
    from leafkit.train import student_terms

    def loss(*tensors):
        raise _InsideTheLoss

    monkeypatch.setitem(student_terms.OF_VECTORS, "l2", loss)
    with pytest.raises(_InsideTheLoss) as caught:
        distill(home)
    frames = traceback.extract_tb(caught.value.__traceback__)
    ours = [f.name for f in frames if Path(f.filename).is_relative_to(PACKAGE)]
    assert ours == ["distill", "distill_transformer", "train_student", "fit", "training_step"]
    assert frames[-1].name == "loss"  # the sixth


@pytest.mark.parametrize(
    "module",
    [
        "leafkit.api",
        "leafkit.core.console",
        "leafkit.core.printable",
        "leafkit.pipeline.evaluate.evaluate_pair",
        "leafkit.pipeline.hits",
        "leafkit.pipeline.load_pair",
        "leafkit.pipeline.pair",
        "leafkit.testing",
    ],
)
def test_the_examples_in_the_docstrings_run(module):
    from leafkit.core.console import set_verbosity

    set_verbosity("silent")
    try:
        result = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    finally:
        set_verbosity("info")  # an example changed it
    assert result.attempted > 0
    assert result.failed == 0
