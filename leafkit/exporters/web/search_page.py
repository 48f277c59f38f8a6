"""What a page that searches needs beside the student."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from leafkit.core.errors import LeafkitError
from leafkit.data.records import Document
from leafkit.index.vectors import Vectors


@dataclass(frozen=True, slots=True)
class SearchPage:
    """Documents, and what runs the student in a browser.

    Attributes:
        documents: that the page finds.
        vectors: (N, D) of them, from the teacher, of length one.
        space: names the space that they live in.
        runtime: folder where npm installed the packages of ``leafkit.exporters.web.runtime``; None
            where none was named.
        stylesheet: colors and type of the page.
    """

    documents: Sequence[Document]
    vectors: Vectors
    space: str
    runtime: Path | None
    stylesheet: str


def no_documents() -> SearchPage:
    """The page of a student that comes without documents.

    Raises:
        LeafkitError: always.
    """
    raise LeafkitError(
        "to=web writes the documents that its page searches, and a model folder alone has none",
        "export the folder of a finished run, or a pair",
    )
