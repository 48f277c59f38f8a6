"""The table: each side against its own exact search, figures that can be recomputed, bad input."""

from __future__ import annotations

from dataclasses import replace

import faiss
import numpy as np
import pytest
from index_case import (
    CONFIG,
    DIM,
    KINDS,
    NUM_DOCUMENTS,
    NUM_QUERIES,
    make_documents,
    make_index,
    make_queries,
    sort_exactly,
    unit,
)

from leafkit.config import IndexConfig
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.data.vector_store import Space, VectorStore
from leafkit.evaluation import ann_indexes
from leafkit.evaluation.ann_indexes import compare_indexes, measure_recall
from leafkit.evaluation.metrics import Judgments
from leafkit.index import vectors as vector_blocks
from leafkit.index.ranking import Ranking
from leafkit.index.search import search_index
from leafkit.results import Interval

DOCUMENTS = make_documents()
SIDES = {"teacher": make_queries(DOCUMENTS), "student": make_queries(DOCUMENTS, noise=0.4, seed=2)}
QUERY_IDS = [f"q{i}" for i in range(NUM_QUERIES)]
DOCUMENT_IDS = [f"d{i}" for i in range(NUM_DOCUMENTS)]
QRELS = {q: {f"d{i}": 1} for i, q in enumerate(QUERY_IDS)}  # query i is document i, moved


def compare(config=CONFIG, documents=DOCUMENTS, sides=None, **changes):
    given = {
        "documents": documents,
        "queries": sides or SIDES,
        "judgments": Judgments(QUERY_IDS, DOCUMENT_IDS[: len(documents)], QRELS),
        "collection_name": "clusters",
        "config": config,
        "num_resamples": 200,
        "seed": 0,
    }
    return compare_indexes(**given | changes)


@pytest.fixture(scope="module")
def rows():
    return compare()


def pick(rows, kind, side, setting=None):
    return [
        r for r in rows if r.kind == kind and r.queries == side and setting in (None, r.setting)
    ]


def test_every_kind_setting_and_side_has_a_row_with_all_keys(rows):
    assert {r.kind for r in rows} == set(KINDS)
    num_settings = {"flat": 1, "int8": 1, "binary": 1}
    assert all(
        len(pick(rows, kind, side)) == num_settings.get(kind, 3) for kind in KINDS for side in SIDES
    )
    for row in rows:
        assert row.collection == "clusters"
        assert row.queries_per_s > 0
        assert row.build_s > 0
        assert row.threads == faiss.omp_get_max_threads()
        assert row.repetitions >= 3
        for found in (row.recall_at_10, row.ndcg_at_10):
            assert 0 <= found.low <= found.value <= found.high <= 1
            assert found.n == NUM_QUERIES


def test_flat_has_full_recall_and_the_ndcg_of_a_sort_in_numpy(rows):
    for side, queries in SIDES.items():
        row = pick(rows, "flat", side)[0]
        assert row.recall_at_10 == Interval(1.0, 1.0, 1.0, NUM_QUERIES)
        order = sort_exactly(queries, DOCUMENTS, 10)
        ranks = [row_.tolist().index(i) if i in row_ else None for i, row_ in enumerate(order)]
        expected = np.mean([0 if r is None else 1 / np.log2(r + 2) for r in ranks])
        assert row.ndcg_at_10.value == pytest.approx(expected, abs=1e-9)


def overlap(a, b):
    return np.mean([len(set(x) & set(y)) / 10 for x, y in zip(a.tolist(), b.tolist(), strict=True)])


def test_recall_is_of_the_sides_own_exact_search(rows):
    truth = {side: sort_exactly(queries, DOCUMENTS, 10) for side, queries in SIDES.items()}
    # against the teacher's truth no student search could be exact
    assert overlap(truth["teacher"], truth["student"]) < 0.8
    assert pick(rows, "ivf_flat", "student", "num_probes=16")[0].recall_at_10.value == 1.0
    for kind, setting in (("int8", 0), ("hnsw", 10), ("rabitq", 4)):
        if kind in KINDS:
            built = make_index(DOCUMENTS, kind)
            for side, queries in SIDES.items():
                row = pick(rows, kind, side, built.plan.label(setting))[0]
                found = search_index(built, queries, 10, setting).positions
                assert row.recall_at_10.value == pytest.approx(
                    overlap(found, truth[side]), abs=1e-9
                )


def test_planted_student_queries_need_a_wider_search_than_the_teachers():
    """Documents in eight tight groups; teacher queries lie in one of them, student queries between
    two.
    """
    generator = np.random.default_rng(0)
    centers = np.eye(16)[:8]
    documents = unit(centers[np.arange(800) % 8] + 0.02 * generator.normal(size=(800, 16)))
    teacher = unit(centers[np.arange(40) % 8] + 0.02 * generator.normal(size=(40, 16)))
    student = unit(
        centers[np.arange(40) % 8]
        + 0.99 * centers[(np.arange(40) + 1) % 8]
        + 0.03 * generator.normal(size=(40, 16))
    )
    config = IndexConfig(kinds=["ivf_flat"], num_lists=8, num_probes=[1, 2, 8], target_recall=0.9)
    qrels = {f"q{i}": {f"d{i}": 1} for i in range(40)}
    found = compare_indexes(
        documents,
        {"teacher": teacher, "student": student},
        Judgments(list(qrels), [f"d{i}" for i in range(800)], qrels),
        config,
        collection_name="planted",
        num_resamples=100,
        seed=0,
    )
    recall = {(r.queries, r.setting): r.recall_at_10.value for r in found}
    assert recall["teacher", "num_probes=1"] > 0.9 > recall["student", "num_probes=1"]
    assert recall["student", "num_probes=8"] == 1.0
    cheapest = {r.queries: r.setting for r in found if r.is_cheapest_at_target}
    assert cheapest["teacher"] == "num_probes=1"
    assert cheapest["student"] in ("num_probes=2", "num_probes=8")


def test_the_cheapest_at_target_is_the_first_of_each_sweep_that_reaches_it(rows):
    for kind in KINDS:
        for side in SIDES:
            mine = pick(rows, kind, side)
            reaching = [r for r in mine if r.recall_at_10.value >= CONFIG.target_recall]
            assert [r for r in mine if r.is_cheapest_at_target] == reaching[:1]
    assert any(r.is_cheapest_at_target for r in rows if r.kind == "hnsw")
    # 32 bits cannot tell ten apart
    assert not any(r.is_cheapest_at_target for r in rows if r.kind == "binary")


def test_rescoring_reads_more_bytes_and_says_so(rows):
    assert pick(rows, "binary_rescored", "teacher")[0].rescore_bytes_per_vector == 4 * DIM
    half = compare(
        replace(CONFIG, kinds=["binary", "binary_rescored"]), DOCUMENTS.astype(np.float16)
    )
    assert pick(half, "binary_rescored", "teacher")[0].rescore_bytes_per_vector == 2 * DIM
    assert pick(half, "binary", "teacher")[0].rescore_bytes_per_vector == 0
    assert (
        pick(half, "binary", "teacher")[0].bytes_per_vector
        == pick(rows, "binary", "teacher")[0].bytes_per_vector
    )


@pytest.mark.slow
def test_two_runs_give_the_same_figures_but_the_times(rows):
    def untimed(found):
        return [replace(r, build_s=0, queries_per_s=0, repetitions=0) for r in found]

    assert untimed(compare()) == untimed(rows)


@pytest.mark.slow
def test_a_vector_store_gives_the_figures_of_its_array(tmp_path):
    texts = [str(i) for i in range(len(DOCUMENTS))]
    store = VectorStore(
        tmp_path / "store",
        Space(teacher="x", dim=DIM, prompt="", max_tokens=8, pooling="mean", normalized=True),
        texts,
        rows_per_shard=256,
    )
    for shard in store.missing():
        store.write(shard, DOCUMENTS[shard.start : shard.stop])
    config = replace(CONFIG, kinds=["hnsw", "opq", "binary_rescored"])
    figures = [
        [
            (r.kind, r.setting, r.queries, r.recall_at_10, r.ndcg_at_10)
            for r in compare(config, documents)
        ]
        for documents in (store, store[:])
    ]
    assert figures[0] == figures[1]


def test_documents_are_read_in_blocks_and_never_whole(monkeypatch):
    class Watched:
        def __init__(self):
            self.most = 0

        def __len__(self):
            return len(DOCUMENTS)

        def __getitem__(self, rows):
            found = DOCUMENTS[rows]
            self.most = max(self.most, len(found))
            return found

    monkeypatch.setattr(vector_blocks, "BLOCK_ROWS", 200)
    documents = Watched()
    config = replace(CONFIG, kinds=["flat", "hnsw", "ivf_flat", "binary"], num_lists=4)
    compare(config, documents)
    assert documents.most <= max(200, NUM_QUERIES * 10)


def test_no_kinds_is_no_table():
    assert compare(IndexConfig()) == ()


def test_fewer_documents_than_ten():
    found = compare(
        IndexConfig(kinds=["flat", "hnsw", "ivf_flat", "binary_rescored"], rescore_factors=[1]),
        DOCUMENTS[:4],
    )
    assert all(
        r.recall_at_10.value == 1.0 for r in found if r.kind in ("flat", "hnsw", "binary_rescored")
    )


def test_one_document_and_one_query():
    found = compare(
        IndexConfig(kinds=["flat", "hnsw", "ivf_flat", "int8", "binary", "binary_rescored"]),
        DOCUMENTS[:1],
        {"teacher": SIDES["teacher"][:1]},
        judgments=Judgments(["q0"], ["d0"], {"q0": {"d0": 1}}),
    )
    assert found
    assert all(r.recall_at_10.value == r.ndcg_at_10.value == 1.0 for r in found)


def test_a_document_that_is_the_query_itself_does_not_take_a_place():
    """Document 0 is the query; the relevant document is the eleventh, the tenth of the others."""
    documents = unit(np.stack([np.cos(np.arange(40) * 0.02), np.sin(np.arange(40) * 0.02)], axis=1))
    config = IndexConfig(kinds=["flat", "hnsw"])
    queries = {"teacher": documents[:1]}
    judgments = Judgments(["q0"], DOCUMENT_IDS[:40], {"q0": {"d10": 1}})
    figures = {}
    for own in (None, [-1], [0]):
        found = compare(config, documents, queries, judgments=judgments, own=own)
        figures[str(own)] = sorted({r.ndcg_at_10.value for r in found})
        assert all(r.recall_at_10.value == 1 for r in found)
    assert figures == {"None": [0.0], "[-1]": [0.0], "[0]": [pytest.approx(1 / np.log2(11))]}


@pytest.mark.slow
def test_documents_that_are_all_alike_are_all_as_good():
    documents = unit(np.ones((300, 32)))
    kinds = [kind for kind in KINDS if kind != "opq"]
    found = compare(replace(CONFIG, kinds=kinds, num_lists=4, num_probes=[4]), documents)
    assert {r.kind for r in found} == set(kinds)
    assert all(r.recall_at_10.value == 1 for r in found)


# --- recall


def test_recall_by_hand():
    documents = unit(np.array([[1, 0], [0.9, 0.1], [0.5, 0.5], [0, 1]]))
    queries = np.array([[1, 0], [0, 3]], dtype=np.float32)
    exact = Ranking(
        sort_exactly(queries, documents, 2), -np.sort(-queries @ documents.T, axis=1)[:, :2]
    )
    found = Ranking(np.array([[0, 2], [2, -1]]), np.zeros((2, 2), np.float32))
    assert measure_recall(found, exact, queries, documents, k=2).tolist() == [0.5, 0.5]


def test_a_copy_of_the_tenth_document_counts_as_found():
    documents = np.concatenate([DOCUMENTS[:100], DOCUMENTS[:100]])
    exact_positions = sort_exactly(SIDES["teacher"], documents, 10)
    scores = np.take_along_axis(SIDES["teacher"] @ documents.T, exact_positions, axis=1)
    copies = Ranking((exact_positions + 100) % 200, scores)
    assert (
        measure_recall(copies, Ranking(exact_positions, scores), SIDES["teacher"], documents) == 1
    ).all()


def test_a_document_that_is_just_worse_does_not_count():
    documents = unit(np.stack([np.cos(np.arange(12) * 0.05), np.sin(np.arange(12) * 0.05)], axis=1))
    queries = documents[:1]
    exact = Ranking(np.arange(10)[None], (queries @ documents.T)[:, :10])
    assert (
        measure_recall(
            Ranking(np.array([[*range(9), 10]]), exact.scores), exact, queries, documents
        )[0]
        == 0.9
    )


# --- bad input


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
@pytest.mark.parametrize("side", ["teacher", "student"])
def test_query_vectors_that_are_not_finite_are_named(side, bad):
    sides = {name: vectors.copy() for name, vectors in SIDES.items()}
    sides[side][7, 2] = bad
    with pytest.raises(LeafkitError, match=f"{side} query 7 is not finite"):
        compare(sides=sides)


def test_document_vectors_that_are_not_finite_are_named_before_anything_is_built(monkeypatch):
    monkeypatch.setattr(ann_indexes, "build_index", lambda *_: pytest.fail("built"))
    documents = DOCUMENTS.copy()
    documents[1400, 0] = np.nan
    with pytest.raises(LeafkitError, match="document 1400 is not finite"):
        compare(documents=documents)


@pytest.mark.parametrize("length", [0.0, 0.9, 12.0])
def test_documents_that_have_not_length_one_are_refused(length):
    documents = DOCUMENTS.copy()
    documents[5] *= length
    with pytest.raises(LeafkitError, match=rf"document 5 has length {length:.4g}") as caught:
        compare(documents=documents)
    assert "bench.indexes.kinds" in caught.value.hint


def test_queries_of_any_length_rank_alike(rows):
    config = replace(CONFIG, kinds=["flat", "hnsw", "binary_rescored"])
    long = compare(config, sides={side: vectors * 7 for side, vectors in SIDES.items()})
    key = [(r.kind, r.setting, r.queries, r.recall_at_10.value) for r in long]
    assert key == [
        (r.kind, r.setting, r.queries, r.recall_at_10.value) for r in rows if r.kind in config.kinds
    ]


def test_nothing_to_compare_on_is_said():
    with pytest.raises(LeafkitError, match="0 documents and 60 queries"):
        compare(documents=DOCUMENTS[:0])
    with pytest.raises(LeafkitError, match="1500 documents and 0 queries"):
        compare(sides={"teacher": SIDES["teacher"][:0]}, judgments=Judgments([], DOCUMENT_IDS, {}))


def test_kinds_that_cannot_be_built_stop_before_anything_is_built(monkeypatch):
    monkeypatch.setattr(ann_indexes, "build_index", lambda *_: pytest.fail("built"))
    with pytest.raises(UsageError, match="256 documents to train on"):
        compare(documents=DOCUMENTS[:200])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"judgments": Judgments(QUERY_IDS, DOCUMENT_IDS[:9], QRELS)},
            "judgments of 9 documents for 1500 vectors",
        ),
        ({"own": [0, 1]}, "60 queries have 2 own documents"),
        (
            {"judgments": Judgments(QUERY_IDS[:9], DOCUMENT_IDS, QRELS)},
            r"teacher queries have the shape \(60, 32\) where \(9, 32\) is needed",
        ),
        (
            {"sides": {"student": np.ones((60, 16), np.float32)}},
            r"student queries have the shape \(60, 16\)",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_mistakes_in_the_program(changes, message):
    with pytest.raises(ValueError, match=message):
        compare(**changes)


# --- the GPU, through a fake: nothing here has run on a GPU


def test_a_gpu_adds_rows_of_its_own(monkeypatch, capsys):
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(
        ann_indexes,
        "copy_to_gpu",
        lambda built: replace(built, device="gpu") if built.plan.kind == "flat" else None,
    )
    found = compare(replace(CONFIG, kinds=["flat", "int8"]))
    assert [(r.kind, r.device, r.queries) for r in found] == [
        ("flat", "cpu", "teacher"),
        ("flat", "cpu", "student"),
        ("flat", "gpu", "teacher"),
        ("flat", "gpu", "student"),
        ("int8", "cpu", "teacher"),
        ("int8", "cpu", "student"),
    ]
    assert sum(r.is_cheapest_at_target for r in found if r.kind == "flat") == 4
