"""Blocks of rows on several threads."""

from __future__ import annotations

import itertools

import pytest

from leafkit.core.errors import LeafkitError
from leafkit.index.workers import Workers, small_blocks


@pytest.mark.parametrize("num_rows", [1, 5, 700, 100_000])
def test_blocks_cover_every_row_once_in_order(num_rows):
    for blocks in (Workers().run(lambda rows: rows, num_rows), list(small_blocks(num_rows, 200))):
        assert blocks[0].start == 0
        assert blocks[-1].stop == num_rows
        assert all(a.stop == b.start < b.stop for a, b in itertools.pairwise(blocks))


def test_an_error_in_a_block_is_not_lost():
    def fail(rows: slice) -> None:
        raise LeafkitError("bad row")

    with pytest.raises(LeafkitError, match="bad row"):
        Workers().run(fail, 100_000)
