"""From any embedder into a vector store, shard by shard."""

from __future__ import annotations

from collections.abc import Sequence

from leafkit.core.console import progress_bar
from leafkit.data.vector_store import VectorStore
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

    Returns:
        Number of vectors computed.

    Raises:
        RefusedText: a text has no vector; its number counts all texts.
        LeafkitError: the store holds something else, or a vector is not finite.
    """
    shards = [shard for shard in store.missing() if shard.number % num_ranks == rank]
    num_texts = sum(shard.stop - shard.start for shard in shards)
    if not num_texts:
        return 0
    with progress_bar(title, num_texts, "texts") as bar:
        for shard in shards:
            try:
                vectors = model.embed(
                    texts[shard.start : shard.stop], role, store.space.max_tokens, bar
                )
            except RefusedText as err:
                raise RefusedText(shard.start + err.number, err.text, err.what, err.hint) from None
            store.write(shard, vectors)
    return num_texts
