"""The store that an address names."""

from __future__ import annotations

import importlib

from leafkit.core.addresses.store import StoreAddress
from leafkit.stores.store import Store

_CLASSES = {
    "parquet": "ParquetStore",
    "lance": "LanceStore",
    "qdrant": "QdrantStore",
    "pgvector": "PgvectorStore",
    "opensearch": "OpenSearchStore",
}


def open_store(address: StoreAddress) -> Store:
    """The store at an address; its package is imported when it is needed.

    Raises:
        MissingExtra: the package is not installed.
        LeafkitError: the server does not answer, or refuses.
    """
    module = importlib.import_module(f"leafkit.stores.{address.kind}")
    store: Store = getattr(module, _CLASSES[address.kind])(address)
    return store
