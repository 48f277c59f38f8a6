"""builtin:pydocs reads other people's packages: nothing in them may run, and nothing in them may
stop it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from leafkit.data import pydocs
from leafkit.data.pydocs import (
    DocEntry,
    clean_paragraph,
    find_package,
    list_files,
    read_file,
    read_packages,
    split_docstring,
)

BODY = "The rest explains at some length what the object is good for."
Install = Callable[[dict[str, str | bytes]], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put files on sys.path as if a package were installed."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(files: dict[str, str | bytes]) -> None:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(
                content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
            )

    return write


def _function(name: str, summary: str = "Compute the thing quickly.", body: str = BODY) -> str:
    return f'def {name}():\n    """{summary}\n\n    {body}\n    """\n'


def _read(
    tmp_path: Path, source: str | bytes, module: str = "pack.mod"
) -> tuple[list[DocEntry], str | None]:
    path = tmp_path / "mod.py"
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return read_file(module, path)


@pytest.mark.parametrize("way", ["pack./{}", "pack/../{}", "pack..{}", "{}", "./{}", "pack.{}"])
def test_a_path_is_no_package(tmp_path: Path, install: Install, monkeypatch, way: str) -> None:
    install({"pack/__init__.py": _function("f"), "no-name/notes.py": _function("h")})
    install({"secret/notes.py": _function("g")})
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path / "secret", "no-name", str(tmp_path / "secret")[1:]):
        assert find_package(way.format(folder)) is None
        assert read_packages((way.format(folder),)) == ([], [])


# --- nothing runs


def test_reading_never_imports(install: Install, tmp_path: Path) -> None:
    trap = f"open({str(tmp_path / 'ran')!r}, 'w')\nimport sys\nsys.exit('imported')\n"
    install({"trap_pkg/__init__.py": trap + _function("f"), "trap_pkg/sub/__init__.py": trap})
    install({"trap_pkg/sub/m.py": trap + _function("g")})
    entries, unreadable = read_packages(("trap_pkg",))
    assert [e.name for e in entries] == ["trap_pkg.f", "trap_pkg.sub.m.g"]
    assert unreadable == []
    assert [e.name for e in read_packages(("trap_pkg.sub",))[0]] == ["trap_pkg.sub.m.g"]
    assert [e.name for e in read_packages(("trap_pkg.sub.m",))[0]] == ["trap_pkg.sub.m.g"]
    assert find_package("trap_pkg.absent") is None
    assert not (tmp_path / "ran").exists()
    assert not [name for name in sys.modules if name.startswith("trap_pkg")]


# --- finding


def test_find_package(install: Install, tmp_path: Path) -> None:
    install({"one_pkg/__init__.py": "", "single_mod.py": "", "space_pkg/m.py": ""})
    assert find_package("one_pkg") == tmp_path / "one_pkg"
    assert find_package("single_mod") == tmp_path / "single_mod.py"
    assert find_package("space_pkg") == tmp_path / "space_pkg"
    assert find_package("stdlib") == Path(json.__file__).parents[1]


@pytest.mark.parametrize(
    "name",
    ["no_such_package_here", "", ".", "..", ".x", "sys", "json.absent", "a b", "a/b", "no.such"],
)
def test_what_is_not_installed_is_absent_not_an_error(name: str) -> None:
    assert find_package(name) is None
    assert list_files(name) == []


def test_list_files_leaves_out_tests_and_vendored_code(install: Install) -> None:
    skipped = [
        "tests/a.py",
        "test/a.py",
        "testing/a.py",
        "sub/tests/b.py",
        "_vendor/x.py",
        "conftest.py",
        "test_it.py",
    ]
    kept = ["__init__.py", "a.py", "_private.py", "sub/__init__.py", "sub/b.py", "latest/c.py"]
    install({f"files_pkg/{name}": "" for name in [*skipped, *kept, "data.txt"]})
    assert [module for module, _ in list_files("files_pkg")] == [
        "files_pkg",
        "files_pkg._private",
        "files_pkg.a",
        "files_pkg.latest.c",
        "files_pkg.sub",
        "files_pkg.sub.b",
    ]


def test_the_standard_library_is_there_without_its_tests() -> None:
    modules = [module for module, _ in list_files("stdlib")]
    assert {"json", "json.decoder", "pathlib", "statistics"} <= set(modules)
    assert not [
        m for m in modules if "test" in m.split(".") or "site-packages" in m or m.startswith("_")
    ]
    assert modules == sorted(modules)


# --- what counts as documented


def test_public_objects_of_every_kind(tmp_path: Path) -> None:
    source = f'''"""Tools for many things.

{BODY}
"""
class Public:
    """Hold rows of numbers.

    {BODY}
    """
    async def method(self):
        """Return the next row.

        {BODY}
        """
        {_function("inner").replace(chr(10), chr(10) + " " * 8)}
    def _hidden(self):
        """Return the next row.

        {BODY}
        """
    class Inner:
        """Describe one row only.

        {BODY}
        """
class _Private:
    """Hold rows of numbers.

    {BODY}
    """
{_function("_private")}
if True:
    {_function("conditional").replace(chr(10), chr(10) + " " * 4)}
try:
    {_function("tried").replace(chr(10), chr(10) + " " * 4)}
except ImportError:
    pass
x = 1
"""A string that documents nothing.

{BODY}
"""
'''
    entries, reason = _read(tmp_path, source)
    assert reason is None
    assert sorted(e.name for e in entries) == [
        "pack.mod",
        "pack.mod.Public",
        "pack.mod.Public.Inner",
        "pack.mod.Public.method",
        "pack.mod.conditional",
        "pack.mod.tried",
    ]
    assert {e.summary for e in entries if e.name == "pack.mod"} == {"Tools for many things."}
    assert {e.body for e in entries} == {BODY}


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("scipy.sparse._csr", "scipy.sparse.f"),
        ("numpy._core.fromnumeric", "numpy.f"),
        ("numpy.lib._function_base_impl", "numpy.f"),
        ("numpy.linalg._linalg", "numpy.linalg.f"),
        ("_only", "_only.f"),
    ],
)
def test_private_parts_of_a_path_are_left_out(tmp_path: Path, module: str, name: str) -> None:
    assert [e.name for e in _read(tmp_path, _function("f"), module)[0]] == [name]


DOC = f"Compute the thing quickly.\\n\\n{BODY}"


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (f'add_docstr(torch.abs, "{DOC}")', "torch.abs"),
        (f'_add_docstr(torch.abs, "{DOC}".format(**common))', "torch.abs"),
        (f'add_docstr(torch.abs, "Compute the " + "thing quickly.\\n\\n" + "{BODY}")', "torch.abs"),
        (f'torch._C._add_docstr(torch.linalg.inv, "{DOC}")', "torch.linalg.inv"),
        (f'fft_fft = _add_docstr(_fft.fft_fft, "{DOC}")', "pack.mod.fft_fft"),
        (f'add_newdoc("numpy._core.umath", "abs", "{DOC}")', "numpy.abs"),
        (f'add_newdoc("numpy", "ndarray", ("sort", "{DOC}"))', "numpy.ndarray.sort"),
        (f'add_newdoc("abs", "{DOC}")', "pack.mod.abs"),
        (f'add_docstr_all("abs_", "{DOC}")', "torch.Tensor.abs_"),
    ],
)
def test_documentation_of_what_is_written_in_c(tmp_path: Path, call: str, name: str) -> None:
    (entry,) = _read(tmp_path, call)[0]
    assert entry == DocEntry(name, "Compute the thing quickly.", BODY)


@pytest.mark.parametrize(
    "call",
    [
        f'other_call(torch.abs, "{DOC}")',
        "add_docstr(torch.abs, text)",
        "add_docstr()",
        f'add_docstr("{DOC}")',
        f'add_docstr(f(x), "{DOC}")',
        f'add_newdoc("not a name", "x", "{DOC}")',
        'add_newdoc("a", "b", ("c", "d", "e"))',
        "add_newdoc(*args)",
        "add_docstr(torch.abs, 3)",
    ],
)
def test_other_calls_document_nothing(tmp_path: Path, call: str) -> None:
    assert _read(tmp_path, call) == ([], None)


# --- files that cannot be read are counted, not fatal


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (b"def f(:\n", "SyntaxError"),
        (b"x = '\xe9'\n", "UnicodeDecodeError"),
        (b"x = 1\0\n", "ValueError|SyntaxError"),
        (b"x = " + b"(" * 3000 + b")" * 3000, "SyntaxError|RecursionError|MemoryError"),
        (b"x = " + b"-" * 100_000 + b"1", "MemoryError|RecursionError"),
        (b"x = " + b"+".join([b"1"] * 30_000), "RecursionError|MemoryError"),
        (
            b"add_docstr(torch.abs, " + b" + ".join([b"'x'"] * 990) + b")",
            "RecursionError|MemoryError",
        ),
    ],
    ids=["syntax", "latin-1", "NUL", "brackets", "signs", "sum", "sum of strings"],
)
def test_unreadable_files_give_a_reason(tmp_path: Path, source: bytes, reason: str) -> None:
    entries, found = _read(tmp_path, source)
    assert entries == []
    path, kind, _ = str(found).split(": ", 2)
    assert path == str(tmp_path / "mod.py")
    assert kind in reason.split("|")


def test_missing_file_and_folder_named_like_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder.py").mkdir()
    for path in (tmp_path / "absent.py", tmp_path / "folder.py"):
        entries, reason = read_file("m", path)
        assert entries == []
        assert str(path) in str(reason)


def test_a_package_with_bad_files_gives_the_good_ones(install: Install) -> None:
    install({"half_pkg/a.py": _function("f"), "half_pkg/d.py": _function("g")})
    install({"half_pkg/b.py": "def f(:", "half_pkg/c.py": b"\xff"})
    entries, unreadable = read_packages(("half_pkg", "no_such_package_here"))
    assert [e.name for e in entries] == ["half_pkg.a.f", "half_pkg.d.g"]
    assert [reason.split(": ")[1] for reason in unreadable] == ["SyntaxError", "UnicodeDecodeError"]


def test_many_files_come_back_in_order_of_names(install: Install) -> None:
    install({f"many_pkg/m{i:03d}.py": _function(f"f{i}") for i in range(150)})
    names = [e.name for e in read_packages(("many_pkg",), num_workers=2)[0]]
    assert len(names) == 150
    assert names == sorted(names)


# --- strange text


def test_byte_order_mark(tmp_path: Path) -> None:
    entries, reason = _read(tmp_path, b"\xef\xbb\xbf" + _function("f").encode())
    assert ([e.name for e in entries], reason) == (["pack.mod.f"], None)


def test_nul_and_lone_surrogates_in_docstrings_survive_until_they_are_cleaned(
    install: Install,
) -> None:
    install({"odd_pkg/m.py": _function("f", summary="Compute \\0 the \\ud800 thing.")})
    ((entry,), unreadable) = read_packages(("odd_pkg",))
    assert entry.summary == "Compute \0 the \ud800 thing."
    assert unreadable == []


@pytest.mark.parametrize(
    "text",
    [
        "Compute it all. " + "word " * 20_000,
        "Compute it all.\n\n" + "word " * 20_000,
        "f(" + ")" * 100_000 + "x\n\n" + BODY,
        "Compute it all.\n\n" + "x" * 100_000,
        "Compute :a:`" + " " * 100_000 + "\n\n" + BODY,
        "Compute it\n\n" + ":a:`<" * 20_000,
        "\n \n" * 30_000 + "x",
        "(" * 100_000,
        "f" + " (" * 50_000 + "\n\n" + BODY,
        "Compute it\n\n" + "=" * 100_000,
    ],
    ids=[
        "summary",
        "body",
        "signature",
        "no spaces",
        "open role",
        "roles",
        "blank lines",
        "brackets",
        "spaced",
        "underline",
    ],
)
def test_a_huge_docstring_is_cut_and_quick(text: str) -> None:
    started_s = time.perf_counter()
    parts = split_docstring(text)
    assert time.perf_counter() - started_s < 2.0
    if parts is not None:
        assert len(parts[0]) <= pydocs.MAX_QUERY_CHARS
        assert pydocs.MIN_DOCUMENT_CHARS <= len(parts[1]) <= pydocs.MAX_DOCUMENT_CHARS


def test_a_huge_body_is_kept_up_to_the_limit() -> None:
    summary, body = split_docstring("Compute it all.\n\n" + "word " * 20_000) or ("", "")
    assert summary == "Compute it all."
    assert len(body) > pydocs.MAX_DOCUMENT_CHARS - 10


# --- splitting and cleaning


@pytest.mark.parametrize(
    "docstring",
    [
        f"abs(x) -> y\n\nCompute the thing quickly.\n\n{BODY}",
        f"abs(x, /, out=None, *,\n    where=True)\n\nCompute the thing quickly.\n\n{BODY}",
        f"abs(x) -> y\nCompute the thing quickly.\n\n{BODY}",
        f"torch.abs(x)\n\nabs(x, y)\n\nCompute the thing quickly.\n\n{BODY}",
        f"\n    Compute the\n    thing quickly.\n\n    {BODY}\n    ",
        f"Compute the thing quickly.\n==========\n\n{BODY}",
        f"Compute the :func:`thing` ``quickly``.\n\nParameters\n----------\n\n{BODY}",
        f"abs(x)\n--\n\nCompute the thing quickly.\n\n{BODY}",
    ],
)
def test_the_first_paragraph_asks_and_signatures_do_not(docstring: str) -> None:
    assert split_docstring(docstring) == ("Compute the thing quickly.", BODY)


@pytest.mark.parametrize(
    "docstring",
    ["", "   \n  ", f"One paragraph. {BODY}", "f(x)", "a b c\n\nshort", f"f(x)\n\n{BODY}"],
)
def test_no_answer_no_entry(docstring: str) -> None:
    assert split_docstring(docstring) is None


@pytest.mark.parametrize("first", ["Too short.", "Far too long: " + "word " * 100])
def test_a_first_paragraph_that_cannot_be_asked_joins_the_document(first: str) -> None:
    summary, body = split_docstring(f"{first}\n\n{BODY}") or ("?", "?")
    assert summary == ""
    assert body == f"{first.strip()} {BODY}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("See :class:`~torch.nn.Linear` and :py:meth:`x <a.b>`.", "See torch.nn.Linear and x."),
        ("Use ``a`` or `b`.", "Use a or b."),
        ("Title\n=====\nText", "Title Text"),
        ("Parameters\n----------\nx : int", "x : int"),
        (".. versionadded:: 1.2\nText", "Text"),
        (".. note:: Take care.", "Take care."),
        ("An example::\n\n    f(x)", "An example f(x)"),
        ("{input} and %(name)s and {} here", "and and here"),
        ("std::vector and a ---- b", "std::vector and a ---- b"),
        ("  many \t spaces \n here ", "many spaces here"),
    ],
)
def test_clean_paragraph(text: str, expected: str) -> None:
    assert clean_paragraph(text) == expected
