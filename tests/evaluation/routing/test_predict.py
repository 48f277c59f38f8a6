"""Signals of a query at a rung, and what is predicted from them."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from leafkit.evaluation.routing import signals as signals_module
from leafkit.evaluation.routing.predict import (
    cross_fit,
    fit_predictor,
    predict_losses,
    predictor_of,
)
from leafkit.evaluation.routing.signals import FIRST_SIGNALS, SIGNALS, Visit, read_signals


def test_doctests():
    assert doctest.testmod(signals_module).failed == 0


def visit(vectors, positions, scores, lengths=None) -> Visit:
    vectors = np.asarray(vectors, dtype=np.float32)
    found = np.ones(len(vectors)) if lengths is None else np.asarray(lengths)
    return Visit(vectors, found, np.asarray(positions), np.asarray(scores, dtype=np.float32))


def test_signals_of_a_rung_after_another():
    first = visit([[1, 0]], [[3, 1, 2]], [[0.9, 0.8, 0.4]])
    second = visit([[2, 2]], [[3, 7, -1]], [[0.7, 0.6, -np.inf]], lengths=[0.5])
    found = dict(zip(SIGNALS, read_signals(["how many"], second, first)[0], strict=True))
    assert found["words"] == pytest.approx(np.log(2))
    assert found["letters per word"] == 3.5
    assert found["length before normalizing"] == 0.5
    assert found["score of the first document"] == pytest.approx(0.7)
    assert found["its margin over the second"] == pytest.approx(0.1)
    assert found["its margin over the tenth"] == pytest.approx(0.1)  # of those that there are
    assert found["cosine to the previous rung's vector"] == pytest.approx(np.sqrt(0.5))
    assert found["overlap with the previous rung's documents"] == pytest.approx(1 / 3)
    assert read_signals(["how many"], first, None).shape == (1, len(FIRST_SIGNALS))


def test_a_query_that_finds_nothing_and_an_empty_one_have_finite_signals():
    nothing = visit([[0, 0]], [[-1, -1]], [[-np.inf, -np.inf]])
    assert np.isfinite(read_signals([""], nothing, nothing)).all()


def test_one_query_has_the_signals_that_it_has_among_others():
    chooser = np.random.default_rng(0)
    texts = ["sort a list", "graph", "read the file twice"]

    def draw() -> Visit:
        scores = -np.sort(-chooser.random((3, 10)), axis=1)
        places = np.stack([chooser.permutation(30)[:10] for _ in range(3)])
        return visit(chooser.normal(size=(3, 8)), places, scores, chooser.random(3))

    one, other = draw(), draw()
    together = read_signals(texts, one, other)
    for row in range(3):
        parts = [v.take(np.array([row])) for v in (one, other)]
        alone = read_signals(texts[row : row + 1], *parts)
        np.testing.assert_allclose(alone[0], together[row], atol=1e-6)


def test_a_linear_loss_is_predicted():
    chooser = np.random.default_rng(0)
    x = chooser.normal(size=(500, 4)) * [1, 10, 0.1, 1]
    losses = 0.3 + 0.2 * x[:, 0] - 0.01 * x[:, 1] + 0.01 * chooser.normal(size=500)
    found = fit_predictor(x, losses, rung="table", previous="")
    assert np.abs(predict_losses(found, x) - losses).mean() < 0.02
    assert (found.rung, found.previous) == ("table", "")


def test_noise_and_a_constant_signal_predict_the_mean():
    chooser = np.random.default_rng(0)
    x = np.concatenate([chooser.normal(size=(60, 5)), np.ones((60, 1))], axis=1)
    losses = chooser.random(60)
    found = predict_losses(fit_predictor(x, losses, rung="a", previous="b"), x)
    assert np.isfinite(found).all()
    assert found.std() < 0.5 * losses.std()


def test_cross_fitted_losses_do_not_know_their_own():
    chooser = np.random.default_rng(0)
    x, losses = chooser.normal(size=(100, 5)), chooser.random(100)
    before = cross_fit(x, losses, seed=3)
    moved = losses.copy()
    moved[17] = 50.0
    after = cross_fit(x, moved, seed=3)
    assert after[17] == before[17]
    assert (after != before).sum() == 80  # those of the other folds learned from it


def test_each_rung_of_a_route_has_the_predictor_behind_the_one_before_it():
    x = np.random.default_rng(0).normal(size=(20, 2))
    steps = [("", "table"), ("table", "student"), ("", "student")]
    made = [fit_predictor(x, x[:, 0], rung=b, previous=a) for a, b in steps]
    found = predictor_of(made, ("table", "student", "teacher"))
    assert found == {"table": made[0], "student": made[1]}
    with pytest.raises(KeyError):
        predictor_of(made[1:], ("table", "student", "teacher"))
