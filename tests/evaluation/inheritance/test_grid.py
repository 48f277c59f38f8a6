"""The inheritance grid: it passes a perfect copy, catches planted faults, and notices when its own
gate is broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import astuple, replace
from typing import Any

import numpy as np
import pytest

from leafkit.config import VECTOR_PRECISIONS, InheritConfig
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.evaluation.bootstrap import Bootstrap
from leafkit.evaluation.diagnosis.diagnose import Settings, diagnose
from leafkit.evaluation.diagnosis.searches import Judged
from leafkit.evaluation.diagnosis.spectrum import sum_for_ridge
from leafkit.evaluation.inheritance.cells import Cell, choose_dims, plan_cells
from leafkit.evaluation.inheritance.grid import MODES, run_grid
from leafkit.evaluation.inheritance.junit import to_junit
from leafkit.evaluation.inheritance.verdicts import judge
from leafkit.evaluation.metrics import Judgments, per_query_metrics
from leafkit.index.exact import search_exact
from leafkit.results import GridCell
from leafkit.results.inheritance import (
    INHERITED,
    NOT_INHERITED,
    NOTHING_TO_INHERIT,
    UNDECIDED,
)

DIM, HEAD = 32, 16
NUM_DOCUMENTS, NUM_QUERIES = 500, 200
QUERY_IDS = [f"q{i}" for i in range(NUM_QUERIES)]
DOCUMENT_IDS = [f"d{i}" for i in range(NUM_DOCUMENTS)]
QRELS = {f"q{i}": {f"d{i}": 1} for i in range(NUM_QUERIES)}
JUDGMENTS = Judgments(QUERY_IDS, DOCUMENT_IDS, QRELS)
GATES = InheritConfig().max_gap


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def planted(seed: int = 0, noise: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    """Queries near their documents; the first half of the dimensions carries most of the length, as
    in a Matryoshka model.
    """
    generator = np.random.default_rng(seed)
    weights = np.where(np.arange(DIM) < HEAD, 1.0, 0.4)
    documents = generator.normal(size=(NUM_DOCUMENTS, DIM)) * weights
    queries = documents[:NUM_QUERIES] + noise * generator.normal(size=(NUM_QUERIES, DIM))
    return unit(queries), unit(documents)


TEACHER = planted()


def rotation(dim: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]


def grid(student_queries: np.ndarray, student_documents: np.ndarray, **changes: Any):
    settings: dict[str, Any] = {
        "dims": [HEAD],
        "precisions": ["float32", "int8", "binary"],
    } | changes
    done = settings.pop("done", None)
    vectors = {
        "teacher": TEACHER,
        "symmetric": (student_queries, student_documents),
        "asymmetric": (student_queries, TEACHER[1]),
    }
    return run_grid(
        vectors, JUDGMENTS, InheritConfig(**settings), num_resamples=500, seed=0, done=done
    )


def cell(
    result, dim: int, precision: str, mode: str, queries: str = "float", rescoring: int = 0
) -> GridCell:
    wanted = (dim, precision, mode, queries, rescoring)
    keys = ("dim", "precision", "mode", "queries", "rescoring")
    (found,) = [c for c in result.result.cells if tuple(getattr(c, k) for k in keys) == wanted]
    return found


# --- planted students


def test_a_perfect_copy_inherits_everything():
    result = grid(
        *TEACHER,
        precisions=list(VECTOR_PRECISIONS),
        queries=["float", "quantized"],
        rescoring=[0, 4],
        strict=True,
    )
    assert result.result.passed
    assert result.result.num_undecided == 0
    assert len(result.result.cells) == 2 * 2 * (1 + 6 * 2 * 2)
    assert {row.verdict for row in result.result.cells} == {INHERITED}
    assert {row.gap.value for row in result.result.cells} == {0.0}
    assert cell(result, DIM, "float32", "symmetric").teacher_retention.value == 1.0
    assert 0.3 < cell(result, HEAD, "binary", "symmetric").teacher_retention.value < 1.0


def test_a_student_with_its_dimensions_in_reverse_order_fails_where_it_is_cut():
    """Every cosine at full dimension is the teacher's; what the teacher keeps in the first
    dimensions is lost by cutting.
    """
    result = grid(*(np.ascontiguousarray(v[:, ::-1]) for v in TEACHER), precisions=["float32"])
    full, cut = (
        cell(result, DIM, "float32", "symmetric"),
        cell(result, HEAD, "float32", "symmetric"),
    )
    assert full.verdict == INHERITED
    assert full.student == pytest.approx(full.teacher, abs=1e-3)
    assert cut.verdict == NOT_INHERITED
    assert cut.gap.low > GATES["float32"]
    assert not result.result.passed


def test_a_student_whose_truncated_head_alone_is_rotated_fails_against_the_teachers_documents():
    """Within its own space such a student is sound; its queries on the teacher's index are not once
    they are cut.
    """
    turn = np.eye(DIM)
    turn[:HEAD, :HEAD] = rotation(HEAD, 4)
    turn[HEAD:, HEAD:] *= 3
    queries, documents = (unit(v @ turn) for v in TEACHER)
    result = grid(queries, documents, precisions=["float32"])
    own, teacher_index = (cell(result, HEAD, "float32", mode) for mode in MODES)
    assert own.student == pytest.approx(own.teacher, abs=1e-3)
    assert teacher_index.verdict == NOT_INHERITED
    assert teacher_index.student < 0.2 < teacher_index.teacher
    assert not result.result.passed


# --- a teacher without an order of dimensions


def without_order(seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """The teacher's vectors, turned so that no dimension matters more than another."""
    turn = rotation(DIM, seed)
    queries, documents = (unit(v @ turn) for v in TEACHER)
    return queries, documents


def grid_of(teacher, student, **changes: Any):
    """Of any teacher, with a student that has its own documents."""
    settings: dict[str, Any] = {"dims": [HEAD], "precisions": ["float32", "int8"]} | changes
    vectors = {"teacher": teacher, "symmetric": student}
    return run_grid(vectors, JUDGMENTS, InheritConfig(**settings), num_resamples=500, seed=0).result


@pytest.mark.parametrize(
    ("teacher", "expected"),
    [
        (TEACHER, INHERITED),
        (without_order(), NOTHING_TO_INHERIT),
        (without_order(5), NOTHING_TO_INHERIT),
        # its best dimensions come last
        (tuple(np.ascontiguousarray(v[:, ::-1]) for v in TEACHER), NOTHING_TO_INHERIT),
    ],
)
def test_truncation_is_inherited_from_a_teacher_whose_dimensions_have_an_order(
    teacher, expected
) -> None:
    found = grid_of(teacher, teacher, strict=True)
    cut = [c for c in found.cells if c.dim == HEAD]
    assert {c.verdict for c in cut} == {expected}
    assert {c.verdict for c in found.cells if c.dim == DIM} == {INHERITED}
    assert all(c.gain_over_random is None for c in found.cells if c.dim == DIM)
    assert found.passed
    assert found.count(INHERITED) + found.count(NOTHING_TO_INHERIT) == len(found.cells)
    assert ("Nothing to inherit: " in found.summary()) == (expected != INHERITED)


def test_the_gain_is_the_diagnosis_own() -> None:
    for teacher in (TEACHER, without_order()):
        figures = diagnose(
            teacher[1],
            Judged(teacher[0], JUDGMENTS),
            Settings(mrl_dims=(DIM, HEAD), num_resamples=500, seed=0),
        )
        (head,) = [row for row in figures.dims if row.dim == HEAD]
        cut = [c for c in grid_of(teacher, teacher).cells if c.dim == HEAD]
        assert {c.gain_over_random for c in cut} == {head.gain}


def test_a_student_that_loses_more_fails_also_where_the_teacher_has_no_order() -> None:
    """A gate that fails is no less a failure for there being no Matryoshka."""
    teacher = without_order()
    queries, documents = (v.copy() for v in teacher)
    queries[:, :HEAD] = queries[::-1, :HEAD]
    found = grid_of(teacher, (queries, documents), precisions=["float32"])
    assert [c.verdict for c in found.cells if c.dim == HEAD] == [NOT_INHERITED]
    assert not found.passed


def fitted_against(
    target_documents: np.ndarray, target_queries: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A student: the best affine map (LEAF's closed-form start) from noisy features of its own to a
    teacher's vectors.
    """
    generator = np.random.default_rng(8)
    mixing = generator.normal(size=(DIM, 3 * DIM))
    features = [
        v @ mixing + 0.05 * generator.normal(size=(len(v), 3 * DIM))
        for v in (TEACHER[0], TEACHER[1])
    ]
    train = np.concatenate([features[1], features[0]])
    solution = sum_for_ridge(train, np.concatenate([target_documents, target_queries])).solve(1e-4)
    queries, documents = (unit(f @ solution.weight + solution.bias) for f in features)
    return queries, documents


def test_a_student_fitted_against_a_teacher_without_matryoshka_training_fails_where_it_is_cut():
    """The other teacher has the same cosines at full size, in a basis where no dimension comes
    first.
    """
    flat = [v @ rotation(DIM, 9) for v in TEACHER]
    result = grid(*fitted_against(flat[1], flat[0]), precisions=["float32"])
    full, cut = (
        cell(result, DIM, "float32", "symmetric"),
        cell(result, HEAD, "float32", "symmetric"),
    )
    assert full.student > 0.9 * full.teacher
    assert cut.verdict == NOT_INHERITED
    assert not result.result.passed


def test_the_same_student_fitted_against_the_matryoshka_teacher_is_not_condemned():
    result = grid(*fitted_against(TEACHER[1], TEACHER[0]), precisions=["float32"])
    assert cell(result, HEAD, "float32", "symmetric").verdict != NOT_INHERITED
    assert cell(result, HEAD, "float32", "asymmetric").verdict != NOT_INHERITED
    assert result.result.passed


def test_a_student_with_one_loud_dimension_fails_where_one_step_fits_all():
    """Both keep their cosines in float32; a fixed symmetric int8 range spends its codes on the one
    loud dimension.
    """
    generator = np.random.default_rng(3)
    # a step of the fixed range is 1/127
    documents = generator.normal(size=(NUM_DOCUMENTS, DIM)) * 1e-3
    queries = documents[:NUM_QUERIES] + 3e-4 * generator.normal(size=(NUM_QUERIES, DIM))
    loud = [np.concatenate([v[:, :-1], np.ones((len(v), 1))], axis=1) for v in (queries, documents)]
    result = grid(*(unit(v) for v in loud), dims=[], precisions=["int8", "int8_fixed"])
    assert cell(result, DIM, "int8_fixed", "symmetric").verdict == NOT_INHERITED
    assert cell(result, DIM, "int8", "symmetric").verdict != NOT_INHERITED


def test_a_student_that_loses_about_what_the_gate_allows_is_undecided():
    """Its estimate is within the gate or beyond it, the interval on both sides: 200 queries cannot
    tell.
    """
    worse = TEACHER[0] + 0.06 * np.random.default_rng(5).normal(size=TEACHER[0].shape) * (
        np.arange(DIM) < HEAD
    )
    measured = cell(
        grid(unit(worse), TEACHER[1], precisions=["float32"]), HEAD, "float32", "asymmetric"
    )
    for gate in (measured.gap.value - 0.005, measured.gap.value + 0.005):
        result = grid(unit(worse), TEACHER[1], precisions=["float32"], max_gap={"float32": gate})
        row = cell(result, HEAD, "float32", "asymmetric")
        assert row.gap.low < gate < row.gap.high
        assert row.verdict == UNDECIDED
        assert result.result.num_undecided >= 1


def test_each_precision_has_a_gate_of_its_own():
    """The same loss in float32 and float16, which a narrow gate condemns and a wide one lets
    through.
    """
    queries, documents = (np.ascontiguousarray(v[:, ::-1]) for v in TEACHER)
    result = grid(
        queries,
        documents,
        precisions=["float32", "float16"],
        max_gap={"float32": 0.02, "float16": 1.0},
    )
    assert cell(result, HEAD, "float32", "symmetric").verdict == NOT_INHERITED
    assert cell(result, HEAD, "float16", "symmetric").verdict == INHERITED


PLANTED = [
    test_a_student_with_its_dimensions_in_reverse_order_fails_where_it_is_cut,
    test_a_student_whose_truncated_head_alone_is_rotated_fails_against_the_teachers_documents,
    test_a_student_fitted_against_a_teacher_without_matryoshka_training_fails_where_it_is_cut,
    test_a_student_with_one_loud_dimension_fails_where_one_step_fits_all,
]


@pytest.mark.parametrize("planted_case", PLANTED, ids=lambda f: f.__name__)
@pytest.mark.parametrize("broken", ["always inherited", "always undecided", "high for low"])
def test_a_broken_gate_makes_the_planted_cases_fail(
    planted_case: Callable[[], None], broken: str, monkeypatch
):
    """Tests of the tests: a gate that lets everything through must not go unnoticed."""
    gates = {
        "always inherited": lambda low, high, gate: INHERITED,
        "always undecided": lambda low, high, gate: UNDECIDED,
        "high for low": lambda low, high, gate: INHERITED if low <= 1 else NOT_INHERITED,
    }
    monkeypatch.setattr("leafkit.evaluation.inheritance.verdicts.judge", gates[broken])
    with pytest.raises(AssertionError):
        planted_case()


def test_a_gate_that_condemns_everything_makes_the_perfect_copy_fail(monkeypatch):
    monkeypatch.setattr(
        "leafkit.evaluation.inheritance.verdicts.judge", lambda low, high, gate: NOT_INHERITED
    )
    with pytest.raises(AssertionError):
        test_a_perfect_copy_inherits_everything()


# --- what is the student's fault and what is not


def test_a_fragile_teacher_does_not_condemn_a_student_that_loses_as_much():
    """Binary codes cost this teacher a lot. A copy loses the same, so nothing is the student's
    fault.
    """
    result = grid(*TEACHER, precisions=["binary"], dims=[8])
    row = cell(result, 8, "binary", "symmetric")
    assert row.teacher_retention.value < 0.7
    assert row.verdict == INHERITED


@pytest.mark.parametrize(
    ("floor", "verdict", "word"),
    [(0.0, INHERITED, None), (0.5, INHERITED, None), (0.99, NOT_INHERITED, "Below the floor")],
)
def test_a_student_that_is_evenly_worse_inherits_above_a_floor(floor, verdict, word):
    """Retention is against the student's own full score: being worse everywhere is not a fault of
    truncation. A student that lost the ranking itself inherits nothing all the same.
    """
    noisy = unit(TEACHER[0] + 0.15 * np.random.default_rng(6).normal(size=TEACHER[0].shape))
    found = grid(noisy, TEACHER[1], precisions=["float32"], dims=[], min_retention=floor)
    row = cell(found, DIM, "float32", "symmetric")
    assert row.student < row.teacher - 0.01
    assert row.gap.value == 0.0
    assert row.verdict == verdict
    kept = found.result.of_teacher["symmetric"]
    assert kept.value == pytest.approx(row.student / row.teacher)
    assert kept.high < 0.99
    told = found.result.summary()
    assert f"the student keeps, at full size: symmetric {kept.percent()}" in told
    assert (word is None) == ("floor" not in told)
    assert (f"floor {floor:.0%}" in to_junit(found.result)) == (verdict == NOT_INHERITED)


def test_a_floor_within_the_interval_decides_nothing():
    noisy = unit(TEACHER[0] + 0.15 * np.random.default_rng(6).normal(size=TEACHER[0].shape))
    found = grid(noisy, TEACHER[1], precisions=["float32"], dims=[])
    kept = found.result.of_teacher["symmetric"]
    at_it = grid(
        noisy, TEACHER[1], precisions=["float32"], dims=[], min_retention=round(kept.value, 3)
    )
    assert {row.verdict for row in at_it.result.cells} == {UNDECIDED}
    assert "Within noise of the floor" in at_it.result.summary()


def test_a_student_that_finds_nothing_keeps_nothing():
    """Its own score is no measure: whatever binary codes happen to find would be an endless
    retention.
    """
    away = unit(np.stack([-TEACHER[1][i] for i in range(NUM_QUERIES)]))
    result = grid(away, TEACHER[1], dims=[])
    row = cell(result, DIM, "binary", "asymmetric")
    assert cell(result, DIM, "float32", "asymmetric").student == 0.0
    assert row.student_retention.value == 0.0
    assert row.verdict == NOT_INHERITED


def test_a_teacher_that_finds_nothing_is_an_error():
    vectors = {"teacher": (-TEACHER[1][:NUM_QUERIES], TEACHER[1]), "symmetric": TEACHER}
    with pytest.raises(LeafkitError, match="the teacher finds no relevant document"):
        run_grid(vectors, JUDGMENTS, InheritConfig(), num_resamples=50, seed=0)


# --- figures


def noisy_copy(scale: float = 0.05) -> np.ndarray:
    return unit(TEACHER[0] + scale * np.random.default_rng(7).normal(size=TEACHER[0].shape))


def test_figures_of_a_row_fit_together():
    result = grid(
        noisy_copy(),
        TEACHER[1],
        precisions=list(VECTOR_PRECISIONS),
        queries=["float", "quantized"],
        rescoring=[0, 2],
    )
    for row in result.result.cells:
        assert row.gap.value == pytest.approx(
            row.teacher_retention.value - row.student_retention.value
        )
        assert row.gap.low <= row.gap.value <= row.gap.high
        for kept in (row.teacher_retention, row.student_retention):
            assert kept.low <= kept.value <= kept.high
            assert kept.n == NUM_QUERIES
        assert row.max_gap == GATES[row.precision]
        assert row.verdict == judge(row.gap.low, row.gap.high, row.max_gap)
    sizes = {(r.dim, r.precision): r.bytes_per_vector for r in result.result.cells}
    assert (sizes[DIM, "float32"], sizes[HEAD, "binary"]) == (128, 2)
    assert sizes[HEAD, "int4"] == sizes[HEAD, "int8"] // 2 == 8


@pytest.mark.parametrize("dim", [DIM, HEAD])
def test_float32_scores_are_those_of_a_flat_search_through_ir_measures(dim):
    result = grid(noisy_copy(), TEACHER[1], precisions=["float32"])
    for system, queries in (("teacher", TEACHER[0]), ("asymmetric", noisy_copy())):
        ranking = search_exact(unit(queries[:, :dim]), unit(TEACHER[1][:, :dim]), 10)
        expected = per_query_metrics(ranking, QUERY_IDS, DOCUMENT_IDS, QRELS, metrics=("ndcg@10",))[
            "ndcg@10"
        ]
        assert np.allclose(
            result.per_query[Cell(dim, "float32", "float", 0).column(system)],
            expected,
            atol=1e-9,
            rtol=0,
        )


def test_intervals_equal_the_bootstraps_own():
    result = grid(noisy_copy(), TEACHER[1])
    row = cell(result, HEAD, "int8", "asymmetric")
    full, cut = Cell(DIM, "float32", "float", 0), Cell(HEAD, "int8", "float", 0)
    a, a0, b, b0 = (
        result.per_query[c.column(s)] for s in ("teacher", "asymmetric") for c in (cut, full)
    )
    expected = Bootstrap(NUM_QUERIES, 500, 0).ratio_gap(a, a0, b, b0)
    assert astuple(row.gap) == pytest.approx(astuple(expected))
    kept = Bootstrap(NUM_QUERIES, 500, 0).ratio(b, b0)
    assert astuple(row.student_retention) == pytest.approx(astuple(kept))


def test_documents_that_are_equal_and_not_one_object_give_the_same_figures():
    apart = {
        "teacher": TEACHER,
        "symmetric": noisy_pair(),
        "asymmetric": (noisy_copy(), TEACHER[1].copy()),
    }
    config = InheritConfig(dims=[HEAD])
    assert (
        run_grid(apart, JUDGMENTS, config, num_resamples=500, seed=0).result.cells
        == grid(*noisy_pair()).result.cells
    )


def test_the_same_seed_gives_the_same_grid():
    first, second = (grid(noisy_copy(), TEACHER[1], precisions=["int8", "pq"]) for _ in range(2))
    assert first.result == second.result


@pytest.mark.parametrize("order_seed", [1, 2])
def test_permuting_the_documents_changes_no_figure_but_by_ties(order_seed):
    order = np.random.default_rng(order_seed).permutation(NUM_DOCUMENTS)
    queries = noisy_copy()
    config = InheritConfig(
        dims=[HEAD],
        precisions=["float32", "int8", "int4"],
        queries=["float", "quantized"],
        rescoring=[0, 4],
    )
    rows = []
    for documents, ids in (
        (TEACHER[1], DOCUMENT_IDS),
        (TEACHER[1][order], [DOCUMENT_IDS[i] for i in order]),
    ):
        vectors = {"teacher": (TEACHER[0], documents), "asymmetric": (queries, documents)}
        rows.append(
            run_grid(
                vectors, Judgments(QUERY_IDS, ids, QRELS), config, num_resamples=100, seed=0
            ).result.cells
        )
    assert rows[0] == rows[1]


def test_the_chunks_change_nothing(monkeypatch):
    before = grid(noisy_copy(), TEACHER[1]).result
    monkeypatch.setattr("leafkit.evaluation.inheritance.streaming._CHUNK_NUMBERS", 1)
    assert grid(noisy_copy(), TEACHER[1]).result == before


def test_rescoring_recovers_what_coarse_codes_lose():
    result = grid(*TEACHER, precisions=["binary"], dims=[], rescoring=[0, 2, 10])
    scores = [cell(result, DIM, "binary", "symmetric", rescoring=f).teacher for f in (0, 2, 10)]
    assert scores[0] < scores[1] <= scores[2] + 1e-9


def test_scales_and_queries_values_are_returned():
    result = grid(*noisy_pair(), dims=[HEAD], precisions=["int8", "int8_fixed", "pq", "binary"])
    assert {name.split("/")[0] for name in result.scales} == {"teacher", "student"}
    cut = unit(TEACHER[1][:, :HEAD])
    assert np.allclose(result.scales[f"teacher/{HEAD}/int8/low"], cut.min(axis=0), atol=1e-6)
    assert result.result.scales[f"teacher/{HEAD}/int8/low"] == pytest.approx(
        (cut.min(axis=0).min(), cut.min(axis=0).max()), abs=1e-6
    )
    assert result.scales[f"teacher/{HEAD}/pq/centroids"].shape == (2, 256, 8)
    assert result.per_query[Cell(HEAD, "int8", "float", 0).column("asymmetric")].shape == (
        NUM_QUERIES,
    )
    assert not any("bytes" in name for name in result.result.scales)


def noisy_pair() -> tuple[np.ndarray, np.ndarray]:
    return noisy_copy(), unit(
        TEACHER[1] + 0.05 * np.random.default_rng(2).normal(size=TEACHER[1].shape)
    )


def test_calibration_never_sees_a_query():
    """The same documents with other queries, some far outside the documents' ranges, leave the same
    scales.
    """
    first = grid(*noisy_pair(), precisions=["int8", "int4", "int8_fixed", "pq"])
    other = (unit(np.eye(DIM)[np.arange(NUM_QUERIES) % DIM]), noisy_pair()[1])
    second = grid(*other, precisions=["int8", "int4", "int8_fixed", "pq"])
    assert first.scales.keys() == second.scales.keys()
    assert all(np.array_equal(values, second.scales[name]) for name, values in first.scales.items())


def test_the_querys_own_document_is_not_retrieved():
    """Queries that are documents (ArguAna): each finds itself first, which must neither count nor
    take a place.
    """
    ids = [f"d{i}" for i in range(NUM_QUERIES)]
    qrels = {f"d{i}": {f"d{(i + 1) % NUM_QUERIES}": 1} for i in range(NUM_QUERIES)}
    near = unit(TEACHER[1] + np.roll(TEACHER[1], -1, axis=0))
    vectors = {"teacher": (near[:NUM_QUERIES], near), "asymmetric": (near[:NUM_QUERIES], near)}
    config = InheritConfig(
        precisions=["float32", "binary"], queries=["quantized"], rescoring=[0, 1]
    )
    judgments = Judgments(ids, DOCUMENT_IDS, qrels)
    kept = run_grid(vectors, judgments, config, num_resamples=50, seed=0)
    dropped = run_grid(vectors, judgments, config, num_resamples=50, seed=0, own=range(NUM_QUERIES))
    for row, other in zip(dropped.result.cells, kept.result.cells, strict=True):
        assert row.teacher > 1.2 * other.teacher > 0


def test_a_query_whose_own_document_is_all_there_is_finds_nothing_else():
    vectors = {
        "teacher": (TEACHER[1][:3], TEACHER[1][:3]),
        "asymmetric": (TEACHER[1][:3], TEACHER[1][:3]),
    }
    judgments = Judgments(
        ["a", "b", "c"], ["x", "y", "z"], {"a": {"x": 1}, "b": {"y": 1}, "c": {"z": 1}}
    )
    config = InheritConfig(precisions=["int8"], rescoring=[0, 3])
    found = run_grid(vectors, judgments, config, num_resamples=50, seed=0, own=[0, -1, -1])
    assert {row.teacher for row in found.result.cells} == {2 / 3}


# --- resuming


class Interrupted(Exception):
    """The machine dies."""


def test_what_was_measured_before_a_failure_is_not_measured_again(monkeypatch):
    """The third pass over the documents fails; the next run takes the first two as they are."""
    import leafkit.evaluation.inheritance.grid as module

    calls: list[int] = []
    real = module._one_pass

    def one_pass(documents, dim, *rest, **more):
        if len(calls) == 2:
            calls.append(-1)
            raise Interrupted
        calls.append(dim)
        return real(documents, dim, *rest, **more)

    monkeypatch.setattr(module, "_one_pass", one_pass)
    done: dict[str, dict[str, np.ndarray]] = {}
    with pytest.raises(Interrupted):
        grid(*noisy_pair(), dims=[HEAD, 8], done=done)
    assert calls == [DIM, HEAD, -1]
    assert list(done) == [f"teacher-{DIM}", f"teacher-{HEAD}"]
    resumed = grid(*noisy_pair(), dims=[HEAD, 8], done=done)
    assert calls[3:] == [8, DIM, HEAD, 8]
    assert resumed.result == grid(*noisy_pair(), dims=[HEAD, 8]).result


# --- verdicts


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.2, -0.1, INHERITED),
        (-0.01, 0.0, INHERITED),
        (0.015, 0.02, INHERITED),
        (0.019, 0.021, UNDECIDED),
        (-0.5, 0.021, UNDECIDED),
        (0.02, 0.03, UNDECIDED),
        (0.0201, 0.03, NOT_INHERITED),
        (0.8, 0.9, NOT_INHERITED),
    ],
)
def test_verdicts_by_hand(low, high, verdict):
    assert judge(low, high, 0.02) == verdict


@pytest.mark.parametrize(
    ("verdicts", "lenient", "strict"),
    [
        ([INHERITED, INHERITED], True, True),
        ([INHERITED, UNDECIDED], True, False),
        ([UNDECIDED, NOT_INHERITED], False, False),
        ([NOT_INHERITED], False, False),
    ],
)
def test_undecided_fails_only_where_the_gate_is_strict(verdicts, lenient, strict):
    found = grid(*TEACHER, precisions=["float32"], dims=[]).result
    cells = tuple(replace(found.cells[0], verdict=verdict) for verdict in verdicts)
    found = replace(found, cells=cells)
    assert replace(found, strict=False).passed is lenient
    assert replace(found, strict=True).passed is strict


@pytest.mark.parametrize("strict", [False, True])
def test_the_grid_says_whether_it_is_strict_and_what_is_undecided(strict, monkeypatch):
    monkeypatch.setattr("leafkit.evaluation.inheritance.verdicts.judge", lambda *numbers: UNDECIDED)
    found = grid(*TEACHER, precisions=["float32"], strict=strict).result
    assert (found.passed, found.strict, found.num_undecided) == (not strict, strict, 4)


# --- settings


def test_settings_that_are_the_same_thing_are_measured_once():
    config = InheritConfig(
        precisions=["float32", "int8", "int8"], queries=["float", "quantized"], rescoring=[0, 4, 4]
    )
    cells = plan_cells([64], config)
    assert len(cells) == len(set(cells)) == 1 + 4
    assert [c for c in cells if c.precision == "float32"] == [Cell(64, "float32", "float", 0)]
    only = plan_cells(
        [64], InheritConfig(precisions=["float32"], queries=["quantized"], rescoring=[4])
    )
    assert only == [Cell(64, "float32", "float", 0)]


def test_float32_at_full_size_is_measured_though_no_row_shows_it():
    result = grid(*TEACHER, precisions=["int8"], dims=[HEAD])
    assert {r.precision for r in result.result.cells} == {"int8"}
    assert cell(result, DIM, "int8", "symmetric").teacher_retention.value == pytest.approx(
        1, abs=0.02
    )


@pytest.mark.parametrize(
    ("wanted", "known", "expected"),
    [
        ([], [32, 16], [32, 16]),
        ([16], [32, 16, 8], [32, 16]),
        ([5, 9], [], [32, 9, 5]),
        ([], [], [32]),
        ([32], [16], [32]),
    ],
)
def test_dimensions_are_those_named_or_the_teachers(wanted, known, expected):
    assert choose_dims(wanted, known, 32) == expected


def test_a_dimension_the_teacher_was_not_trained_for_is_an_error_that_names_its_list():
    with pytest.raises(
        UsageError,
        match=r"inherit.dims: 20 is not among the teacher's Matryoshka dimensions \(32, 16\)",
    ):
        choose_dims([16, 20], [32, 16], 32)


@pytest.mark.parametrize("dim", [0, -3, 33, 4096])
def test_a_dimension_outside_the_vectors_is_an_error(dim):
    with pytest.raises(
        UsageError, match=f"inherit.dims: {dim} is not between 1 and the vectors' dimension 32"
    ):
        grid(*TEACHER, dims=[dim])


def test_a_precision_without_gate_is_an_error():
    with pytest.raises(UsageError, match=r"inherit.max_gap has no gate for int8, binary") as caught:
        grid(*TEACHER, max_gap={"float32": 0.02})
    assert "inherit.max_gap.NAME" in caught.value.hint


def bad_vectors() -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray], str]]:
    queries, documents = TEACHER
    broken = queries.copy()
    broken[17, 3] = np.nan
    poisoned = documents.copy()
    poisoned[99, 0] = np.inf
    yield "nan query", (broken, documents), "symmetric: the vector of query 17 is not finite"
    yield "inf document", (queries, poisoned), "the vector of student document 99 is not finite"
    yield "short queries", (queries[1:], documents), "symmetric: 199 vectors for 200 queries"
    yield "long documents", (queries, documents[:-1]), "symmetric: 499 vectors for 500 documents"
    yield (
        "narrow",
        (queries[:, :20], documents[:, :20]),
        "symmetric: queries have 20 dimensions and the teacher's documents 32",
    )


@pytest.mark.parametrize(
    ("_name", "student", "message"),
    list(bad_vectors()),
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_vectors_that_do_not_fit_are_named(_name, student, message):
    with pytest.raises(LeafkitError, match=message):
        run_grid(
            {"teacher": TEACHER, "symmetric": student},
            JUDGMENTS,
            InheritConfig(),
            num_resamples=50,
            seed=0,
        )


@pytest.mark.parametrize("systems", [["teacher"], ["symmetric"], ["teacher", "student"], []])
def test_a_grid_without_a_student_is_an_error_and_no_pass(systems):
    with pytest.raises(
        UsageError, match="there is no student to measure against a teacher"
    ) as caught:
        run_grid(
            dict.fromkeys(systems, TEACHER), JUDGMENTS, InheritConfig(), num_resamples=50, seed=0
        )
    assert "'symmetric' or 'asymmetric'" in caught.value.hint


def test_pq_on_few_documents_fails_before_anything_is_measured(monkeypatch):
    monkeypatch.setattr(
        "leafkit.evaluation.inheritance.grid._measure", lambda *a: pytest.fail("measured")
    )
    few = Judgments(QUERY_IDS[:5], DOCUMENT_IDS[:100], QRELS)
    vectors = {
        "teacher": (TEACHER[0][:5], TEACHER[1][:100]),
        "symmetric": (TEACHER[0][:5], TEACHER[1][:100]),
    }
    with pytest.raises(UsageError, match="there are 100 documents"):
        run_grid(
            vectors, few, InheritConfig(precisions=["float32", "pq"]), num_resamples=50, seed=0
        )


def test_one_query_and_one_document():
    judgments = Judgments(["q"], ["d"], {"q": {"d": 1}})
    one = (TEACHER[0][:1], TEACHER[1][:1])
    found = run_grid(
        {"teacher": one, "symmetric": one},
        judgments,
        InheritConfig(rescoring=[0, 4]),
        num_resamples=50,
        seed=0,
    ).result
    assert found.passed
    assert {row.teacher for row in found.cells} == {1.0}
    # its interval has no width, which proves nothing
    assert {row.verdict for row in found.cells} == {UNDECIDED}
