"""Figures to sentences and verdicts: each threshold from both sides."""

from __future__ import annotations

import pytest

from leafkit.evaluation.diagnosis.findings import conclude, has_matryoshka

SIGNS = {"sign_agreement": 0.9, "sign_agreement_at": {"0.95": 0.9, "0.98": 0.93}}


def share(mean, low=None, high=None):
    return {
        "mean": mean,
        "low": mean - 0.01 if low is None else low,
        "high": mean + 0.01 if high is None else high,
    }


def cone(cosine):
    return {"mean_cosine": cosine, "low": cosine - 0.01, "high": cosine + 0.01}


def kept(mean):
    return {"ndcg": share(0.5 * mean), "retention": share(mean)}


def figures(**changes):
    base = {
        "num_texts": 50_000,
        "dim": 768,
        "num_queries": 300,
        "student_width": 384,
        "claimed_dims": [768, 64],
        "precisions": ["float32", "binary"],
        "total_variance": 0.8,
        "effective_rank": 311.4,
        "spectrum": [
            {"rank": 384, "variance": 0.93} | kept(0.99),
            {"rank": 768, "variance": 1.0} | kept(1.0),
        ],
        "anisotropy": cone(0.1),
        "dims": [{"dim": 768, "variance": 1.0} | kept(1.0), head(0.90, 0.1)],
        "binary": SIGNS | kept(0.93) | {"float_queries": kept(0.96), "student": kept(0.8)},
    }
    return base | changes


def head(retention, gain, dim=64):
    control = {
        "random": kept(retention - gain),
        "gain": share(gain),
        "random_variance": dim / 768,
        "random_variance_std": 0.01,
    }
    return {"dim": dim, "variance": 0.3} | kept(retention) | control


def spectrum(retention):
    return [
        {"rank": 384, "variance": 0.9} | kept(retention),
        {"rank": 768, "variance": 1.0} | kept(1.0),
    ]


def test_a_sound_teacher():
    found = conclude(figures())
    assert found["verdict"] == "can be inherited"
    assert found["findings"] == [
        "Measured on 50,000 texts and 300 judged queries.",
        "A student of hidden width 384 reaches 384 of 768 dimensions (effective rank 311 of "
        "768): the best such map keeps"
        " 93.0% of the variance and 99.0% [98.0%, 100.0%] of nDCG@10.",
        "Random pairs of texts have a mean cosine of 0.100 [0.090, 0.110].",
        "Matryoshka is there to be inherited: the first 64 dimensions keep 90.0% [89.0%, 91.0%] "
        "of nDCG@10,"
        " 64 of a randomly turned space 80.0%.",
        "Binary codes keep 93.0% [92.0%, 94.0%] of nDCG@10, 96.0% with float queries and 80.0% "
        "with queries of a"
        " student at cosine 0.95;"
        " a student keeps 90.0% at cosine 0.95, 93.0% at cosine 0.98 of the teacher's bits.",
    ]


@pytest.mark.parametrize(
    ("retention", "verdict"),
    [
        (0.951, "can be inherited"),
        (0.949, "with losses"),
        (0.751, "with losses"),
        (0.749, "cannot be inherited"),
    ],
)
def test_the_rank_of_the_student(retention, verdict):
    assert conclude(figures(spectrum=spectrum(retention)))["verdict"] == verdict


@pytest.mark.parametrize(
    ("variance", "verdict"),
    [(0.96, "can be inherited"), (0.9, "with losses"), (0.7, "cannot be inherited")],
)
def test_without_queries_variance_decides(variance, verdict):
    rows = [{"rank": 384, "variance": variance}, {"rank": 768, "variance": 1.0}]
    heads = [{"dim": 64, "variance": 0.2, "random_variance": 0.083, "random_variance_std": 0.02}]
    found = conclude(figures(num_queries=0, spectrum=rows, dims=heads, binary=SIGNS))
    assert found["verdict"] == verdict
    assert "no judged query" in found["findings"][0]
    assert "nDCG@10" not in " ".join(found["findings"])


@pytest.mark.parametrize("width", [0, 768, 1024])
def test_a_student_that_is_wide_enough_has_no_ceiling(width):
    found = conclude(figures(student_width=width, spectrum=spectrum(0.1)))
    assert found["verdict"] == "can be inherited"
    assert "all of the 768 dimensions" in found["findings"][1]


@pytest.mark.parametrize(
    ("cosine", "verdict", "is_narrow"),
    [(0.69, "can be inherited", 0), (0.71, "can be inherited", 1), (0.951, "with losses", 1)],
)
def test_anisotropy(cosine, verdict, is_narrow):
    found = conclude(figures(anisotropy=cone(cosine)))
    assert (found["verdict"], "narrow cone" in " ".join(found["findings"])) == (
        verdict,
        bool(is_narrow),
    )


@pytest.mark.parametrize(
    ("gain", "low", "is_there"),
    [(0.05, 0.01, True), (0.05, -0.01, False), (0.015, 0.01, False), (-0.1, -0.2, False)],
)
def test_a_head_must_gain_on_turned_ones_beyond_noise(gain, low, is_there):
    row = head(0.9, gain) | {"gain": share(gain, low)}
    assert has_matryoshka(row) is is_there
    found = conclude(figures(dims=[row]))
    assert found["verdict"] == ("can be inherited" if is_there else "with losses")


def test_a_head_below_the_yardstick_is_a_loss_where_matryoshka_is_claimed():
    row = head(0.84, 0.2)
    assert conclude(figures(dims=[row]))["verdict"] == "with losses"
    assert (
        "At 64 dimensions 84.0% [83.0%, 85.0%] is left; trained Matryoshka models keep 90.1%."
        in conclude(figures(dims=[row]))["findings"]
    )
    assert conclude(figures(dims=[row], claimed_dims=[]))["verdict"] == "can be inherited"
    assert conclude(figures(dims=[head(0.86, 0.2)]))["verdict"] == "can be inherited"


def test_the_smallest_head_says_whether_matryoshka_is_there():
    found = conclude(figures(dims=[head(0.97, 0.001, dim=384), head(0.9, 0.2)]))
    assert "the first 64 dimensions" in " ".join(found["findings"])
    assert found["verdict"] == "can be inherited"


@pytest.mark.parametrize(
    ("retention", "asked", "verdict"),
    [
        (0.91, True, "can be inherited"),
        (0.89, True, "with losses"),
        (0.5, False, "can be inherited"),
    ],
)
def test_binary_codes(retention, asked, verdict):
    binary = figures()["binary"] | kept(retention)
    precisions = ["float32", "binary"] if asked else ["int8"]
    assert conclude(figures(binary=binary, precisions=precisions))["verdict"] == verdict


def test_the_worst_part_is_the_verdict():
    parts = figures(spectrum=spectrum(0.5), dims=[head(0.5, 0.0)], anisotropy=cone(0.97))
    assert conclude(parts)["verdict"] == "cannot be inherited"


def test_few_texts_are_said_to_be_few():
    assert (
        "few texts for 768 dimensions, whose spectrum has no rank above 99: low"
        in conclude(figures(num_texts=100))["findings"][0]
    )
    assert "few texts for 768 dimensions: low" in conclude(figures(num_texts=1000))["findings"][0]
    assert "few" not in conclude(figures(num_texts=4 * 768))["findings"][0]
