"""The targets that a student can be exported to, and the one way to all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from leafkit.core.artifact import publish, read_manifest
from leafkit.core.checkpoint_layout import HUB, MANIFEST_FILE, OPENVINO, VERIFIED_FILE, WEB
from leafkit.core.console import warn
from leafkit.core.errors import LeafkitError
from leafkit.core.file_hashes import sha256_of_file
from leafkit.core.swap import recover
from leafkit.exporters.hub import check_hub, check_teacher, export_hub, export_teacher
from leafkit.exporters.openvino_export import check_openvino, export_openvino
from leafkit.exporters.router import check_pair, export_pair, share_weights
from leafkit.exporters.source import ExportSource
from leafkit.exporters.target_names import GROUPS, check_targets
from leafkit.exporters.token_graph import check_token_graph, export_token_graph
from leafkit.exporters.web.target import check_web, export_web
from leafkit.models.encoder_protocol import Encoder


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of folder.

    Attributes:
        subfolder: of the export, that it is written to.
        check: raises where this student cannot be exported so; writes nothing.
        write: fills an empty folder and returns what it measured on the way.
    """

    subfolder: str
    check: Callable[[ExportSource], None]
    write: Callable[[ExportSource, Path], dict[str, float]]


TARGETS = {
    "student": Target(f"{HUB}/student", check_hub, export_hub),
    "teacher": Target(f"{HUB}/teacher", check_teacher, export_teacher),
    "pair": Target(f"{HUB}/pair", check_pair, export_pair),
    "onnx": Target(f"{HUB}/student-onnx", check_token_graph, export_token_graph),
    "openvino": Target(OPENVINO, check_openvino, export_openvino),
    "web": Target(WEB, check_web, export_web),
}


def write_targets(source: ExportSource, folder: Path, to: Sequence[str]) -> dict[str, Path]:
    """Export a student; all targets are checked before the first is written.

    Each target is written beside its place and moved there when it is complete. What an earlier
    export wrote is replaced; anything else is left alone.

    Args:
        source: what is exported.
        folder: of all targets; created.
        to: names of targets, or of groups of them. Of a group the first is written, and of the
            others those that can be; what is left out is said, with the reason.

    Returns:
        The folder of each target.

    Raises:
        UsageError: a target is not known, or named twice.
        LeafkitError: the student cannot be exported so, or something else is in the way.
    """
    names = _choose(source, check_targets(to))
    places = {name: folder / TARGETS[name].subfolder for name in names}
    for name in names:
        TARGETS[name].check(source)
        _check_place(places[name], name)
    inputs = _inputs(source)
    for name in names:
        metrics: dict[str, object] = {}
        with publish(places[name], _step(name), inputs, {}, metrics=metrics) as draft:
            metrics["smallest_cosine"] = TARGETS[name].write(source, draft)
    share_weights(places)
    _name_older(inputs, folder, places)
    return places


def _inputs(source: ExportSource) -> dict[str, str]:
    """Which student, and in which space: what folders of one export have in common."""
    student = source.encoder.fingerprint or _hash_of_weights(source.encoder)
    return {"student": student, "space": str(source.space.get("teacher", ""))}


def _hash_of_weights(encoder: Encoder) -> str:
    """Of a model that was never on disk."""
    found = hashlib.sha256()
    assert isinstance(encoder, nn.Module)  # both kinds are
    for name, weight in sorted(encoder.state_dict().items()):
        found.update(name.encode())
        found.update(weight.detach().cpu().contiguous().numpy())
    return found.hexdigest()


def _name_older(inputs: Mapping[str, str], folder: Path, places: Mapping[str, Path]) -> None:
    """Warn of what an earlier export wrote of another student, and this one did not replace."""
    for name, target in TARGETS.items():
        place = folder / target.subfolder
        if name in places or not (place / MANIFEST_FILE).is_file():
            continue
        try:
            manifest = read_manifest(place)
        except LeafkitError as err:
            warn(f"{place} was left as it is: {err}")
            continue
        other = [key for key, value in inputs.items() if manifest.inputs.get(key) != value]
        if manifest.step == _step(name) and other:
            warn(
                f"{place} is an earlier export, of another {' and another '.join(other)}, and was "
                f"left as it is: to={name} writes it anew, or delete it"
            )


def _choose(source: ExportSource, words: Sequence[str]) -> list[str]:
    """The targets that are meant, without those of a group that this student cannot have."""
    chosen: list[str] = []
    for word in words:
        first, *others = GROUPS.get(word, (word,))
        chosen.append(first)
        for name in others:
            try:
                TARGETS[name].check(source)
            except LeafkitError as err:
                warn(f"{word} without {', '.join(others)}: {err}")
                break
            chosen.append(name)
    return chosen


def _step(name: str) -> str:
    return f"export-{name}"


def _check_place(place: Path, name: str) -> None:
    """Refuse to replace what is not an earlier export to this target, or holds more than it."""
    above = next(parent for parent in place.parents if parent.exists())
    if not above.is_dir():
        raise LeafkitError(f"{above} is a file", "export to a folder")
    recover(place)
    if not place.exists():
        return
    hint = "move it elsewhere, or export to another folder"
    if not (place / MANIFEST_FILE).is_file() or read_manifest(place).step != _step(name):
        raise LeafkitError(f"{place} is no export to {name} and will not be replaced", hint)
    written = read_manifest(place).files
    found = {p.relative_to(place).as_posix() for p in place.rglob("*") if p.is_file()}
    foreign = found - {MANIFEST_FILE, VERIFIED_FILE, *written}
    edited = {n for n in found & written.keys() if sha256_of_file(place / n) != written[n]}
    if foreign or edited:
        raise LeafkitError(
            f"{place} holds {min(foreign | edited)}, which is not as an export wrote it "
            f"({len(foreign | edited)} such files): it will not be replaced",
            hint,
        )
