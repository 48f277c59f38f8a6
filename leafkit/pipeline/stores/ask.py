"""Questions to a store, by the student of a pair: ``leafkit search qdrant:URL/COLLECTION``."""

from __future__ import annotations

import time
from pathlib import Path

from leafkit.core.addresses.store import StoreAddress
from leafkit.core.errors import UsageError
from leafkit.embedders.protocol import Embedder, encode_in_role
from leafkit.pipeline.hits import Hits, SearchHit
from leafkit.pipeline.load_pair import open_student
from leafkit.stores.open_store import open_store
from leafkit.stores.store import Store, StoredSpace, missing


class StoreSearch:
    """A store that is asked with a student of the space of its vectors.

    Args:
        store: with the collection.
        embedder: gives the student's query vectors.
        num_documents: in the collection.
    """

    def __init__(self, store: Store, embedder: Embedder, num_documents: int) -> None:
        self._store, self._embedder, self._num_documents = store, embedder, num_documents

    def search(self, question: str, k: int = 5) -> Hits:
        """The documents nearest to the student's vector of a question.

        Raises:
            UsageError: the question is empty, or ``k`` is below 1.
            LeafkitError: the store does not answer.
        """
        if not question.strip():
            raise UsageError("the question is empty", 'leafkit search ADDRESS "your question"')
        if type(k) is not int or k < 1:
            raise UsageError(f"k={k!r} is not a positive whole number", "k=5")
        started_s = time.perf_counter()
        query = encode_in_role(self._embedder, question, "query")
        embedded_s = time.perf_counter()
        found = self._store.search(query, k)
        searched_s = time.perf_counter()
        return Hits(
            question,
            tuple(SearchHit(hit.id, hit.score, hit.text) for hit in found),
            self._num_documents,
            embed_ms=1e3 * (embedded_s - started_s),
            search_ms=1e3 * (searched_s - embedded_s),
        )

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()


def open_store_search(address: StoreAddress, student: str | Path) -> StoreSearch:
    """A store and the student that asks it; the space is checked before anything is asked.

    Args:
        address: of the store.
        student: folder of a pair, or of a student.

    Raises:
        MissingExtra: the store's package is not installed.
        UsageError: there is no such folder.
        LeafkitError: the collection is not there or not leafkit's, or the student lives in another
            space.
    """
    folder = Path(student)
    if not folder.is_dir():
        raise UsageError(
            f"student={folder}: no such folder", "name a pair's folder, checkpoints/NAME say"
        )
    store = open_store(address)
    try:
        about = store.stored()
        if about is None:
            raise missing(str(address))
        return StoreSearch(store, _open(folder, about), store.count())
    except BaseException:
        store.close()
        raise


def _open(folder: Path, about: StoredSpace) -> Embedder:
    return open_student(folder, about.space.teacher, about.space.dim)
