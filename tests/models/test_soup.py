"""Weight averages."""

from __future__ import annotations

import pytest
import tiny
import torch

from leafkit.errors import LeafkitError
from leafkit.models.soup import average_into


def weights(encoder) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in encoder.parameters()])


@pytest.mark.parametrize("share", [0.0, 0.25, 0.6, 1.0])
def test_the_average_is_linear_in_the_share(share):
    tuned, start = tiny.make_encoder(seed=1), tiny.make_encoder(seed=2)
    mine, theirs = weights(tuned), weights(start)
    average_into(tuned, start, share)
    assert torch.allclose(weights(tuned), share * mine + (1 - share) * theirs, atol=1e-7)
    assert torch.equal(weights(start), theirs)


@pytest.mark.parametrize(("share", "kept"), [(1.0, 0), (0.0, 1)])
def test_the_ends_are_exact(share, kept):
    pair = tiny.make_encoder(seed=1), tiny.make_encoder(seed=2)
    expected = weights(pair[kept])
    average_into(*pair, share)
    assert torch.equal(weights(pair[0]), expected)


def test_the_projection_is_averaged_too():
    tuned, start = tiny.make_encoder(seed=1, dim=8), tiny.make_encoder(seed=2, dim=8)
    expected = (tuned.projection.weight.detach() + start.projection.weight.detach()) / 2
    average_into(tuned, start, 0.5)
    assert torch.allclose(tuned.projection.weight, expected, atol=1e-7)


@pytest.mark.parametrize("settings", [{"hidden": 48}, {"dim": 8}])
def test_unlike_models_are_refused(settings):
    with pytest.raises(LeafkitError, match="models of different shape cannot be averaged"):
        average_into(tiny.make_encoder(), tiny.make_encoder(**settings), 0.5)
