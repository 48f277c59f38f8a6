"""From any embedder into a vector store, shard by shard, by as many processes as are at work on it.

A shard is computed by who holds its claim, a file that the system unlocks when its holder ends,
however that is. So the processes of a launch, and commands that know nothing of each other, share
a store, and what a killed one had begun another takes over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress

import numpy as np

from leafkit.core.checkpoint_layout import shard_claim_file
from leafkit.core.console import Bar, log, progress_bar
from leafkit.core.process.lock import claimed
from leafkit.data.stored.kept_rows import KeptRows
from leafkit.data.vector_store import Shard, VectorStore
from leafkit.embedders.protocol import Embedder, RefusedText

_LOOK_EVERY_S = (0.05, 1.0)  # at what others are at work on: at first, and in the end
_SAY_AFTER_S = 10.0  # who is waited for


def fill_store(
    store: VectorStore,
    model: Embedder,
    texts: Sequence[str],
    role: str,
    *,
    title: str,
    missing: Sequence[Shard] | None = None,
    rank: int = 0,
    num_ranks: int = 1,
    kept: KeptRows | None = None,
    look: Callable[[], None] = lambda: None,
) -> int:
    """Compute and commit what a store lacks, shard by shard; a run that is killed loses one shard
    at most. At the end every shard is there, whoever computed it.

    Args:
        store: made for these texts and ``model.space(role, ...)``.
        model: whatever gives the vectors.
        texts: the store's texts; those of the shards that are computed here are read.
        role: "query" or "document".
        title: what the progress bar says.
        missing: the shards, as all ranks of a launch agreed on them; None looks for them.
        rank: this process; of the missing shards every ``num_ranks``-th is dealt to it. Once these
            are done it takes what nobody has begun.
        num_ranks: processes of this launch.
        kept: vectors of these texts that other stores hold, which are copied; None computes all.
        look: called again and again while others are waited for; what it raises ends the wait.

    Returns:
        Number of vectors committed by this process.

    Raises:
        RefusedText: a text has no vector; its number counts all texts.
        LeafkitError: the store holds something else, or a vector is not finite.
    """
    missing = store.missing() if missing is None else missing
    if not missing:
        drop_claims(store, store.shards)  # of a run that was killed after its last shard
        return 0
    dealt = missing[rank::num_ranks]
    is_dealt = {shard.number for shard in dealt}
    # those of other ranks from the end: they begin at the other one
    others = [shard for shard in reversed(missing) if shard.number not in is_dealt]
    num_new = sum(shard.stop - shard.start for shard in dealt)
    if kept is not None:
        num_new -= sum(int(kept.has(store.hashes(shard)).sum()) for shard in dealt)
    num_done, wait = 0, _Wait(title, look)
    with progress_bar(title, num_new, "texts") if num_new else nullcontext() as bar:
        if bar is not None:
            bar.advance(0)  # others may take all of it
        while left := [shard for shard in (*dealt, *others) if not store.has(shard)]:
            before, holders = num_done, set()
            for shard in left:
                with claimed(store.folder / shard_claim_file(shard.number)) as holder:
                    if holder:
                        holders.add(holder)
                    elif not store.has(shard):
                        found = _vectors_of(
                            shard, store, model, texts, role=role, bar=bar, kept=kept
                        )
                        store.write(shard, found)
                        num_done += shard.stop - shard.start
            if num_done == before and holders:
                wait.a_while(holders)
    drop_claims(store, missing)
    return num_done


def drop_claims(store: VectorStore, shards: Sequence[Shard]) -> None:
    """Delete the claims on shards that are there, for which nobody asks any more."""
    for shard in shards:
        if store.has(shard):
            with suppress(OSError):
                (store.folder / shard_claim_file(shard.number)).unlink(missing_ok=True)


class _Wait:
    """For shards that other processes are at work on."""

    def __init__(self, title: str, look: Callable[[], None]) -> None:
        self._title, self._look = title, look
        self._pause_s, self._waited_s, self._is_said = _LOOK_EVERY_S[0], 0.0, False

    def a_while(self, holders: set[str]) -> None:
        """Sleep, longer each time; say once who is waited for."""
        self._look()
        time.sleep(self._pause_s)
        self._waited_s += self._pause_s
        self._pause_s = min(2 * self._pause_s, _LOOK_EVERY_S[1])
        if self._waited_s > _SAY_AFTER_S and not self._is_said:
            self._is_said = True
            log(f"  {self._title}: waiting for {', '.join(sorted(holders)[:8])}", style="dim")


def _vectors_of(
    shard: Shard,
    store: VectorStore,
    model: Embedder,
    texts: Sequence[str],
    *,
    role: str,
    bar: Bar | None,
    kept: KeptRows | None,
) -> np.ndarray:
    """(rows, D) of a shard: those that other stores hold, and the others by the model."""
    part = ShardPart(shard, store, texts, kept)
    if not part.new:
        return part.join(None)
    try:
        return part.join(model.embed(part.new, role, store.space.max_tokens, bar))
    except RefusedText as err:
        raise part.refusal(err.number, err.text, err.what, err.hint) from None


class ShardPart:
    """What of a shard other stores hold, and what is to be computed.

    Args:
        shard: of the store.
        store: made for the texts.
        texts: all of the store's; those of the shard are read.
        kept: what other stores hold; None where nothing is known of any.

    Attributes:
        new: texts of the shard that a model must embed.
    """

    def __init__(
        self, shard: Shard, store: VectorStore, texts: Sequence[str], kept: KeptRows | None
    ) -> None:
        part = texts[shard.start : shard.stop]
        is_known = np.zeros(len(part), dtype=bool)
        self._vectors: np.ndarray | None = None
        if kept is not None:
            is_known, self._vectors = kept.take(store.hashes(shard))
        self._start, self._places = shard.start, np.flatnonzero(~is_known).tolist()
        is_all = len(self._places) == len(part)
        self.new: Sequence[str] = part if is_all else [part[i] for i in self._places]
        self._vectors = None if is_all else self._vectors

    def join(self, found: np.ndarray | None) -> np.ndarray:
        """(rows, D) of the shard, with those of the new texts; None where there are none."""
        if self._vectors is None:
            assert found is not None
            return found
        if found is not None:
            self._vectors[self._places] = found
        return self._vectors

    def refusal(self, number: int, text: str, what: str, hint: str) -> RefusedText:
        """That a text has no vector, by its number among all of the store; ``number`` counts the
        new ones of the shard.
        """
        return RefusedText(self._start + self._places[number], text, what, hint)
