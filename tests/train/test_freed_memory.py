"""Memory that a training holds without need is given back."""

from __future__ import annotations

import pytest

from leafkit.train.freed_memory import GiveBack


def run(held: list[float]) -> list[int]:
    """Batches after which memory was given back."""
    given: list[int] = []
    steps = iter(enumerate(held))
    step = -1

    def read() -> float:
        nonlocal step
        step, found = next(steps)
        return found

    watch = GiveBack(read, lambda: given.append(step))
    for _ in held:
        watch.on_train_batch_end(None, None, None, None, 0)
    return given


@pytest.mark.parametrize(
    ("held", "given"),
    [
        ([100, 120, 110, 130, 143, 143], []),  # up to a tenth above the first ones
        ([100, 120, 110, 130, 144, 128, 143, 150, 129], [4, 7]),  # holes
        # longer batches take more: that is learned, and not given back at every step
        ([100, 100, 100, 100, 200, 180, 190, 197], [4]),
        ([100, 100, 100, 100, 200, 180, 199], [4, 6]),
    ],
)
def test_what_is_above_the_need_is_given_back(held, given):
    assert run(held) == given
