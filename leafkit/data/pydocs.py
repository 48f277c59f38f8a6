"""``builtin:pydocs``: the documentation of the Python packages installed on this machine.

Files are parsed with ``ast`` and never imported, so reading a package cannot run its code. Each
documented object gives one entry: its qualified name, the first paragraph of its docstring (the
query) and the rest (the document).
"""

from __future__ import annotations

import ast
import concurrent.futures
import gc
import importlib.util
import inspect
import os
import re
import signal
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from leafkit.core.process.workers import end_with_parent

VERSION = 1  # of the reading below; a change makes corpora stale
_SKIPPED_FOLDERS = frozenset(
    "test tests testing _test idlelib lib2to3 site-packages dist-packages ensurepip turtledemo "
    "pip setuptools"
    " pydoc_data __pycache__ vendored _vendor node_modules _inductor _dynamo _functorch _export "
    "_refs"
    " _prims _prims_common _subclasses distutils externals array_api_compat array_api_extra"
    " cobyqa pyprima onnx ao package xpu mtia benchmark benchmarks tkinter turtle".split()
)
MIN_QUERY_WORDS = 3
MAX_QUERY_CHARS = 400
MIN_DOCUMENT_CHARS = 40
MAX_DOCUMENT_CHARS = 2000

_SIGNATURE = re.compile(r"^[\w.]+\s*\(.*\)(\s*->[^\n]*)?\s*(:math:.*)?$", re.S)
_UNDERLINE = re.compile(r"^\s*([-=~^*\"'`#+])\1+\s*$")
_SECTION = re.compile(
    r"^\s*(Parameters|Args|Arguments|Returns?|Examples?|Notes?|Raises|Attributes|Yields|Shape"
    r"|Keyword args)\s*:{0,2}\s*$"
)
_VERSION = re.compile(
    r"^\s*\.\. (versionadded|versionchanged|deprecated|currentmodule|testsetup|testcode|index)::.*$"
)
_DIRECTIVE = re.compile(r"\.\. [\w-]+::\s*")
_PLACEHOLDER = re.compile(r"%\(\w+\)s|\{\w*\}|:math:|::(?=\s|$)")
_ROLE = re.compile(r":(?:[a-z]+:)?[a-z]+:`~?([^`<]+?)(?:\s*<[^`]*>)?`")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class DocEntry:
    """One documented object: ``summary`` is its first paragraph, ``body`` the rest, both on one
    line.

    ``summary`` is "" where the first paragraph is too short or too long to be asked; the body then
    begins with it.
    """

    name: str
    summary: str
    body: str


def find_package(name: str) -> Path | None:
    """Folder (or single file) of an installed package, found without importing it; ``stdlib`` is
    the standard library.
    """
    if not all(part.isidentifier() for part in name.split(".")):
        return None  # a path, which could lead anywhere
    if name == "stdlib":
        return Path(sysconfig.get_paths()["stdlib"])
    top, *below = name.split(".")
    try:
        spec = importlib.util.find_spec(top)  # of a dotted name it would import the parent
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        found = Path(next(iter(spec.submodule_search_locations))).joinpath(*below)
        return next(
            (path for path in (found, found.with_name(f"{found.name}.py")) if path.exists()), None
        )
    return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") and not below else None


def _is_skipped(name: str) -> bool:
    return name in _SKIPPED_FOLDERS or name.startswith("test_") or name == "conftest"


def list_files(package: str) -> list[tuple[str, Path]]:
    """``(module name, file)`` of every public module of a package, sorted by name; empty where it
    is not installed.
    """
    root = find_package(package)
    if root is None:
        return []
    if root.is_file():
        return [(package, root)]
    prefix = () if package == "stdlib" else (package,)
    found = []
    for folder, below, names in os.walk(root):
        # nothing below them is looked at
        below[:] = [name for name in below if not _is_skipped(name)]
        above = prefix + Path(folder).relative_to(root).parts
        for name in names:
            stem, suffix = os.path.splitext(name)
            parts = above if stem == "__init__" else (*above, stem)
            if (
                suffix != ".py"
                or _is_skipped(stem)
                or not parts
                or (package == "stdlib" and parts[0].startswith("_"))
            ):
                continue
            found.append((".".join(parts), Path(folder, name)))
    return sorted(found)


def _public_module(name: str) -> str:
    """``scipy.sparse._csr`` is documented as ``scipy.sparse``: private parts of a path say nothing
    to a reader.

    What numpy defines below ``numpy._core`` and in the private files of ``numpy.lib`` is used as
    ``numpy.NAME``.
    """
    name = re.sub(r"^numpy\.(_core\.\w+|lib\._\w+)", "numpy", name)
    return ".".join(part for part in name.split(".") if not part.startswith("_")) or name


def clean_paragraph(text: str) -> str:
    """One line of plain words: underlines, section headings, directives and roles go, their content
    stays.
    """
    lines = [
        line
        for line in text.splitlines()
        if not (_UNDERLINE.match(line) or _SECTION.match(line) or _VERSION.match(line))
    ]
    # _ROLE is slow on long gaps
    plain = _SPACE.sub(" ", _PLACEHOLDER.sub(" ", _DIRECTIVE.sub("", " ".join(lines))))
    return _SPACE.sub(" ", _ROLE.sub(r"\1", plain).replace("``", "").replace("`", "")).strip()


def split_docstring(docstring: str) -> tuple[str, str] | None:
    """``(first paragraph, rest)`` of a docstring, or None where the rest is too short to answer
    anything.

    A first paragraph that is too short or too long to be asked becomes part of the rest, and ""
    takes its place.
    """
    paragraphs = [
        p for p in re.split(r"\n\s*\n", inspect.cleandoc(docstring)) if clean_paragraph(p)
    ]
    while paragraphs and _SIGNATURE.match(paragraphs[0].removesuffix("\n--").strip()):
        paragraphs.pop(0)
    if len(paragraphs) < 2:
        return None
    head, _, tail = paragraphs[0].strip().partition("\n")
    first = tail if _SIGNATURE.match(head.strip()) and tail.strip() else paragraphs[0]
    summary = clean_paragraph(first)
    body = clean_paragraph("\n".join(paragraphs[1:])[: 2 * MAX_DOCUMENT_CHARS])
    if len(summary.split()) < MIN_QUERY_WORDS or len(summary) > MAX_QUERY_CHARS:
        summary, body = "", f"{summary} {body}"
    body = body[:MAX_DOCUMENT_CHARS].strip()
    return (summary, body) if len(body) >= MIN_DOCUMENT_CHARS else None


def _text_of(node: ast.expr) -> str:
    """Text of a string expression: constants, their sums, and the template of ``.format``; "" for
    anything else.
    """
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text_of(node.left) + _text_of(node.right)
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "format"
    ):
        return _text_of(node.func.value)
    return ""


def _call_docstring(node: ast.Call, module: str, assigned: str = "") -> tuple[str, str] | None:
    """``add_docstr(torch.abs, "...")`` and ``add_newdoc("numpy", "abs", "...")`` document what is
    written in C.
    """
    function = (
        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    )
    if (
        function not in {"add_docstr", "_add_docstr", "add_newdoc", "add_docstr_all"}
        or len(node.args) < 2
    ):
        return None
    value = node.args[-1]
    names = [text for text in map(_text_of, node.args[:-1]) if text]
    if isinstance(value, ast.Tuple) and len(value.elts) == 2:
        names.append(_text_of(value.elts[0]))
        value = value.elts[1]
    if assigned:
        names = [_public_module(module), assigned]
    elif function == "add_docstr_all":
        names = ["torch.Tensor", *names]
    elif not names and isinstance(node.args[0], ast.Attribute):
        names = [ast.unparse(node.args[0])]
    elif len(names) == 1:
        names = [_public_module(module), *names]
    name = _public_module(".".join(names))
    return (
        (name, _text_of(value))
        if names and all(part.isidentifier() for part in name.split("."))
        else None
    )


def _walk(tree: ast.Module, module: str) -> Iterator[tuple[str, str]]:
    docstring = ast.get_docstring(tree, clean=False)
    if docstring:
        yield _public_module(module), docstring
    pending: list[tuple[str, ast.AST]] = [(_public_module(module), node) for node in tree.body]
    while pending:
        prefix, node = pending.pop()
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name.startswith("_"):
                continue
            name = f"{prefix}.{node.name}"
            docstring = ast.get_docstring(node, clean=False)
            if docstring:
                yield name, docstring
            if isinstance(node, ast.ClassDef):
                pending.extend((name, child) for child in node.body)
        elif isinstance(node, ast.Expr | ast.Assign) and isinstance(node.value, ast.Call):
            target = node.targets[0] if isinstance(node, ast.Assign) else None
            found = _call_docstring(
                node.value, module, target.id if isinstance(target, ast.Name) else ""
            )
            if found:
                yield found
        elif isinstance(node, ast.If | ast.Try):
            pending.extend((prefix, child) for child in node.body)


def read_file(module: str, path: Path) -> tuple[list[DocEntry], str | None]:
    """Entries of one file and, where it could not be read or parsed, the reason."""
    try:
        source = path.read_text(encoding="utf-8-sig")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in somebody else's strings
            docstrings = list(_walk(ast.parse(source), module))
    except (
        OSError,
        SyntaxError,
        ValueError,
        RecursionError,
        MemoryError,
    ) as err:
        # the last two: nested too deeply
        return [], f"{path}: {type(err).__name__}: {err}"
    entries = []
    for name, docstring in docstrings:
        parts = split_docstring(docstring)
        if parts:
            entries.append(DocEntry(name, *parts))
    return entries, None


def _read_files(files: list[tuple[str, Path]]) -> tuple[list[DocEntry], list[str]]:
    entries: list[DocEntry] = []
    unreadable: list[str] = []
    for module, path in files:
        found, reason = read_file(module, path)
        entries.extend(found)
        if reason:
            unreadable.append(reason)
    return entries, unreadable


def _start_worker(parent: int) -> None:
    gc.disable()
    # Ctrl-C reaches the whole group: it is the parent's to say so, and the workers end with it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not the handler of the command
    end_with_parent(parent)


def read_packages(
    packages: tuple[str, ...], num_workers: int = 2
) -> tuple[list[DocEntry], list[str]]:
    """Entries of all packages, sorted by name, and the reasons of the files that could not be read.

    Workers run no cyclic collector: a tree of ``ast`` has no cycles, and it would look
    through all that the parent had loaded.
    """
    files = [found for package in packages for found in list_files(package)]
    chunk = 64
    chunks = [files[i : i + chunk] for i in range(0, len(files), chunk)]
    entries: list[DocEntry] = []
    unreadable: list[str] = []
    with concurrent.futures.ProcessPoolExecutor(
        max_workers=num_workers, initializer=_start_worker, initargs=(os.getpid(),)
    ) as pool:
        for found, reasons in pool.map(_read_files, chunks):
            entries.extend(found)
            unreadable.extend(reasons)
    return sorted(entries, key=lambda e: (e.name, e.summary, e.body)), unreadable
