"""What is fetched of a source, and what of it is not used."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from rescue_case import recipe_of, write_index

from leafkit.config.effects import has_effect
from leafkit.config.load import load_recipe
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.embedders.pairs import qdrant_pairs
from leafkit.embedders.precomputed import PrecomputedVectors
from leafkit.pipeline.corpus import load_corpus
from leafkit.pipeline.rescue import pairs
from leafkit.pipeline.rescue.pairs import PairSource, fetch_pairs, read_pair_source, with_pairs
from leafkit.pipeline.rescue.rescue import run_rescue
from leafkit.pipeline.run import open_run

TEXTS = ["one", "two", "three", "four"]


def unit(seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(len(TEXTS), 4)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def fetch(home: Path, place: Path, source: PairSource, *words: str) -> PrecomputedVectors:
    with open_run(load_recipe(str(recipe_of(home, place)), words)) as run:
        return PrecomputedVectors(fetch_pairs(run, source))


class Store:
    """What a fetch asks of Qdrant's client: points with the ids 10, 11, ... in pages of two."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors, self.texts, self.fails_at = vectors, list(TEXTS), -1

    def get_collections(self) -> Any:
        return SimpleNamespace(collections=[SimpleNamespace(name="books")])

    def count(self, _: str, exact: bool) -> Any:
        return SimpleNamespace(count=len(self.vectors))

    def get_collection(self, _: str) -> Any:
        kind = SimpleNamespace(multivector_config=None, distance=SimpleNamespace(value="Cosine"))
        return SimpleNamespace(config=SimpleNamespace(params=SimpleNamespace(vectors=kind)))

    def scroll(self, _: str, *, limit: int, offset: int | None, **kinds: Any) -> Any:
        start = (offset or 10) - 10
        if start == self.fails_at:
            raise ConnectionError("reset by peer")
        end = min(start + limit, len(self.vectors))
        points = [
            SimpleNamespace(
                id=10 + i, payload={"text": self.texts[i]}, vector=self.vectors[i].tolist()
            )
            for i in range(start, end)
        ]
        return points, 10 + end if end < len(self.vectors) else None


@pytest.fixture
def store(monkeypatch) -> Store:
    pytest.importorskip("qdrant_client", reason="qdrant-client is not installed: extra qdrant")
    made = Store(unit())

    @contextlib.contextmanager
    def open_it(place: str) -> Iterator[Store]:
        yield made

    monkeypatch.setattr(pairs, "open_qdrant", open_it)
    monkeypatch.setattr(qdrant_pairs, "_POINTS_AT_ONCE", 2)
    return made


BOOKS = read_pair_source("qdrant:http://localhost:6333/books")


# --- vectors of length zero


def zeroed() -> np.ndarray:
    made = unit()
    made[1] = 0
    return made


@pytest.mark.parametrize("kind", ["parquet", "cosine", "qdrant"])
def test_a_vector_of_length_zero_is_a_bad_row(home, tmp_path, store, kind, capsys):
    source, where = BOOKS, "point 11"
    store.vectors = zeroed()
    if kind != "qdrant":
        file = tmp_path / "a.parquet"
        # float32 has no number as small
        numbers = np.where(zeroed() == 0, 1e-60, zeroed().astype(np.float64))
        table = {"text": TEXTS, "vector": pa.array(numbers.tolist(), pa.list_(pa.float64()))}
        pq.write_table(pa.table(table), file)
        similarity = "cosine" if kind == "cosine" else ""
        source, where = read_pair_source(f"parquet:{file}", similarity=similarity), "row 1"
    with pytest.raises(LeafkitError, match=f"{where}: its vector has length zero") as refused:
        fetch(home, tmp_path, source)
    assert "data.on_bad_row=skip" in refused.value.hint
    assert not (tmp_path / "ck" / "mine" / "pairs").exists()
    capsys.readouterr()
    found = fetch(home, tmp_path, source, "data.on_bad_row=skip")
    assert "bad rows skipped: 1" in capsys.readouterr().out
    kept = [TEXTS[i] for i in (0, 2, 3)]
    np.testing.assert_allclose(found.embed(kept, "document", 0), unit()[[0, 2, 3]], atol=1e-6)
    assert not found.has(["two"], "document").any()


# --- ids of a folder


@pytest.mark.parametrize("policy", ["error", "skip"])
def test_an_id_that_repeats_stops_a_folder_under_every_policy(home, tmp_path, policy):
    ids = ["book", "page", "book", "other"]
    folder = write_index(tmp_path / "old", TEXTS, unit())
    rows = [{"id": name, "text": text} for name, text in zip(ids, TEXTS, strict=True)]
    tiny.write_lines(folder / "documents.jsonl", rows)
    source, path = read_pair_source(f"vectors:{folder}"), str(recipe_of(home, tmp_path))
    with (
        open_run(load_recipe(path, [f"data.on_bad_row={policy}"])) as run,
        pytest.raises(UsageError, match=r"jsonl:3: the id 'book' is used twice") as refused,
    ):
        with_pairs(run, source)
    assert "leave id out of the file" in refused.value.hint
    (word,) = re.findall(r"data\.\S+", refused.value.hint)
    assert has_effect("rescue", word.partition("=")[0])
    with open_run(load_recipe(path, [f"data.on_bad_row={policy}", word])) as run:
        made = with_pairs(run, source)
        documents = load_corpus(made, made.recipe.data.corpus).collection.documents
        assert [document.text for document in documents] == TEXTS
    tiny.write_lines(folder / "documents.jsonl", [{"text": text} for text in TEXTS])
    with open_run(load_recipe(path)) as run:
        with_pairs(run, source)


# --- a fetch that was stopped


def stop_behind_a_page(home: Path, place: Path, store: Store, *words: str) -> None:
    store.fails_at = 2
    with pytest.raises(LeafkitError, match="reset by peer"):
        fetch(home, place, BOOKS, *words)
    store.fails_at = -1


def test_force_goes_on_with_nothing(home, tmp_path, store):
    stop_behind_a_page(home, tmp_path, store)
    store.vectors = unit(seed=1)
    found = fetch(home, tmp_path, BOOKS, "force=true")
    np.testing.assert_allclose(found.embed(TEXTS, "document", 0), store.vectors, atol=1e-6)


def test_what_was_skipped_before_a_stop_is_no_row_of_another_policy(home, tmp_path, store):
    store.texts[1] = ""
    stop_behind_a_page(home, tmp_path, store, "data.on_bad_row=skip")
    with pytest.raises(LeafkitError, match="point 11: 'text' is empty"):
        fetch(home, tmp_path, BOOKS)


def test_a_stopped_fetch_goes_on_behind_its_last_page(home, tmp_path, store):
    stop_behind_a_page(home, tmp_path, store)
    first = store.vectors[:2]
    store.vectors = np.concatenate([unit(seed=1)[:2], store.vectors[2:]])
    found = fetch(home, tmp_path, BOOKS)
    np.testing.assert_allclose(found.embed(TEXTS[:2], "document", 0), first, atol=1e-6)


# --- what is refused before anything is trained


def rescue_random(home: Path, place: Path, count: int, *words: str) -> None:
    """Of so many documents with vectors of 768 dimensions, which mean nothing."""
    texts = [f"document number {i} of some index" for i in range(count)]
    vectors = np.random.default_rng(0).normal(size=(count, 768)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    folder = write_index(place / "old", texts, vectors)
    with open_run(load_recipe(str(recipe_of(home, place)), words)) as run:
        run_rescue(run, read_pair_source(f"vectors:{folder}"))


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ([], "teacher.mrl_dims=[N] student.dim=N"),
        (["teacher.mrl_dims=[768,512,256]"], "student.dim=512"),
    ],
)
def test_documents_that_are_held_out_decide_about_no_dimension(home, tmp_path, words, advice):
    with pytest.raises(UsageError, match="732 texts beside the 38 held out cannot") as refused:
        rescue_random(home, tmp_path, 770, *words)
    hint = refused.value.hint
    assert hint.endswith(advice)
    keys = re.findall(r"\w+\.\w+", hint)
    assert "student.dim" in keys
    assert all(has_effect("rescue", key) for key in keys)
