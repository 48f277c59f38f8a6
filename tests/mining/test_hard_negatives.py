"""Mining and the ranking-consistency filter against a plain loop in numpy, on ties, copies, and
corpora that are too small.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest

from leafkit.config import MiningConfig
from leafkit.core.errors import LeafkitError
from leafkit.data.vector_store import Space, VectorStore
from leafkit.index import exact, exclusion
from leafkit.mining import hard_negatives
from leafkit.mining.hard_negatives import Mined, Rows

PLAIN = MiningConfig(num_negatives=3, first_rank=0, last_rank=3, max_positive_share=0.0)
WIDE = MiningConfig(
    num_negatives=4, first_rank=5, last_rank=20, max_positive_share=0.95, filter_rank=30
)
SHARE = "candidates refused: above max_positive_share of the positive's score"
MARGIN = "candidates refused: not min_margin below the positive"
SAME = "candidates refused: same vector as the positive"
Problem = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[set[int]]]


def mine(
    queries,
    documents,
    row_queries,
    row_positives,
    relevant,
    settings: MiningConfig,
    seed: int,
    row_keys: np.ndarray | None = None,
    **more: int,
) -> Mined:
    """``hard_negatives.mine`` of a problem's parts."""
    rows = Rows(row_queries, row_positives, relevant, row_keys)
    return hard_negatives.mine(queries, documents, rows, settings, seed=seed, **more)


def make_problem(
    seed: int, num_queries: int = 40, num_documents: int = 90, dim: int = 6, whole: bool = True
) -> Problem:
    """Vectors of few small whole numbers tie everywhere and score without rounding; a third of the
    documents are copies.
    """
    generator = np.random.default_rng(seed)
    if whole:
        documents = generator.integers(-2, 3, size=(num_documents, dim)).astype(np.float32)
        queries = generator.integers(-2, 3, size=(num_queries, dim)).astype(np.float32)
    else:
        documents, queries = (
            generator.normal(size=(n, dim)).astype(np.float32) for n in (num_documents, num_queries)
        )
    copies = generator.choice(num_documents, size=num_documents // 3, replace=False)
    documents[copies] = documents[generator.integers(num_documents, size=len(copies))]
    relevant = [
        set(generator.integers(num_documents, size=generator.integers(0, 5)).tolist())
        for _ in range(num_queries)
    ]
    row_queries = generator.integers(num_queries, size=2 * num_queries)
    row_positives = np.array(
        [generator.choice([*relevant[q], generator.integers(num_documents)]) for q in row_queries]
    )
    return queries, documents, row_queries, row_positives, relevant


def others_by_hand(problem: Problem, row: int) -> tuple[np.ndarray, np.ndarray, float]:
    """(positions, scores) of all documents that are not relevant, best first, ties by position; the
    positive's score.
    """
    queries, documents, row_queries, row_positives, relevant = problem
    query = row_queries[row]
    scores = documents.astype(np.float64) @ queries[query].astype(np.float64)
    known = relevant[query] | set(row_positives[row_queries == query].tolist())
    others = np.array([d for d in range(len(documents)) if d not in known], dtype=np.int64)
    others = others[np.argsort(-scores[others], kind="stable")]
    return others, scores[others], float(scores[row_positives[row]])


def survivors_by_hand(
    problem: Problem, row: int, settings: MiningConfig
) -> dict[int, tuple[int, float]]:
    """Rank and score of every document the rules leave."""
    others, scores, own = others_by_hand(problem, row)
    positive = problem[1][problem[3][row]]
    left = {}
    for rank in range(settings.first_rank, min(settings.last_rank, len(others))):
        score = scores[rank]
        share = settings.max_positive_share
        if share > 0 and score > own - (1 - share) * abs(own) + 1e-5:
            continue
        if settings.min_margin > 0 and score > own - settings.min_margin + 1e-5:
            continue
        if (problem[1][others[rank]] == positive).all():
            continue
        left[int(others[rank])] = (rank, score)
    return left


def assert_equals_hand(problem: Problem, settings: MiningConfig, mined: Mined) -> None:
    num_ranks = max(settings.last_rank if settings.num_negatives else 0, settings.filter_rank)
    for row in range(len(problem[2])):
        _, scores, own = others_by_hand(problem, row)
        rank = int((scores >= own - 1e-5).sum())
        assert mined.positive_ranks[row] == min(rank, num_ranks)
        assert mined.positive_scores[row] == pytest.approx(own, abs=1e-5)
        assert mined.kept[row] == (not settings.filter_rank or rank < settings.filter_rank)
        found = mined.negatives[row][mined.negatives[row] >= 0].tolist()
        if not mined.kept[row]:
            assert not found
            continue
        left = survivors_by_hand(problem, row, settings)
        assert set(found) <= set(left)
        assert len(found) == len(set(found)) == min(settings.num_negatives, len(left))
        assert mined.ranks[row].tolist() == [left[d][0] for d in found] + [-1] * (
            settings.num_negatives - len(found)
        )
        assert mined.scores[row][: len(found)] == pytest.approx(
            [left[d][1] for d in found], abs=1e-5
        )
        assert np.isnan(mined.scores[row][len(found) :]).all()
        assert (
            sorted(mined.ranks[row][: len(found)].tolist())
            == mined.ranks[row][: len(found)].tolist()
        )


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("whole", [True, False], ids=["ties", "reals"])
@pytest.mark.parametrize(
    "settings",
    [
        MiningConfig(num_negatives=4, first_rank=0, last_rank=95, max_positive_share=0.0),
        MiningConfig(
            num_negatives=4, first_rank=5, last_rank=95, max_positive_share=0.95, filter_rank=20
        ),
        MiningConfig(
            num_negatives=7, first_rank=0, last_rank=95, max_positive_share=1.0, min_margin=1.0
        ),
        MiningConfig(
            num_negatives=2,
            first_rank=50,
            last_rank=100,
            max_positive_share=0.5,
            min_margin=0.5,
            filter_rank=1,
        ),
        MiningConfig(num_negatives=4, first_rank=3, last_rank=12, max_positive_share=0.0),
        MiningConfig(filter_rank=95),
        MiningConfig(filter_rank=7),
    ],
)
def test_every_row_equals_a_plain_loop(seed: int, whole: bool, settings: MiningConfig) -> None:
    problem = make_problem(seed, whole=whole)
    assert_equals_hand(problem, settings, mine(*problem, settings, seed))


@pytest.mark.parametrize("seed", range(8))
def test_a_window_that_ends_inside_a_wide_tie_equals_a_plain_loop(seed: int) -> None:
    problem = make_problem(seed, num_queries=30, num_documents=600, dim=5)
    settings = MiningConfig(num_negatives=50, first_rank=60, last_rank=110, max_positive_share=0.0)
    assert_equals_hand(problem, settings, mine(*problem, settings, seed))


def test_ties_wider_than_the_search_are_settled_by_position_without_a_second_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    documents = np.zeros((500, 2), dtype=np.float32)
    # 250 documents of score 1, 250 of score 0
    documents[:, 0] = np.random.default_rng(0).permutation(500) % 2
    best = np.flatnonzero(documents[:, 0])
    # from 100 on, faiss itself takes ties in another order
    settings = replace(PLAIN, num_negatives=120, last_rank=120)
    for entries in (2**22, 1):  # all queries' scores at once, and query by query
        monkeypatch.setattr(exact, "_SCAN_ENTRIES", entries)
        mined = mine(
            np.repeat(QUERY, 30, axis=0),
            documents,
            np.arange(30),
            best[-30:],
            [{int(best[1])}] * 30,
            settings,
            0,
        )
        assert (mined.negatives == -1).all()  # all have the positive's vector
        documents[:, 1] = np.arange(500)  # no longer, and the scores stay
        mined = mine(
            np.repeat(QUERY, 30, axis=0),
            documents,
            np.arange(30),
            best[-30:],
            [{int(best[1])}] * 30,
            settings,
            0,
        )
        assert mined.negatives.tolist() == [[best[0], *best[2:121]]] * 30
        assert mined.ranks.tolist() == [list(range(120))] * 30
        documents[:, 1] = 0


@pytest.mark.parametrize("num_documents", [1, 2, 3, 5, 8])
def test_tiny_corpora_give_what_there_is_and_count_what_is_missing(num_documents: int) -> None:
    problem = make_problem(3, num_queries=6, num_documents=num_documents)
    settings = MiningConfig(
        num_negatives=4, first_rank=1, last_rank=6, max_positive_share=0.0, filter_rank=100
    )
    mined = mine(*problem, settings, 0)
    assert_equals_hand(problem, settings, mined)
    assert mined.counts["negatives missing"] == (mined.negatives < 0).sum() > 0
    assert mined.counts["rows with too few negatives"] == (mined.negatives < 0).any(axis=1).sum()


def test_fewer_documents_than_the_window_starts_at_gives_none_and_says_so() -> None:
    problem = make_problem(0, num_queries=4, num_documents=30)
    settings = MiningConfig(num_negatives=7, first_rank=50, last_rank=100)
    mined = mine(*problem, settings, 0)
    assert (mined.negatives == -1).all()
    assert np.isnan(mined.scores).all()
    assert mined.counts["rows with too few negatives"] == mined.counts["rows"] == 8
    assert mined.counts["negatives missing"] == 56
    assert mined.counts["candidates missing: too few documents"] == 8 * 50
    assert mined.counts["candidates in the window"] == 0


@pytest.mark.parametrize("block_rows", [1, 2, 7, 19, 20, 21, 1000])
@pytest.mark.parametrize("whole", [True, False], ids=["ties", "reals"])
def test_block_size_changes_nothing(block_rows: int, whole: bool) -> None:
    problem = make_problem(5, whole=whole, num_documents=200, dim=16)
    settings = replace(WIDE, max_positive_share=1.5, last_rank=150)
    usual, other = mine(*problem, settings, 9), mine(*problem, settings, 9, block_rows=block_rows)
    for name in ("negatives", "ranks", "positive_ranks", "kept"):
        assert np.array_equal(getattr(usual, name), getattr(other, name)), name
    assert np.allclose(usual.scores, other.scores, equal_nan=True, atol=1e-5)
    assert usual.counts == other.counts
    assert (usual.negatives >= 0).any()


def test_a_block_shrinks_where_queries_have_many_relevant_documents(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = make_problem(5)
    usual = mine(*problem, WIDE, 9)
    depths: list[tuple[int, int]] = []
    search = faiss.knn
    monkeypatch.setattr(
        faiss,
        "knn",
        lambda q, v, k, **more: (depths.append((len(q), k)), search(q, v, k, **more))[1],
    )
    monkeypatch.setattr(exclusion, "_BLOCK_ENTRIES", 100)
    problem[4][0].update(range(60))
    again = mine(*problem, WIDE, 9)
    assert max(rows * depth for rows, depth in depths) <= 100
    assert sum(rows for rows, _ in depths) == len(set(problem[2].tolist()))
    others = problem[2] != 0
    assert np.array_equal(usual.negatives[others], again.negatives[others])
    assert not set(again.negatives[~others].ravel().tolist()) & set(range(60))


# --- the draw


def test_other_rows_do_not_change_a_rows_draw() -> None:
    queries, documents, row_queries, row_positives, relevant = make_problem(1, whole=False)
    keys = np.random.default_rng(0).integers(2**63, size=len(row_queries)).astype(np.uint64)
    settings = MiningConfig(num_negatives=3, first_rank=5, last_rank=60, max_positive_share=0.0)
    relevant = [
        known | set(row_positives[row_queries == q].tolist()) for q, known in enumerate(relevant)
    ]
    whole = mine(
        queries, documents, row_queries, row_positives, relevant, settings, 4, row_keys=keys
    )
    some = np.array([17, 3, 44])
    part = mine(
        queries,
        documents,
        row_queries[some],
        row_positives[some],
        relevant,
        settings,
        4,
        row_keys=keys[some],
    )
    assert np.array_equal(whole.negatives[some], part.negatives)
    unkeyed = mine(queries, documents, row_queries, row_positives, relevant, settings, 4)
    first = mine(queries, documents, row_queries[:9], row_positives[:9], relevant, settings, 4)
    assert np.array_equal(unkeyed.negatives[:9], first.negatives)


def test_the_draw_depends_on_the_seed_and_the_key() -> None:
    problem = make_problem(1, whole=False)
    settings = MiningConfig(num_negatives=3, first_rank=0, last_rank=60, max_positive_share=0.0)
    draws = [mine(*problem, settings, seed).negatives for seed in (1, 1, 2, -1)]
    assert np.array_equal(draws[0], draws[1])
    assert all((draws[0] != other).mean() > 0.5 for other in draws[2:])
    same_keys = mine(*problem, settings, 1, row_keys=np.zeros(len(problem[2]), dtype=np.uint64))
    assert (same_keys.negatives != draws[0]).mean() > 0.5


def test_every_rank_of_the_window_is_drawn_equally_often() -> None:
    generator = np.random.default_rng(0)
    queries, documents = (generator.normal(size=(n, 8)).astype(np.float32) for n in (2000, 60))
    settings = MiningConfig(num_negatives=2, first_rank=10, last_rank=20, max_positive_share=0.0)
    mined = mine(queries, documents, np.arange(2000), np.zeros(2000), [set()] * 2000, settings, 7)
    drawn = np.bincount(mined.ranks.ravel(), minlength=20)
    assert drawn[:10].sum() == 0
    assert abs(drawn[10:] - 400).max() < 5 * np.sqrt(400)  # five standard deviations


# --- rules, by hand

QUERY = np.array([[1.0, 0.0]], dtype=np.float32)


def mine_line(
    scores: list[float], settings: MiningConfig, relevant: set[int] | None = None, positive: int = 0
) -> Mined:
    """One query, documents of the given scores, each with a second number of its own so that no
    vectors are equal.
    """
    documents = np.array([[score, 10.0 + i] for i, score in enumerate(scores)], dtype=np.float32)
    return mine(
        QUERY, documents, np.array([0]), np.array([positive]), [relevant or set()], settings, 0
    )


def test_ranks_count_from_zero_without_any_relevant_document() -> None:
    mined = mine_line([0.5, 0.9, 0.8, 0.7, 0.1, 0.05], PLAIN, relevant={2})
    assert mined.negatives.tolist() == [[1, 3, 4]]
    assert mined.ranks.tolist() == [[0, 1, 2]]
    assert mined.scores.tolist() == [pytest.approx([0.9, 0.7, 0.1])]
    assert mined.positive_ranks.tolist() == [2]


def test_the_share_of_a_positive_score_is_nv_retrievers() -> None:
    mined = mine_line(
        [0.5, 0.6, 0.49, 0.475, 0.47, 0.1], replace(PLAIN, last_rank=5, max_positive_share=0.95)
    )
    assert mined.negatives.tolist() == [[3, 4, 5]]  # .475 is .95 of .5: at the limit, not above it
    assert mined.counts[SHARE] == 2


def test_below_zero_the_share_still_asks_for_less_than_the_positives_score() -> None:
    mined = mine_line(
        [-0.4, -0.39, -0.4, -0.41, -0.43, -0.5],
        replace(PLAIN, last_rank=5, max_positive_share=0.95),
    )
    # the limit is -.42; .95 x -.4 = -.38 would let better documents in
    assert mined.negatives.tolist() == [[4, 5, -1]]
    assert mined.counts[SHARE] == 3
    assert mined.counts["negatives missing"] == 1


def test_the_margin_is_subtracted() -> None:
    mined = mine_line([0.5, 0.6, 0.45, 0.4, 0.3, 0.2], replace(PLAIN, last_rank=5, min_margin=0.1))
    assert mined.negatives.tolist() == [[3, 4, 5]]
    assert mined.counts[MARGIN] == 2


def test_a_candidate_that_two_rules_refuse_counts_once() -> None:
    mined = mine_line(
        [0.5, 0.6, 0.45, 0.4], replace(PLAIN, max_positive_share=0.95, min_margin=0.1)
    )
    assert mined.counts["candidates in the window"] == 3
    assert (mined.counts[SHARE], mined.counts[MARGIN], mined.counts[SAME]) == (1, 1, 0)


def test_a_document_with_the_positives_vector_is_no_negative_but_counts_against_it() -> None:
    documents = np.array([[0.6, 0.8], [0.6, 0.8], [0.6, -0.8], [0.0, 1.0]], dtype=np.float32)
    mined = mine(QUERY, documents, np.array([0]), np.array([0]), [set()], PLAIN, 0)
    assert mined.negatives.tolist() == [[2, 3, -1]]  # the mirror image ties without being the same
    assert mined.counts[SAME] == 1
    assert mined.positive_ranks.tolist() == [2]


@pytest.mark.parametrize(("filter_rank", "kept"), [(2, False), (3, True)])
def test_the_filter_is_strict(filter_rank: int, kept: bool) -> None:
    settings = MiningConfig(filter_rank=filter_rank)
    # .8 and the tie count, the relevant .9 not
    mined = mine_line([0.5, 0.9, 0.8, 0.5, 0.2], settings, relevant={0, 1})
    assert mined.positive_ranks.tolist() == [2]
    assert mined.kept.tolist() == [kept]
    assert mined.counts["rows dropped by the filter"] == (not kept)
    assert mined.negatives.shape == (1, 0)


def test_other_positives_of_the_query_count_as_relevant_without_being_listed() -> None:
    documents = np.array([[0.5, 1], [0.9, 2], [0.7, 3], [0.1, 4], [0.0, 5]], dtype=np.float32)
    mined = mine(
        QUERY,
        documents,
        np.array([0, 0]),
        np.array([0, 1]),
        [set()],
        replace(PLAIN, filter_rank=1),
        0,
    )
    assert mined.positive_ranks.tolist() == [1, 0]
    assert mined.kept.tolist() == [False, True]
    assert mined.negatives.tolist() == [[-1, -1, -1], [2, 3, 4]]
    assert mined.counts["rows with too few negatives"] == 0  # the dropped row is no shortfall


def test_the_positive_never_ties_with_itself_and_rounding_makes_no_rank() -> None:
    generator = np.random.default_rng(0)
    queries = generator.normal(size=(300, 383)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    documents = np.repeat(queries, 3, axis=0)  # three copies of each query, at unrelated places
    places = generator.permutation(900)
    documents[places] = documents.copy()
    positives = places[np.arange(300) * 3]
    alone = mine(
        queries,
        documents,
        np.arange(300),
        positives,
        [set(places[3 * i : 3 * i + 3].tolist()) for i in range(300)],
        MiningConfig(filter_rank=5),
        0,
    )
    assert (alone.positive_ranks == 0).all()
    copies = mine(
        queries, documents, np.arange(300), positives, [set()] * 300, MiningConfig(filter_rank=5), 0
    )
    assert (copies.positive_ranks == 2).all()


# --- what comes in


def test_a_half_precision_store_and_a_memory_map_give_what_the_array_gives(tmp_path: Path) -> None:
    queries, documents, *rest = make_problem(2, whole=False)
    documents = documents.astype(np.float16)
    texts = [f"document {i}" for i in range(len(documents))]
    store = VectorStore(
        tmp_path / "store",
        Space(teacher="t", dim=6, prompt="", max_tokens=64, pooling="mean", normalized=False),
        texts,
        rows_per_shard=7,
    )
    for shard in store.missing():
        store.write(shard, documents[shard.start : shard.stop])
    documents.tofile(tmp_path / "map")
    mapped = np.memmap(tmp_path / "map", dtype=np.float16, mode="r", shape=documents.shape)
    expected = mine(queries, documents.astype(np.float32), *rest, WIDE, 1)
    for source in (store, mapped, documents, np.asfortranarray(documents.astype(np.float32))):
        found = mine(queries.astype(np.float64), source, *rest, WIDE, 1)
        assert np.array_equal(found.negatives, expected.negatives)
        assert found.counts == expected.counts


def test_no_rows_give_no_results() -> None:
    mined = mine(QUERY, np.zeros((0, 2), np.float32), np.zeros(0), np.zeros(0), [set()], PLAIN, 0)
    assert mined.negatives.shape == (0, 3)
    assert mined.counts["rows"] == 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("what", ["query", "document"])
def test_a_vector_that_is_not_finite_is_named(what: str, dtype: type) -> None:
    queries, documents, row_queries, *rest = make_problem(0, whole=False)
    queries, documents = queries.astype(dtype), documents.astype(dtype)
    number = int(row_queries.max()) if what == "query" else 11
    (queries if what == "query" else documents)[number, 2] = np.nan
    with pytest.raises(LeafkitError, match=f"the vector of {what} {number} is not finite"):
        mine(queries, documents, row_queries, *rest, WIDE, 0)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"row_queries": [0, 1]}, "rows name query 0 to 1 of 1"),
        ({"row_positives": [0, 5]}, "rows name document 0 to 5 of 5"),
        ({"row_positives": [0, -1]}, "rows name document -1 to 0 of 5"),
        ({"row_positives": [0]}, "2 rows with 1 positives"),
        ({"relevant": []}, "1 queries with 0 sets"),
        ({"relevant": [{-1}]}, "position -1"),
        ({"settings": MiningConfig()}, "neither"),
        ({"settings": replace(PLAIN, num_negatives=4)}, "4 negatives out of ranks 0 to 3"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, object], problem: str) -> None:
    usual = {
        "queries": QUERY,
        "documents": np.eye(5, 2, dtype=np.float32),
        "row_queries": [0, 0],
        "row_positives": [0, 1],
        "relevant": [set()],
        "settings": PLAIN,
        "seed": 0,
    }
    assert mine(**usual).counts["rows"] == 2
    with pytest.raises(ValueError, match=problem):
        mine(**usual | changes)


def test_a_gpu_is_used_where_faiss_sees_one_and_deep_searches_stay_off_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A CPU index in its place counts its calls and refuses what a GPU refuses."""
    calls: list[tuple[int, int]] = []

    class Fake:
        def __init__(self, index: faiss.IndexFlatIP) -> None:
            self.index = index

        def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
            assert k <= 2048
            calls.append((len(queries), k))
            return self.index.search(queries, k)

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "StandardGpuResources", lambda: "resources", raising=False)
    monkeypatch.setattr(
        faiss, "index_cpu_to_gpu", lambda resources, device, index: Fake(index), raising=False
    )
    problem = make_problem(1, num_documents=2500, whole=False)
    problem[4][0].update(range(2400))
    on_gpu = mine(*problem, WIDE, 0, block_rows=30)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    on_cpu = mine(*problem, WIDE, 0)
    assert np.array_equal(on_gpu.negatives, on_cpu.negatives)
    num_deep = 1 if 0 in problem[2] else 0
    assert num_deep
    assert 0 < sum(rows for rows, _ in calls) < len(set(problem[2].tolist()))


@pytest.mark.parametrize(("share", "found"), [(0.95, 0), (0.0, 3)])
def test_a_share_of_0_switches_the_rule_off(share: float, found: int) -> None:
    """Three negatives score higher than the positive."""
    documents = np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [1.5, 0.0]], dtype=np.float32)
    settings = replace(PLAIN, last_rank=4, max_positive_share=share)
    queries, row = np.array([[1.0, 0.0]], dtype=np.float32), np.array([0])
    mined = mine(queries, documents, row, row, [{0}], settings, 0)
    assert int((mined.negatives >= 0).sum()) == found
    assert mined.counts.get(SHARE, 0) == 3 - found
