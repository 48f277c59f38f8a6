"""Sources to collections, one module per kind behind the interface in ``kinds``.

``builtin:NAME``, ``jsonl:PATH``, ``csv:PATH``, ``tsv:PATH``, ``parquet:PATH``, ``beir:PATH``,
``hf:NAME[:CONFIG]@SPLIT[#REVISION]``, ``mteb:TASK``. Every bad row is named by file and line.
"""

from leafkit.data.sources.bad_rows import BadRows
from leafkit.data.sources.kinds import (
    KINDS,
    Source,
    has_raw_rows,
    open_source,
    read_collection,
    read_raw_rows,
    read_source,
    source_fingerprint,
)
from leafkit.data.sources.part import has_more_rows, read_part
from leafkit.data.sources.sample import choose_numbers, drawn_from
from leafkit.data.sources.training_texts import OrderTexts, training_texts
from leafkit.data.values import is_number

__all__ = [
    "KINDS",
    "BadRows",
    "OrderTexts",
    "Source",
    "choose_numbers",
    "drawn_from",
    "has_more_rows",
    "has_raw_rows",
    "is_number",
    "open_source",
    "read_collection",
    "read_part",
    "read_raw_rows",
    "read_source",
    "source_fingerprint",
    "training_texts",
]
