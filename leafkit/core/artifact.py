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
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from leafkit.core.checkpoint_layout import (
    CARD_FILE,
    LOGS_FOLDER,
    MANIFEST_FILE,
    VERIFIED_FILE,
)
from leafkit.core.errors import LeafkitError, explain_write_errors, remedy_of
from leafkit.core.file_hashes import HashMemory, is_stamped, read_sha256
from leafkit.core.permissions import share
from leafkit.core.swap import draft_of_file, recover, swap_in, wait_for
from leafkit.core.version import git_commit, versions

FORMAT = 3  # of the manifest; 1 called the step "stage" and had no method, 2 had no seal

_FIELD_KINDS = {
    **dict.fromkeys(("step", "method", "created", "commit", "seal"), str),
    **dict.fromkeys(("inputs", "recipe", "metrics", "files", "versions"), dict),
}


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
        seal: hash of all the above, so that an edited figure shows; see ``seal_of``.
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
    seal: str = ""

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


def seal_of(content: Mapping[str, Any]) -> str:
    """Hash of a JSON object without its own key "seal"."""
    return fingerprint({key: value for key, value in content.items() if key != "seal"})


def fsync_path(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file in one step: temporary file beside it, fsync, rename, fsync of the folder.
    What killed processes of this machine left of the same attempt is removed.

    Raises:
        LeafkitError: disk full or permission denied.
    """
    with explain_write_errors(path):
        with draft_of_file(path) as draft, draft.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        fsync_path(path.parent)


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
            swap_in(draft, target)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise


def refuse_foreign(target: Path) -> None:
    """Refuse to replace what leafkit did not write, or a card that was edited since.

    Raises:
        LeafkitError: such a file is there; the message names it.
    """
    hint = "move it elsewhere, or choose another place with checkpoints=DIR"
    if not os.path.lexists(target):
        return
    if not (target / MANIFEST_FILE).is_file():
        raise LeafkitError(f"{target} is no leafkit artifact and will not be replaced", hint)
    try:
        written = read_manifest(target).files
    except LeafkitError:
        return  # a damaged one is to be replaced
    for path in sorted(target.rglob("*")):
        name = path.relative_to(target)
        if path.is_dir() or str(name) == MANIFEST_FILE or _is_by_the_way(name):
            continue
        if name.as_posix() not in written:
            if is_stamped(path):
                continue  # the card, which is written when all steps are done
            raise LeafkitError(f"{path} was not written by leafkit and will not be removed", hint)
        if path.name == CARD_FILE and read_sha256(path) != written[name.as_posix()]:
            raise LeafkitError(
                f"{path} was edited since leafkit wrote it and will not be replaced", hint
            )


def _is_by_the_way(name: Path) -> bool:
    """Whether a file is a cache, or the log of a logger that may still write."""
    return name.parts[0] == LOGS_FOLDER or any(
        part.startswith(".") or part == "__pycache__" for part in name.parts
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
    # as it will be read: a key that is a number is text in JSON
    content = json.loads(json.dumps(asdict(manifest)))
    content["seal"] = seal_of(content)
    write_durably(folder / MANIFEST_FILE, json.dumps(content, indent=1).encode())
    return replace(manifest, seal=content["seal"])


def read_manifest(folder: Path) -> Manifest:
    """Manifest of an artifact, without looking at its files.

    Raises:
        LeafkitError: there is no such artifact, or its manifest is unreadable or of another format.
    """
    wait_for(folder)
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
        if type(found) is int and 1 <= found <= FORMAT:
            return _check_manifest(raw, is_sealed=found >= 3)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise LeafkitError(
            f"{path} is corrupt: {err}", f"delete {folder} and run the command again"
        ) from err
    except OSError as err:
        raise LeafkitError(f"cannot read {path}: {err.strerror}", remedy_of(err)) from err
    raise LeafkitError(
        f"{path} has format {found}; this leafkit reads 1 to {FORMAT}",
        "use the leafkit that wrote it",
    )


def _check_manifest(raw: Mapping[str, Any], is_sealed: bool) -> Manifest:
    """The manifest, where every field has its type and nothing was edited.

    Raises:
        ValueError: something is wrong with it.
        TypeError: a field is unknown or missing.
    """
    manifest = Manifest(**raw)
    for name, kind in _FIELD_KINDS.items():
        if not isinstance(getattr(manifest, name), kind):
            raise ValueError(f"{name} must be {'an object' if kind is dict else 'text'}")
    for name in ("files", "versions"):
        if not all(isinstance(value, str) for value in getattr(manifest, name).values()):
            raise ValueError(f"{name} must hold texts")
    if any(_leads_out(name) for name in manifest.files):
        raise ValueError("a file lies outside of the folder")
    if is_sealed and manifest.seal != seal_of(raw):
        raise ValueError("it was edited since leafkit wrote it")
    return manifest


def _leads_out(name: str) -> bool:
    return Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name


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
    wait_for(folder)
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
