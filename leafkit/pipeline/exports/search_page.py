"""What a page that searches a pair's documents needs: ``to=web``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from leafkit.core.checkpoint_layout import INDEX
from leafkit.data.records import Document
from leafkit.data.vector_store import Space
from leafkit.exporters.web.search_page import SearchPage, no_documents
from leafkit.pipeline.load_pair import load_pair
from leafkit.report.environment import search_stylesheet


class PairWithDocuments(Protocol):
    """What is needed of a pair.

    Attributes:
        documents: in the order of the vectors.
        vectors: (N, D) of them.
        space: that they live in.
    """

    documents: Sequence[Document]
    vectors: np.ndarray
    space: Space


def search_page(pair: PairWithDocuments | str | Path, web_runtime: str | Path) -> SearchPage:
    """What a page that searches a pair's documents needs beside the student.

    Args:
        pair: or the folder of a finished recipe.
        web_runtime: folder that npm installed the runtime into; "" where none is named.

    Raises:
        LeafkitError: a model folder alone has no documents; or the pair is damaged.
    """
    if isinstance(pair, str | Path):
        if not (Path(pair) / INDEX).is_dir():
            return no_documents()
        pair = load_pair(pair)
    runtime = Path(web_runtime) if web_runtime else None
    return SearchPage(
        pair.documents, pair.vectors, pair.space.teacher, runtime, search_stylesheet()
    )
