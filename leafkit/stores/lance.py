"""A LanceDB table in a folder of this machine.

The space stands in the metadata of the table's schema. Columns: id, title, text, source,
leafkit_mark, vector, a list of D numbers of float32 or float16. leafkit builds no index: a search
looks at all rows, and is exact, until somebody builds one with LanceDB.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from leafkit.core.addresses.store import StoreAddress
from leafkit.core.errors import LeafkitError, MissingExtra
from leafkit.index.codecs.fit import PLAIN
from leafkit.index.vectors import Vectors
from leafkit.stores.store import MARK, Found, Rows, StoredSpace, foreign, missing

try:
    import lancedb
except ImportError as err:
    raise MissingExtra("lancedb", "lance", "a lance: store") from err

_SPACE = b"leafkit"
_ASKED = 1000  # ids in one question


class LanceStore:
    """See the module.

    Args:
        address: the folder of a database, and a table.

    Raises:
        LeafkitError: it cannot be opened.
    """

    def __init__(self, address: StoreAddress) -> None:
        self._address = address
        with _explained(address):
            self._database = lancedb.connect(address.place)
        self._table: Any = None
        self._about: StoredSpace | None = None

    def stored(self) -> StoredSpace | None:
        """See ``Store``."""
        if not (Path(self._address.place) / f"{self._address.collection}.lance").exists():
            return None
        with _explained(self._address):
            self._table = self._database.open_table(self._address.collection)
            metadata = self._table.schema.metadata or {}
        if _SPACE not in metadata:
            raise foreign(str(self._address))
        self._about = StoredSpace.from_json(metadata[_SPACE].decode(), str(self._address))
        return self._about

    def create(self, about: StoredSpace, vectors: Vectors) -> None:
        """See ``Store``."""
        self._about = about
        with _explained(self._address):
            self._table = self._database.create_table(
                self._address.collection, schema=_schema(about)
            )

    def send(self, rows: Rows) -> int:
        """See ``Store``: those that are lacking, as one new version of the table."""
        held: dict[str, str] = {}
        for asked in rows.parts(_ASKED):
            held |= self._held(asked)
        new = rows.lacking(held)
        if not len(new):
            return 0
        assert self._about is not None
        codec = PLAIN[self._about.precision](self._about.space.dim)
        codes = np.ascontiguousarray(codec.encode(new.vectors))
        table = pa.table(
            [
                [d.id for d in new.documents],
                [d.title for d in new.documents],
                [d.text for d in new.documents],
                [new.source] * len(new),
                list(new.marks),
                pa.FixedSizeListArray.from_arrays(pa.array(codes.reshape(-1)), codes.shape[1]),
            ],
            schema=_schema(self._about).remove_metadata(),
        )
        with _explained(self._address):
            merge = self._table.merge_insert("id").when_matched_update_all()
            merge.when_not_matched_insert_all().execute(table)
        return len(new)

    def finish(self, num_rows: int) -> Sequence[str]:
        """Join the files that many versions left; see ``Store``."""
        with _explained(self._address):
            self._table.optimize()
        return []

    def count(self) -> int:
        """See ``Store``."""
        with _explained(self._address):
            return int(self._table.count_rows())

    def search(self, query: np.ndarray, k: int) -> Sequence[Found]:
        """See ``Store``."""
        if self._table is None:
            raise missing(str(self._address))
        with _explained(self._address):
            found = (
                self._table.search(query, vector_column_name="vector")
                .distance_type("dot")
                .limit(k)
                .select(["id", "title", "text", "_distance"])
                .to_list()
            )
        return [
            # LanceDB's distance of inner products is one minus them
            Found(row["id"], 1 - row["_distance"], f"{row['title']} {row['text']}".strip())
            for row in found
        ]

    def close(self) -> None:
        """LanceDB holds nothing that others wait for."""

    def _held(self, rows: Rows) -> dict[str, str]:
        ids = ", ".join("'" + d.id.replace("'", "''") + "'" for d in rows.documents)
        with _explained(self._address):
            found = (
                self._table.search()
                .where(f"id IN ({ids})")
                .select(["id", MARK])
                .limit(len(rows))
                .to_arrow()
            )
        return dict(zip(found["id"].to_pylist(), found[MARK].to_pylist(), strict=True))


def _schema(about: StoredSpace) -> Any:
    number = pa.float16() if about.precision == "float16" else pa.float32()
    words = [pa.field(name, pa.string()) for name in ("id", "title", "text", "source", MARK)]
    vector = pa.field("vector", pa.list_(number, about.space.dim))
    return pa.schema([*words, vector], metadata={_SPACE: about.to_json().encode()})


@contextlib.contextmanager
def _explained(address: StoreAddress) -> Iterator[None]:
    """Say what a failure of LanceDB's means; it has no exceptions of its own."""
    try:
        yield
    except (RuntimeError, OSError, ValueError) as err:
        raise LeafkitError(
            f"{address}: LanceDB says: {' '.join(str(err).split())[:300]}",
            "check the folder and its disk; what was sent is kept, the same command goes on after "
            "it",
        ) from err
