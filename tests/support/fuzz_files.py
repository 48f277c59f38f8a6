"""Damaged files, generated: every file of a specimen with every kind of damage.

All is seeded: the same specimen always gives the same cases.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leafkit.core.artifact import seal_of
from leafkit.core.checkpoint_layout import MANIFEST_FILE
from leafkit.core.errors import LeafkitError

_HUGE = "1" + "0" * 400
# in place of a value of a JSON object
_WRONG: list[Any] = [None, [], {}, "x", -1, 10**30, 1.5, True, [None], {"a": [1]}, "\ud83d", "../x"]
_DEEP = b"[" * 100_000


@dataclass(frozen=True, slots=True)
class Specimen:
    """Files that belong together, and who reads them.

    Attributes:
        name: of the kind.
        root: folder with sound files.
        read: gives what can be compared; reads below a copy of ``root``.
        files: patterns of those to damage.
        is_foreign: a user brings them: no hash tells a changed value from another input.
        optional: files that a user need not bring.
        is_remade: what is missing or torn is computed again, by design.
        is_resealed: the manifest is made to fit, as another version of leafkit would.
    """

    name: str
    root: Path
    read: Callable[[Path], object]
    files: tuple[str, ...] = ("**/*",)
    is_foreign: bool = False
    optional: tuple[str, ...] = ()
    is_remade: bool = False
    is_resealed: bool = False


@dataclass(frozen=True, slots=True)
class Damage:
    """One kind of damage to one file.

    Attributes:
        about: what was done.
        apply: does it to a file of a copy.
        may_differ: of a file that a user brings, it may be read as another good one.
    """

    about: str
    apply: Callable[[Path], None]
    may_differ: bool = False


def _write(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)  # a copy is a second link to the sound file
    path.write_bytes(content)


def _put(content: bytes) -> Callable[[Path], None]:
    return lambda path: _write(path, content)


def _edit(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: _write(path, change(path.read_bytes()))


def _flip(at: int) -> Callable[[bytes], bytes]:
    def flip(content: bytes) -> bytes:
        changed = bytearray(content)
        if changed:
            changed[at % len(changed)] ^= 0x11
        return bytes(changed)

    return flip


def _link(to: str) -> Callable[[Path], None]:
    def link(path: Path) -> None:
        path.unlink()
        path.symlink_to(to)

    return link


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def damages_of(path: Path, other: bytes, chooser: random.Random) -> Iterator[Damage]:
    """Every damage to one file; ``other`` is the content of a file of another kind."""
    yield Damage("deleted", lambda p: p.unlink())
    yield Damage("a folder", _folder)
    yield Damage("a link to nothing", _link("nothing-there"))
    yield Damage("a link to itself", _link(path.name))
    # a manifest that was made to fit says that no row is what was meant
    yield Damage("empty", _put(b""), may_differ=path.suffix in {".jsonl", ".tsv"})
    yield Damage("garbage", _put(chooser.randbytes(300)))
    yield Damage("text", _put(b"not what you think\n"))
    # of the same folder, and so perhaps of the same kind
    yield Damage("another file's content", _put(other), may_differ=True)
    yield Damage("zeros", _edit(lambda c: bytes(len(c))))
    yield Damage("half", _edit(lambda c: c[: len(c) // 2]), may_differ=True)
    yield Damage("a byte less", _edit(lambda c: c[:-1]), may_differ=True)
    yield Damage("doubled", _edit(lambda c: c + c), may_differ=True)
    for name, at in (("first", 0), ("middle", path.stat().st_size // 2), ("last", -1)):
        yield Damage(f"{name} byte flipped", _edit(_flip(at)), may_differ=True)
    at = chooser.randrange(1 << 30)
    yield Damage(f"byte {at} flipped", _edit(_flip(at)), may_differ=True)
    if path.suffix in {".json", ".jsonl"}:
        yield Damage("too deep", _put(_DEEP))
        yield Damage("huge number", _put(_HUGE.encode() * 20))
        yield Damage("UTF-16", _edit(lambda c: c.decode().encode("utf-16")))
        yield Damage("NUL before", _edit(lambda c: b"\0" + c))
        yield from _json_damages(path, chooser)


def _json_damages(path: Path, chooser: random.Random) -> Iterator[Damage]:
    """Keys deleted, and values of other types, down to the second level."""
    is_lines = path.suffix == ".jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    whole = json.loads(lines[0] if is_lines else "\n".join(lines)) if lines else None
    for value in (None, [], {}, 3, "x"):
        yield Damage(f"JSON {value!r}", _put(json.dumps(value).encode()), may_differ=value == {})
    if not isinstance(whole, dict):
        return
    places = [(key,) for key in whole]
    places += [(key, k) for key, child in whole.items() if isinstance(child, dict) for k in child]
    for place in chooser.sample(places, min(len(places), 12)):
        for change in ("deleted", *chooser.sample(_WRONG, 3)):
            changed = copy.deepcopy(whole)
            parent = changed[place[0]] if len(place) == 2 else changed
            if change == "deleted":
                del parent[place[-1]]
            else:
                parent[place[-1]] = change
            text = "\n".join([json.dumps(changed), *(lines[1:] if is_lines else [])]) + "\n"
            yield Damage(f"{'.'.join(place)}: {change!r}", _put(text.encode()), may_differ=True)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a case: refused, harmless, another, remade, or what is wrong with it."""

    case: str
    what: str
    told: str = ""

    @property
    def is_good(self) -> bool:
        """Whether it was refused by name, or changed nothing."""
        return self.what in {"refused", "harmless", "another", "remade"}


def try_all(specimen: Specimen, place: Path, share: float = 1.0, seed: int = 0) -> list[Outcome]:
    """Damage each file in turn and read it; a share of the cases, in random order.

    Args:
        specimen: sound files.
        place: for the copies.
        share: of the cases that are tried.
        seed: of the choice.
    """
    chooser = random.Random(f"{specimen.name} {seed}")
    _copy(specimen, place)
    try:
        baseline = specimen.read(place)
    except LeafkitError as err:
        raise AssertionError(f"{specimen.name} is not sound: {err}") from err
    names = sorted(
        {
            path.relative_to(specimen.root)
            for pattern in specimen.files
            for path in specimen.root.glob(pattern)
            if path.is_file() and not path.name.startswith(".")
        }
    )
    assert names, specimen.name
    cases = []
    for name in names:
        other = (specimen.root / chooser.choice(names)).read_bytes()
        if other == (specimen.root / name).read_bytes():
            other = b"\x93NUMPY\x01\x00v\x00"
        cases += [(name, d) for d in damages_of(specimen.root / name, other, chooser)]
    chooser.shuffle(cases)
    found = []
    for name, damage in cases[: max(1, round(share * len(cases)))]:
        _copy(specimen, place)
        damage.apply(place / name)
        if specimen.is_resealed:
            _reseal(place / name)
        found.append(_try(specimen, place, name, damage, baseline))
    return found


def _copy(specimen: Specimen, place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(
        specimen.root, place, copy_function=os.link, ignore=shutil.ignore_patterns(".*")
    )


def _reseal(path: Path) -> None:
    """Make the manifest fit the damaged file."""
    manifest = path.parent / MANIFEST_FILE
    if not path.is_file() or path == manifest or not manifest.is_file():
        return
    content = json.loads(manifest.read_text())
    content["files"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    content["seal"] = seal_of(content)
    _write(manifest, json.dumps(content).encode())


def _try(specimen: Specimen, place: Path, name: Path, damage: Damage, baseline: object) -> Outcome:
    case = f"{specimen.name}: {name}: {damage.about}"
    try:
        result = specimen.read(place)
    except LeafkitError as err:
        told = str(err)
        near = (place / name, (place / name).parent, name)
        # two files that contradict each other: either may be the one that is wrong
        is_named = specimen.is_resealed or any(str(p) in told for p in near)
        if not is_named:
            return Outcome(case, "refused without a name", told)
        return Outcome(case, "refused" if err.hint else "refused without a hint", told)
    except Exception as err:
        return Outcome(case, "traceback", f"{type(err).__name__}: {err}")
    if result == baseline:
        return Outcome(case, "harmless")
    if specimen.is_foreign and (damage.may_differ or str(name) in specimen.optional):
        return Outcome(case, "another")
    if specimen.is_remade and result == "to be made":
        return Outcome(case, "remade")
    return Outcome(case, "silent", f"{result!r:.200} for {baseline!r:.200}")
