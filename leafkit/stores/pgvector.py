"""A PostgreSQL table with pgvector.

The space stands in the table's comment. Columns: id (primary key), title, text, source,
leafkit_mark, embedding, a vector(D) or, where embed.to_precision is float16 or binary, a
halfvec(D). An HNSW index by inner product is built once all rows are there; of binary it holds one
bit per dimension, and what it finds is ranked by the vectors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from leafkit.core.addresses.store import StoreAddress
from leafkit.core.artifact import fingerprint
from leafkit.core.errors import LeafkitError, MissingExtra
from leafkit.index.vectors import Vectors
from leafkit.stores.store import MARK, Found, Rows, StoredSpace, foreign, missing

try:
    import psycopg
    from pgvector import HalfVector, Vector
    from pgvector.psycopg import register_vector
    from psycopg import sql
except ImportError as err:
    raise MissingExtra("psycopg and pgvector", "pgvector", "a pgvector: store") from err

_ROWS_PER_COMMIT = 1000
_CONNECT_S = 15
_MOST_INDEXED = {"vector": 2000, "halfvec": 4000, "bit": 64_000}  # dimensions that HNSW takes
_MOST_SEARCHED = 1000  # of hnsw.ef_search; a search for more looks at all rows
_OVERSAMPLING = 4  # candidates that bits find for each that is wanted


class PgvectorStore:
    """See the module.

    Args:
        address: libpq's URI of a database, and a table.

    Raises:
        LeafkitError: the server does not answer, or refuses.
    """

    def __init__(self, address: StoreAddress) -> None:
        self._address = address
        self._table = sql.Identifier(*address.collection.split("."))
        self._about: StoredSpace | None = None
        with _explained(address):
            self._connection = psycopg.connect(
                address.place, connect_timeout=_CONNECT_S, autocommit=True
            )

    def stored(self) -> StoredSpace | None:
        """See ``Store``."""
        name = self._table.as_string(self._connection)
        with _explained(self._address):
            row = self._connection.execute(
                "SELECT to_regclass(%s) IS NOT NULL, obj_description(to_regclass(%s), 'pg_class')",
                (name, name),
            ).fetchone()
        if row is None or not row[0]:
            return None
        if not isinstance(row[1], str) or not row[1].startswith("{"):
            raise foreign(str(self._address))
        self._use(StoredSpace.from_json(row[1], str(self._address)))
        return self._about

    def create(self, about: StoredSpace, vectors: Vectors) -> None:
        """See ``Store``; table and comment come at once or not at all."""
        with _explained(self._address), self._connection.transaction():
            self._connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            self._connection.execute(
                sql.SQL(
                    "CREATE TABLE {} (id text PRIMARY KEY, title text NOT NULL, text text NOT NULL,"
                    " source text NOT NULL, {} text NOT NULL, embedding {}({}) NOT NULL)"
                ).format(
                    self._table,
                    sql.Identifier(MARK),
                    sql.SQL(_type_of(about)),
                    sql.Literal(about.space.dim),
                )
            )
            self._connection.execute(
                sql.SQL("COMMENT ON TABLE {} IS {}").format(
                    self._table, sql.Literal(about.to_json())
                )
            )
        self._use(about)

    def send(self, rows: Rows) -> int:
        """See ``Store``; a thousand rows to a transaction."""
        statement = sql.SQL(
            "INSERT INTO {} (id, title, text, source, {mark}, embedding) "
            "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (id) DO UPDATE SET title = EXCLUDED.title,"
            " text = EXCLUDED.text, source = EXCLUDED.source, {mark} = EXCLUDED.{mark}, "
            "embedding = EXCLUDED.embedding"
        ).format(self._table, mark=sql.Identifier(MARK))
        written = 0
        for part in rows.parts(_ROWS_PER_COMMIT):
            new = part.lacking(self._held(part))
            values = [
                (d.id, d.title, d.text, new.source, mark, self._value(vector))
                for d, mark, vector in zip(new.documents, new.marks, new.vectors, strict=True)
            ]
            if not values:
                continue
            with (
                _explained(self._address),
                self._connection.transaction(),
                self._connection.cursor() as cursor,
            ):
                cursor.executemany(statement, values)
            written += len(values)
        return written

    def finish(self, num_rows: int) -> Sequence[str]:
        """Build the HNSW index, where there is none and the dimension allows one, and clear it of
        rows that were replaced; see ``Store``.
        """
        assert self._about is not None
        dim, kind = self._about.space.dim, _type_of(self._about)
        is_binary = self._about.precision == "binary"
        most = _MOST_INDEXED["bit" if is_binary else kind]
        if dim > most:
            return [
                f"no index was built: pgvector's HNSW takes {most:,} dimensions of {kind} and "
                f"these are {dim:,}; a search looks at all rows"
            ]
        what = sql.SQL(
            "(binary_quantize(embedding)::bit({})) bit_hamming_ops"
            if is_binary
            else "embedding {}_ip_ops"
        ).format(sql.Literal(dim) if is_binary else sql.SQL(kind))
        name = sql.Identifier(f"leafkit_{fingerprint(str(self._address.collection))}")
        with _explained(self._address):
            self._connection.execute(
                sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} USING hnsw ({})").format(
                    name, self._table, what
                )
            )
            # until then a row that was replaced stays in the index, and takes the place of a
            # candidate in every search that comes by; also after a run that was stopped
            self._connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(self._table))
        return []

    def count(self) -> int:
        """See ``Store``."""
        with _explained(self._address):
            row = self._connection.execute(
                sql.SQL("SELECT count(*) FROM {}").format(self._table)
            ).fetchone()
        return int(row[0]) if row else 0

    def search(self, query: np.ndarray, k: int) -> Sequence[Found]:
        """By the HNSW index up to 1,000 candidates, else exact; exact, too, where the index finds
        fewer than ``k``, as after changes by others that no VACUUM has followed; see ``Store``.
        """
        if self._about is None:
            raise missing(str(self._address))
        kind = sql.SQL(_type_of(self._about))
        source = self._table
        candidates = k
        parameters: dict[str, Any] = {"query": self._value(query), "k": k}
        if self._about.precision == "binary":
            candidates = parameters["candidates"] = k * _OVERSAMPLING
            source = sql.SQL(
                "(SELECT * FROM {} ORDER BY binary_quantize(embedding)::bit({dim}) <~> "
                "binary_quantize(%(query)s::{kind})::bit({dim}) LIMIT %(candidates)s) AS found"
            ).format(self._table, dim=sql.Literal(self._about.space.dim), kind=kind)
        statement = sql.SQL(
            "SELECT id, title, text, -(embedding <#> %(query)s::{kind}) FROM {source} "
            "ORDER BY embedding <#> %(query)s::{kind} LIMIT %(k)s"
        ).format(source=source, kind=kind)
        with _explained(self._address), self._connection.transaction():
            rows: list[tuple[Any, ...]] = []
            if candidates <= _MOST_SEARCHED:
                depth = sql.Literal(max(40, candidates))
                self._connection.execute(sql.SQL("SET LOCAL hnsw.ef_search = {}").format(depth))
                rows = self._connection.execute(statement, parameters).fetchall()
            if len(rows) < k:
                self._connection.execute("SET LOCAL enable_indexscan = off")
                rows = self._connection.execute(statement, parameters).fetchall()
        return [Found(row[0], float(row[3]), f"{row[1]} {row[2]}".strip()) for row in rows]

    def close(self) -> None:
        """See ``Store``."""
        self._connection.close()

    def _use(self, about: StoredSpace) -> None:
        self._about = about
        with _explained(self._address):
            register_vector(self._connection)

    def _value(self, vector: np.ndarray) -> Any:
        assert self._about is not None
        if _type_of(self._about) == "halfvec":
            return HalfVector(vector.astype(np.float16))
        return Vector(vector)

    def _held(self, rows: Rows) -> dict[str, str]:
        with _explained(self._address):
            found = self._connection.execute(
                sql.SQL("SELECT id, {} FROM {} WHERE id = ANY(%s)").format(
                    sql.Identifier(MARK), self._table
                ),
                ([d.id for d in rows.documents],),
            ).fetchall()
        return dict(found)


def _type_of(about: StoredSpace) -> str:
    return "vector" if about.precision == "float32" else "halfvec"


@contextlib.contextmanager
def _explained(address: StoreAddress) -> Iterator[None]:
    """Say what a failure of PostgreSQL's means; its words hold no password."""
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as err:
        raise LeafkitError(
            f"{address}: PostgreSQL refuses: {_words(err)}",
            "the user needs the right to create tables there; the extension vector may need an "
            "administrator's CREATE EXTENSION vector",
        ) from None
    except psycopg.errors.FeatureNotSupported as err:
        raise LeafkitError(
            f"{address}: PostgreSQL says: {_words(err)}", "install pgvector on that server"
        ) from None
    except psycopg.OperationalError as err:
        raise LeafkitError(
            f"{address}: no connection to PostgreSQL: {_words(err)}",
            "check the address, and the password in PGPASSWORD or ~/.pgpass; what was sent is "
            "kept, the same command goes on after it",
        ) from None
    except psycopg.Error as err:
        raise LeafkitError(
            f"{address}: PostgreSQL says: {_words(err)}",
            "halfvec and bits need pgvector 0.7 or later; what was sent is kept",
        ) from None


def _words(err: Exception) -> str:
    return " ".join(str(err).split())[:300]
