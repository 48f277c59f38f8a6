"""An OpenSearch index with a k-NN field.

The space stands in the mapping's ``_meta``. A document's ``_id`` is its id; its fields are title,
text, source, leafkit_mark and embedding, a knn_vector of D dimensions by inner product.
embed.to_precision says how OpenSearch's own index keeps them: float16 is faiss's scalar quantizer,
int8 and binary are the modes on_disk with compression 4x and 32x, which rescore by the vectors.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from leafkit.core.addresses.store import StoreAddress
from leafkit.core.errors import LeafkitError, MissingExtra, UsageError
from leafkit.index.vectors import Vectors
from leafkit.stores.store import MARK, Found, Rows, StoredSpace, foreign, missing

try:
    from opensearchpy import OpenSearch, exceptions, helpers
except ImportError as err:
    raise MissingExtra("opensearch-py", "opensearch", "an opensearch: store") from err

USER_ENV, PASSWORD_ENV = "OPENSEARCH_USERNAME", "OPENSEARCH_PASSWORD"
_ASKED = 1000  # ids in one question
_LONGEST_ID = 512  # bytes that OpenSearch takes
_MOST_BYTES = 8 * 10**6  # of a request, below what hosted services take
_TIMEOUT_S = 120
_MOST_FOUND = 10_000  # index.max_result_window


class OpenSearchStore:
    """See the module.

    Args:
        address: a URL and an index.

    Raises:
        UsageError: the password would go over a network unencrypted, or one of user and password
            is missing.
    """

    def __init__(self, address: StoreAddress) -> None:
        self._address, self._name = address, address.collection
        self._is_there = False
        user, password = (os.environ.get(name, "") for name in (USER_ENV, PASSWORD_ENV))
        if bool(user) != bool(password):
            raise UsageError(
                f"one of {USER_ENV} and {PASSWORD_ENV} is set and the other is not", "set both"
            )
        if password and address.is_plain:
            raise UsageError(
                f"{PASSWORD_ENV} would go to {address.place} unencrypted",
                "take an https:// address",
            )
        self._client = OpenSearch(
            hosts=[address.place],
            http_auth=(user, password) if password else None,
            timeout=_TIMEOUT_S,
            max_retries=3,
            retry_on_timeout=True,
        )

    def stored(self) -> StoredSpace | None:
        """See ``Store``."""
        with _explained(self._address):
            if not self._client.indices.exists(index=self._name):
                return None
            answer = self._client.indices.get_mapping(index=self._name)
        told = [index["mappings"].get("_meta", {}).get("leafkit") for index in answer.values()]
        if len(told) != 1 or not isinstance(told[0], str):
            raise foreign(str(self._address))
        self._is_there = True
        return StoredSpace.from_json(told[0], str(self._address))

    def create(self, about: StoredSpace, vectors: Vectors) -> None:
        """See ``Store``."""
        words = {"type": "keyword", "index": False, "doc_values": False}
        body = {
            "settings": {"index": {"knn": True}},
            "mappings": {
                "_meta": {"leafkit": about.to_json()},
                "properties": {
                    "title": {"type": "text"},
                    "text": {"type": "text"},
                    "source": {"type": "keyword"},
                    MARK: words,
                    "embedding": _field(about),
                },
            },
        }
        with _explained(self._address):
            self._client.indices.create(index=self._name, body=body)
        self._is_there = True

    def send(self, rows: Rows) -> int:
        """See ``Store``, by the bulk API.

        Raises:
            LeafkitError: an id is longer than OpenSearch takes.
        """
        long = [d.id for d in rows.documents if len(d.id.encode()) > _LONGEST_ID]
        if long:
            raise LeafkitError(
                f"the id {long[0][:40]}... has more than {_LONGEST_ID} bytes, and OpenSearch takes "
                "no more",
                "give the documents shorter ids",
            )
        written = 0
        for part in rows.parts(_ASKED):
            new = part.lacking(self._held(part))
            actions = (
                {
                    "_op_type": "index",
                    "_index": self._name,
                    "_id": d.id,
                    "title": d.title,
                    "text": d.text,
                    "source": new.source,
                    MARK: mark,
                    "embedding": vector.tolist(),
                }
                for d, mark, vector in zip(new.documents, new.marks, new.vectors, strict=True)
            )
            with _explained(self._address):
                helpers.bulk(self._client, actions, max_chunk_bytes=_MOST_BYTES)
            written += len(new)
        return written

    def finish(self, num_rows: int) -> Sequence[str]:
        """Make everything findable; see ``Store``."""
        with _explained(self._address):
            self._client.indices.refresh(index=self._name)
        return []

    def count(self) -> int:
        """See ``Store``."""
        with _explained(self._address):
            return int(self._client.count(index=self._name)["count"])

    def search(self, query: np.ndarray, k: int) -> Sequence[Found]:
        """By OpenSearch's index; see ``Store``.

        Raises:
            UsageError: it gives no more than 10,000 at a time.
        """
        if not self._is_there:
            raise missing(str(self._address))
        if k > _MOST_FOUND:
            raise UsageError(f"k={k}: OpenSearch gives {_MOST_FOUND:,} at most", f"k={_MOST_FOUND}")
        body = {
            "size": k,
            "_source": ["title", "text"],
            "query": {"knn": {"embedding": {"vector": query.tolist(), "k": k}}},
        }
        with _explained(self._address):
            hits = self._client.search(index=self._name, body=body)["hits"]["hits"]
        return [
            Found(
                hit["_id"],
                inner_product(hit["_score"]),
                f"{hit['_source']['title']} {hit['_source']['text']}".strip(),
            )
            for hit in hits
        ]

    def close(self) -> None:
        """See ``Store``."""
        self._client.close()

    def _held(self, rows: Rows) -> dict[str, str]:
        with _explained(self._address):
            answer = self._client.mget(
                index=self._name,
                body={"ids": [d.id for d in rows.documents]},
                _source_includes=[MARK],
            )
        return {
            doc["_id"]: doc["_source"].get(MARK, "") for doc in answer["docs"] if doc.get("found")
        }


def inner_product(score: float) -> float:
    """The inner product behind a score of OpenSearch's, which are above zero: 1 + x for x above
    zero, else 1 / (1 - x).

    >>> inner_product(1.5), inner_product(0.5)
    (0.5, -1.0)
    """
    return score - 1 if score >= 1 else 1 - 1 / score


def _field(about: StoredSpace) -> dict[str, object]:
    field: dict[str, object] = {
        "type": "knn_vector",
        "dimension": about.space.dim,
        "space_type": "innerproduct",
    }
    if about.precision == "float16":
        encoder = {"name": "sq", "parameters": {"type": "fp16"}}
        field["method"] = {"name": "hnsw", "engine": "faiss", "parameters": {"encoder": encoder}}
    elif about.precision == "float32":
        field["method"] = {"name": "hnsw", "engine": "faiss"}
    else:
        field |= {
            "mode": "on_disk",
            "compression_level": "4x" if about.precision == "int8" else "32x",
        }
    return field


@contextlib.contextmanager
def _explained(address: StoreAddress) -> Iterator[None]:
    """Say what a failure of the client's means."""
    try:
        yield
    except helpers.BulkIndexError as err:
        first: Any = next(iter(err.errors), {})
        raise LeafkitError(
            f"{address}: OpenSearch refused {len(err.errors)} rows: {str(first)[:200]}", _AGAIN
        ) from None
    except exceptions.ConnectionError as err:
        raise LeafkitError(
            f"{address.place} does not answer: {str(err)[:200]}",
            f"check that OpenSearch runs there; {_AGAIN}",
        ) from None
    except exceptions.TransportError as err:
        if err.status_code in (401, 403):
            raise LeafkitError(
                f"{address.place} refuses: status {err.status_code}",
                f"give user and password in {USER_ENV} and {PASSWORD_ENV}",
            ) from None
        raise LeafkitError(
            f"{address}: OpenSearch answers {err.status_code}: {str(err.error)[:200]}", _AGAIN
        ) from None


_AGAIN = "what was sent is kept, the same command goes on after it"
