"""Embedding many texts: the same vectors in any order, batch, process or resumed run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from transformers import BertModel

from leafkit.core.errors import LeafkitError
from leafkit.data.vector_store import VectorStore
from leafkit.embedders import transformer
from leafkit.embedders.fill_store import fill_store
from leafkit.embedders.make_embedder import make_embedder
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.models.checkpoint import read_encoder

TEXTS = ["", *(text for pair in tiny.make_pairs(60) for text in pair), "matrix " * 300]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny.write_model(
        tmp_path_factory.mktemp("embed") / "model", dim=48, prompts={"query": tiny.PROMPT}
    )


@pytest.fixture(scope="module")
def embedder(model) -> TransformerEmbedder:
    return TransformerEmbedder(read_encoder(model), CPU, torch.float32)


def make_store(folder: Path, embedder: TransformerEmbedder, dtype: str = "float32") -> VectorStore:
    return VectorStore(
        folder, embedder.space("document", 64), TEXTS, dtype=dtype, rows_per_shard=16
    )


def test_order_is_kept_and_batches_do_not_matter(embedder, ahead):
    whole = embedder.embed(TEXTS, "document", 64)
    alone = np.concatenate([embedder.embed([text], "document", 64) for text in TEXTS])
    assert whole.dtype == np.float32
    assert whole.shape == (len(TEXTS), 48)
    assert np.abs(whole - alone).max() < 2e-6
    ahead(False, tokens_at_once=100)
    assert np.abs(whole - embedder.embed(TEXTS, "document", 64)).max() < 2e-6


def test_a_text_above_the_token_budget_is_embedded_all_the_same(embedder, ahead):
    whole = embedder.embed(TEXTS[-1:], "document", 128)
    ahead(False, tokens_at_once=8)
    assert np.array_equal(whole, embedder.embed(TEXTS[-1:], "document", 128))


@pytest.mark.parametrize("count", [0, 1, 5, len(TEXTS)])
def test_a_device_that_is_run_ahead_of_has_its_next_batch_before_the_last_is_taken(
    embedder, ahead, monkeypatch, count
):
    texts, events = TEXTS[:count], []
    expected = embedder.embed(texts, "document", 64)

    def noting_fetch(vectors):
        number = len([1 for what, _ in events if what == "begun"])
        events.append(("begun", number))
        return lambda: events.append(("taken", number)) or vectors

    ahead(True, is_host=False, tokens_at_once=100)
    monkeypatch.setattr(transformer, "fetch", noting_fetch)
    found = embedder.embed(texts, "document", 64)
    assert np.abs(found - expected).max(initial=0) < 2e-6
    begun, taken = ([n for what, n in events if what == kind] for kind in ("begun", "taken"))
    assert begun == taken == list(range(len(begun)))
    assert (len(begun) > 2) is (count > 5)
    for number in begun[:-1]:
        assert events.index(("begun", number + 1)) < events.index(("taken", number))
        if number + 2 in begun:  # no more than two are held
            assert events.index(("taken", number)) < events.index(("begun", number + 2))


def test_vectors_are_the_encoders_own(embedder):
    encoder = embedder.encoder
    with torch.no_grad():
        expected = encoder.finish(encoder(encoder.tokenize(TEXTS, "query", 64)))
    assert np.abs(embedder.embed(TEXTS, "query", 64) - expected.numpy()).max() < 2e-6


def test_pooled_only_gives_what_the_projection_reads(embedder):
    encoder = embedder.encoder
    ids = encoder.tokenize(TEXTS, "document", 64)
    pooled = torch.from_numpy(embedder.embed_ids(ids, pooled_only=True))
    assert pooled.shape == (len(TEXTS), 32)
    with torch.no_grad():
        vectors = encoder.finish(encoder.project(pooled)).numpy()
    assert np.abs(vectors - embedder.embed_ids(ids)).max() < 2e-6


def test_no_texts_give_no_vectors(embedder):
    assert embedder.embed([], "query", 64).shape == (0, 48)


def test_bf16_is_close_to_float32_and_leaves_the_encoder_alone(model):
    encoder = read_encoder(model)
    exact = TransformerEmbedder(encoder, CPU, torch.float32).embed(TEXTS, "document", 64)
    rough = TransformerEmbedder(encoder, CPU, torch.bfloat16).embed(TEXTS, "document", 64)
    cosine = (exact * rough).sum(axis=1)
    assert cosine.min() > 0.995
    assert not np.array_equal(exact, rough)
    # projection and normalisation stay float32
    assert np.allclose(np.linalg.norm(rough, axis=1), 1, atol=1e-5)
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    assert np.array_equal(
        exact, TransformerEmbedder(encoder, CPU, torch.float32).embed(TEXTS, "document", 64)
    )


def test_the_space_says_everything_that_decides_about_a_vector(embedder, model):
    space = embedder.space("query", 64)
    assert space.teacher == read_encoder(model).fingerprint
    assert (space.dim, space.prompt, space.max_tokens, space.pooling, space.normalized) == (
        48,
        tiny.PROMPT,
        64,
        "mean",
        True,
    )
    assert embedder.space("document", 64).prompt == ""
    assert embedder.space("query", 9999).max_tokens == 128


def test_a_filled_store_holds_the_vectors_in_order_and_is_not_filled_twice(tmp_path, embedder):
    store = make_store(tmp_path / "s", embedder)
    assert fill_store(store, embedder, TEXTS, "document", title="test") == len(TEXTS)
    assert np.abs(store[:] - embedder.embed(TEXTS, "document", 64)).max() < 2e-6
    assert (
        fill_store(make_store(tmp_path / "s", embedder), embedder, TEXTS, "document", title="test")
        == 0
    )


def test_only_the_missing_shards_are_computed(tmp_path, embedder):
    store = make_store(tmp_path / "s", embedder)
    fill_store(store, embedder, TEXTS, "document", title="test")
    before = store[:]
    (tmp_path / "s" / "00003.json").unlink()
    assert (
        fill_store(make_store(tmp_path / "s", embedder), embedder, TEXTS, "document", title="test")
        == 16
    )
    assert np.array_equal(make_store(tmp_path / "s", embedder)[:], before)


def test_a_vector_that_is_not_finite_is_refused_by_row(tmp_path, model):
    encoder = read_encoder(model)
    with torch.no_grad():
        encoder.projection.bias.fill_(float("nan"))
    broken = TransformerEmbedder(encoder, CPU, torch.float32)
    with pytest.raises(LeafkitError, match="the vector of row 0 is not finite"):
        fill_store(make_store(tmp_path / "s", broken), broken, TEXTS, "document", title="test")
    assert len(make_store(tmp_path / "s", broken).missing()) == 8


@pytest.mark.slow
def test_a_killed_run_is_resumed_to_the_same_store(tmp_path, model, embedder):
    """The child writes shards slowly; it is killed (SIGKILL) after the second one, at no particular
    moment.
    """
    script = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        import torch
        torch.set_num_threads(1)
        sys.path.insert(0, sys.argv[3])
        import tiny
        from leafkit.data.vector_store import VectorStore
        from leafkit.models.checkpoint import read_encoder
        from leafkit.embedders.fill_store import fill_store
        from leafkit.embedders.transformer import TransformerEmbedder
        texts = ["", *(text for pair in tiny.make_pairs(60) for text in pair), "matrix " * 300]
        encoder = read_encoder(Path(sys.argv[1]))
        embedder = TransformerEmbedder(encoder, torch.device("cpu"), torch.float32)
        compute = embedder.embed_ids
        def slowly(*args, **kwargs):
            time.sleep(0.05)
            return compute(*args, **kwargs)
        embedder.embed_ids = slowly
        space = embedder.space("document", 64)
        store = VectorStore(Path(sys.argv[2]), space, texts, dtype="float32", rows_per_shard=16)
        fill_store(store, embedder, texts, "document", title="test")
        """
    )
    folder = tmp_path / "killed"
    command = [
        sys.executable,
        "-c",
        script,
        str(model),
        str(folder),
        str(Path(tiny.__file__).parent),
    ]
    child = subprocess.Popen(command, env=tiny.environment(), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (folder / "00001.json").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    missing = make_store(folder, embedder).missing()
    assert 0 < len(missing) < 8
    rest = fill_store(make_store(folder, embedder), embedder, TEXTS, "document", title="test")
    assert rest == sum(s.stop - s.start for s in missing)
    undisturbed = make_store(tmp_path / "whole", embedder)
    fill_store(undisturbed, embedder, TEXTS, "document", title="test")
    resumed = make_store(folder, embedder)
    assert resumed.missing() == []
    # the child had another number of threads
    np.testing.assert_allclose(resumed[:], undisturbed[:], atol=1e-6)


def test_why_a_model_runs_in_padded_batches_is_said_once(capsys):
    class Mine(BertModel):
        pass

    encoder = tiny.make_encoder()
    make_embedder(encoder)
    assert "padded" not in capsys.readouterr().out
    encoder.backbone.__class__ = Mine
    for _ in range(2):
        make_embedder(encoder)
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "  Mine runs in padded batches, which is slower: it is no BertModel, but a subclass that "
        "may compute something else"
    ]
