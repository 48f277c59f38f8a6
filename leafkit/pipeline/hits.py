"""What a search found, and how it is shown: as lines in a terminal, as a table in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import overload

from leafkit.core.printable import printable

_TEXT_WIDTH, _ID_WIDTH = 72, 32  # characters shown


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One found document.

    Attributes:
        id: of the document.
        score: the inner product with the query's vector; minus the number of different bits where
            a binary index found it.
        text: of the document, title included.
    """

    id: str
    score: float
    text: str


@dataclass(frozen=True, slots=True, repr=False)
class Hits(Sequence[SearchHit]):
    """The documents that answer one question, best first.

    Attributes:
        question: as it was asked.
        items: the documents.
        num_documents: searched.
        embed_ms: that the question's vector took; a question of a list has its share of them.
        search_ms: that the search took, likewise.

    Examples:
        >>> hits = Hits("which?", (SearchHit("d1", 0.5, "this one"),), 3, 0.1, 0.1)
        >>> hits
        1 of 3 documents for 'which?'
         1. d1  0.500  this one
        >>> hits[0].id, len(hits)
        ('d1', 1)
    """

    question: str
    items: tuple[SearchHit, ...]
    num_documents: int
    embed_ms: float
    search_ms: float

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, place: int) -> SearchHit: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[SearchHit, ...]: ...

    def __getitem__(self, place: int | slice) -> SearchHit | tuple[SearchHit, ...]:
        return self.items[place]

    def __repr__(self) -> str:
        """A line per document; what a terminal would take for a command is left out."""
        ids = [_cut(hit.id, _ID_WIDTH) for hit in self.items]
        width = max((len(name) for name in ids), default=0)
        lines = [
            f"{place:2d}. {name:{width}}  {hit.score:.3f}  {_cut(hit.text, _TEXT_WIDTH)}"
            for place, (name, hit) in enumerate(zip(ids, self.items, strict=True), 1)
        ]
        asked = repr(_cut(self.question, _TEXT_WIDTH))
        head = f"{len(self):,} of {self.num_documents:,} documents for {asked}"
        return "\n".join([head, *lines])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{place}</td><td>{escape(_cut(hit.id, _ID_WIDTH))}</td>"
            f"<td>{hit.score:.3f}</td><td>{escape(_cut(hit.text, 4 * _TEXT_WIDTH))}</td></tr>"
            for place, hit in enumerate(self.items, 1)
        )
        head = "".join(f"<th>{name}</th>" for name in ("", "document", "score", "text"))
        return (
            f"<table><caption>{escape(_cut(self.question, _TEXT_WIDTH))}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        )


def _cut(text: str, width: int) -> str:
    shown = printable(text)
    return shown if len(shown) <= width else shown[: width - 1] + "\N{HORIZONTAL ELLIPSIS}"
