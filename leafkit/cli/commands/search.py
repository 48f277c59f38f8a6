"""``leafkit search``: questions to a finished pair, one or as many as there are."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from leafkit.config.evaluation import INDEX_KINDS
from leafkit.core.addresses.store import names_store, parse_store
from leafkit.core.console import console, warn
from leafkit.core.errors import UsageError

if TYPE_CHECKING:
    from leafkit.pipeline.pair import Pair
    from leafkit.pipeline.stores.ask import StoreSearch

_OPTIONS = ("k=", "index=", "student=")
_EXAMPLE = 'leafkit search checkpoints/kalm-to-23m "how do I invert a sparse matrix"'
_PROMPT = "question> "


def run(words: Sequence[str]) -> int:
    """Print the nearest documents of the question; without one, of each line that is typed or piped
    in.
    """
    options = dict(w.split("=", 1) for w in words if w.startswith(_OPTIONS))
    plain = [w for w in words if not w.startswith(_OPTIONS)]
    if len(plain) not in {1, 2}:
        raise UsageError(
            "search takes a folder and a question; without the question it asks for one after "
            "another",
            _EXAMPLE,
        )
    count, index = options.get("k", "10"), options.get("index", "flat")
    is_number = count.isascii() and count.isdecimal() and len(count) <= 10
    if not is_number or not 1 <= int(count) <= 10**9:
        raise UsageError(f"k={count[:40]} is not a positive whole number", "k=10")
    if index not in INDEX_KINDS:
        raise UsageError(f"index={index}: no such kind", f"one of {', '.join(INDEX_KINDS)}")
    is_store = names_store(plain[0]) and not Path(plain[0]).is_dir()
    _check_place(plain[0], options, is_store=is_store)
    questions = iter(plain[1:]) if plain[1:] else _ask()
    first = next(questions, None)
    if first is None:
        raise UsageError("there is no question: nothing came in", _EXAMPLE)
    is_alone = bool(plain[1:])
    with _open(plain[0], options, is_store=is_store) as pair:
        _answer(pair, first, int(count), is_alone=is_alone)
        for question in questions:
            _answer(pair, question, int(count), is_alone=is_alone)
    return 0


def _check_place(place: str, options: Mapping[str, str], *, is_store: bool) -> None:
    """Refuse what cannot be asked before anything heavy is imported."""
    if not is_store and not Path(place).is_dir():
        raise UsageError(
            f"{place}: no such folder", "name a recipe's folder, such as checkpoints/kalm-to-23m"
        )
    if not is_store and "student" in options:
        raise UsageError("student= is for a store: a pair's folder has its own", "leave it out")
    if is_store and "index" in options:
        raise UsageError("index= is for a pair's folder: a store has its own", "leave it out")
    if is_store and not options.get("student"):
        raise UsageError(
            "which student asks the store is not said",
            f"leafkit search {parse_store(place)} student=checkpoints/kalm-to-23m",
        )


@contextlib.contextmanager
def _open(
    place: str, options: Mapping[str, str], *, is_store: bool
) -> Iterator[Pair | StoreSearch]:
    if not is_store:
        from leafkit.pipeline.load_pair import load_pair

        yield load_pair(place, index=options.get("index", "flat"))
        return
    from leafkit.pipeline.stores.ask import open_store_search

    search = open_store_search(parse_store(place), options["student"])
    try:
        yield search
    finally:
        search.close()


def _ask() -> Iterator[str]:
    """Lines that are typed at a prompt, or piped in; empty ones ask nothing."""
    if sys.stdin is None:
        return
    if not sys.stdin.isatty():
        yield from (line.strip() for line in sys.stdin if line.strip())
        return
    import readline  # noqa: F401 - the prompt can be edited, and remembers

    console.print("one question a line; an empty line or Ctrl-D ends", style="dim")
    while True:
        try:
            question = input(_PROMPT).strip()
        except EOFError:
            console.print()
            return
        if not question:
            return
        yield question


def _answer(pair: Pair | StoreSearch, question: str, count: int, *, is_alone: bool) -> None:
    """Print the documents of one question; among several, a bad one does not end the others."""
    from rich.markup import escape

    from leafkit.core.printable import printable

    if not is_alone and not sys.stdin.isatty():
        console.print(f"[bold]{escape(printable(question))}[/]")
    try:
        hits = pair.search(question, count)
    except UsageError as err:
        if is_alone:
            raise
        warn(f"{err}; {err.hint}")
        return
    for number, hit in enumerate(hits, 1):
        console.print(f"[bold]{number:2d}. {escape(printable(hit.id))}[/]  {hit.score:.3f}")
        console.print(f"    {escape(printable(hit.text)[:200])}", style="dim")
    console.print(
        f"{hits.num_documents:,} documents; query embedded in {hits.embed_ms:.1f} ms, "
        f"searched in {hits.search_ms:.1f} ms"
    )
