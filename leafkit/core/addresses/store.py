"""Addresses of stores: ``parquet:FOLDER``, ``lance:FOLDER/TABLE``, ``qdrant:URL/COLLECTION``,
``pgvector:postgresql://HOST/DATABASE/TABLE``, ``opensearch:URL/INDEX``.

An address is printed and written into manifests, so there is no place for a secret in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from leafkit.core.errors import UsageError
from leafkit.core.hosts import is_loopback

PRECISIONS_OF_STORES = {
    "parquet": ("float32", "float16", "int8", "binary"),
    "lance": ("float32", "float16"),
    "qdrant": ("float32", "float16", "int8", "binary"),
    "pgvector": ("float32", "float16", "binary"),
    "opensearch": ("float32", "float16", "int8", "binary"),
}
STORE_KINDS = tuple(PRECISIONS_OF_STORES)
_FORMS = {
    "parquet": "parquet:FOLDER",
    "lance": "lance:FOLDER/TABLE",
    "qdrant": "qdrant:http://localhost:6333/COLLECTION, or qdrant:FOLDER/COLLECTION",
    "pgvector": "pgvector:postgresql://USER@HOST/DATABASE/TABLE",
    "opensearch": "opensearch:http://localhost:9200/INDEX",
}
_SECRETS = {
    "qdrant": "the key goes into the environment variable QDRANT_API_KEY",
    "pgvector": "the password goes into the environment variable PGPASSWORD or into ~/.pgpass, "
    "other settings into libpq's variables, PGSSLMODE say",
    "opensearch": "user and password go into the environment variables OPENSEARCH_USERNAME and "
    "OPENSEARCH_PASSWORD",
}
_SCHEMES = {
    "qdrant": ("http", "https"),
    "pgvector": ("postgresql", "postgres"),
    "opensearch": ("http", "https"),
}
_COLLECTIONS = {
    "lance": r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}",
    "qdrant": r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}",
    "pgvector": r"([A-Za-z_][A-Za-z0-9_]{0,62}\.)?[A-Za-z_][A-Za-z0-9_]{0,62}",
    "opensearch": r"[a-z0-9][a-z0-9_.-]{0,199}",
}


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where vectors go, or are searched.

    Attributes:
        kind: one of ``STORE_KINDS``.
        place: a folder, or the URL of a server.
        collection: the table, collection or index there; empty for parquet.
    """

    kind: str
    place: str
    collection: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.place}" + (f"/{self.collection}" if self.collection else "")

    @property
    def is_url(self) -> bool:
        """Whether a server is asked, not a folder."""
        return "://" in self.place

    @property
    def is_plain(self) -> bool:
        """Whether a key would go over a network unencrypted."""
        parts = urlsplit(self.place)
        return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def names_store(word: str) -> bool:
    """Whether a word begins as the address of a store does.

    >>> names_store("qdrant:nonsense"), names_store("checkpoints/kalm-to-23m")
    (True, False)
    """
    return word.partition(":")[0] in STORE_KINDS and ":" in word


def parse_store(word: str) -> StoreAddress:
    """The parts of an address; what may be secret in it is never shown.

    >>> parse_store("qdrant:http://localhost:6333/papers").collection
    'papers'

    Raises:
        UsageError: it is no such address, or holds a password or a key.
    """
    kind, colon, rest = word.partition(":")
    if not colon or kind not in STORE_KINDS:
        raise UsageError(
            f"{shown_of(word)!r} names no store",
            f"{', '.join(f'{name}:' for name in STORE_KINDS)} and a place, {_FORMS['parquet']} say",
        )
    form = _FORMS[kind]
    if kind == "parquet":
        if not rest or "://" in rest:
            raise UsageError("parquet: takes a folder of this machine", form)
        return StoreAddress(kind, rest)
    if "://" in rest:
        if kind not in _SCHEMES:
            raise UsageError(f"{kind}: takes a folder of this machine", form)
        check_url(kind, rest)
    elif kind in ("pgvector", "opensearch"):
        raise UsageError(f"{kind}: takes the URL of a server", form)
    place, slash, collection = rest.rpartition("/")
    if kind == "lance":
        collection = collection.removesuffix(".lance")
    if not slash or not place or not re.fullmatch(_COLLECTIONS[kind], collection):
        raise UsageError(
            f"the last part of a {kind}: address names the collection, in "
            f"{'small ' if kind == 'opensearch' else ''}letters, digits and underscores",
            form,
        )
    if "://" in rest and place.endswith(("/", ":")) and kind != "pgvector":
        raise UsageError(f"the {kind}: address names a server and no collection", form)
    return StoreAddress(kind, place, collection)


def check_url(kind: str, url: str) -> None:
    """Refuse a URL that is none, or that holds a secret; it is not shown: where it is malformed, so
    is the place of its password.

    Raises:
        UsageError: as above, or it names no host.
    """
    try:
        parts: SplitResult | None = urlsplit(url)
        _ = parts.port if parts else None
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in _SCHEMES[kind]:
        raise UsageError(f"the {kind}: address is no URL of such a server", _FORMS[kind])
    has_user = parts.username is not None and kind != "pgvector"
    if parts.password is not None or has_user or parts.query or parts.fragment:
        raise UsageError(
            f"the {kind}: address holds a user, a password or settings, and would be printed and "
            "written down with them",
            f"{_FORMS[kind]}; {_SECRETS[kind]}",
        )
    if not parts.hostname and kind != "pgvector":
        raise UsageError(f"the {kind}: address names no host", _FORMS[kind])


def shown_of(word: str) -> str:
    """What may be shown of a word that is no address: nothing behind a colon or an @.

    >>> shown_of("http://me:secret@host/books"), shown_of("old-index")
    ('http', 'old-index')
    """
    return word.partition(":")[0][:20] if ":" in word else word.partition("@")[0][:40]
