"""The built-in collection: test queries never move, duplicates and shared questions go, its
identity follows the files.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from leafkit.config import DataConfig
from leafkit.core.errors import LeafkitError
from leafkit.data.builtin import pydocs_fingerprint, read_pydocs, short_title
from leafkit.data.records import Collection, split_of
from leafkit.data.sources import read_collection, source_fingerprint


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Install a package of one module whose functions have these (summary, body)."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(package: str, **functions: tuple[str, str]) -> Path:
        path = tmp_path / package / "__init__.py"
        path.parent.mkdir(exist_ok=True)
        text = (
            f'def {name}():\n    """{summary}\n\n    {body}\n    """\n'
            for name, (summary, body) in functions.items()
        )
        path.write_text("".join(text))
        return path

    return write


def _body(of: str) -> str:
    return f"What {of} is good for is explained here at some length."


def _many(start: int, stop: int) -> dict[str, tuple[str, str]]:
    return {f"f{i}": (f"Compute the number {i}.", _body(str(i))) for i in range(start, stop)}


def _splits(collection: Collection) -> dict[str, str]:
    return {query.id: query.split for query in collection.queries}


def test_first_paragraph_asks_and_the_rest_answers(install: Callable[..., Path]) -> None:
    install("pkg_one", solve=("Solve the linear system.", _body("solving")))
    collection = read_pydocs("pydocs", ["pkg_one"])
    (document,), (query,) = collection.documents, collection.queries
    assert (document.id, document.title, document.text) == (
        "pkg_one.solve",
        "pkg one solve",
        _body("solving"),
    )
    assert (query.id, query.text, query.split) == (
        "pkg_one.solve",
        "Solve the linear system.",
        split_of("pkg_one.solve"),
    )
    assert collection.qrels == {"pkg_one.solve": {"pkg_one.solve": 1}}
    assert collection.name == "pydocs"
    assert collection.counts == {"docstrings read": 1}


def test_the_split_of_a_name_never_moves_when_packages_are_added(
    install: Callable[..., Path],
) -> None:
    install("pkg_a", **_many(0, 150))
    install("pkg_b", **_many(100, 200), other=("Solve another problem.", _body("another")))
    alone = _splits(read_pydocs("pydocs", ["pkg_a"]))
    together = _splits(read_pydocs("pydocs", ["pkg_a", "pkg_b"]))
    assert set(alone.values()) == {"train", "validation", "test"}
    shared = alone.keys() & together.keys()
    assert len(shared) > 90
    assert {name: together[name] for name in shared} == {name: alone[name] for name in shared}


def test_order_of_packages_does_not_matter(install: Callable[..., Path]) -> None:
    install("pkg_a", **_many(0, 20))
    install("pkg_b", **_many(10, 30))
    first, second = (
        read_pydocs("pydocs", names) for names in (["pkg_a", "pkg_b"], ["pkg_b", "pkg_a"])
    )
    assert first.fingerprint() == second.fingerprint()


def test_a_text_that_stands_twice_is_one_document_under_its_shortest_name(
    install: Callable[..., Path],
) -> None:
    install(
        "pkg_a",
        long_name=("Compute one thing.", _body("it")),
        name=("Compute another thing.", _body("It")),
    )
    collection = read_pydocs("pydocs", ["pkg_a"])
    assert [d.id for d in collection.documents] == ["pkg_a.name"]
    assert collection.counts["duplicate documents dropped"] == 1


def test_a_name_documented_twice_keeps_its_fullest_text(
    install: Callable[..., Path], tmp_path: Path
) -> None:
    short, full = _body("it"), _body("it") + " And more."
    path = install("pkg_a", f=("Compute the thing.", short))
    path.write_text(path.read_text() + f'def f():\n    """Compute it all.\n\n    {full}\n    """\n')
    collection = read_pydocs("pydocs", ["pkg_a"])
    assert [(d.id, d.text) for d in collection.documents] == [("pkg_a.f", full)]
    assert [q.text for q in collection.queries] == ["Compute it all."]


def test_a_first_paragraph_that_several_share_is_no_query(install: Callable[..., Path]) -> None:
    install(
        "pkg_a",
        f=("Compute the thing.", _body("f")),
        g=("compute THE thing.", _body("g")),
        h=("Solve the other.", _body("h")),
        i=("Parameters of the thing", _body("i")),
        j=("Short.", _body("j")),
    )
    collection = read_pydocs("pydocs", ["pkg_a"])
    assert len(collection.documents) == 5
    assert [q.id for q in collection.queries] == ["pkg_a.h"]
    assert set(collection.qrels) == {"pkg_a.h"}
    assert collection.counts["first paragraphs that ask for nothing in particular"] == 4


def test_odd_text_is_repaired_and_counted(install: Callable[..., Path]) -> None:
    install("pkg_a", f=("Compute \\0 the thing.", _body("\\ud800")))
    collection = read_pydocs("pydocs", ["pkg_a"])
    assert collection.queries[0].text == "Compute   the thing."
    assert collection.documents[0].text == _body("?")
    assert collection.counts["texts with lone surrogates repaired"] == 1
    assert collection.counts["texts with NUL characters repaired"] == 1


@pytest.mark.parametrize(
    "packages", [[], ["no_such_package_here"], ["no_such_package_here", "nor_this"]]
)
def test_an_empty_corpus_is_an_error_that_names_the_packages(packages: list[str]) -> None:
    with pytest.raises(LeafkitError, match="builtin:pydocs is empty: none of ") as caught:
        read_pydocs("pydocs", packages)
    assert all(name in str(caught.value) for name in packages)
    assert "data.packages" in caught.value.hint


def test_absent_packages_and_unreadable_files_are_counted(
    install: Callable[..., Path], tmp_path: Path
) -> None:
    install("pkg_a", **_many(0, 2))
    (tmp_path / "pkg_a" / "bad.py").write_text("def f(:")
    counts = read_pydocs("pydocs", ["pkg_a", "no_such_package_here"]).counts
    assert counts["package no_such_package_here is not installed"] == 1
    assert counts["files that could not be read"] == 1


def test_fingerprint_follows_files_and_their_sizes(
    install: Callable[..., Path], tmp_path: Path
) -> None:
    path = install("pkg_a", **_many(0, 2))
    before = pydocs_fingerprint(["pkg_a"])
    assert pydocs_fingerprint(["pkg_a"]) == before
    path.write_text(path.read_text() + "\n")
    grown = pydocs_fingerprint(["pkg_a"])
    (tmp_path / "pkg_a" / "new.py").write_text("")
    more = pydocs_fingerprint(["pkg_a"])
    assert len({before, grown, more, pydocs_fingerprint([])}) == 4


def test_home_and_away_read_their_own_packages(install: Callable[..., Path]) -> None:
    install("pkg_home", **_many(0, 2))
    install("pkg_away", **_many(2, 5))
    data = DataConfig(packages=["pkg_home"], out_of_domain_packages=["pkg_away"])
    home, away = (
        read_collection("builtin:pydocs", data),
        read_collection("builtin:pydocs-out-of-domain", data),
    )
    assert (home.name, len(home.documents), away.name, len(away.documents)) == (
        "pydocs",
        2,
        "pydocs-out-of-domain",
        3,
    )
    assert source_fingerprint("builtin:pydocs", data) == pydocs_fingerprint(["pkg_home"])
    assert source_fingerprint("builtin:pydocs-out-of-domain", data) == pydocs_fingerprint(
        ["pkg_away"]
    )


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("scipy.sparse.linalg.inv", "scipy linalg inv"),
        ("a.b.c", "a b c"),
        ("np.is_close", "np is close"),
        ("json", "json"),
    ],
)
def test_short_title(name: str, title: str) -> None:
    assert short_title(name) == title
