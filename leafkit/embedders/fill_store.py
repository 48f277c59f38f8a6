"""From any embedder into a vector store, shard by shard."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np

from leafkit.core.console import Bar, progress_bar
from leafkit.data.stored.kept_rows import KeptRows
from leafkit.data.vector_store import Shard, VectorStore
from leafkit.embedders.protocol import Embedder, RefusedText


def fill_store(
    store: VectorStore,
    model: Embedder,
    texts: Sequence[str],
    role: str,
    *,
    title: str,
    rank: int = 0,
    num_ranks: int = 1,
    kept: KeptRows | None = None,
) -> int:
    """Compute and commit what a store lacks, shard by shard; a run that is killed loses one shard
    at most.

    Args:
        store: made for these texts and ``model.space(role, ...)``.
        model: whatever gives the vectors.
        texts: the store's texts.
        role: "query" or "document".
        title: what the progress bar says.
        rank: this process; it takes every ``num_ranks``-th missing shard.
        num_ranks: processes at work on the store.
        kept: vectors of these texts that other stores hold, which are copied; None computes all.

    Returns:
        Number of vectors committed.

    Raises:
        RefusedText: a text has no vector; its number counts all texts.
        LeafkitError: the store holds something else, or a vector is not finite.
    """
    shards = [shard for shard in store.missing() if shard.number % num_ranks == rank]
    num_texts = sum(shard.stop - shard.start for shard in shards)
    if not num_texts:
        return 0
    num_new = num_texts
    if kept is not None:
        num_new -= sum(int(kept.has(store.hashes(shard)).sum()) for shard in shards)
    with progress_bar(title, num_new, "texts") if num_new else nullcontext() as bar:
        for shard in shards:
            store.write(shard, _vectors_of(shard, store, model, texts, role, bar=bar, kept=kept))
    return num_texts


def _vectors_of(
    shard: Shard,
    store: VectorStore,
    model: Embedder,
    texts: Sequence[str],
    role: str,
    *,
    bar: Bar | None,
    kept: KeptRows | None,
) -> np.ndarray:
    """(rows, D) of a shard: those that other stores hold, and the others by the model."""
    part = texts[shard.start : shard.stop]
    is_known = np.zeros(len(part), dtype=bool)
    if kept is not None:
        is_known, vectors = kept.take(store.hashes(shard))
    places = np.flatnonzero(~is_known).tolist()
    new = part if len(places) == len(part) else [part[i] for i in places]
    if not new:
        return vectors
    try:
        found = model.embed(new, role, store.space.max_tokens, bar)
    except RefusedText as err:
        number = shard.start + places[err.number]
        raise RefusedText(number, err.text, err.what, err.hint) from None
    if len(new) == len(part):
        return found
    vectors[places] = found
    return vectors
