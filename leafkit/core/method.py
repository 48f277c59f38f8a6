"""The method of a step: a hash of the source that its result depends on.

A number kept by hand would be cheaper to compute and easy to forget: a loss that was edited without
raising it would leave the old student in place and call it up to date. So the source itself counts.
What is hashed is every definition (function, class, constant) that the step's own functions lead
to, through the names that they mention, inside the rooms that decide about numbers. Comments,
docstrings, annotations, formatting, log lines and the words of errors are not hashed, nor is
anything of the console, the report or the configuration: settings are among a step's inputs, with
their values. The price is that a rewrite which gives the same numbers runs its steps again, and
that what only an annotation or a string names is not followed: a step names such definitions
itself.

Sources are read as text; nothing is imported.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from leafkit.core.source_text import (
    StatementWriter,
    bound_names,
    has_effect,
    is_text,
    outer_statements,
)
from leafkit.core.version import __version__

PACKAGE = "leafkit"
# rooms whose code decides about the content of artifacts, and single modules of other rooms
ROOMS = frozenset(
    "losses models index embedders data train mining synth evaluation exporters pipeline".split()
)
SINGLE_MODULES = frozenset({"core.truncate"})
# runs steps and says what they found, but computes nothing that an artifact holds
BOOKKEEPING = frozenset({"pipeline.run", "pipeline.collect", "pipeline.evaluate.collect"})


class _Unreadable(Exception):
    """A module of the package has no source that can be read."""


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where an imported name comes from; ``name`` is "" for a module itself."""

    module: str
    name: str = ""


@dataclass(slots=True)
class _Module:
    """A module's statements, sorted by what they are needed for."""

    named: dict[str, list[ast.stmt]] = field(default_factory=dict)
    always: list[ast.stmt] = field(default_factory=list)  # run whenever the module is imported
    imports: dict[str, _Origin] = field(default_factory=dict)
    loggers: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Part:
    """A statement of a module: the hash of what it does, and the places that it names."""

    digest: bytes
    mentions: tuple[tuple[str, str], ...]


class SourceTree:
    """The sources of a package, parsed when they are needed.

    Args:
        root: folder of the package.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._modules: dict[str, _Module | None] = {}
        self._parts: dict[int, _Part] = {}

    def method(self, roots: Iterable[tuple[str, str]]) -> str:
        """First 16 hex digits of the hash of all that some definitions lead to.

        Args:
            roots: module and name of each definition.

        Raises:
            ValueError: there is no such definition.
        """
        digests = {self._part(module, statement).digest for module, statement in self.reach(roots)}
        # sorted: a definition may move to another module without anything being run again
        return hashlib.sha256(b"".join(sorted(digests))).hexdigest()[:16]

    def reach(self, roots: Iterable[tuple[str, str]]) -> Iterator[tuple[str, ast.stmt]]:
        """Module and statement of everything that some definitions lead to, themselves included.

        Raises:
            ValueError: there is no such definition.
        """
        pending = list(roots)
        for module, name in pending:
            parsed = self._parse(module)
            if parsed is None or not (name in parsed.named or name in parsed.imports):
                raise ValueError(f"{module} defines no {name}, or is not followed")
        seen: set[tuple[str, str]] = set()
        given: set[int] = set()
        while pending:
            place = pending.pop()
            if place in seen:
                continue
            seen.add(place)
            module, name = place
            parsed = self._parse(module)
            if parsed is None:
                continue
            statements = parsed.named.get(name, [])
            if name and not statements:
                pending += self._follow(parsed.imports.get(name))
            for statement in (*statements, *parsed.always):
                if id(statement) not in given:
                    given.add(id(statement))
                    yield module, statement
                    pending += self._part(module, statement).mentions

    def _part(self, module: str, statement: ast.stmt) -> _Part:
        if id(statement) not in self._parts:
            parsed = self._parse(module)
            assert parsed is not None
            writer = StatementWriter(parsed.loggers)
            writer.write(statement)
            inside = dict(self._imports_of(module, writer.imports))
            mentions: set[tuple[str, str]] = set()
            for name in sorted(writer.names):
                if name in parsed.named:
                    mentions.add((module, name))
                elif origin := inside.get(name) or parsed.imports.get(name):
                    mentions.update(self._follow(origin))
                    if origin.module.split(".")[0] != PACKAGE:
                        # math.sqrt under the name of numpy's is another function
                        writer.tokens.append(f"{name} is {origin.module} {origin.name}")
            text = "\0".join(writer.tokens).encode("utf-8", "surrogatepass")
            self._parts[id(statement)] = _Part(hashlib.sha256(text).digest(), tuple(mentions))
        return self._parts[id(statement)]

    def _follow(self, origin: _Origin | None) -> Iterator[tuple[str, str]]:
        parsed = self._parse(origin.module) if origin is not None else None
        if origin is None or parsed is None:
            return
        if origin.name:
            yield origin.module, origin.name
        else:  # a module used as an object: any part of it may be meant
            yield from ((origin.module, name) for name in ("", *parsed.named))

    def _parse(self, module: str) -> _Module | None:
        """A module of the package; None for one that is not followed."""
        if module not in self._modules:
            self._modules[module] = self._read(module) if _is_followed(module) else None
        return self._modules[module]

    def _path(self, module: str) -> Path | None:
        base = self._root.joinpath(*module.split(".")[1:])
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                return path
        return None

    def _read(self, module: str) -> _Module:
        path = self._path(module)
        if path is None:
            raise _Unreadable(module)
        try:
            tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError) as err:
            raise _Unreadable(module) from err
        parsed = _Module(imports=dict(self._imports_of(module, outer_statements(tree.body))))
        for statement in tree.body:
            if isinstance(statement, ast.Import | ast.ImportFrom) or is_text(statement):
                continue
            if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
                continue
            names = list(bound_names(statement))
            for name in names:
                parsed.named.setdefault(name, []).append(statement)
            if not names or has_effect(statement):
                parsed.always.append(statement)
            if isinstance(statement, ast.Assign) and "getLogger" in ast.unparse(statement.value):
                parsed.loggers.update(names)
        parsed.loggers.update(
            name
            for name, origin in parsed.imports.items()
            if origin.module == f"{PACKAGE}.core.console"
        )
        return parsed

    def _imports_of(self, module: str, nodes: Iterable[ast.stmt]) -> Iterator[tuple[str, _Origin]]:
        """The names that imports bind, and where they come from."""
        for node in nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.split(".")[0]
                    is_ours = top == PACKAGE
                    origin = alias.name if alias.asname or is_ours else top
                    yield alias.asname or top, _Origin(origin)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    above = module.split(".")[: -node.level]
                    base = ".".join([*above, base] if base else above)
                for alias in node.names:
                    whole = f"{base}.{alias.name}"
                    is_module = whole.startswith(f"{PACKAGE}.") and self._path(whole) is not None
                    origin_ = _Origin(whole) if is_module else _Origin(base, alias.name)
                    yield alias.asname or alias.name, origin_


def _is_followed(module: str) -> bool:
    """Whether a module's definitions decide about numbers."""
    below = module.removeprefix(f"{PACKAGE}.")
    if not module.startswith(f"{PACKAGE}.") or below in BOOKKEEPING:
        return False
    return below.split(".")[0] in ROOMS or below in SINGLE_MODULES


@functools.cache
def _installed() -> SourceTree:
    return SourceTree(Path(__file__).resolve().parents[1])


@functools.cache
def method_of(*definitions: Callable[..., object] | type) -> str:
    """Identity of what some functions and classes of this package compute, as it is installed.

    Where the package has no readable source (an installation of byte code alone) its version
    stands for it.

    Args:
        definitions: top-level functions and classes; all that they lead to is included.
    """
    roots = [(one.__module__, one.__qualname__.split(".")[0]) for one in definitions]
    try:
        return _installed().method(roots)
    except _Unreadable:
        return f"version {__version__}"
