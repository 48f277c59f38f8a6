"""Exported folders to the Hugging Face hub: first what would be uploaded, then, when the user says
so, the upload, and the same files down again with their sha256 compared.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from leafkit.core.checkpoint_layout import MANIFEST_FILE
from leafkit.core.console import log
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.file_hashes import read_sha256
from leafkit.exporters.target_names import GROUPS

# what is behind the repository's name, by target; the others stay here
_SUFFIXES = {"student": "", "onnx": "-onnx", "openvino": "-openvino"}
_KEPT = {
    "teacher": "its weights are its makers'",
    "pair": "the teacher's weights are in it",
    "web": "your documents are in it",
}


@dataclass(frozen=True, slots=True)
class Upload:
    """A folder on its way to a repository.

    Attributes:
        repository: OWNER/NAME.
        folder: that is uploaded.
        files: paths in it, with their bytes.
    """

    repository: str
    folder: Path
    files: Mapping[str, int]

    @property
    def num_bytes(self) -> int:
        """Of all files."""
        return sum(self.files.values())


class Hub(Protocol):
    """What is asked of a hub; see ``HuggingFaceHub``."""

    def create(self, repository: str, *, private: bool) -> bool:
        """Make the repository where it is not there; whether the one that is there now is
        private.
        """

    def commit(self, repository: str, folder: Path, names: Sequence[str]) -> str:
        """Upload files of a folder in one commit; its id."""

    def download(self, repository: str, commit: str, name: str, folder: Path) -> Path:
        """A file of a commit, below a folder, never from a cache."""


def check_repository(repository: str) -> None:
    """Refuse what is no OWNER/NAME.

    Raises:
        UsageError: with what one looks like.
    """
    parts = repository.split("/")
    # the hub's own rule for both
    is_name = all(
        re.fullmatch(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?", part)
        and ".." not in part
        and "--" not in part
        and len(part) <= 80
        for part in parts
    )
    if len(parts) != 2 or not is_name:
        raise UsageError(
            f"push={repository!r} is no repository", "push=OWNER/NAME, such as push=me/mini"
        )


def check_uploads(to: Sequence[str], repository: str) -> None:
    """Refuse a push of nothing.

    Args:
        to: targets or groups of them.
        repository: that is pushed to.

    Raises:
        UsageError: none of them is uploaded.
    """
    names = [name for word in to for name in GROUPS.get(word, (word,))]
    if not _SUFFIXES.keys() & set(names):
        raise UsageError(
            f"push={repository}: nothing of {', '.join(names)} can be uploaded",
            f"to= one or more of {', '.join(_SUFFIXES)}",
        )


def plan_push(places: Mapping[str, Path], repository: str) -> list[Upload]:
    """What would be uploaded, and where to.

    The teacher's weights are another's, and a page holds documents: those folders stay here.

    Args:
        places: folder of each target, as an export gives them.
        repository: of the student; its other forms have a suffix.

    Raises:
        UsageError: nothing of that can be uploaded.
    """
    check_uploads(list(places), repository)
    uploads = []
    for name, place in places.items():
        if name in _SUFFIXES:
            found = sorted(path for path in place.rglob("*") if path.is_file())
            names = {path.relative_to(place).as_posix(): path.stat().st_size for path in found}
            kept = {n: size for n, size in names.items() if _is_public(n)}
            uploads.append(Upload(f"{repository}{_SUFFIXES[name]}", place, kept))
    return uploads


def describe_push(
    uploads: Sequence[Upload], places: Mapping[str, Path], *, private: bool, license_id: str
) -> str:
    """The plan in words: repositories, files and sizes, who will see them, what stays here."""
    seen = "private" if private else "public: everyone can read it"
    lines = []
    for upload in uploads:
        total = _size(upload.num_bytes)
        count = f"{len(upload.files)} file{'s' if len(upload.files) > 1 else ''}"
        lines.append(f"{upload.repository} ({seen}, if it is new): {count}, {total}")
        lines += [f"  {_size(size):>9}  {name}" for name, size in upload.files.items()]
    lines += [f"not uploaded: {name}: {why}" for name, why in _KEPT.items() if name in places]
    lines.append(f"license: {license_id or 'none is named; license=apache-2.0 names one'}")
    return "\n".join(lines)


def push(uploads: Sequence[Upload], hub: Hub, *, private: bool) -> dict[str, str]:
    """Upload all folders, a commit each, and verify each by downloading it again.

    Args:
        uploads: as planned.
        hub: where to.
        private: of a repository that is made; one that is there stays what it is.

    Returns:
        Id of the commit by repository.

    Raises:
        LeafkitError: the hub refuses, or gives other bytes back; the message says what is there.
    """
    commits: dict[str, str] = {}
    for upload in uploads:
        is_private = hub.create(upload.repository, private=private)
        if private and not is_private:
            raise LeafkitError(
                f"{upload.repository} is there already and is public: nothing was uploaded to it",
                "private=false uploads to it as it is; or make it private on the hub first",
            )
        names = list(upload.files)
        commit = hub.commit(upload.repository, upload.folder, names)
        _verify(upload, hub, commit)
        commits[upload.repository] = commit
        log(
            f"{upload.repository}@{commit}: {len(names)} files, {_size(upload.num_bytes)}, "
            "downloaded again with equal sha256"
        )
    return commits


def _verify(upload: Upload, hub: Hub, commit: str) -> None:
    for name in upload.files:
        with tempfile.TemporaryDirectory() as folder:
            found = read_sha256(hub.download(upload.repository, commit, name, Path(folder)))
        if found != read_sha256(upload.folder / name):
            raise LeafkitError(
                f"{upload.repository}@{commit}: {name} has another sha256 than "
                f"{upload.folder / name}: the upload is damaged",
                "push again; where it stays so, report it to the hub",
            )


def _is_public(name: str) -> bool:
    """Whether a file is for others: no manifest, nothing hidden."""
    return name != MANIFEST_FILE and not any(part.startswith(".") for part in name.split("/"))


def _size(num_bytes: int) -> str:
    size, unit = float(num_bytes), "B"
    for larger in ("kB", "MB", "GB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
