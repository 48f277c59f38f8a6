"""The vector store: teacher vectors computed once, in immutable fixed-width shards.

Layout of a store folder, for shard k:

    00000.vectors   rows x dim numbers, C order, little endian, float16 unless said
    00000.hashes    rows x 8 bytes, BLAKE2b of each row's text
    00000.json      the commit record, written last: rows, dim, dtype, sha256 of both files, the
    space
    shards.json     how many rows a shard has; 2,048 where it is missing

A shard without its commit record does not exist. Who opens a store checks size, sha256, space and
text hashes of each shard, so that damaged vectors, stale ones, another teacher's and vectors in
another order are refused instead of giving bad rankings. Inside a run a sha256 is remembered while
its file does not change (``leafkit.core.file_hashes``).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from leafkit.core.artifact import fsync_path, write_durably
from leafkit.core.checkpoint_layout import vector_shard_file
from leafkit.core.errors import LeafkitError, explain_write_errors
from leafkit.core.file_hashes import sha256_of_file
from leafkit.data.mapped_rows import MappedRows
from leafkit.data.storable import to_storable
from leafkit.data.stored.shard_plan import read_rows_per_shard

_HASH_BYTES = 8
HASH = np.dtype("<u8")  # of a text, as it is kept
_HASHED = ("vectors", "hashes")  # files of a shard whose sha256 its commit record holds
_ROWS_PER_GATHER = 4096  # bounds what a gather holds beside its result
# texts of one shard whose vectors are not all equal by chance: fewer may differ in case alone
_TEXTS_THAT_DIFFER = 16


@dataclass(frozen=True, slots=True)
class Space:
    """Everything that decides which vector a text gets. Vectors of two spaces must never be
    compared.

    Attributes:
        teacher: fingerprint of the model's weights and configuration.
        dim: dimension of the vectors.
        prompt: text put before each input.
        max_tokens: inputs are cut here.
        pooling: how token vectors become one vector.
        normalized: whether vectors have length one; they are compared by inner product either way,
            which is their cosine then.
    """

    teacher: str
    dim: int
    prompt: str
    max_tokens: int
    pooling: str
    normalized: bool

    @property
    def similarity(self) -> str:
        """What vectors are compared by: "cosine", or "dot", the inner product of any lengths."""
        return "cosine" if self.normalized else "dot"


def hash_texts(texts: Sequence[str]) -> np.ndarray:
    """(n,) uint64: one hash per text, by which rows are recognised."""
    digests = (
        hashlib.blake2b(t.encode("utf-8", "replace"), digest_size=_HASH_BYTES).digest()
        for t in texts
    )
    return np.frombuffer(b"".join(digests), dtype=HASH)


@dataclass(frozen=True, slots=True)
class Shard:
    """One planned shard: its number and the half-open range of rows it holds."""

    number: int
    start: int
    stop: int


class VectorStore:
    """Vectors of ``texts`` in ``space``, row i for text i.

    Args:
        folder: where the shards lie.
        space: the space that vectors must belong to.
        texts: the texts, in order.
        dtype: of the stored numbers, "float16" or "float32".
        rows_per_shard: unit of resuming: at most one shard of work is lost when the machine dies.
            0 takes what the store in the folder was begun with.
    """

    def __init__(
        self,
        folder: Path,
        space: Space,
        texts: Sequence[str],
        dtype: str = "float16",
        *,
        rows_per_shard: int = 0,
    ) -> None:
        rows_per_shard = rows_per_shard or read_rows_per_shard(folder)
        self.folder, self.space, self.dtype = folder, space, np.dtype(dtype).newbyteorder("<")
        self._hashes = hash_texts(texts)
        self._plan = [
            Shard(number, start, min(start + rows_per_shard, len(texts)))
            for number, start in enumerate(range(0, len(texts), rows_per_shard))
        ]
        paths = [folder / vector_shard_file(shard.number, "vectors") for shard in self._plan]
        self._rows = MappedRows(paths, rows_per_shard, len(texts), space.dim, dtype=self.dtype)

    def __len__(self) -> int:
        return len(self._hashes)

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return self.space.dim

    @property
    def bytes_per_row(self) -> int:
        """On disk, commit records left out."""
        return self.dim * self.dtype.itemsize + _HASH_BYTES

    @property
    def shards(self) -> list[Shard]:
        """All that are planned, committed or not."""
        return list(self._plan)

    def missing(self) -> list[Shard]:
        """Shards that are not committed yet.

        Raises:
            LeafkitError: a committed shard belongs to another space, to other texts, or is damaged.
        """
        return [shard for shard in self._plan if not self._is_committed(shard)]

    def has(self, shard: Shard) -> bool:
        """Whether a shard is committed, by whatever process; what it holds is not looked at."""
        return self._record_path(shard).exists()

    def hashes(self, shard: Shard | None = None) -> np.ndarray:
        """(rows,) uint64 hashes of the texts of a shard, or of all."""
        return self._hashes if shard is None else self._hashes[shard.start : shard.stop]

    def write(self, shard: Shard, vectors: np.ndarray) -> None:
        """Commit one shard.

        Args:
            shard: one of ``missing()``.
            vectors: (shard.stop - shard.start, dim), any float type.

        Raises:
            LeafkitError: wrong shape, a vector that the store's numbers cannot hold (the row is
                named), one vector for all texts, or the disk refuses.
        """
        rows = shard.stop - shard.start
        if vectors.shape != (rows, self.dim):
            raise LeafkitError(
                f"vectors of shape {vectors.shape} where shard {shard.number} needs "
                f"{(rows, self.dim)}"
            )
        stored = to_storable(vectors, self.dtype, shard.start)
        self._refuse_equal(shard, stored)
        names = {kind: vector_shard_file(shard.number, kind) for kind in _HASHED}
        contents = {"vectors": stored, "hashes": self._hashes[shard.start : shard.stop]}
        with explain_write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            for kind, name in names.items():
                temporary = self.folder / f".{name}.tmp"
                with temporary.open("wb") as stream:
                    stream.write(np.ascontiguousarray(contents[kind]).data)
                    stream.flush()
                    os.fsync(stream.fileno())
                os.replace(temporary, self.folder / name)
            fsync_path(self.folder)
        record = {
            "rows": rows,
            "start": shard.start,
            "dtype": self.dtype.name,
            "space": asdict(self.space),
            "sha256": {
                name: hashlib.sha256(np.ascontiguousarray(contents[kind]).data).hexdigest()
                for kind, name in names.items()
            },
        }
        write_durably(self._record_path(shard), json.dumps(record, indent=1).encode())

    def _refuse_equal(self, shard: Shard, stored: np.ndarray) -> None:
        texts = len(np.unique(self._hashes[shard.start : shard.stop]))
        if texts >= _TEXTS_THAT_DIFFER and (stored == stored[0]).all():
            what = "a vector of zeros" if not stored[0].any() else "one and the same vector"
            raise LeafkitError(
                f"{texts:,} different texts, from row {shard.start} on, have {what}: nothing can "
                f"be found by it",
                "see what the model makes of two different texts: it may lack its weights or its "
                "tokenizer, or a prompt may leave no room for the text",
            )

    def __getitem__(self, rows: slice | np.ndarray | Sequence[int]) -> np.ndarray:
        """Vectors of some rows as float32, (number of rows, dim)."""
        wanted = (
            np.arange(*rows.indices(len(self)))
            if isinstance(rows, slice)
            else np.asarray(rows, dtype=np.int64)
        )
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"rows {wanted.min()} to {wanted.max()} of a store of {len(self)}")
        out = np.empty((len(wanted), self.dim), dtype=np.float32)
        for start in range(0, len(wanted), _ROWS_PER_GATHER):
            part = wanted[start : start + _ROWS_PER_GATHER]
            out[start : start + len(part)] = self._gather(part)
        return out

    def _gather(self, rows: np.ndarray) -> np.ndarray:
        try:
            return self._rows[rows]
        except OSError as err:
            raise self._damaged(Path(err.filename), f"cannot be read: {err.strerror}") from err

    def chunks(self, num_rows: int = 16384) -> Iterator[tuple[int, np.ndarray]]:
        """``(first row, float32 vectors)`` over the whole store, in order, in bounded memory."""
        for start in range(0, len(self), num_rows):
            yield start, self[start : start + num_rows]

    def _check_sha256(self, record: Mapping[str, Any]) -> None:
        for name, expected in record["sha256"].items():
            if not (self.folder / name).is_file():
                raise self._damaged(self.folder / name, "is missing")
            if sha256_of_file(self.folder / name) != expected:
                raise self._damaged(
                    self.folder / name, "does not have the sha256 of its commit record"
                )

    def _record_path(self, shard: Shard) -> Path:
        return self.folder / vector_shard_file(shard.number, "json")

    def _damaged(self, path: Path, what: str) -> LeafkitError:
        return LeafkitError(
            f"{path} {what}",
            f"delete {self.folder} and run again: only these vectors are computed anew",
        )

    def _read_record(self, shard: Shard) -> Mapping[str, Any]:
        path = self._record_path(shard)
        try:
            record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            # a missing key is damage
            (
                record["rows"],
                record["space"].items,
                *(record["sha256"][path.with_suffix(f".{kind}").name] for kind in _HASHED),
                record["dtype"],
            )
        except OSError as err:
            raise self._damaged(path, f"cannot be read: {err.strerror}") from err
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
            raise self._damaged(path, f"is not a commit record: {err}") from err
        return record

    def _is_committed(self, shard: Shard) -> bool:
        if not self.has(shard):
            return False
        record = self._read_record(shard)
        found = record["space"]
        for key, expected in asdict(self.space).items():
            if found.get(key) != expected:
                raise LeafkitError(
                    f"{self.folder} holds vectors of another space: {key} is {found.get(key)!r} "
                    f"there and {expected!r} here",
                    "point at the store of this teacher, or delete the folder to compute its "
                    "vectors again",
                )
        rows = shard.stop - shard.start
        sizes = {"vectors": rows * self.dim * self.dtype.itemsize, "hashes": rows * _HASH_BYTES}
        if record["rows"] != rows or record["dtype"] != self.dtype.name:
            raise self._damaged(
                self._record_path(shard),
                f"has {record['rows']} {record['dtype']} rows where {rows} are needed",
            )
        for kind, size in sizes.items():
            path = self.folder / vector_shard_file(shard.number, kind)
            if not path.is_file() or path.stat().st_size != size:
                raise self._damaged(
                    path, f"is missing or has not the {size} bytes of its commit record"
                )
        self._check_sha256(record)
        hashes = np.fromfile(self.folder / vector_shard_file(shard.number, "hashes"), dtype=HASH)
        wrong = np.flatnonzero(hashes != self._hashes[shard.start : shard.stop])
        if len(wrong):
            raise LeafkitError(
                f"{self.folder}: row {shard.start + int(wrong[0])} belongs to another text "
                f"({len(wrong)} such rows in shard"
                f" {shard.number}): the texts changed or are in another order",
                "delete the folder to compute the vectors of these texts",
            )
        return True
