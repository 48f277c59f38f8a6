"""Under which names a source of pairs keeps what a pair is made of, and what a row must have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from leafkit.data.sources.bad_rows import BadRows, optional_text, text_of
from leafkit.embedders.pairs.pair_files import PairRow

NUMBERED = "-"


@dataclass(frozen=True, slots=True)
class PairColumns:
    """Names of columns, or of keys of a payload; "" takes the source's own.

    Attributes:
        text: the text that was embedded.
        title: what stood before it, with a space between; "" where nothing did.
        id: of the row; ``NUMBERED`` where the rows' numbers are taken for ids.
        vector: the vector; of a database that keeps several, which one.
    """

    text: str = "text"
    title: str = ""
    id: str = ""
    vector: str = ""


def make_row(
    row_id: str,
    found: Mapping[str, Any],
    columns: PairColumns,
    *,
    where: str,
    bad: BadRows,
    counts: Counter[str],
) -> PairRow | None:
    """The pair's text under its names; None, and one bad row more, where it has none.

    Args:
        row_id: of the row.
        found: its columns or payload.
        columns: their names.
        where: the row, for messages.
        bad: the policy for rows that cannot be used.
        counts: gets what was read in another way than it stands there.

    Raises:
        LeafkitError: the text or title is missing or no text, and the policy is to stop.
    """
    row = dict(found)
    text = text_of(row, columns.text, where, bad, counts=counts)
    if text is None:
        return None
    title: str | None = ""
    if columns.title:
        title = optional_text(row, columns.title, where, bad, counts=counts)
    return None if title is None else PairRow(row_id, title, text)
