"""Vectors keyed by text: another list of texts embeds only what no list before it had."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny
import torch

from leafkit.config.load import load_recipe
from leafkit.core.checkpoint_layout import shard_claim_file
from leafkit.core.errors import LeafkitError
from leafkit.data import vector_store
from leafkit.data.stored import shard_plan
from leafkit.embedders import distinct
from leafkit.embedders.protocol import RefusedText
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.pipeline import embed
from leafkit.pipeline.distill import run_distill
from leafkit.pipeline.embed import load_vectors
from leafkit.pipeline.run import open_run

TEXTS = [document for _, document in tiny.make_pairs()]
CPU = torch.device("cpu")


class Counting(TransformerEmbedder):
    """Remembers which texts it embedded."""

    def __init__(self, encoder, precision=torch.float32) -> None:
        super().__init__(encoder, CPU, precision)
        self.seen: list[str] = []

    def embed(self, texts, role, max_tokens, bar=None):
        self.seen += texts
        return super().embed(texts, role, max_tokens, bar)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tiny.make_home(tmp_path_factory.mktemp("home"))


@pytest.fixture
def run(home, tmp_path):
    path = tiny.write_recipe(tmp_path / "tiny.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    with open_run(load_recipe(str(path))) as opened:
        yield opened


@pytest.fixture(autouse=True)
def short_shards(monkeypatch):
    """So that known and new texts share a shard, and stores have several."""
    monkeypatch.setattr(shard_plan, "DEFAULT_ROWS_PER_SHARD", 16)


def named(fingerprint="f00d", **settings):
    encoder = tiny.make_encoder(dim=48, **settings)
    encoder.fingerprint = fingerprint
    return encoder


def load(run, model, texts, role="document", max_tokens=48):
    return load_vectors(
        run, model, "tiny", texts, role=role, max_tokens=max_tokens, what=f"{len(texts)} texts"
    )


def made(store):
    return json.loads((store.folder / "made.json").read_text())


def test_only_new_texts_are_embedded(run, capsys):
    model = Counting(named())
    first = load(run, model, TEXTS[:50])
    assert model.seen == TEXTS[:50]
    assert "reused" not in made(first)
    # in another order, some of them twice
    wanted = [*TEXTS[60:], *TEXTS[45:5:-1], TEXTS[61], TEXTS[8]]
    model.seen.clear()
    second = load(run, model, wanted)
    assert model.seen == [t for t in wanted if t not in TEXTS[:50]]
    num_known = sum(t in TEXTS[:50] for t in wanted)
    assert made(second)["reused"] == num_known
    assert f"{num_known} of {len(wanted)} are in 1 other stores" in capsys.readouterr().out
    assert [step.get("reused") for step in run.steps] == [None, num_known]
    places = [TEXTS.index(t) for t in wanted if t in TEXTS[:50]]
    copied = second[np.array([i for i, t in enumerate(wanted) if t in TEXTS[:50]])]
    assert np.array_equal(copied, first[np.array(places)])  # to the bit
    fresh = Counting(named()).embed(wanted, "document", 48)
    # as float16 keeps them; batches of other texts may round elsewhere
    np.testing.assert_allclose(second[:], fresh, atol=1e-3)
    model.seen.clear()
    again = load(run, model, wanted)
    assert (model.seen, run.steps[-1]["status"]) == ([], "up to date")
    assert run.steps[-1]["reused"] == num_known
    assert np.array_equal(again[:], second[:])


class Constant(Counting):
    """Gives all texts the same vector but for rounding."""

    def embed(self, texts, role, max_tokens, bar=None):
        self.seen += texts
        return np.ones((len(texts), 48), np.float32) + 2e-3 * np.eye(len(texts), 48)


def test_vectors_that_were_refused_once_are_refused_again(run, monkeypatch):
    """The store is whole by then, and a run that finds it so computes nothing."""
    monkeypatch.setattr(distinct, "_LEAST_DIFFERENCE", 1e-2)
    model = Constant(named())
    for num_seen in (20, 20):
        with pytest.raises(LeafkitError, match="one and the same vector"):
            load(run, model, TEXTS[:20])
        assert len(model.seen) == num_seen


def test_what_a_run_left_that_was_killed_after_its_last_shard_goes(run):
    store = load(run, Counting(named()), TEXTS[:20])
    left = [store.folder / shard_claim_file(number) for number in (0, 1)]
    for path in left:
        path.touch()
    load(run, Counting(named()), TEXTS[:20])
    assert not any(path.exists() for path in left)


def test_a_list_of_nothing_new_needs_no_model(run):
    model = Counting(named())
    load(run, model, TEXTS)
    model.seen.clear()
    part = load(run, model, TEXTS[10:20])
    assert model.seen == []
    assert part.missing() == []
    assert run.steps[-1]["status"] == "done"
    assert (made(part)["reused"], run.steps[-1]["reused"]) == (10, 10)


@pytest.mark.parametrize(
    "other",
    [
        {"model": {"fingerprint": "beef"}},
        {"model": {"prompts": {"document": "text : "}}},
        {"precision": torch.bfloat16},
        {"max_tokens": 12},
        {"role": "query"},
    ],
)
def test_vectors_of_anything_else_are_not_taken(run, other):
    load(run, Counting(named()), TEXTS[:20])
    model = Counting(named(**other.pop("model", {})), other.pop("precision", torch.float32))
    load(run, model, TEXTS[:30], **other)
    assert model.seen == TEXTS[:30]


def test_vectors_of_other_code_are_not_taken(run, monkeypatch):
    model = Counting(named())
    load(run, model, TEXTS[:20])
    model.seen.clear()
    monkeypatch.setattr(embed, "method_of", lambda *kinds: "edited")
    load(run, model, TEXTS[:30])
    assert model.seen == TEXTS[:30]


def test_a_store_that_was_cut_short_gives_what_it_has(run, monkeypatch):
    model = Counting(named())
    write, written = vector_store.VectorStore.write, []

    def fail(store, shard, vectors):
        if written:
            raise LeafkitError("the disk is full")
        written.append(shard)
        write(store, shard, vectors)

    monkeypatch.setattr(vector_store.VectorStore, "write", fail)
    with pytest.raises(LeafkitError, match="disk is full"):
        load(run, model, TEXTS[:40])
    monkeypatch.setattr(vector_store.VectorStore, "write", write)
    model.seen.clear()
    load(run, model, TEXTS[5:40])
    assert model.seen == TEXTS[16:40]


def test_a_damaged_store_of_other_texts_stops_nothing(run, capsys):
    model = Counting(named())
    first = load(run, model, TEXTS[:40])
    path = first.folder / "00001.vectors"
    path.write_bytes(path.read_bytes()[:-2])
    model.seen.clear()
    second = load(run, model, TEXTS[:41])
    assert model.seen == [*TEXTS[16:32], TEXTS[40]]
    assert "00001.vectors is left alone" in "".join(capsys.readouterr()).replace("\n", "")
    assert made(second)["reused"] == 24


def test_a_store_of_an_older_leafkit_is_found_once_it_was_opened(run):
    model = Counting(named())
    first = load(run, model, TEXTS[:20])
    (first.folder / "maker.json").unlink()
    model.seen.clear()
    load(run, model, TEXTS[:21])
    assert model.seen == TEXTS[:21]
    load(run, model, TEXTS[:20])
    assert (first.folder / "maker.json").is_file()


def test_a_refused_text_is_counted_in_the_whole_list(run):
    class Refusing(Counting):
        def embed(self, texts, role, max_tokens, bar=None):
            if "bad" in texts:
                raise RefusedText(texts.index("bad"), "bad", "has no vector", "leave it out")
            return super().embed(texts, role, max_tokens, bar)

    model = Refusing(named())
    load(run, model, TEXTS[:20])
    wanted = [*TEXTS[:19], TEXTS[30], "bad"]
    with pytest.raises(RefusedText, match=r"text 20 .'bad'.: has no vector"):
        load(run, model, wanted)


@pytest.mark.slow
def test_a_source_that_is_added_and_a_limit_that_is_raised(home, tmp_path):
    """Through the whole recipe; manifests say what was reused."""
    extra = tmp_path / "extra.jsonl"
    tiny.write_lines(extra, [{"id": f"{i}", "text": text} for i, text in enumerate(TEXTS[::-1])])
    plain = tiny.tiny_recipe(home, tmp_path / "ck")
    figures = []
    for limit in (20, 40):
        plain["data"]["sources"] = {"extra": {"uri": f"jsonl:{extra}", "limit": limit}}
        path = tiny.write_recipe(tmp_path / "tiny.yaml", plain)
        with open_run(load_recipe(str(path))) as run:
            run_distill(run)
            figures.append({step["name"]: step.get("reused", 0) for step in run.steps})
    first, second = figures
    name = "big vectors of extra documents"
    assert first[name] == 20  # the corpus has the same documents
    assert second[name] == 40
    assert second["big vectors of pairs documents"] == first["big vectors of pairs documents"] == 0
