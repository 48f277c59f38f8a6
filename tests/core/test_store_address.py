"""Addresses of stores: what each part is, and what is none."""

from __future__ import annotations

import pytest

from leafkit.core.addresses.store import names_store, parse_store
from leafkit.core.errors import UsageError


@pytest.mark.parametrize(
    ("word", "place", "collection"),
    [
        ("parquet:out/vectors", "out/vectors", ""),
        ("parquet:/abs/vectors.parquet", "/abs/vectors.parquet", ""),
        ("lance:db/papers", "db", "papers"),
        ("lance:/a/b/papers.lance", "/a/b", "papers"),
        ("qdrant:http://localhost:6333/papers", "http://localhost:6333", "papers"),
        ("qdrant:https://q.example.org/prefix/papers", "https://q.example.org/prefix", "papers"),
        ("qdrant:db/papers", "db", "papers"),
        ("pgvector:postgresql://me@h:5432/db/papers", "postgresql://me@h:5432/db", "papers"),
        ("pgvector:postgresql:///db/own.papers", "postgresql:///db", "own.papers"),
        ("opensearch:http://localhost:9200/papers", "http://localhost:9200", "papers"),
    ],
)
def test_parts(word, place, collection):
    address = parse_store(word)
    assert (address.kind, address.place, address.collection) == (
        word.partition(":")[0],
        place,
        collection,
    )
    assert parse_store(str(address)) == address
    assert names_store(word)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("", "names no store"),
        ("papers", "'papers' names no store"),
        ("faiss:papers", "'faiss' names no store"),
        ("parquet:", "takes a folder"),
        ("parquet:s3://bucket/papers", "takes a folder of this machine"),
        ("lance:s3://bucket/papers", "takes a folder of this machine"),
        ("lance:papers", "names the collection"),
        ("qdrant:/", "names the collection"),
        ("qdrant:db/", "names the collection"),
        ("qdrant:http://localhost", "a server and no collection"),
        ("qdrant:ftp://localhost/papers", "is no URL of such a server"),
        ("qdrant:http://localhost:99999/papers", "is no URL of such a server"),
        ("qdrant:http:///papers", "names no host"),
        ("pgvector:dbname=x/papers", "takes the URL of a server"),
        ("pgvector:postgresql://h/db/pa;pers", "names the collection"),
        ("opensearch:http://h:9200/Papers", "in small letters"),
    ],
)
def test_what_is_none(word, message):
    with pytest.raises(UsageError, match=message):
        parse_store(word)


@pytest.mark.parametrize(
    ("word", "is_plain"),
    [
        ("qdrant:http://localhost:6333/p", False),
        ("qdrant:http://127.0.0.1:6333/p", False),
        ("qdrant:http://q.example.org/p", True),
        ("qdrant:https://q.example.org/p", False),
        ("qdrant:folder/p", False),
    ],
)
def test_where_a_key_would_be_seen(word, is_plain):
    assert parse_store(word).is_plain is is_plain
