"""A built-in model on any machine: out of installed wheels, else from the hub; its hashes are
verified either way.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from leafkit.core.builtin_models.table import BUILTIN_MODELS, BUILTIN_NAMES, BuiltinModel, Part
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.file_hashes import sha256_of_file
from leafkit.models.builtin.assemble import (
    assembled_folder,
    differing_file,
    open_assembled,
    write_copies,
    write_members,
)
from leafkit.models.builtin.hub import download


def find_builtin(reference: str) -> Path:
    """Folder with a built-in model's files. The code of wheels is never imported, only their data
    files are read.

    Args:
        reference: ``builtin:NAME``.

    Raises:
        UsageError: there is no such model.
        LeafkitError: neither wheels nor the hub have it, one wheel of several is missing, or a file
            is not the published one.
    """
    if reference not in BUILTIN_MODELS:
        raise UsageError(f"unknown model {reference!r}", f"built-in models are {BUILTIN_NAMES}")
    model = BUILTIN_MODELS[reference]
    if not model.parts:
        return _find_whole(model)
    return open_assembled(model, lambda draft: _fill(reference, model, draft))


def describe_builtin(reference: str) -> tuple[bool, str]:
    """Whether a built-in model is at hand without the hub, and where, in words; nothing is hashed
    or written.
    """
    model = BUILTIN_MODELS[reference]
    if model.module:
        folder = _wheel_folder(model)
        found = folder is not None and (folder / "model.safetensors").is_file()
        return found, f"in the wheel {model.module}" if found else "no wheel"
    folder = assembled_folder(model)
    if (folder / "model.safetensors").is_file():
        return True, f"in {folder}"
    missing = [part.package for part in model.parts if _piece(part) is None]
    if not missing:
        return True, f"in {len(model.parts)} wheels, put together at the first use"
    if len(missing) == len(model.parts):
        return False, "no wheels"
    return False, f"wheels are missing: {', '.join(missing)}"


def _find_whole(model: BuiltinModel) -> Path:
    folder = _wheel_folder(model) or download(model.hub_id, model.hub_revision)
    wrong = differing_file(model, folder)
    if wrong is not None:
        raise LeafkitError(
            f"{folder / wrong} is missing or is not the published {model.title}",
            model.install.replace("pip install", "pip install --force-reinstall"),
        )
    return folder


def _wheel_folder(model: BuiltinModel) -> Path | None:
    package = _installed_folder(model.module)
    return None if package is None else package / "model"


def _installed_folder(name: str) -> Path | None:
    """Folder of an installed package, which is not imported."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _piece(part: Part) -> Path | None:
    """The part's file where its wheel is installed, whether it is there or not."""
    package, _, inside = part.path.partition("/")
    folder = _installed_folder(package)
    return None if folder is None else folder / inside


def _fill(reference: str, model: BuiltinModel, draft: Path) -> None:
    """Write the model's files into an empty folder: out of its wheels, else from the hub.

    Raises:
        LeafkitError: some of the wheels are missing or altered, or none is there and the hub does
            not have it.
    """
    pieces = {part: _piece(part) for part in model.parts}
    missing = [part.package for part, path in pieces.items() if path is None]
    if len(missing) == len(pieces):
        source = download(model.hub_id, model.hub_revision, files=tuple(model.files))
        wrong = differing_file(model, source)
        if wrong is not None:
            raise LeafkitError(
                f"{source / wrong} is missing or is not the published {model.title}",
                f"delete {source} to download it again, or: {model.install}",
            )
        write_copies(model, source, draft)
        return
    if missing:
        raise LeafkitError(
            f"{reference} comes in {len(pieces)} wheels, and not installed: {', '.join(missing)}",
            model.install,
        )
    for part, path in pieces.items():
        if path is None or not path.is_file() or sha256_of_file(path) != part.sha256:
            raise LeafkitError(
                f"{path} is missing or is not the published file of {part.package}",
                model.install.replace("pip install", "pip install --force-reinstall"),
            )
    write_members(model, [path for path in pieces.values() if path is not None], draft)
