"""A benchmark's texts and judged queries: what is asked trains nothing; and a short budget."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import tiny

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
from against_ways import WAYS, measure
from lib.case import case_words, describe_case, load_case, read_case_recipe
from lib.timed import Clock, distill_in_time

from leafkit.pipeline.run import open_run

COUNT = 60


def write_beir(folder: Path) -> Path:
    """Documents 0 to 59, of which 0 is a judged query itself; train and test queries, of which some
    train queries are judged ones in other letters.
    """
    pairs = tiny.make_pairs(COUNT)
    documents = [text for _, text in pairs]
    documents[0] = pairs[1][0]  # the text of a test query
    tiny.write_lines(
        folder / "corpus.jsonl",
        [{"_id": f"d{i}", "title": "", "text": text} for i, text in enumerate(documents)],
    )
    queries = [{"_id": f"q{i}", "text": query} for i, (query, _) in enumerate(pairs)]
    leaking = [{"_id": f"x{i}", "text": pairs[i][0].upper() + " "} for i in (1, 2)]
    tiny.write_lines(folder / "queries.jsonl", [*queries, *leaking])
    judged = {"test": [f"q{i}\td{i}" for i in range(1, 21)]}
    judged["train"] = [f"q{i}\td{i}" for i in range(21, COUNT)] + ["x1\td1", "x2\td2"]
    (folder / "qrels").mkdir()
    for split, rows in judged.items():
        lines = ["query-id\tcorpus-id\tscore", *(f"{row}\t1" for row in rows)]
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("case")
    collection = tmp_path / "collection"
    collection.mkdir()
    options = argparse.Namespace(
        corpus=f"beir:{write_beir(collection)}",
        teacher=f"model:{tiny.write_model(tmp_path / 'teacher', seed=1)}",
        folder=tmp_path / "work",
        words=[
            f"student.init=model:{tiny.write_model(tmp_path / 'start', seed=2)}",
            "precision=float32",
            "device=cpu",
            "data.num_pseudo_texts=0",
            "student.losses.score_kl=1",
            "student.tokens_per_batch=128",
        ],
    )
    recipe = read_case_recipe("own-data", case_words(options, ["data.num_pseudo_texts=9"]))
    with open_run(recipe) as run:
        yield load_case(run)


def test_nothing_that_is_asked_trains_and_a_short_budget_gives_the_closed_form(case):
    asked = {text.lower().strip() for text in case.home.asked}
    assert len(asked) == 20
    trained = [text.lower() for text, _ in case.rows]
    assert not asked & {text.removeprefix(tiny.PROMPT).strip() for text in trained}
    documents, queries = case.targets
    assert len(documents.texts) == COUNT - 1  # one document is a judged query
    assert len(queries.texts) == COUNT - 21
    assert len(case.home.documents) == COUNT  # all of them are searched
    assert case.vectors().shape == (len(case.rows), case.teacher.model.dim)
    np.testing.assert_allclose(case.vectors()[0], np.asarray(documents.vectors[:1])[0], atol=1e-3)
    told = describe_case(json.loads(json.dumps(case.about())))
    assert "no text trains that is a judged query too" in told

    of_teacher = case.home.ndcg(case.home.queries)
    assert of_teacher.shape == (20,)
    timed = distill_in_time(case, case.run.recipe.student, Clock(2.0), seed=1)
    assert timed.config.trains_nothing  # there is time for the closed form alone
    assert (timed.num_texts, timed.num_steps, timed.was_stopped) == (0, 0, False)
    vectors = timed.embedder(case).embed(case.home.asked, case.home.role, 0)
    assert vectors.shape == case.home.queries.shape
    cosine = np.einsum("nd,nd->n", vectors, case.home.queries).mean()
    assert cosine > 0.5  # it lives in the teacher's space


def ways_options(seconds: float) -> argparse.Namespace:
    return argparse.Namespace(minutes=seconds / 60, seed=0, peer_lr=1e-3, distance="cosine")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "seconds"),
    [("leafkit", 12), ("instant", 2), ("embed-distill", 3), ("mse", 3), ("closed-form", 2)],
)
def test_every_way_gives_a_student_of_the_teacher_s_dimensions(case, way, seconds):
    ran = WAYS[way](case, ways_options(seconds))
    assert ran.seconds < seconds + 20  # a busy machine
    assert ran.texts > 0 or way == "instant"
    found = measure(case, ran, symmetric=True)
    assert {name: len(values) for name, values in found.items()} == {
        "teacher": 20,
        "asymmetric": 20,
        "symmetric": 20,
    }
    assert ran.is_complete == (way in ("instant", "closed-form"))


def test_model2vec_is_asked_for_vectors_in_the_teacher_s_space(case, monkeypatch):
    """A stand-in with the documented call: the package itself is not needed by anything else."""
    dim, asked = case.teacher.model.dim, {}

    def distill(**given):
        asked.update(given)
        return SimpleNamespace(encode=lambda texts: np.ones((len(texts), dim)))

    package, module = ModuleType("model2vec"), ModuleType("model2vec.distill")
    module.distill = distill
    monkeypatch.setitem(sys.modules, "model2vec", package)
    monkeypatch.setitem(sys.modules, "model2vec.distill", module)
    ran = WAYS["model2vec"](case, ways_options(1))
    assert asked["pca_dims"] is None  # the PCA would leave the space
    assert (Path(asked["model_name"]) / "config.json").is_file()
    assert ran.is_complete
    assert measure(case, ran, symmetric=False).keys() == {"teacher", "asymmetric"}
