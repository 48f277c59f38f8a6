"""One similarity for every measure: the model's own, as sentence-transformers reads it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny

from leafkit import Collection, Document, Query, StudentConfig, distill
from leafkit.config import InheritConfig
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.embedders.make_embedder import make_embedder
from leafkit.evaluation.metrics import Judgments, fast_ndcg
from leafkit.index.exact import search_exact
from leafkit.models.checkpoint import read_encoder, write_encoder
from leafkit.models.encoder_protocol import load_model, save_model
from leafkit.pipeline.evaluate.evaluate_pair import evaluate, measure_inheritance
from leafkit.pipeline.load_pair import load_pair

ABSENT = object()


def write_folder(folder, *, normalize, similarity):
    """A model whose vectors have very different lengths before any normalization."""
    tiny.write_model(folder, normalized=normalize, prompts={"query": tiny.PROMPT})
    (folder / "leafkit.json").unlink()  # as somebody else's model
    place = folder / "config_sentence_transformers.json"
    config = json.loads(place.read_text())
    del config["similarity_fn_name"]
    if similarity is not ABSENT:
        config["similarity_fn_name"] = similarity
    place.write_text(json.dumps(config))
    return folder


def judged_collection():
    pairs = tiny.make_pairs(40)
    documents = [Document(str(i), text) for i, (_, text) in enumerate(pairs)]
    queries = [Query(f"q{i}", text, "test") for i, (text, _) in enumerate(pairs[:15])]
    return Collection("tiny", documents, queries, {f"q{i}": {str(i): 1} for i in range(15)})


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("similarity", [ABSENT, None, "cosine", "dot", "euclidean"])
def test_scores_are_those_of_sentence_transformers(tmp_path, normalize, similarity):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = write_folder(tmp_path / "model", normalize=normalize, similarity=similarity)
    if similarity == "euclidean" and not normalize:
        with pytest.raises(LeafkitError, match="similarity_fn_name is euclidean") as err:
            read_encoder(folder)
        assert "config_sentence_transformers.json" in str(err.value)
        return
    texts = [text for _, text in tiny.make_pairs(24)]
    ours = make_embedder(read_encoder(folder)).encode_document(texts)
    theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    expected = theirs.similarity(theirs.encode(texts[:8]), theirs.encode(texts)).numpy()
    found = ours[:8] @ ours.T
    if similarity == "euclidean":  # minus the distance: another number, the same order
        expected = 1 - expected**2 / 2
    np.testing.assert_allclose(found, expected, atol=2e-5, rtol=1e-4)
    assert (similarity == "dot" and not normalize) == bool(found[0, 0] > 1.01)


@pytest.mark.parametrize(
    ("similarity", "message"),
    [("manhattan", "ranks by a distance"), ("l2", "not one of"), (7, "not one of")],
)
@pytest.mark.parametrize("normalize", [True, False])
def test_other_similarities_are_refused_by_name(tmp_path, similarity, message, normalize):
    folder = write_folder(tmp_path / "model", normalize=normalize, similarity=similarity)
    with pytest.raises(LeafkitError, match=message):
        read_encoder(folder)


@pytest.mark.parametrize("kind", ["transformer", "static"])
@pytest.mark.parametrize(
    ("normalize", "similarity", "written"),
    [(False, "cosine", "cosine"), (False, "dot", "dot"), (True, "dot", "cosine")],
)
def test_a_student_is_saved_with_the_similarity_it_was_made_for(
    tmp_path, kind, normalize, similarity, written
):
    teacher = write_folder(tmp_path / "teacher", normalize=normalize, similarity=similarity)
    config = StudentConfig(kind=kind, init=f"model:{teacher}", num_epochs=0.2)
    pair = distill(
        f"model:{teacher}",
        texts=judged_collection(),
        config=config,
        precision="float32",
        num_pseudo_texts=64,
    )
    pair.save(tmp_path / "pair")
    told = json.loads((tmp_path / "pair/student/config_sentence_transformers.json").read_text())
    is_static = kind == "static"  # whose queries have length one and rank in the teacher's order
    assert told["similarity_fn_name"] == ("cosine" if is_static else written)
    again = load_pair(tmp_path / "pair")
    question = pair.documents[3].text
    assert [h.id for h in again.search(question)] == [h.id for h in pair.search(question)]
    assert again.space.similarity == written
    expected = again.encode_query(question) @ np.asarray(again.vectors, np.float32).T
    best = [h.score for h in again.search(question, k=3)]
    np.testing.assert_allclose(best, np.sort(expected)[::-1][:3], rtol=1e-5)


def test_bench_search_inherit_and_the_training_callback_agree_on_a_cosine_model(tmp_path):
    folder = write_folder(tmp_path / "model", normalize=False, similarity="cosine")
    collection = judged_collection()
    pair = distill(
        f"model:{folder}",
        texts=collection,
        config=StudentConfig(init=f"model:{folder}", num_epochs=0.2),
        precision="float32",
        num_pseudo_texts=64,
    )
    result = evaluate(pair, num_resamples=20, bm25=False).collection("tiny")
    of_bench = {row.system: row.metrics["ndcg@10"].value for row in result.systems}
    grid = measure_inheritance(pair, config=InheritConfig(precisions=["float32"]), num_resamples=20)
    cell = next(c for c in grid.cells if c.dim == pair.dim and c.mode == "symmetric")
    assert cell.teacher == pytest.approx(of_bench["teacher"], abs=1e-9)
    assert cell.student == pytest.approx(of_bench["symmetric"], abs=1e-9)


def test_measures_made_for_cosines_refuse_a_model_that_ranks_by_inner_product(tmp_path):
    folder = write_folder(tmp_path / "model", normalize=False, similarity="dot")
    collection = judged_collection()
    pair = distill(
        f"model:{folder}",
        texts=collection,
        config=StudentConfig(init=f"model:{folder}", num_epochs=0.2),
        precision="float32",
        num_pseudo_texts=64,
    )
    result = evaluate(pair, num_resamples=20, bm25=False).collection("tiny")
    of_bench = {row.system: row.metrics["ndcg@10"].value for row in result.systems}
    model = make_embedder(load_model(folder))
    judged = collection.judged("test")
    queries = model.embed([query.text for query in judged], "query", 64)
    documents = model.embed([d.full_text for d in collection.documents], "document", 64)
    judgments = Judgments(
        [query.id for query in judged], [d.id for d in collection.documents], collection.qrels
    )
    found = fast_ndcg(search_exact(queries, documents, 10, judgments.ties), judgments)
    assert found.mean() == pytest.approx(of_bench["teacher"], abs=1e-9)
    with pytest.raises(UsageError, match="inner product of vectors of any length"):
        measure_inheritance(pair, num_resamples=20)


def test_a_student_of_an_earlier_version_whose_files_contradict_each_other_is_refused(tmp_path):
    encoder = tiny.make_encoder(normalized=False)
    write_encoder(encoder, tmp_path / "old", {"kind": "student", "normalized": False})
    for name, changes in {
        "leafkit.json": {"similarity": None},
        "config_sentence_transformers.json": {"similarity_fn_name": "cosine"},
    }.items():
        place = tmp_path / "old" / name
        content = json.loads(place.read_text()) | changes
        place.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    with pytest.raises(LeafkitError, match="compared by inner product"):
        read_encoder(tmp_path / "old")


def test_a_changed_similarity_does_not_pass_as_the_saved_one(tmp_path):
    save_model(tiny.make_encoder(normalized=False), tmp_path / "dot", {"kind": "teacher"})
    place = tmp_path / "dot" / "config_sentence_transformers.json"
    place.write_text(place.read_text().replace('"dot"', '"cosine"'))
    with pytest.raises(LeafkitError, match=r"similarity is cosine in .* and dot in leafkit.json"):
        read_encoder(tmp_path / "dot")
