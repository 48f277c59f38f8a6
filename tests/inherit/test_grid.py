"""The inheritance grid: it passes a perfect copy and catches a planted fault."""

from __future__ import annotations

import numpy as np
import pytest

from leafkit.errors import LeafkitError, UsageError
from leafkit.inherit.grid import INHERITED, NOT_INHERITED, UNDECIDED, judge, run_grid, search_at

DIM, HEAD = 32, 16
NUM_DOCUMENTS, NUM_QUERIES = 300, 60
GATES = {"float32": 0.02, "int8": 0.02, "binary": 0.03}
QUERY_IDS = [f"q{i}" for i in range(NUM_QUERIES)]
DOCUMENT_IDS = [f"d{i}" for i in range(NUM_DOCUMENTS)]
QRELS = {f"q{i}": {f"d{i}": 1} for i in range(NUM_QUERIES)}


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def planted(seed: int = 0, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Queries near their documents; the first half of the dimensions carries most of the length, as in a Matryoshka model."""
    generator = np.random.default_rng(seed)
    weights = np.where(np.arange(DIM) < HEAD, 1.0, 0.4)
    documents = generator.normal(size=(NUM_DOCUMENTS, DIM)) * weights
    queries = documents[:NUM_QUERIES] + noise * generator.normal(size=(NUM_QUERIES, DIM))
    return unit(queries), unit(documents)


TEACHER = planted()


def grid(student_queries: np.ndarray, student_documents: np.ndarray, **changes):
    settings = {
        "dims": [HEAD],
        "precisions": ["float32", "int8", "binary"],
        "max_gap": GATES,
        "num_resamples": 500,
        "seed": 0,
    } | changes
    vectors = {
        "teacher": TEACHER,
        "symmetric": (student_queries, student_documents),
        "asymmetric": (student_queries, TEACHER[1]),
    }
    return run_grid(vectors, QUERY_IDS, DOCUMENT_IDS, QRELS, **settings)


def cell(result, dim: int, precision: str, mode: str):
    (found,) = [r for r in result["rows"] if (r["dim"], r["precision"], r["mode"]) == (dim, precision, mode)]
    return found


def test_a_perfect_copy_inherits_everything():
    result = grid(*TEACHER)
    assert result["passed"]
    assert len(result["rows"]) == 2 * 2 * 3
    assert {row["verdict"] for row in result["rows"]} == {INHERITED}
    assert {row["gap"] for row in result["rows"]} == {0.0}
    assert cell(result, DIM, "float32", "symmetric")["teacher_retention"] == 1.0
    assert 0.3 < cell(result, HEAD, "binary", "symmetric")["teacher_retention"] < 1.0


def test_a_student_with_its_dimensions_in_reverse_order_fails_where_it_is_cut():
    """Every cosine at full dimension is the teacher's; what the teacher keeps in the first dimensions is lost by cutting."""
    result = grid(*(np.ascontiguousarray(v[:, ::-1]) for v in TEACHER), precisions=["float32"])
    full, cut = cell(result, DIM, "float32", "symmetric"), cell(result, HEAD, "float32", "symmetric")
    assert full["verdict"] == INHERITED
    assert full["student"] == pytest.approx(full["teacher"], abs=1e-3)
    assert cut["verdict"] == NOT_INHERITED
    assert cut["low"] > GATES["float32"]
    assert not result["passed"]


def test_a_student_whose_truncated_head_alone_is_rotated_fails_against_the_teachers_documents():
    """Within its own space such a student is sound; its queries on the teacher's index are not, at any dimension."""
    turn = np.eye(DIM)
    turn[:HEAD, :HEAD] = np.linalg.qr(np.random.default_rng(4).normal(size=(HEAD, HEAD)))[0]
    turn[HEAD:, HEAD:] *= 3
    queries, documents = (unit(v @ turn) for v in TEACHER)
    result = grid(queries, documents, precisions=["float32"])
    assert cell(result, HEAD, "float32", "symmetric")["student"] == pytest.approx(
        cell(result, HEAD, "float32", "symmetric")["teacher"], abs=1e-3
    )
    cut = cell(result, HEAD, "float32", "asymmetric")
    assert cut["verdict"] == NOT_INHERITED
    assert cut["student"] < 0.2 < cut["teacher"]
    assert not result["passed"]


def test_a_fragile_teacher_does_not_condemn_a_student_that_loses_as_much():
    """Binary codes cost this teacher a lot. A copy loses the same, so nothing is the student's fault."""
    result = grid(*TEACHER, precisions=["binary"], dims=[8])
    row = cell(result, 8, "binary", "symmetric")
    assert row["teacher_retention"] < 0.7
    assert row["verdict"] == INHERITED


def test_a_student_that_is_evenly_worse_inherits():
    """Retention is against the student's own full score: being worse everywhere is not a fault of truncation."""
    noisy = unit(TEACHER[0] + 0.08 * np.random.default_rng(6).normal(size=TEACHER[0].shape))
    result = grid(noisy, TEACHER[1], precisions=["float32"], dims=[])
    row = cell(result, DIM, "float32", "symmetric")
    assert row["student"] < row["teacher"] - 0.01
    assert row["gap"] == 0.0
    assert row["verdict"] == INHERITED


def test_figures_of_a_row_fit_together():
    noisy = unit(TEACHER[0] + 0.05 * np.random.default_rng(7).normal(size=TEACHER[0].shape))
    for row in grid(noisy, TEACHER[1])["rows"]:
        assert row["gap"] == pytest.approx(row["teacher_retention"] - row["student_retention"])
        assert row["low"] <= row["gap"] <= row["high"]
        assert row["max_gap"] == GATES[row["precision"]]
        assert row["verdict"] == judge(row["gap"], row["low"], row["max_gap"])


def test_the_same_seed_gives_the_same_grid():
    noisy = unit(TEACHER[0] + 0.05 * np.random.default_rng(7).normal(size=TEACHER[0].shape))
    assert grid(noisy, TEACHER[1], precisions=["int8"]) == grid(noisy, TEACHER[1], precisions=["int8"])


@pytest.mark.parametrize(
    ("gap", "low", "verdict"),
    [
        (-0.1, -0.2, INHERITED), (0.0, -0.01, INHERITED), (0.02, 0.015, INHERITED), (0.021, 0.019, UNDECIDED),
        (0.021, 0.02, UNDECIDED),
        (0.05, 0.021, NOT_INHERITED), (0.9, 0.8, NOT_INHERITED),
    ],
)  # fmt: skip
def test_verdicts_by_hand(gap, low, verdict):
    assert judge(gap, low, 0.02) == verdict


def test_undecided_does_not_fail_the_gate(monkeypatch):
    monkeypatch.setattr("leafkit.inherit.grid.judge", lambda *numbers: UNDECIDED)
    assert grid(*TEACHER, precisions=["float32"])["passed"]


def test_a_precision_without_gate_is_an_error():
    with pytest.raises(UsageError, match=r"inherit.max_gap has no gate for int8, binary") as caught:
        grid(*TEACHER, max_gap={"float32": 0.02})
    assert "inherit.max_gap.NAME" in caught.value.remedy


@pytest.mark.parametrize("dim", [0, -3, 33, 4096])
def test_a_dimension_outside_the_vectors_is_an_error(dim):
    with pytest.raises(UsageError, match=f"inherit.dims: {dim} is not between 1 and the vectors' dimension 32"):
        grid(*TEACHER, dims=[dim])


def test_no_query_is_an_error():
    with pytest.raises(LeafkitError, match="no judged query"):
        run_grid({"teacher": TEACHER}, [], DOCUMENT_IDS, QRELS, [], ["float32"], GATES, 10, 0)


@pytest.mark.parametrize(
    ("dim", "precision"), [(DIM, "float32"), (20, "float32"), (20, "int8"), (DIM, "binary"), (20, "binary")]
)
def test_search_at_equals_numpy(dim, precision):
    queries, documents = (unit(v[:, :dim]) for v in TEACHER)
    if precision == "binary":
        scores = -((queries > 0)[:, None, :] != (documents > 0)[None, :, :]).sum(axis=2).astype(float)
    else:
        if precision == "int8":
            low, high = documents.min(axis=0), documents.max(axis=0)
            documents = low + np.rint((documents - low) / ((high - low) / 255)) * (high - low) / 255
        scores = queries @ documents.T
    found = search_at(*TEACHER, dim=dim, precision=precision, k=5)
    assert np.allclose(found.scores, -np.sort(-scores, axis=1)[:, :5], atol=1e-4)
    assert np.allclose(np.take_along_axis(scores, found.positions, axis=1), found.scores, atol=1e-4)
