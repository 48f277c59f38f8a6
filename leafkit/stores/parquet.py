"""A folder of Parquet files, which pandas, DuckDB, Spark and polars read as one table.

``part-00000.parquet`` has the first 16,384 rows and so on; each is written whole and then renamed,
so that a reader sees finished files alone. The file's schema has the space under ``leafkit``, the
scale of int8 codes under ``leafkit_scale`` and a hash of its rows under ``leafkit_rows``.

Columns: id, title, text, source, vector. A vector is a list of D numbers of float32 or float16; of
D int8 codes, value = low + (code + 128) * step by dimension; or of D / 8 bytes, a bit where the
value is above 0, the first in the highest place.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from leafkit.core.addresses.store import StoreAddress
from leafkit.core.artifact import fsync_path, write_durably
from leafkit.core.errors import LeafkitError, explain_write_errors
from leafkit.index.codecs.codec import Codec
from leafkit.index.codecs.fit import PLAIN
from leafkit.index.codecs.steps import Int8
from leafkit.index.quantization import LinearScale, linear_scale
from leafkit.index.vectors import Vectors, read_chunks
from leafkit.stores.store import Found, Rows, StoredSpace, foreign, missing

ROWS_PER_PART = 16_384
_SPACE, _SCALE, _ROWS = b"leafkit", b"leafkit_scale", b"leafkit_rows"
_PART = re.compile(r"part-(\d{5,})\.parquet")


class ParquetStore:
    """See the module. Rows are sent ``ROWS_PER_PART`` at a time.

    Args:
        address: of the folder.
    """

    def __init__(self, address: StoreAddress) -> None:
        self._address, self._folder = address, Path(address.place)
        self._about: StoredSpace | None = None
        self._codec: Codec | None = None

    def stored(self) -> StoredSpace | None:
        """See ``Store``; any part says it, and all parts say the same."""
        if self._folder.exists() and not self._folder.is_dir():
            raise LeafkitError(f"{self._folder} is a file", "to=parquet: takes a folder")
        others = [
            p.name
            for p in (self._folder.iterdir() if self._folder.is_dir() else ())
            if not _PART.fullmatch(p.name) and not p.name.startswith(".")
        ]
        if others:
            raise LeafkitError(
                f"{self._folder} holds {min(others)!r}, which leafkit embed did not write",
                "name a folder of its own",
            )
        told = {metadata[_SPACE] for _, metadata in self._metadata()}
        if len(told) > 1:
            raise LeafkitError(
                f"{self._folder} holds parts of several spaces", "name a new folder, or delete it"
            )
        if not told:
            return None
        self._about = StoredSpace.from_json(told.pop().decode(), str(self._address))
        return self._about

    def create(self, about: StoredSpace, vectors: Vectors) -> None:
        """See ``Store``; for a folder that is there, too: the scale of int8 is that of all vectors
        that are sent now.
        """
        self._about = about
        if about.precision != "int8":
            self._codec = PLAIN[about.precision](about.space.dim)
        else:
            low = np.full(about.space.dim, np.inf, np.float32)
            high = -low
            for _, block in read_chunks(vectors):
                np.minimum(low, block.min(axis=0), out=low)
                np.maximum(high, block.max(axis=0), out=high)
            self._codec = Int8(linear_scale(low, high, 255))
        with explain_write_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)

    def send(self, rows: Rows) -> int:
        """See ``Store``: the part with these rows, unless it is there as it is."""
        assert self._about is not None
        assert self._codec is not None
        scale = {name: values.tolist() for name, values in self._codec.scale().items()}
        told = {_SPACE: self._about.to_json().encode()}
        if scale:
            told[_SCALE] = json.dumps(scale, sort_keys=True).encode()
        content = hashlib.blake2b(digest_size=16)
        content.update(b"\0".join([*told.values(), *(mark.encode() for mark in rows.marks)]))
        told[_ROWS] = content.hexdigest().encode()
        path = self._folder / f"part-{rows.start // ROWS_PER_PART:05d}.parquet"
        if _read_metadata(path) == told:
            return 0
        codes = self._codec.encode(rows.vectors)
        values = pa.array(np.ascontiguousarray(codes).reshape(-1))
        table = pa.table(
            {
                "id": pa.array([d.id for d in rows.documents], pa.string()),
                "title": pa.array([d.title for d in rows.documents], pa.string()),
                "text": pa.array([d.text for d in rows.documents], pa.string()),
                "source": pa.array([rows.source] * len(rows), pa.string()),
                "vector": pa.FixedSizeListArray.from_arrays(values, codes.shape[1]),
            }
        ).replace_schema_metadata(told)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        write_durably(path, sink.getvalue().to_pybytes())
        return len(rows)

    def finish(self, num_rows: int) -> Sequence[str]:
        """Remove parts of a longer collection that was there before; see ``Store``."""
        surplus = [p for n, p in self._parts() if n * ROWS_PER_PART >= num_rows]
        for path in surplus:
            with explain_write_errors(path):
                path.unlink()
        if not surplus:
            return []
        fsync_path(self._folder)
        return [f"{len(surplus):,} part(s) of a longer collection were removed"]

    def count(self) -> int:
        """See ``Store``."""
        return sum(pq.read_metadata(path).num_rows for _, path in self._parts())

    def search(self, query: np.ndarray, k: int) -> Sequence[Found]:
        """Exact, over all parts, of what their numbers restore to; see ``Store``."""
        if self._about is None:
            raise missing(str(self._address))
        paths = [path for _, path in self._parts()]
        scores, places = [], []
        for number, path in enumerate(paths):
            column = pq.read_table(path, columns=["vector"])["vector"].combine_chunks()
            codes = column.flatten().to_numpy().reshape(len(column), -1)
            # its own scale: a run that was stopped leaves parts of two
            part = _read_codec(self._about, (_read_metadata(path) or {}).get(_SCALE))
            scores.append(part.decode(codes) @ query)
            places += [(number, row) for row in range(len(column))]
        every = np.concatenate(scores) if scores else np.empty(0, np.float32)
        best = np.argsort(-every, kind="stable")[:k]
        texts: dict[int, Any] = {}
        found = []
        for place in best:
            number, row = places[place]
            if number not in texts:
                texts[number] = pq.read_table(paths[number], columns=["id", "title", "text"])
            about = texts[number].slice(row, 1).to_pylist()[0]
            text = f"{about['title']} {about['text']}".strip()
            found.append(Found(about["id"], float(every[place]), text))
        return found

    def close(self) -> None:
        """Nothing is held open."""

    def _parts(self) -> list[tuple[int, Path]]:
        names = sorted(self._folder.iterdir()) if self._folder.is_dir() else []
        matched = [(_PART.fullmatch(path.name), path) for path in names]
        return sorted((int(match[1]), path) for match, path in matched if match)

    def _metadata(self) -> Iterator[tuple[Path, dict[bytes, bytes]]]:
        """What the schema of each part says; one that was not written whole says nothing."""
        for _, path in self._parts():
            told = _read_metadata(path)
            if told is None:
                continue
            if _SPACE not in told:
                raise foreign(str(self._address))
            yield path, told


def _read_metadata(path: Path) -> dict[bytes, bytes] | None:
    """None where the file is missing or damaged, and is written anew."""
    try:
        schema = pq.read_schema(path)
    except (FileNotFoundError, pa.ArrowInvalid):
        return None
    except OSError as err:
        raise LeafkitError(f"cannot read {path}: {err.strerror or err}", "check the file") from err
    return {k: v for k, v in (schema.metadata or {}).items() if k.startswith(b"leafkit")}


def _read_codec(about: StoredSpace, scale: bytes | None) -> Codec:
    if about.precision != "int8":
        return PLAIN[about.precision](about.space.dim)
    told = json.loads(scale or b"{}")
    low, step = (np.asarray(told.get(name, []), np.float32) for name in ("low", "step"))
    if low.shape != (about.space.dim,) or step.shape != (about.space.dim,):
        raise LeafkitError("the int8 parts do not say their scale", "write the folder anew")
    return Int8(LinearScale(low, step, 255))
