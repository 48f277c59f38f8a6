"""Frozen dataclasses as JSON and back: what is written is what the fields say, and nothing else is
read.

A file carries ``format``. Format 1 is what was written before there were types; each class that is
saved on its own knows how to bring it up to date (``Saved.upgrade``).
"""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from leafkit.core.artifact import fingerprint, write_durably
from leafkit.core.errors import LeafkitError

FORMAT = 2
SEAL = "seal"  # key of the hash of all others, in a file
JsonObject = dict[str, object]


class Mismatch(ValueError):
    """A value of plain data does not fit the field it is meant for; the message names the place."""


def to_plain(value: object) -> object:
    """A result as dicts, lists, numbers and text; fields that are None by default and hold None are
    left out.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = {
            f.name: to_plain(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if not (f.default is None and getattr(value, f.name) is None)
        }
        derived: Sequence[str] = getattr(type(value), "derived", ())
        return found | {name: to_plain(getattr(value, name)) for name in derived}
    if isinstance(value, Mapping):
        return {str(key): to_plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(child) for child in value]
    return value


def from_plain(kind: Any, value: object, place: str = "") -> Any:
    """The value as the type that a field is annotated with.

    Args:
        kind: a dataclass, a number, text, or a tuple, mapping or union of these.
        value: plain data.
        place: where the value stands, for the message.

    Raises:
        Mismatch: a key is unknown or missing, or a value has another type.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _read_fields(kind, value, place)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return from_plain(next(a for a in args if a is not types.NoneType), value, place)
    if origin is typing.Literal:
        if value not in args:
            raise Mismatch(f"{place} is {value!r} where one of {', '.join(args)} is needed")
        return value
    if origin is tuple:
        return _read_tuple(args, value, place)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise Mismatch(f"{place or 'it'} is {_kind_of(value)} where an object is needed")
        return {
            str(key): from_plain(args[1], child, _below(place, str(key)))
            for key, child in value.items()
        }
    return _read_scalar(kind, value, place)


def _read_fields(kind: Any, value: object, place: str) -> Any:
    if not isinstance(value, Mapping):
        raise Mismatch(f"{place or 'it'} is {_kind_of(value)} where an object is needed")
    hints = _hints(kind)
    derived: Sequence[str] = getattr(kind, "derived", ())
    unknown = [str(key) for key in value if key not in hints and key not in derived]
    missing = [
        f.name
        for f in dataclasses.fields(kind)
        if f.name not in value
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if unknown or missing:
        told = [
            f"{what} {', '.join(_below(place, key) for key in keys)}"
            for what, keys in (("unknown:", unknown), ("missing:", missing))
            if keys
        ]
        raise Mismatch("; ".join(told))
    made = kind(
        **{
            name: from_plain(hints[name], value[name], _below(place, name))
            for name in hints
            if name in value
        }
    )
    for name in derived:
        if name in value and value[name] != getattr(made, name):
            what = f"{_below(place, name)} is {value[name]!r}"
            raise Mismatch(f"{what} where the other fields make it {getattr(made, name)!r}")
    return made


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {f.name: hints[f.name] for f in dataclasses.fields(kind)}


def _read_tuple(args: tuple[Any, ...], value: object, place: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise Mismatch(f"{place or 'it'} is {_kind_of(value)} where a list is needed")
    if args[-1] is Ellipsis:
        return tuple(from_plain(args[0], v, f"{place}[{i}]") for i, v in enumerate(value))
    if len(value) != len(args):
        raise Mismatch(f"{place} holds {len(value)} values where {len(args)} are needed")
    return tuple(
        from_plain(arg, v, f"{place}[{i}]")
        for i, (arg, v) in enumerate(zip(args, value, strict=True))
    )


def _read_scalar(kind: Any, value: object, place: str) -> Any:
    wanted = {float: (int, float), int: (int,), str: (str,), bool: (bool,)}[kind]
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
        name = {float: "a number", int: "a whole number", str: "text", bool: "true or false"}[kind]
        raise Mismatch(f"{place or 'it'} is {_kind_of(value)} where {name} is needed")
    return kind(value)


def _kind_of(value: object) -> str:
    if value is None:
        return "null"
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    return names.get(type(value), "a number")


def _below(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


class Saved:
    """A result that is written to a file of its own.

    Class attributes:
        what: its name in messages.
        made_by: the command that writes it anew.
        derived: properties that are written too, for readers of the file; they must agree with the
            fields when it is read.
    """

    __slots__ = ()
    what: ClassVar[str] = "result"
    made_by: ClassVar[str] = "the command that made it"
    derived: ClassVar[tuple[str, ...]] = ()

    def to_json(self) -> JsonObject:
        """Plain data with the format's number, for ``json.dumps``."""
        plain = to_plain(self)
        assert isinstance(plain, dict)
        return {"format": FORMAT, **plain}

    @classmethod
    def upgrade(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Data of format 1 in today's format.

        Raises:
            Mismatch: this class was not written in format 1.
        """
        raise Mismatch("it has no format")

    @classmethod
    def from_json(cls, data: object, source: str = "") -> Self:
        """What ``to_json`` gave, or what was written before there were types.

        Args:
            data: plain data, as ``json.loads`` gives it.
            source: file or place it came from, for the message.

        Raises:
            LeafkitError: of another format, a key is unknown or missing, or a value has another
                type.
        """
        try:
            if not isinstance(data, Mapping):
                raise Mismatch(f"it holds {_kind_of(data)} where an object is needed")
            number = data.get("format", 1)
            # a class that brings nothing up to date was never written in format 1
            is_new = cls.upgrade.__func__ is Saved.upgrade.__func__  # type: ignore[attr-defined]
            known = [FORMAT] if is_new and "format" in data else [1, FORMAT]
            if type(number) is not int or number not in known:
                reads = " and ".join(map(str, known))
                raise Mismatch(f"it has format {number!r}; this leafkit reads {reads}")
            if number == 1:
                data = _upgraded(cls, data)
            fields = {key: value for key, value in data.items() if key not in {"format", SEAL}}
            if SEAL in data and data[SEAL] != fingerprint({**fields, "format": number}):
                raise Mismatch("it was edited since leafkit wrote it")
            made: Self = from_plain(cls, fields)
        except Mismatch as err:
            raise LeafkitError(
                f"{source or 'this'} is no {cls.what} that can be read: {err}",
                f"{cls.made_by} writes a new one",
            ) from err
        return made

    def save(self, path: Path) -> None:
        """Write the result as JSON, in one step, with a hash that shows when it was edited since.

        Raises:
            LeafkitError: it cannot be written.
        """
        # as it will be read: a key that is a number is text in JSON
        data = json.loads(json.dumps(self.to_json()))
        text = json.dumps(data | {SEAL: fingerprint(data)}, indent=1, ensure_ascii=False)
        # a document may hold half of a surrogate pair, which UTF-8 has no bytes for
        write_durably(path, text.encode("utf-8", "backslashreplace"))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            LeafkitError: the file is not there, is no JSON, or see ``from_json``.
        """
        return cls.from_json(read_json(path, cls.made_by), str(path))

    @classmethod
    def is_untouched(cls, path: Path) -> bool:
        """Whether a file is what ``save`` wrote, or what it wrote before it kept a hash."""
        try:
            cls.load(path)
        except LeafkitError:
            return False
        return True


def _upgraded(kind: type[Saved], data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Data of format 1 in today's; other data fails with the name of the key that is missing."""
    try:
        return kind.upgrade(data)
    except KeyError as err:
        raise Mismatch(f"missing: {err.args[0]}") from err
    except (TypeError, AttributeError, IndexError, StopIteration, ValueError) as err:
        if isinstance(err, Mismatch):
            raise
        raise Mismatch(f"it was not written by leafkit ({err})") from err


def read_json(path: Path, made_by: str) -> object:
    """The JSON of a file.

    Raises:
        LeafkitError: it cannot be read or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as err:
        raise LeafkitError(
            f"cannot read {path}: {err.strerror}", "check the path and its permissions"
        ) from err
    except (ValueError, RecursionError) as err:
        raise LeafkitError(
            f"{path} is not valid JSON: {err}", f"it is damaged; {made_by} writes it anew"
        ) from err
