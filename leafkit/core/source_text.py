"""What a statement of Python does, as text: without comments, docstrings, annotations, formatting,
log lines and the words of errors.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field

# decorators that register nothing: a definition that no one mentions is not needed for them
_PURE_DECORATORS = frozenset(
    "dataclass cache cached_property lru_cache wraps contextmanager total_ordering overload "
    "runtime_checkable final no_grad inference_mode".split()
)
# annotations, and what differs between versions of Python
_SILENT_FIELDS = frozenset("annotation returns type_comment ctx kind type_params".split())
_LOGGING = frozenset("debug info warning error exception log".split())


def bound_names(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement of a module defines."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
        return
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    for target in targets:
        # REGISTRY["x"] = y binds no name: it changes something
        if not isinstance(target, ast.Subscript | ast.Attribute):
            yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def outer_statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that are executed when a module is imported, those below if and try among
    them.
    """
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With):
            for name in ("body", "orelse", "finalbody"):
                yield from outer_statements(getattr(statement, name, []))
            for handler in getattr(statement, "handlers", []):
                yield from outer_statements(handler.body)


def has_effect(statement: ast.stmt) -> bool:
    """Whether a definition may have an effect although no one mentions it: a decorator saw it."""
    decorators = getattr(statement, "decorator_list", [])
    for decorator in decorators:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
        if name not in _PURE_DECORATORS:
            return True
    return False


def is_text(node: ast.AST) -> bool:
    """A docstring, or another string that stands on its own."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


@functools.cache
def _deciding(fields: tuple[str, ...]) -> tuple[str, ...]:
    """Names of a node's parts that decide what it does."""
    return tuple(name for name in fields if name not in _SILENT_FIELDS)


@dataclass(slots=True)
class StatementWriter:
    """Writes statements as text that formatting, comments and Python's version do not change.

    Attributes:
        loggers: names whose calls only say something.
        tokens: the text so far.
        names: every name that occurs in it.
        imports: the imports inside of it, which are not part of the text.
    """

    loggers: set[str]
    tokens: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    imports: list[ast.Import | ast.ImportFrom] = field(default_factory=list)

    def write(self, node: ast.AST) -> None:
        """Write a node with all that it holds."""
        kind = type(node)
        self.tokens.append(kind.__name__)
        if isinstance(node, ast.Name):
            self.names.add(node.id)
        for name in _deciding(node._fields):
            value = getattr(node, name, None)
            if name == "exc" and isinstance(value, ast.Call):
                value = value.func  # which error it is, not its words
            if isinstance(value, ast.AST):
                self.tokens.append(name)
                self.write(value)
            elif isinstance(value, list):
                if value:  # Python 3.13 has further lists that are empty where 3.11 has none
                    self.tokens.append(name)
                    self._write_all(value)
            elif value is not None or kind is ast.Constant:
                self.tokens.append(f"{name} {type(value).__name__} {value!r}")
        self.tokens.append(")")

    def _write_all(self, values: list[object]) -> None:
        for value in values:
            if isinstance(value, ast.Import | ast.ImportFrom):
                self.imports.append(value)
            elif not isinstance(value, ast.AST):
                self.tokens.append(repr(value))
            elif not (is_text(value) or _is_log_line(value, self.loggers)):
                self.write(value)
        self.tokens.append("]")


def _is_log_line(node: object, loggers: set[str]) -> bool:
    """A statement that says something and does nothing else."""
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return False
    target = node.value.func
    if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
        return target.value.id in loggers and target.attr in _LOGGING
    return isinstance(target, ast.Name) and target.id in loggers
