"""A Qdrant collection, on a server or in a folder of this machine (the client's local mode).

The space stands in the collection's metadata, which servers keep since 1.16. A point's id is the
UUID of the document's id; its payload has id, title, text, source and leafkit_mark. Vectors are
compared by inner product, which leaves them as they are.

embed.to_precision: float16 is Qdrant's datatype; int8 and binary keep float32 vectors beside
Qdrant's own codes, which its search looks through first. The local mode has no codes and searches
the vectors.
"""

from __future__ import annotations

import contextlib
import os
import uuid
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from leafkit.core.addresses.store import StoreAddress
from leafkit.core.errors import LeafkitError, MissingExtra, UsageError
from leafkit.index.vectors import Vectors
from leafkit.stores.store import MARK, Found, Rows, StoredSpace, foreign, missing

try:
    from qdrant_client import QdrantClient, models
    from qdrant_client.http.exceptions import (
        ApiException,
        ResponseHandlingException,
        UnexpectedResponse,
    )
except ImportError as err:
    raise MissingExtra("qdrant-client", "qdrant", "a qdrant: store") from err

KEY_ENV = "QDRANT_API_KEY"
_NAMESPACE = uuid.UUID("9b5f6c1e-4b0f-5d43-9a56-0d1f3c2ab7e4")  # of points' ids; any would do
_ASKED = 1000  # ids in one question
_MOST_BYTES = 8 * 10**6  # of a request; Qdrant takes 32 MB, and what stands before it may take less
_BYTES_PER_NUMBER = 25  # of JSON, such as -1.2345678901234567e-05 and a comma
_OVERSAMPLING = 4.0  # candidates that bits find for each that is wanted
_TIMEOUT_S = 120


class QdrantStore:
    """See the module.

    Args:
        address: a URL or a folder, and the collection.

    Raises:
        LeafkitError: the folder is in use, or cannot be opened.
        UsageError: the key would go over a network unencrypted.
    """

    def __init__(self, address: StoreAddress) -> None:
        self._address, self._name = address, address.collection
        self._precision = ""
        with _explained(address), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the client's own, on versions and plain http
            if not address.is_url:
                self._client = QdrantClient(path=address.place)
                return
            key = os.environ.get(KEY_ENV) or None
            if key and address.is_plain:
                raise UsageError(
                    f"{KEY_ENV} would go to {address.place} unencrypted", "take an https:// address"
                )
            self._client = QdrantClient(
                url=address.place, api_key=key, timeout=_TIMEOUT_S, check_compatibility=False
            )

    def stored(self) -> StoredSpace | None:
        """See ``Store``."""
        with _explained(self._address):
            if not self._client.collection_exists(self._name):
                return None
            config = self._client.get_collection(self._name).config
        told = (config.metadata or {}).get("leafkit")
        if not isinstance(told, str):
            raise foreign(str(self._address))
        about = StoredSpace.from_json(told, str(self._address))
        self._precision = about.precision
        return about

    def create(self, about: StoredSpace, vectors: Vectors) -> None:
        """See ``Store``.

        Raises:
            LeafkitError: the server keeps no metadata of collections.
        """
        is_half = about.precision == "float16"
        quantized = about.precision in ("int8", "binary")
        with _explained(self._address):
            self._client.create_collection(
                self._name,
                vectors_config=models.VectorParams(
                    size=about.space.dim,
                    distance=models.Distance.DOT,
                    datatype=models.Datatype.FLOAT16 if is_half else models.Datatype.FLOAT32,
                    on_disk=True if quantized else None,
                ),
                quantization_config=_quantization(about.precision),
                metadata={"leafkit": about.to_json()},
            )
        try:
            found = self.stored()
        except LeafkitError:
            found = None
        if found != about:
            with _explained(self._address):
                self._client.delete_collection(self._name)
            raise LeafkitError(
                f"the server at {self._address.place} does not keep what a collection says of its "
                "space",
                "Qdrant 1.16 or later keeps the metadata of collections",
            )

    def send(self, rows: Rows) -> int:
        """See ``Store``."""
        written = 0
        for asked in rows.parts(_ASKED):
            new = asked.lacking(self._held(asked))
            for part in new.parts_below(_MOST_BYTES, _BYTES_PER_NUMBER):
                batch = models.Batch(
                    ids=[_point(d.id) for d in part.documents],
                    vectors=part.vectors.tolist(),
                    payloads=[
                        {
                            "id": d.id,
                            "title": d.title,
                            "text": d.text,
                            "source": part.source,
                            MARK: mark,
                        }
                        for d, mark in zip(part.documents, part.marks, strict=True)
                    ],
                )
                with _explained(self._address), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # on large collections in local mode
                    self._client.upsert(self._name, batch, wait=True)
                written += len(part)
        return written

    def finish(self, num_rows: int) -> Sequence[str]:
        """Qdrant builds its index by itself; see ``Store``."""
        return []

    def count(self) -> int:
        """See ``Store``."""
        with _explained(self._address):
            return int(self._client.count(self._name, exact=True).count)

    def search(self, query: np.ndarray, k: int) -> Sequence[Found]:
        """By Qdrant's index; codes are rescored by vectors; see ``Store``."""
        if not self._precision:
            raise missing(str(self._address))
        params = None
        if self._precision in ("int8", "binary"):
            more = _OVERSAMPLING if self._precision == "binary" else None
            params = models.SearchParams(
                quantization=models.QuantizationSearchParams(rescore=True, oversampling=more)
            )
        with _explained(self._address), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the local mode says that it takes no parameters
            points = self._client.query_points(
                self._name,
                query=query.tolist(),
                limit=k,
                with_payload=["id", "title", "text"],
                search_params=params,
            ).points
        return [Found(p.payload["id"], float(p.score), _full_text(p.payload)) for p in points]

    def close(self) -> None:
        """See ``Store``."""
        with contextlib.suppress(Exception):
            self._client.close()

    def _held(self, rows: Rows) -> dict[str, str]:
        with _explained(self._address):
            points = self._client.retrieve(
                self._name,
                ids=[_point(d.id) for d in rows.documents],
                with_payload=["id", MARK],
                with_vectors=False,
            )
        return {p.payload["id"]: p.payload.get(MARK, "") for p in points if p.payload}


def _point(identity: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, identity))


def _full_text(payload: dict[str, Any]) -> str:
    return f"{payload.get('title', '')} {payload.get('text', '')}".strip()


def _quantization(precision: str) -> Any:
    if precision == "int8":
        scalar = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
        return models.ScalarQuantization(scalar=scalar)
    if precision == "binary":
        return models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))
    return None


@contextlib.contextmanager
def _explained(address: StoreAddress) -> Iterator[None]:
    """Say what a failure of the client's means."""
    try:
        yield
    except LeafkitError:
        raise
    except UnexpectedResponse as err:
        if err.status_code in (401, 403):
            raise LeafkitError(
                f"{address.place} refuses: status {err.status_code}",
                f"give its key in the environment variable {KEY_ENV}",
            ) from None
        if err.status_code == 413:
            raise LeafkitError(
                f"{address.place} refuses a request for its length: status 413", _TOO_LONG
            ) from None
        told = " ".join((err.content or b"").decode("utf-8", "replace").split())[:300]
        raise LeafkitError(f"{address}: Qdrant answers {err.status_code}: {told}", _AGAIN) from None
    except (ApiException, ResponseHandlingException) as err:
        raise LeafkitError(
            f"{address.place} does not answer: {' '.join(str(err).split())[:300]}",
            f"check that Qdrant runs there; {_AGAIN}",
        ) from None
    except RuntimeError as err:
        if "already accessed" not in str(err):
            raise
        raise LeafkitError(
            f"{address.place} is in use by another process",
            "wait for it; several at a time need a Qdrant server",
        ) from None


_TOO_LONG = (
    "a request has up to 8 MB, more where one document is longer: raise the server's "
    "service.max_request_size_mb, or the limit of the proxy before it"
)
_AGAIN = "what was sent is kept, the same command goes on after it"
