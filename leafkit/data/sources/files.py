"""Local data files: what is wrong with one, its lines, its identity."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from leafkit.config import DataConfig
from leafkit.core.artifact import fingerprint
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.file_hashes import sha256_of_file
from leafkit.core.watch import watch_folders

COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_MAX_LINE_BYTES = 2**28  # a longer line is no row: 256 MiB of text
_UTF16, _UTF32 = (b"\xff\xfe", b"\xfe\xff"), (b"\xff\xfe\0\0", b"\0\0\xfe\xff")


def what_is_wrong(path: Path, kind: str = "file") -> str:
    """Why a path is no file (or "folder") that can be read; "" where it is one."""
    try:
        if path.is_file() if kind == "file" else path.is_dir():
            return ""
        if path.is_dir():
            return "is a folder, not a file"
        if path.is_file():
            return "is a file, not a folder"
        if path.is_symlink():
            return f"is a link to {path.readlink()}, which is not there"
        return f"is no {kind}" if path.exists() else "is missing"
    except OSError as err:  # a name too long, a folder that must not be looked into
        return f"cannot be looked at: {err.strerror}"
    except ValueError as err:  # a NUL character
        return f"is no name of a {kind}: {err}"


def open_path(uri: str, path: str, kind: str = "file") -> Path:
    """The path of a source.

    Raises:
        UsageError: there is no such file or folder.
    """
    found = Path(path)
    if reason := what_is_wrong(found, kind):
        what = f"no such {kind}" if reason == "is missing" else f"it {reason}"
        raise UsageError(f"source {uri}: {what}: {found.absolute()}", "check the path")
    return found


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the system and decompressors raise into one line that names the file.

    Raises:
        LeafkitError: the file cannot be read.
    """
    try:
        yield
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as err:
        said = getattr(err, "strerror", None) or str(err) or type(err).__name__
        raise LeafkitError(
            f"{path} cannot be read: {said}", "check the file, its rights and its compression"
        ) from err


def read_lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Lines of a text file, decompressed where its name says so, each with where it stands.

    Raises:
        LeafkitError: it cannot be read, is not in UTF-8 from its first bytes on, or has a line that
            is no row by its length.
    """
    with reading(path), _open(path) as stream:
        number = 0
        while line := stream.readline(_MAX_LINE_BYTES + 1):
            number += 1
            if number == 1 and line.startswith(_UTF16 + _UTF32):
                name = "UTF-32" if line.startswith(_UTF32) else "UTF-16"
                raise LeafkitError(f"{path} is written in {name}", "write it in UTF-8")
            if len(line) > _MAX_LINE_BYTES:
                raise LeafkitError(
                    f"{path}:{number}: a line of more than {_MAX_LINE_BYTES:,} bytes",
                    "write one row per line",
                )
            yield f"{path}:{number}", line


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".zst":
        import pyarrow  # type: ignore[import-untyped]

        packed = pyarrow.input_stream(str(path), compression="zstd")
        return io.BufferedReader(cast(io.RawIOBase, packed))
    opener: Any = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}.get(path.suffix, open)
    return cast(IO[bytes], opener(path, "rb"))


def fingerprint_files(uri: str, root: Path, files: Iterable[Path], data: DataConfig) -> str:
    """Identity of the content of files, and of what decides how rows are read.

    Args:
        uri: of the source.
        root: names of files count from here.
        files: at or below it.
        data: the policy for bad rows and the names of columns.

    Raises:
        LeafkitError: one cannot be read.
    """
    if root.is_dir():
        watch_folders(root)
    hashes = []
    for path in files:
        with reading(path):
            hashes.append((str(path.relative_to(root.parent)), sha256_of_file(path)))
    policy: list[Any] = [data.on_bad_row, data.max_bad_rows]
    return fingerprint([uri, policy, hashes])
