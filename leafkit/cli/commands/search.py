"""``leafkit search``: one question to a finished pair."""

from __future__ import annotations

from collections.abc import Sequence

from leafkit.core.console import console
from leafkit.core.errors import UsageError

_OPTIONS = ("k=", "index=")


def run(words: Sequence[str]) -> int:
    """Print the nearest documents."""
    options = dict(w.split("=", 1) for w in words if w.startswith(_OPTIONS))
    plain = [w for w in words if not w.startswith(_OPTIONS)]
    if len(plain) != 2:
        raise UsageError(
            "search takes a folder and a question",
            'leafkit search checkpoints/kalm-to-23m "how do I invert a sparse matrix"',
        )
    count = options.get("k", "10")
    if not count.isdecimal() or int(count) < 1:
        raise UsageError(f"k={count} is not a positive whole number", "k=10")
    from rich.markup import escape

    from leafkit.core.printable import printable
    from leafkit.pipeline.load_pair import load_pair

    pair = load_pair(plain[0], index=options.get("index", "flat"))
    hits = pair.search(plain[1], int(count))
    for number, hit in enumerate(hits, 1):
        console.print(f"[bold]{number:2d}. {escape(printable(hit.id))}[/]  {hit.score:.3f}")
        console.print(f"    {escape(printable(hit.text)[:200])}", style="dim")
    console.print(
        f"{hits.num_documents:,} documents; query embedded in {hits.embed_ms:.1f} ms, "
        f"searched in {hits.search_ms:.1f} ms"
    )
    return 0
