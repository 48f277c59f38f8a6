"""Several processes at work on one vector store: each shard is computed once, whoever is killed."""

from __future__ import annotations

import doctest
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tiny
import torch

from leafkit.core.checkpoint_layout import shard_claim_file
from leafkit.core.errors import LeafkitError
from leafkit.core.process.lock import claimed
from leafkit.data.stored import shard_plan
from leafkit.data.stored.shard_plan import read_rows_per_shard, settle_rows_per_shard
from leafkit.data.vector_store import VectorStore
from leafkit.embedders.fill_store import fill_store
from leafkit.embedders.transformer import TransformerEmbedder

TEXTS = [text for pair in tiny.make_pairs(96) for text in pair]


class Counting(TransformerEmbedder):
    """Remembers which texts it embedded, and may be slow."""

    def __init__(self, encoder, pause_s=0.0):
        super().__init__(encoder, torch.device("cpu"), torch.float32)
        self.seen: list[str] = []
        self.pause_s = pause_s

    def embed(self, texts, role, max_tokens, bar=None):
        time.sleep(self.pause_s)
        self.seen += texts
        return super().embed(texts, role, max_tokens, bar)


@pytest.fixture(scope="module")
def encoder():
    return tiny.make_encoder(dim=48)


def make_store(folder, model, rows_per_shard=16):
    space = model.space("document", 64)
    return VectorStore(folder, space, TEXTS, dtype="float32", rows_per_shard=rows_per_shard)


def fill(store, model, **options):
    return fill_store(store, model, TEXTS, "document", title="test", **options)


@pytest.fixture(scope="module")
def expected(tmp_path_factory, encoder):
    """What one process computes."""
    model = Counting(encoder)
    store = make_store(tmp_path_factory.mktemp("one") / "s", model)
    assert fill(store, model) == len(TEXTS)
    return store[:]


def test_doctests():
    assert doctest.testmod(shard_plan).failed == 0


@pytest.mark.parametrize("rows_per_shard", [64, 2048])
def test_a_vectors_bits_do_not_depend_on_its_shard(tmp_path, encoder, expected, rows_per_shard):
    """Of as few texts as no shard has but a last one, a matrix product may round otherwise."""
    model = Counting(encoder)
    store = make_store(tmp_path / "s", model, rows_per_shard)
    fill(store, model)
    assert np.array_equal(store[:], expected)
    few = make_store(tmp_path / "few", model, 7)
    fill(few, model)
    np.testing.assert_allclose(few[:], expected, atol=1e-6)


def test_two_at_work_share_the_shards_and_embed_none_twice(tmp_path, encoder, expected):
    """As two commands do that know nothing of each other."""
    models = [Counting(encoder, pause_s=0.05) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        stores = [make_store(tmp_path / "s", model) for model in models]
        counts = list(pool.map(fill, stores, models))
    assert sum(counts) == len(TEXTS)
    assert min(counts) > 0
    assert sorted(models[0].seen + models[1].seen) == sorted(TEXTS)
    whole = make_store(tmp_path / "s", models[0])
    assert whole.missing() == []
    assert np.array_equal(whole[:], expected)
    assert not list((tmp_path / "s").glob(".*"))


def test_missing_shards_are_dealt_by_their_position_in_the_list(tmp_path, encoder):
    """After a run that lagged, all that is missing may have even numbers: none may get it all."""
    model = Counting(encoder)
    fill(make_store(tmp_path / "s", model), model)
    for number in (0, 2, 4, 6):
        (tmp_path / "s" / f"{number:05d}.json").unlink()
    models = [Counting(encoder, pause_s=0.2) for _ in range(2)]
    stores = [make_store(tmp_path / "s", model) for model in models]
    missing = stores[0].missing()

    def work(rank):
        options = {"missing": missing, "rank": rank, "num_ranks": 2}
        return fill(stores[rank], models[rank], **options)

    with ThreadPoolExecutor(2) as pool:
        counts = list(pool.map(work, range(2)))
    assert counts == [32, 32]
    rows = [TEXTS[shard.start : shard.stop] for shard in missing]
    assert models[0].seen == rows[0] + rows[2]
    assert models[1].seen == rows[1] + rows[3]


def test_a_rank_takes_over_what_another_has_not_begun(tmp_path, encoder):
    model = Counting(encoder)
    assert fill(make_store(tmp_path / "s", model), model, rank=1, num_ranks=2) == len(TEXTS)


HOLD = """
import sys, time
from pathlib import Path
from leafkit.core.process.lock import claimed
with claimed(Path(sys.argv[1])) as holder:
    print(repr(holder), flush=True)
    time.sleep(600)
"""


def test_what_a_killed_worker_had_begun_is_taken_over(tmp_path, encoder, expected):
    model = Counting(encoder)
    store = make_store(tmp_path / "s", model)
    claim = tmp_path / "s" / shard_claim_file(3)
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(claim)],
        env=tiny.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "''\n"
    threading.Timer(1.0, other.send_signal, (signal.SIGKILL,)).start()
    started_s = time.monotonic()
    assert fill(store, model) == len(TEXTS)
    other.wait()
    other.stdout.close()
    assert time.monotonic() - started_s >= 0.9
    assert model.seen[-16:] == TEXTS[48:64]  # it came last
    assert np.array_equal(store[:], expected)


def test_a_wait_ends_with_what_its_look_raises(tmp_path, encoder):
    def look():
        raise LeafkitError("process 1 is lost")

    model = Counting(encoder)
    store = make_store(tmp_path / "s", model)
    with claimed(tmp_path / "s" / shard_claim_file(0)) as holder:
        assert not holder
        with pytest.raises(LeafkitError, match="process 1 is lost"):
            fill(store, model, look=look)
    assert len(model.seen) == len(TEXTS) - 16


def test_the_size_of_shards_is_that_of_who_began_the_store(tmp_path, encoder):
    model = Counting(encoder)
    folder = tmp_path / "s"
    assert settle_rows_per_shard(folder, 1037, 2) == 64
    assert settle_rows_per_shard(folder, 1037, 1) == 64
    assert make_store(folder, model, 0).missing()[0].stop == 64
    assert settle_rows_per_shard(tmp_path / "alone", 1037, 1) == 2048
    # one of an earlier version says nothing
    old = make_store(tmp_path / "old", model, 2048)
    fill(old, model)
    assert settle_rows_per_shard(tmp_path / "old", len(TEXTS), 4) == 2048
    assert not (tmp_path / "old" / "shards.json").exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"rows_per_shard": 0}', "[" * 9999])
def test_a_damaged_note_of_the_size_is_named(tmp_path, content):
    (tmp_path / "shards.json").write_text(content)
    with pytest.raises(LeafkitError, match=r"shards\.json does not say how many rows"):
        read_rows_per_shard(tmp_path)
