"""Sources to collections: ``builtin:NAME``, ``jsonl:PATH``, ``beir:PATH``,
``hf:NAME[:CONFIG]@SPLIT``, ``mteb:TASK``; one module per kind behind the interface in ``kinds``.

Every bad row is named by file and line.
"""

from leafkit.data.sources.bad_rows import BadRows, is_number
from leafkit.data.sources.kinds import (
    KINDS,
    Source,
    has_raw_rows,
    open_source,
    read_collection,
    read_raw_rows,
    source_fingerprint,
)

__all__ = [
    "KINDS",
    "BadRows",
    "Source",
    "has_raw_rows",
    "is_number",
    "open_source",
    "read_collection",
    "read_raw_rows",
    "source_fingerprint",
]
