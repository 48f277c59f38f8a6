"""``leafkit embed ... to=ADDRESS``: the index of a run, sent to a store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from leafkit.core.addresses.store import StoreAddress, parse_store
from leafkit.core.console import log, progress_bar
from leafkit.core.errors import LeafkitError
from leafkit.data.records import Collection
from leafkit.pipeline.document_index import read_space_of_index, read_vectors_of_index
from leafkit.pipeline.run import Run
from leafkit.stores.open_store import open_store
from leafkit.stores.parquet import ROWS_PER_PART
from leafkit.stores.store import Store, StoredSpace, check_stored, make_rows


@contextlib.contextmanager
def opened(address: StoreAddress) -> Iterator[Store]:
    """The store at an address, closed afterwards.

    Raises:
        MissingExtra: its package is not installed.
        LeafkitError: it does not answer.
    """
    store = open_store(address)
    try:
        yield store
    finally:
        store.close()


def check_store(run: Run) -> None:
    """Ask the store of ``embed.to`` before hours of work are done for it: its package is there, it
    answers, and the collection is one of leafkit's or none yet.

    Raises:
        MissingExtra, LeafkitError: as said.
    """

    def ask() -> None:
        with opened(parse_store(run.recipe.embed.to)) as store:
            store.stored()

    run.on_main(ask)


def send_index(run: Run, folder: Path) -> str:
    """Send the documents of an index with their vectors to the store of ``embed.to``: those that
    it does not hold as they are.

    Args:
        run: whose first process sends.
        folder: of the index.

    Returns:
        What was done, in a sentence.

    Raises:
        LeafkitError: the collection there is in another space, or the store refuses.
    """
    return run.on_main(lambda: _send(run, folder))


def _send(run: Run, folder: Path) -> str:
    address = parse_store(run.recipe.embed.to)
    space = read_space_of_index(folder)
    vectors = read_vectors_of_index(folder, space)
    collection = Collection.load(folder)
    documents = collection.documents
    if len(documents) != len(vectors):
        raise LeafkitError(
            f"{folder} holds {len(vectors):,} vectors of {len(documents):,} documents",
            "leafkit embed recipe=NAME force=true writes it anew",
        )
    wanted = StoredSpace(space, run.recipe.embed.to_precision)
    written = 0
    with opened(address) as store:
        found = store.stored()
        if found is not None:
            check_stored(str(address), found, wanted)
        if found is None or address.kind == "parquet":
            store.create(wanted, vectors)
        with progress_bar(f"to {address}", len(documents), "rows") as bar:
            for start in range(0, len(documents), ROWS_PER_PART):
                stop = min(start + ROWS_PER_PART, len(documents))
                rows = make_rows(start, documents[start:stop], vectors[start:stop], collection.name)
                written += store.send(rows)
                bar.advance(len(rows))
        for note in store.finish(len(documents)):
            log(f"  {note}", style="yellow")
        there = store.count()
    kept = len(documents) - written
    others = f"; {there - len(documents):,} other rows stay there" if there > len(documents) else ""
    if there < len(documents):
        raise LeafkitError(
            f"{address} holds {there:,} rows after {len(documents):,} were sent",
            "something else deletes rows there, or two documents have one id in it; run the same "
            "command again",
        )
    return f"{address}: {written:,} rows written, {kept:,} were there{others}"
