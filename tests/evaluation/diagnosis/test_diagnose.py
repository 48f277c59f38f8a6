"""Teachers with known answers: planted ranks, turned spaces, cones, and vectors that are none."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest

from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.truncate import truncate_then_normalize
from leafkit.evaluation.diagnosis import directions, searches
from leafkit.evaluation.diagnosis.diagnose import Settings, diagnose
from leafkit.evaluation.diagnosis.directions import measure_anisotropy, perturb
from leafkit.evaluation.diagnosis.findings import conclude
from leafkit.evaluation.diagnosis.searches import Judged
from leafkit.evaluation.metrics import Judgments, fast_ndcg
from leafkit.index.exact import search_exact
from leafkit.results import Diagnosis

FULL = 64
TEXTS, QUERIES = 600, 120


def turn(full=FULL, seed=9):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(full, full)))[0].astype(np.float32)


def plant(scales, noise=0.6, seed=0, num_texts=TEXTS, noise_scales=None):
    """Unit documents with these standard deviations per dimension, and queries near the first of
    them.
    """
    noise_scales = scales if noise_scales is None else noise_scales
    generator = np.random.default_rng(seed)
    documents = generator.normal(size=(num_texts, len(scales))) * scales
    queries = (
        documents[:QUERIES]
        + noise * generator.normal(size=(min(QUERIES, num_texts), len(scales))) * noise_scales
    )
    return judged_of(
        truncate_then_normalize(documents).astype(np.float32),
        truncate_then_normalize(queries).astype(np.float32),
    )


def judged_of(documents, queries):
    return documents, Judged(queries, judgments_of(len(documents), list(range(len(queries)))))


def judgments_of(num_documents, answers):
    """Query i is answered by document ``answers[i]``."""
    ids, names = [f"q{i}" for i in range(len(answers))], [f"d{i}" for i in range(num_documents)]
    return Judgments(ids, names, {q: {f"d{d}": 1} for q, d in zip(ids, answers, strict=True)})


def examine(documents, judged, **changes):
    figures = diagnose(documents, judged, Settings(num_resamples=200, **changes))
    conclusion = conclude(figures)
    return Diagnosis("teacher", "texts", figures, conclusion.verdict, conclusion.findings)


MATRYOSHKA = np.r_[np.full(16, 3.0), np.full(48, 0.35)]  # what matters stands in front
FLAT = np.ones(FULL)


# --- ranks


@pytest.mark.parametrize("rank", [8, 32])
def test_a_teacher_of_rank_k_is_kept_whole_at_rank_k(rank):
    documents, judged = plant(np.r_[np.ones(rank), np.zeros(FULL - rank)])
    turned = turn()
    found = examine(
        documents @ turned,
        judged_of(documents @ turned, judged.vectors @ turned)[1],
        ranks=(rank // 2, rank),
    )
    rows = {row.rank: row for row in found.figures.spectrum}
    assert sorted(rows) == [rank // 2, rank, FULL]
    assert rows[rank].variance == pytest.approx(1.0, abs=1e-5)
    assert rows[rank].quality.retention.value == pytest.approx(1.0, abs=1e-3)
    assert rows[rank // 2].variance < 0.8
    assert rows[rank // 2].quality.retention.value < rows[rank].quality.retention.value
    assert found.figures.effective_rank == pytest.approx(rank, rel=0.1)


def test_an_isotropic_teacher_is_flat():
    documents, judged = plant(FLAT, num_texts=6000)
    found = examine(documents, judged, ranks=(16, 32))
    assert [row.variance for row in found.figures.spectrum] == pytest.approx(
        [0.25, 0.5, 1.0], abs=0.05
    )
    assert found.figures.effective_rank == pytest.approx(FULL, rel=0.02)
    assert found.figures.mean_cosine.low < 0 < found.figures.mean_cosine.high


def test_the_rank_map_projects_queries_alone_about_their_own_mean():
    """Against the definition written out: an SVD of the documents, numpy's products, every rank."""
    documents, judged = plant(np.linspace(2, 0.2, FULL))
    shifted = Judged(judged.vectors + 0.1, judged.judgments)
    found = examine(documents, shifted, ranks=(4, 16))
    basis = np.linalg.svd(
        (documents - documents.mean(axis=0)).astype(np.float64), full_matrices=False
    )[2]
    mean = shifted.vectors.mean(axis=0)
    for row in found.figures.spectrum[:2]:
        kept = basis[: row.rank]
        projected = mean + (shifted.vectors - mean) @ kept.T @ kept
        scores = projected @ documents.T
        ranks = (scores > np.take_along_axis(scores, np.arange(QUERIES)[:, None], axis=1)).sum(
            axis=1
        )
        expected = np.where(ranks < 10, 1 / np.log2(ranks + 2), 0)
        assert row.quality.ndcg.value == pytest.approx(expected.mean(), abs=1e-3)


def test_the_students_width_is_among_the_ranks_and_decides():
    documents, judged = plant(FLAT, noise=1.2)
    wide, narrow = (examine(documents, judged, student_width=width) for width in (FULL, 6))
    assert wide.verdict == "can be inherited"
    assert narrow.verdict == "cannot be inherited"
    assert "width 6 reaches 6 of 64 dimensions" in " ".join(narrow.findings)
    assert [row.rank for row in narrow.figures.spectrum] == [6, FULL]
    assert [row.rank for row in examine(documents, judged, student_width=999).figures.spectrum] == [
        FULL
    ]


# --- turning the space


def test_a_turn_changes_heads_and_nothing_else():
    documents, judged = plant(MATRYOSHKA)
    turned = turn()
    before = examine(documents, judged, mrl_dims=(64, 16), ranks=(8,))
    after = examine(
        documents @ turned,
        judged_of(documents @ turned, judged.vectors @ turned)[1],
        mrl_dims=(64, 16),
        ranks=(8,),
    )
    for a, b in zip(before.figures.spectrum, after.figures.spectrum, strict=True):
        assert a.variance == pytest.approx(b.variance, abs=1e-5)
        assert a.quality.ndcg.value == pytest.approx(b.quality.ndcg.value, abs=5e-3)
    assert before.figures.effective_rank == pytest.approx(after.figures.effective_rank, rel=1e-4)
    assert before.figures.mean_cosine.value == pytest.approx(
        after.figures.mean_cosine.value, abs=1e-5
    )
    heads = [{row.dim: row for row in found.figures.dims}[16] for found in (before, after)]
    assert heads[0].variance > 0.9 > 0.5 > heads[1].variance
    assert heads[0].quality.retention.value > heads[1].quality.retention.value + 0.05


def test_matryoshka_is_found_and_a_random_turn_of_it_is_said_to_have_none():
    documents, judged = plant(MATRYOSHKA)
    turned = turn()
    there = examine(documents, judged, mrl_dims=(64, 16))
    gone = examine(
        documents @ turned,
        judged_of(documents @ turned, judged.vectors @ turned)[1],
        mrl_dims=(64, 16),
    )
    assert "Matryoshka is there to be inherited" in " ".join(there.findings)
    assert "There is no Matryoshka to inherit although it claims 16 dimensions" in " ".join(
        gone.findings
    )
    assert (there.verdict, gone.verdict) == ("can be inherited", "with losses")


def test_without_queries_variance_says_the_same_of_matryoshka():
    documents, _ = plant(MATRYOSHKA)
    there, gone = (
        examine(documents, None, mrl_dims=(16,)),
        examine(documents @ turn(), None, mrl_dims=(16,)),
    )
    assert there.figures.num_queries == 0
    assert there.figures.spectrum[0].quality is None
    assert "Matryoshka is there to be inherited: the first 16 dimensions hold 9" in " ".join(
        there.findings
    )
    assert "There is no Matryoshka to inherit" in " ".join(gone.findings)
    assert gone.verdict == "with losses"


def test_a_teacher_that_claims_nothing_is_measured_at_halves_and_not_blamed():
    documents, judged = plant(FLAT)
    found = examine(documents, judged)
    assert [row.dim for row in found.figures.dims] == [64, 32]
    assert "There is no Matryoshka to inherit: the first 32" in " ".join(found.findings)
    assert found.verdict == "can be inherited"


def test_heads_equal_truncated_and_normalized_vectors():
    documents, judged = plant(MATRYOSHKA)
    row = examine(documents, judged, mrl_dims=(24,)).figures.dims[1]
    ranking = search_exact(
        truncate_then_normalize(judged.vectors, 24), truncate_then_normalize(documents, 24), 20
    )
    assert row.quality.ndcg.value == pytest.approx(
        fast_ndcg(ranking, judged.judgments).mean(), abs=1e-9
    )


# --- anisotropy


def test_the_anisotropy_of_a_shifted_cloud_by_hand():
    """Unit noise in D dimensions moved by a vector of length s: cosine of two of them is about s^2
    / (1 + s^2).
    """
    generator = np.random.default_rng(0)
    cloud = generator.normal(size=(8000, 256)) / 16
    cloud[:, 0] += 2.0
    found = measure_anisotropy(cloud.astype(np.float32), 500, 0)
    assert found.value == pytest.approx(4 / 5, abs=0.01)
    assert found.low < found.value < found.high
    assert found.n == 4000


def test_anisotropy_of_two_texts_is_their_cosine():
    pair = np.array([[3.0, 0.0], [4.0, 3.0]], dtype=np.float32)
    found = measure_anisotropy(pair, 50, 0)
    assert (found.value, found.low, found.high) == pytest.approx((0.8, 0.8, 0.8))
    assert found.n == 1


def test_no_text_is_in_two_pairs(monkeypatch):
    rows = []

    class Watched:
        def __len__(self):
            return 101

        def __getitem__(self, wanted):
            rows.extend(wanted.tolist())
            return np.ones((len(wanted), 2), dtype=np.float32)

    measure_anisotropy(Watched(), 10, 3)
    assert len(rows) == len(set(rows)) == 100


# --- binary codes


@pytest.mark.parametrize("cosine", [0.0, 0.5, 0.95, 1.0])
def test_perturbed_vectors_have_exactly_that_cosine(cosine):
    vectors = np.random.default_rng(0).normal(size=(50, 32)).astype(np.float32) * 7
    moved = perturb(vectors, cosine, 1)
    assert np.allclose(np.linalg.norm(moved, axis=1), 1, atol=1e-6)
    assert np.allclose(
        np.einsum("nd,nd->n", moved, truncate_then_normalize(vectors)), cosine, atol=1e-6
    )


def test_vectors_that_cannot_be_moved_stay():
    assert perturb(np.zeros((2, 4), dtype=np.float32), 0.9, 0).tolist() == [[0.0] * 4] * 2
    assert perturb(np.array([[-3.0]], dtype=np.float32), 0.9, 0).tolist() == [[-1.0]]


def test_sign_agreement_of_isotropic_vectors_is_charikars():
    documents, judged = plant(FLAT, num_texts=4000)
    shares = examine(documents, judged).figures.binary.sign_agreement_at
    for cosine in (0.95, 0.98):
        assert shares[f"{cosine:g}"] == pytest.approx(1 - np.arccos(cosine) / np.pi, abs=0.002)


def test_a_mean_away_from_zero_keeps_signs_and_small_values_lose_them():
    documents, judged = plant(FLAT)
    signs = {}
    for name, vectors in (
        ("plain", documents),
        ("shifted", documents + 0.5),
        ("spiky", documents**5),
    ):
        signs[name] = examine(vectors, judged).figures.binary.sign_agreement_at["0.95"]
    assert signs["shifted"] > 0.99 > 0.95 > signs["plain"] > signs["spiky"]


def test_fragile_bits_matter_where_binary_is_asked_for():
    """Six dimensions tell the texts apart; the other bits are noise, and count as much."""
    documents, judged = plant(
        np.r_[np.full(6, 3.0), np.full(58, 0.3)], noise_scales=FLAT, noise=0.4
    )
    asked, unasked = (
        examine(documents, judged, precisions=p) for p in (("float32", "binary"), ("float32",))
    )
    assert asked.figures.binary.quality.retention.value < 0.9
    assert (
        asked.figures.binary.student.retention.value < asked.figures.binary.quality.retention.value
    )
    assert (asked.verdict, unasked.verdict) == ("with losses", "can be inherited")
    assert "fragile" in " ".join(asked.findings)
    assert "fragile" not in " ".join(unasked.findings)


def test_codes_of_signs_lose_nothing_to_bits():
    documents, judged = plant(FLAT, noise=0.8)
    signs = [np.where(v > 0, 1, -1).astype(np.float32) / 8 for v in (documents, judged.vectors)]
    found = examine(*judged_of(*signs)).figures.binary
    # ties are broken by id on both sides
    assert found.quality.retention.value == pytest.approx(1.0, abs=0.01)
    assert found.float_queries.retention.value == pytest.approx(1.0, abs=0.01)


# --- streaming


def test_chunks_equal_the_whole(monkeypatch):
    documents, judged = plant(MATRYOSHKA)
    whole = examine(documents, judged, mrl_dims=(16,), ranks=(8,))
    monkeypatch.setattr(searches, "CHUNK", 77)
    parts = examine(documents, judged, mrl_dims=(16,), ranks=(8,))
    for a, b in zip(
        whole.figures.spectrum + whole.figures.dims,
        parts.figures.spectrum + parts.figures.dims,
        strict=True,
    ):
        assert a.variance == pytest.approx(b.variance, abs=1e-9)
        assert astuple(a.quality.ndcg) == pytest.approx(astuple(b.quality.ndcg), abs=1e-6)
    assert whole.figures.binary.float_queries == parts.figures.binary.float_queries
    # ties at the cut
    assert whole.figures.binary.quality.ndcg.value == pytest.approx(
        parts.figures.binary.quality.ndcg.value, abs=0.01
    )


def test_no_more_than_a_chunk_is_read_at_a_time(monkeypatch):
    documents, judged = plant(FLAT)
    monkeypatch.setattr(searches, "CHUNK", 100)
    monkeypatch.setattr(directions, "MAX_PAIRS", 40)
    largest = []

    class Store:
        def __len__(self):
            return len(documents)

        def __getitem__(self, rows):
            largest.append(len(documents[rows]))
            return documents[rows]

    assert examine(Store(), judged).figures.spectrum == examine(documents, judged).figures.spectrum
    assert max(largest) == 100


def test_seeds_decide_about_everything_random():
    documents, judged = plant(FLAT)
    assert examine(documents, judged) == examine(documents, judged)
    other = examine(documents, judged, seed=1)
    assert other.figures.mean_cosine != examine(documents, judged).figures.mean_cosine
    assert (
        other.figures.spectrum[-1].quality.ndcg.value
        == examine(documents, judged).figures.spectrum[-1].quality.ndcg.value
    )


# --- bad input


def test_fewer_texts_than_dimensions_are_said_to_be_few():
    documents, judged = plant(FLAT, num_texts=40)
    found = examine(documents, judged, ranks=(39,))
    assert found.figures.spectrum[0].variance == pytest.approx(1.0, abs=1e-5)
    assert (
        "few texts for 64 dimensions, whose spectrum has no rank above 39: low" in found.findings[0]
    )


@pytest.mark.parametrize("count", [0, 1])
def test_one_text_diagnoses_nothing(count):
    with pytest.raises(LeafkitError, match=f"^{count} text"):
        examine(np.ones((count, 8), dtype=np.float32), None)


def test_vectors_that_are_not_finite_name_their_row():
    documents, judged = plant(FLAT)
    broken = documents.copy()
    broken[17, 5] = np.nan
    with pytest.raises(LeafkitError, match="row 17"):
        examine(broken, judged)
    queries = judged.vectors.copy()
    queries[3] = np.inf
    with pytest.raises(LeafkitError, match="query 3"):
        examine(documents, Judged(queries, judged.judgments))


@pytest.mark.parametrize("with_queries", [True, False])
def test_equal_vectors_cannot_be_inherited(with_queries):
    documents, judged = judged_of(
        np.full((30, 8), 0.3, dtype=np.float32), np.full((5, 8), 0.3, dtype=np.float32)
    )
    found = examine(documents, judged if with_queries else None)
    assert found.verdict == "cannot be inherited"
    assert found.findings == (
        "All 30 texts have the same vector: this teacher tells no two of them apart.",
    )
    assert found.figures.effective_rank == 0.0


def test_a_teacher_that_finds_nothing_cannot_be_inherited():
    documents, judged = plant(FLAT)
    documents[599] = -judged.vectors.mean(axis=0)
    found = examine(documents, Judged(judged.vectors, judgments_of(TEXTS, [599] * QUERIES)))
    assert found.verdict == "cannot be inherited"
    assert found.findings == ("The teacher finds nothing: nDCG@10 is 0 on 120 queries.",)


def test_a_narrow_cone_is_a_loss():
    documents, judged = plant(FLAT)
    cone = [
        truncate_then_normalize(v / 8 + np.eye(FULL, dtype=np.float32)[0])
        for v in (documents, judged.vectors)
    ]
    found = examine(*judged_of(*cone))
    assert found.figures.mean_cosine.value > 0.95
    assert found.verdict == "with losses"
    assert "narrow cone" in " ".join(found.findings)


def test_a_querys_own_document_is_not_retrieved():
    """Every query finds its answer first; where that is its own document, it must not."""
    documents, judged = plant(FLAT, noise=0.01)
    assert examine(documents, judged).figures.spectrum[-1].quality.ndcg.value == 1.0
    without = examine(documents, Judged(judged.vectors, judged.judgments, list(range(QUERIES))))
    assert without.findings == ("The teacher finds nothing: nDCG@10 is 0 on 120 queries.",)
    some = examine(documents, Judged(judged.vectors, judged.judgments, [*range(60), *[-1] * 60]))
    assert some.figures.spectrum[-1].quality.ndcg.value == 0.5


def test_zero_vectors_and_no_judged_query_are_survived():
    documents, _ = plant(FLAT)
    documents[:5] = 0
    found = examine(
        documents, Judged(np.zeros((0, FULL), dtype=np.float32), judgments_of(TEXTS, []))
    )
    assert found.figures.num_queries == 0
    assert np.isfinite(found.figures.binary.sign_agreement_at["0.95"])


def test_one_dimension():
    found = examine(
        *judged_of(
            np.array([[1.0], [-1.0], [2.0]], dtype=np.float32), np.array([[1.0]], dtype=np.float32)
        )
    )
    assert [row.dim for row in found.figures.dims] == [1]
    assert [row.rank for row in found.figures.spectrum] == [1]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"ranks": (65,)}, "inherit.ranks: 65"),
        ({"ranks": (0,)}, "inherit.ranks: 0"),
        ({"mrl_dims": (128,)}, "inherit.dims: 128"),
    ],
)
def test_ranks_and_dimensions_out_of_range_are_refused(changes, key):
    documents, judged = plant(FLAT)
    with pytest.raises(UsageError, match=key):
        examine(documents, judged, **changes)


def test_queries_of_another_dimension_are_refused():
    documents, judged = plant(FLAT)
    with pytest.raises(LeafkitError, match="32 dimensions and documents 64"):
        examine(documents, Judged(judged.vectors[:, :32], judged.judgments))
