"""``benchmarks/embed_workers.py``: when encoding began is seen in the store, and its report says
what was measured.
"""

from __future__ import annotations

import doctest
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import embed_workers as script

from leafkit.core.checkpoint_layout import shard_claim_file
from leafkit.core.process.lock import claimed
from leafkit.data.vector_store import Space, VectorStore

SPACE = Space(teacher="t", dim=2, prompt="", max_tokens=8, pooling="mean", normalized=True)


def test_doctests():
    assert doctest.testmod(script).failed == 0


def fill(root, vectors, rows_per_shard):
    texts = [f"{i}" for i in range(len(vectors))]
    store = VectorStore(root / "vectors" / "t", SPACE, texts, rows_per_shard=rows_per_shard)
    for shard in store.shards:
        store.write(shard, vectors[shard.start : shard.stop])


def test_vectors_are_read_in_the_order_of_the_texts_whatever_the_shards(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((11, 2)).astype(np.float16)
    fill(tmp_path / "whole", vectors, 4)
    for part in range(2):
        fill(tmp_path / str(part), vectors[part::2], 3)
    assert np.array_equal(script.read_vectors([tmp_path / "whole"]), vectors)
    assert np.array_equal(script.read_vectors([tmp_path / "0", tmp_path / "1"]), vectors)


def test_encoding_begins_with_the_first_claim(tmp_path):
    store = tmp_path / "root" / "vectors" / "t"
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with claimed(store / shard_claim_file(3)), claimed(store / shard_claim_file(1)):
            os.utime(store / shard_claim_file(1), (1000, 1000))
            assert script.first_claim([child], [tmp_path / "other", tmp_path / "root"]) == 1000
    finally:
        child.communicate(b"\n")
    assert script.first_claim([child], [tmp_path / "root"]) == 0  # it has ended


def figures(whole_s, encoding_s, sha256="a" * 64):
    start_s = whole_s - encoding_s
    return {
        "whole_s": whole_s,
        "start_s": start_s,
        "encoding_s": encoding_s,
        "shards": 4,
        "sha256": sha256,
    }


FOUND = {
    script.ONE: [figures(70, 60), figures(80, 66)],
    script.TORCHRUN: [figures(40, 30), figures(50, 33)],
    script.APART: [figures(40, 30), figures(40, 33)],
}


def test_the_report_judges_and_says_what_was_left_out():
    told = "\n".join(script.make_report(FOUND, 600))
    assert "encode 2.00 (bar: at least 1.8, reached) times as fast as one" in told
    assert "| torchrun, two processes | 45.0 | 13.5 | 31.5 | 19 | 4 | 1.68 [1.60, 1.75] |" in told
    assert "Ray was not measured" in told
    assert "equal to the bit" in told
    slow = FOUND | {script.RAY: [figures(90, 36), figures(90, 39.6)]}
    told = "\n".join(script.make_report(slow, 600))
    assert "Ray's workers take 1.20 (bar: at most 1.1, **missed**) times torchrun's" in told


@pytest.mark.parametrize("turn", [0, 1])
def test_one_vector_of_one_turn_that_differs_is_told(turn):
    runs = list(FOUND[script.TORCHRUN])
    runs[turn] = figures(40, 30, "b" * 64)
    found = FOUND | {script.TORCHRUN: runs}
    assert not script.are_equal(found)
    told = "\n".join(script.make_report(found, 600))
    assert "**Vectors differ**" in told
    assert f"{script.TORCHRUN}: {'a' * 12}, {'b' * 12}" in told
    assert script.are_equal(FOUND)
