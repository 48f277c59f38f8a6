"""embed.engine=ray: workers that are killed and added, and a store that is bit-equal to that of one
process.
"""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tiny
import torch

from leafkit.core.checkpoint_layout import shard_claim_file
from leafkit.core.errors import LeafkitError, MissingExtra
from leafkit.core.process.lock import claimed
from leafkit.data.vector_store import VectorStore
from leafkit.embedders import ray_engine
from leafkit.embedders.fill_store import fill_store
from leafkit.embedders.protocol import RefusedText
from leafkit.embedders.ray_engine import check_ray, fill_by_ray
from leafkit.embedders.transformer import TransformerEmbedder

TEXTS = [text for pair in tiny.make_pairs(160) for text in pair]


def test_without_ray_the_install_command_is_told(monkeypatch):
    monkeypatch.setattr(ray_engine, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"embed\.engine=ray needs the package 'ray'") as caught:
        check_ray()
    assert caught.value.hint == 'pip install "leafkit[ray]"'


@pytest.fixture(scope="module")
def cluster():
    """One node with one core; others may be added."""
    found = pytest.importorskip("ray", reason="Ray is not installed: the extra leafkit[ray]")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        path = os.pathsep.join([str(tiny.ROOT), str(tiny.ROOT / "tests" / "support")])
        patch.setenv("PYTHONPATH", path)
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        found.init(address=made.address, log_to_driver=False)
        yield made
        found.shutdown()
        made.shutdown()


@pytest.fixture(scope="module")
def model():
    return TransformerEmbedder(tiny.make_encoder(dim=48), torch.device("cpu"), torch.float32)


def make_store(folder, model):
    return VectorStore(folder, model.space("document", 64), TEXTS, rows_per_shard=16)


@pytest.fixture(scope="module")
def expected(tmp_path_factory, model):
    """By one process of one thread, as each worker is: few texts round otherwise on several."""
    store = make_store(tmp_path_factory.mktemp("one") / "s", model)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    fill_store(store, model, TEXTS, "document", title="test")
    torch.set_num_threads(before)
    return store[:]


def fill(store, model, **options):
    options = {"missing": store.missing()} | options
    return fill_by_ray(store, model, TEXTS, "document", title="test", **options)


@pytest.mark.slow
def test_a_worker_that_is_killed_gives_its_shard_to_another(
    cluster, tmp_path, model, expected, monkeypatch
):
    flag, victim = tmp_path / "killed", TEXTS[48]
    parent = ray_engine._Worker

    class Mortal(parent):
        def embed(self, texts, role, max_tokens):
            if texts[0] == victim and not flag.exists():
                flag.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return parent.embed(self, texts, role, max_tokens)

    monkeypatch.setattr(ray_engine, "_Worker", Mortal)
    monkeypatch.setattr(ray_engine, "_GROW_EVERY_S", 0.2)
    store = make_store(tmp_path / "s", model)
    part = store.missing()[5:7]  # some are there
    for shard in part:
        store.write(shard, expected[shard.start : shard.stop])
    assert fill(store, model) == len(TEXTS) - 32
    assert flag.exists()
    assert store.missing() == []
    assert np.array_equal(store[:], expected)
    assert not list((tmp_path / "s").glob(".*"))


@pytest.mark.slow
def test_a_node_that_is_added_midway_takes_part(cluster, tmp_path, model, expected, monkeypatch):
    parent, pids = ray_engine._Worker, tmp_path / "pids"
    pids.mkdir()

    class Waiting(parent):
        """Goes on with its fourth shard when there are two of them."""

        def embed(self, texts, role, max_tokens):
            own = pids / str(os.getpid())
            with own.open("a") as stream:
                stream.write("x")
            deadline_s = time.monotonic() + 240
            while own.stat().st_size > 3 and len(list(pids.iterdir())) < 2:
                assert time.monotonic() < deadline_s
                time.sleep(0.1)
            return parent.embed(self, texts, role, max_tokens)

    monkeypatch.setattr(ray_engine, "_Worker", Waiting)
    monkeypatch.setattr(ray_engine, "_GROW_EVERY_S", 0.2)
    store = make_store(tmp_path / "s", model)

    with ThreadPoolExecutor(1) as pool:  # a node can be started by the main thread alone
        filling = pool.submit(fill, store, model)
        while len(list((tmp_path / "s").glob("*.json"))) < 2:
            assert not filling.done()
            time.sleep(0.05)
        node = cluster.add_node(num_cpus=1)
        assert filling.result() == len(TEXTS)
    cluster.remove_node(node)
    assert len(list(pids.iterdir())) == 2
    assert np.array_equal(store[:], expected)


@pytest.mark.slow
def test_what_ends_a_filling_is_told_as_if_it_were_here(cluster, tmp_path, model, monkeypatch):
    parent, victim = ray_engine._Worker, TEXTS[50]

    class Refusing(parent):
        def embed(self, texts, role, max_tokens):
            own = self._model

            class Model:
                def embed(self, texts, role, max_tokens):
                    if victim in texts:
                        number = texts.index(victim)
                        raise RefusedText(number, victim, "it cannot be read", "leave it out")
                    return own.embed(texts, role, max_tokens)

            self._model = Model()
            return parent.embed(self, texts, role, max_tokens)

    class Dying(parent):
        def embed(self, texts, role, max_tokens):
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(ray_engine, "_GROW_EVERY_S", 0.1)
    monkeypatch.setattr(ray_engine, "_Worker", Refusing)
    store = make_store(tmp_path / "s", model)
    with pytest.raises(RefusedText, match="it cannot be read") as caught:
        fill(store, model)
    assert (caught.value.number, caught.value.hint) == (50, "leave it out")
    monkeypatch.setattr(ray_engine, "_MOST_DEATHS", 2)
    monkeypatch.setattr(ray_engine, "_Worker", Dying)
    with pytest.raises(LeafkitError, match="2 workers die at the texts from 48 on") as failed:
        fill(store, model)
    assert "embed.num_workers=N" in failed.value.hint
    # claims are free, and what another one claims is left to it
    monkeypatch.setattr(ray_engine, "_Worker", parent)
    missing = store.missing()
    with claimed(tmp_path / "s" / shard_claim_file(missing[0].number)) as holder:
        assert not holder
        assert fill(store, model, num_workers=1) == 16 * (len(missing) - 1)
    assert [shard.number for shard in store.missing()] == [missing[0].number]
