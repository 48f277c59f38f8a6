"""Artifacts: directories that are either complete and verified, or not there.

A step writes into a draft beside the target; the draft gets a manifest with the sha256 of every
file, everything is fsynced, and a rename makes it the artifact. A machine killed at any point
leaves the old artifact or the new one.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from leafkit.core.checkpoint_layout import MANIFEST_FILE, VERIFIED_FILE
from leafkit.core.errors import LeafkitError, explain_write_errors
from leafkit.core.file_hashes import HashMemory, read_sha256
from leafkit.core.permissions import share
from leafkit.core.version import __version__

FORMAT = 2  # of the manifest; 1 called the step "stage" and had no method
_RECORDED_PACKAGES = (
    "torch",
    "transformers",
    "lightning",
    "tokenizers",
    "numpy",
    "faiss-cpu",
    "faiss-gpu",
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an artifact says of itself.

    Attributes:
        step: name of the step that made it.
        inputs: fingerprints of everything the result depends on, by name; a step whose inputs and
            method are equal is up to date.
        recipe: the resolved recipe, as plain data.
        method: identity of the code that made it; see ``leafkit.core.method``. "" where the
            artifact holds what it was given.
        metrics: figures the step measured.
        files: sha256 of every file, by path relative to the artifact.
        versions: versions of leafkit, Python and the packages under it.
        created: UTC time, ISO 8601.
        commit: git commit of the code where it runs from a checkout, else "".
    """

    step: str
    inputs: dict[str, Any]
    recipe: dict[str, Any]
    method: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    created: str = ""
    commit: str = ""
    format: int = FORMAT

    def fingerprint(self) -> str:
        """Identity of the artifact's content: the step and the files it holds.

        What it was made from does not count: a step that is run again and gives the same files
        leaves everything that depends on it up to date.
        """
        return fingerprint({"step": self.step, "files": self.files})


def fingerprint(value: Any) -> str:
    """First 16 hex digits of the sha256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def fsync_path(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file in one step: temporary file beside it, fsync, rename, fsync of the folder.

    Raises:
        LeafkitError: disk full or permission denied.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with explain_write_errors(path):
        try:
            with temporary.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        fsync_path(path.parent)


def versions() -> dict[str, str]:
    """Versions of leafkit, Python and the packages that decide about numbers."""
    found = {"leafkit": __version__, "python": platform.python_version()}
    for name in _RECORDED_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def git_commit() -> str:
    """Commit of the checkout this package runs from, read from .git without running git; "" outside
    a checkout.
    """
    git = Path(__file__).resolve().parents[2] / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        reference = head.removeprefix("ref: ")
        loose = git / reference
        if loose.is_file():
            return loose.read_text().strip()
        packed = (git / "packed-refs").read_text().splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {reference}")), "")
    except OSError:
        return ""


@contextlib.contextmanager
def publish(
    target: Path,
    step: str,
    inputs: Mapping[str, Any],
    recipe: Mapping[str, Any],
    *,
    metrics: dict[str, Any] | None = None,
    method: str = "",
) -> Iterator[Path]:
    """Yield an empty draft folder; when the body ends without an exception it becomes the artifact
    ``target``.

    ``metrics`` may be filled by the body. An artifact that was at ``target`` stays until the new
    one is durable.

    Raises:
        LeafkitError: disk full, permission denied, or something else than an artifact is there;
            what stood at ``target`` is intact.
    """
    with explain_write_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        recover(target)
        refuse_foreign(target)
        draft = target.with_name(f".{target.name}.draft")
        if draft.exists():
            shutil.rmtree(draft)
        draft.mkdir()
        try:
            yield draft
            seal(draft, step, inputs, recipe, metrics=metrics or {}, method=method)
            _swap(draft, target)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise


def refuse_foreign(target: Path) -> None:
    """Refuse to put an artifact where something else stands.

    Raises:
        LeafkitError: a file, or a folder without a manifest, is there.
    """
    if os.path.lexists(target) and not (target / MANIFEST_FILE).is_file():
        raise LeafkitError(
            f"{target} is no leafkit artifact and will not be replaced",
            "move it elsewhere, or choose another place with checkpoints=DIR",
        )


def seal(
    folder: Path,
    step: str,
    inputs: Mapping[str, Any],
    recipe: Mapping[str, Any],
    *,
    metrics: Mapping[str, Any],
    method: str,
) -> Manifest:
    """Write the manifest of a finished folder, with the sha256 of every file, and make all of it
    durable.
    """
    share(folder)
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name == MANIFEST_FILE or path.name.startswith("."):
            continue
        files[name] = read_sha256(path)
        fsync_path(path)
    for sub in sorted({p.parent for p in folder.rglob("*") if p.is_file()} | {folder}):
        fsync_path(sub)
    manifest = Manifest(
        step=step,
        inputs=dict(inputs),
        recipe=dict(recipe),
        method=method,
        metrics=dict(metrics),
        files=files,
        versions=versions(),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        commit=git_commit(),
    )
    write_durably(folder / MANIFEST_FILE, json.dumps(asdict(manifest), indent=1).encode())
    return manifest


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _swap(draft: Path, target: Path) -> None:
    old = _old(target)
    if old.exists():
        shutil.rmtree(old)
    if target.exists():
        os.rename(target, old)
    os.rename(draft, target)
    fsync_path(target.parent)
    if old.exists():
        shutil.rmtree(old)


def recover(target: Path) -> None:
    """Undo a swap that was cut short between its two renames."""
    old = _old(target)
    if old.exists() and not target.exists():
        os.rename(old, target)


def read_manifest(folder: Path) -> Manifest:
    """Manifest of an artifact, without looking at its files.

    Raises:
        LeafkitError: there is no such artifact, or its manifest is unreadable or of another format.
    """
    recover(folder)
    path = folder / MANIFEST_FILE
    if not folder.is_dir():
        raise LeafkitError(
            f"{folder}: no such artifact", "check the path, or run the command that makes it"
        )
    if not path.is_file():
        raise LeafkitError(
            f"{folder} is not a leafkit artifact: it has no {MANIFEST_FILE}",
            "point at a folder that leafkit wrote",
        )
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        found = raw.get("format")
        if found == 1:
            raw["step"] = raw.pop("stage")
        if found in {1, FORMAT}:
            manifest = Manifest(**raw)
            if isinstance(manifest.inputs, dict) and isinstance(manifest.files, dict):
                return manifest
            raise ValueError("inputs and files must be objects")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise LeafkitError(
            f"{path} is corrupt: {err}", f"delete {folder} and run the command again"
        ) from err
    raise LeafkitError(
        f"{path} has format {found}; this leafkit reads 1 to {FORMAT}",
        "use the leafkit that wrote it",
    )


def open_artifact(folder: Path, step: str | None = None) -> Manifest:
    """Manifest of an artifact whose every file has been verified against its sha256.

    What was found right is remembered beside the files, with what they looked like: a file that
    has not changed since is not read again.

    Raises:
        LeafkitError: missing, foreign, of another step, or a file is missing or changed; the
            message names it.
    """
    manifest = read_manifest(folder)
    if step is not None and manifest.step != step:
        raise LeafkitError(
            f"{folder} holds a {manifest.step!r} artifact where {step!r} is needed",
            "check the path",
        )
    memory = HashMemory(folder / VERIFIED_FILE)
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise LeafkitError(
                f"{folder} is incomplete: {name} is missing",
                f"delete {folder} and run the command again",
            )
        if memory.sha256(path, name) != expected:
            raise LeafkitError(
                f"{path} does not have the sha256 in its manifest: it was changed or damaged",
                f"delete {folder} and run the command again",
            )
    memory.save()
    return manifest


def find_changes(
    folder: Path, step: str, inputs: Mapping[str, Any], *, method: str = ""
) -> list[str] | None:
    """What differs between a step's kept result and the one that is wanted: names of inputs, and
    "method" for its code; none where the result is up to date, and then its files are verified.

    Returns:
        None where there is no result of this step.

    Raises:
        LeafkitError: the result is damaged.
    """
    recover(folder)
    if not (folder / MANIFEST_FILE).is_file():
        return None
    manifest = read_manifest(folder)
    if manifest.step != step:
        return None
    # as they are on disk: a tuple is a list there
    wanted = json.loads(json.dumps(dict(inputs), default=str))
    changed = [
        name
        for name in sorted(wanted.keys() | manifest.inputs.keys())
        if fingerprint(wanted.get(name)) != fingerprint(manifest.inputs.get(name))
        or (name in wanted) != (name in manifest.inputs)
    ]
    if manifest.method != method:
        changed.append("method")
    if not changed:
        open_artifact(folder)
    return changed


def is_up_to_date(folder: Path, step: str, inputs: Mapping[str, Any], *, method: str = "") -> bool:
    """Whether ``folder`` holds this step's verified result for exactly these inputs and this
    method. A damaged artifact raises.
    """
    return find_changes(folder, step, inputs, method=method) == []
