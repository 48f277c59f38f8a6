"""Token ids of many texts as one flat array, in memory or mapped from files.

A list of Python integers takes 36 to 44 bytes a token; a flat int32 array takes four, and one that
is mapped from a file is shared by all processes of a machine and given back by the system when
memory is short.

Layout of a folder of tokens:

    ids.int32        all token ids, one text after the other, little endian
    offsets.int64    where each text begins, and the last one ends: a number more than texts
    tokens.json      the commit record, written last: numbers of texts and tokens, sha256 of both
                     files, and the identity of what was read

Files without their commit record do not exist.

Shapes: n texts, T tokens of all of them.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import overload

import numpy as np

from leafkit.core.artifact import fsync_path, write_durably
from leafkit.core.checkpoint_layout import TOKEN_IDS_FILE, TOKEN_OFFSETS_FILE, TOKENS_FILE
from leafkit.core.errors import LeafkitError, explain_write_errors
from leafkit.core.file_hashes import read_sha256
from leafkit.data.mapped_rows import map_numbers

FORMAT = 1  # of the commit record
_ID, _OFFSET = np.dtype("<i4"), np.dtype("<i8")
_TOKENS_PER_CHUNK = 2**22
Lists = Sequence[Sequence[int] | np.ndarray]  # token ids by text


class FlatTokens(Sequence[np.ndarray]):
    """Token ids of n texts; item i is a view of text i's, (its length,) int32, that must not be
    changed.

    Args:
        ids: (T,) int32, one text after the other.
        offsets: (n + 1,) int64 into ``ids``; a slice of a longer array's makes a slice of its
            texts.
    """

    def __init__(self, ids: np.ndarray, offsets: np.ndarray) -> None:
        self._ids, self._offsets = ids, offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, wanted: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, wanted: slice) -> FlatTokens: ...

    def __getitem__(self, wanted: int | slice) -> np.ndarray | FlatTokens:
        if isinstance(wanted, slice):
            start, stop, step = wanted.indices(len(self))
            if step != 1:
                raise ValueError("texts in a row can be sliced, not every so many")
            return FlatTokens(self._ids, self._offsets[start : max(start, stop) + 1])
        number = range(len(self))[wanted]  # an IndexError of its own, and numbers from behind
        found: np.ndarray = self._ids[self._offsets[number] : self._offsets[number + 1]]
        return found

    def __iter__(self) -> Iterator[np.ndarray]:
        ends = self._offsets.tolist()
        for start, stop in pairwise(ends):
            yield self._ids[start:stop]

    @property
    def lengths(self) -> np.ndarray:
        """(n,) int64 tokens of each text."""
        return np.diff(self._offsets)

    @property
    def num_tokens(self) -> int:
        """T, of all texts."""
        return int(self._offsets[-1] - self._offsets[0])

    @property
    def nbytes(self) -> int:
        """Bytes of ids and offsets, in memory or on disk."""
        return self.num_tokens * _ID.itemsize + self._offsets.nbytes

    def chunks(self) -> Iterator[np.ndarray]:
        """All ids in order, without regard to texts, some millions at a time."""
        for start in range(int(self._offsets[0]), int(self._offsets[-1]), _TOKENS_PER_CHUNK):
            yield self._ids[start : min(start + _TOKENS_PER_CHUNK, int(self._offsets[-1]))]

    def equals(self, other: FlatTokens) -> bool:
        """Whether another one has the same ids of the same texts."""
        return (
            len(self) == len(other)
            and np.array_equal(self.lengths, other.lengths)
            and all(
                np.array_equal(a, b) for a, b in zip(self.chunks(), other.chunks(), strict=True)
            )
        )


def flatten(parts: Iterable[Lists]) -> FlatTokens:
    """Token ids of texts, which come in parts, as arrays in memory. No more than one part is held
    beside the result.

    >>> [ids.tolist() for ids in flatten([[[5, 6], []], [[7]]])]
    [[5, 6], [], [7]]
    """
    # arrays of Python's grow in place; joining numpy's would hold everything twice
    ids, offsets = array("i"), array("q", [0])
    for part in parts:
        of_part, lengths = _join(part)
        ids.frombytes(of_part.tobytes())
        offsets.frombytes((np.cumsum(lengths) + offsets[-1]).tobytes())
    return FlatTokens(np.frombuffer(ids, dtype=np.int32), np.frombuffer(offsets, dtype=np.int64))


def _join(part: Lists) -> tuple[np.ndarray, np.ndarray]:
    """(tokens,) int32 of some texts one after the other, and (texts,) int64 how many each has."""
    lengths = np.fromiter(map(len, part), dtype=_OFFSET, count=len(part))
    ids = np.fromiter(chain.from_iterable(part), dtype=_ID, count=int(lengths.sum()))
    return ids, lengths


@dataclass(frozen=True, slots=True)
class _Record:
    """The commit record."""

    identity: str
    texts: int
    tokens: int
    sha256: dict[str, str]
    format: int = FORMAT


def write_tokens(folder: Path, identity: str, parts: Iterable[Lists]) -> None:
    """Commit the token ids of texts, which come in parts: at every moment the folder holds all of
    them or none. No more than one part is held.

    Args:
        folder: where to; what it holds is replaced.
        identity: of what is read and how.
        parts: token ids by text, in order.

    Raises:
        LeafkitError: the disk refuses.
    """
    names = (TOKEN_IDS_FILE, TOKEN_OFFSETS_FILE)
    digests = {name: hashlib.sha256() for name in names}
    num_texts = num_tokens = 0
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # it would commit files that are replaced one by one
        (folder / TOKENS_FILE).unlink(missing_ok=True)
        temporaries = {name: folder / f".{name}.tmp" for name in names}
        try:
            with (
                temporaries[TOKEN_IDS_FILE].open("wb") as ids_stream,
                temporaries[TOKEN_OFFSETS_FILE].open("wb") as offsets_stream,
            ):
                streams = dict(zip(names, (ids_stream, offsets_stream), strict=True))

                def write(name: str, numbers: np.ndarray) -> None:
                    content = numbers.tobytes()
                    streams[name].write(content)
                    digests[name].update(content)

                write(TOKEN_OFFSETS_FILE, np.zeros(1, dtype=_OFFSET))
                for part in parts:
                    ids, lengths = _join(part)
                    write(TOKEN_IDS_FILE, ids)
                    write(TOKEN_OFFSETS_FILE, np.cumsum(lengths) + num_tokens)
                    num_texts, num_tokens = num_texts + len(part), num_tokens + len(ids)
                for stream in streams.values():
                    stream.flush()
                    os.fsync(stream.fileno())
            for name, temporary in temporaries.items():
                os.replace(temporary, folder / name)
        except BaseException:
            for temporary in temporaries.values():
                temporary.unlink(missing_ok=True)
            raise
        fsync_path(folder)
    sha256 = {name: digest.hexdigest() for name, digest in digests.items()}
    record = _Record(identity, num_texts, num_tokens, sha256)
    write_durably(folder / TOKENS_FILE, json.dumps(asdict(record), indent=1).encode())


def open_tokens(
    folder: Path, identity: str, num_texts: int, *, is_verified: bool = False
) -> FlatTokens | None:
    """The token ids in a folder, mapped from its files; None where nothing was committed there.

    Args:
        folder: as ``write_tokens`` left it.
        identity: of what was to be read, and how.
        num_texts: n.
        is_verified: this process, or another one of this launch, has compared the files with their
            sha256 already.

    Raises:
        LeafkitError: a file is missing, cut short, changed, or of something else; the message names
            it.
    """
    record = _read_record(folder / TOKENS_FILE)
    if record is None:
        return None
    if (record.identity, record.texts) != (identity, num_texts):
        raise _damaged(folder / TOKENS_FILE, "is of other texts or another tokenizer")
    sizes = {
        TOKEN_IDS_FILE: record.tokens * _ID.itemsize,
        TOKEN_OFFSETS_FILE: (record.texts + 1) * _OFFSET.itemsize,
    }
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            raise _damaged(path, f"is missing or has not the {size} bytes of its commit record")
        if not is_verified and read_sha256(path) != record.sha256[name]:
            raise _damaged(path, "does not have the sha256 of its commit record")
    try:
        return FlatTokens(
            map_numbers(folder / TOKEN_IDS_FILE, _ID),
            map_numbers(folder / TOKEN_OFFSETS_FILE, _OFFSET),
        )
    except OSError as err:
        raise _damaged(Path(err.filename), f"cannot be read: {err.strerror}") from err


def _read_record(path: Path) -> _Record | None:
    try:
        record = _Record(**json.loads(path.read_text(encoding="utf-8")))
        if record.format != FORMAT or {type(record.texts), type(record.tokens)} != {int}:
            raise ValueError("it is of another format")
        if set(record.sha256) != {TOKEN_IDS_FILE, TOKEN_OFFSETS_FILE}:
            raise ValueError("it names other files")
    except FileNotFoundError:
        return None
    except OSError as err:
        raise _damaged(path, f"cannot be read: {err.strerror}") from err
    except (ValueError, TypeError, RecursionError) as err:
        raise _damaged(path, f"is no commit record: {err}") from err
    return record


def _damaged(path: Path, what: str) -> LeafkitError:
    return LeafkitError(f"{path} {what}", f"delete {path.parent}: its texts are tokenized anew")
