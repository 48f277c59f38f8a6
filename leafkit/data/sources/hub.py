"""``hf:NAME[:CONFIG]@SPLIT``: a data set of the Hugging Face hub."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from leafkit.config import DataConfig
from leafkit.core.artifact import fingerprint
from leafkit.core.errors import LeafkitError
from leafkit.data.records import Collection
from leafkit.data.sources.bad_rows import BadRows
from leafkit.data.sources.finish import finish_collection
from leafkit.data.sources.rows import collect_rows, with_our_names


@dataclass(frozen=True, slots=True)
class HubSource:
    """Rows of a data set on the hub.

    Attributes:
        uri: as the recipe names it.
        reference: NAME[:CONFIG]@SPLIT.
    """

    uri: str
    reference: str

    def fingerprint(self, data: DataConfig) -> str:
        """Identity of its name and the policy for bad rows: the hub is not asked."""
        return fingerprint([self.uri, [data.on_bad_row, data.max_bad_rows]])

    def rows(self, bad: BadRows, limit: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """At most ``limit`` rows (0: all), each with where it stands.

        Raises:
            LeafkitError: the data set cannot be had.
        """
        rows = ((where, with_our_names(row)) for where, row in _read_hub(self.reference, limit))
        return itertools.islice(rows, limit or None)

    def read(self, data: DataConfig, *, limit: int, default_split: str) -> Collection:
        """The collection that the rows form.

        Raises:
            LeafkitError: it cannot be had or is empty, or a row is bad and the policy is to stop.
        """
        counts: Counter[str] = Counter()
        bad = BadRows(data.on_bad_row, data.max_bad_rows, counts)
        rows = self.rows(bad, limit)
        collection = collect_rows(self.reference, rows, bad, counts, default_split=default_split)
        return finish_collection(self.uri, collection, counts)


def _read_hub(rest: str, limit: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    import datasets

    path, _, split = rest.rpartition("@")
    name, _, config = path.partition(":")
    try:
        # a few rows need no download
        rows = datasets.load_dataset(name, config or None, split=split, streaming=limit > 0)
    except Exception as err:  # the hub client raises many kinds for one reason: it is not to be had
        reason = str(err).strip().splitlines()
        raise LeafkitError(
            f"hf:{rest} cannot be loaded: {type(err).__name__}: {reason[0] if reason else ''}",
            "check name, configuration, split and the network; a local copy is read with "
            "jsonl:PATH or beir:PATH",
        ) from err
    for number, row in enumerate(rows):
        yield f"hf:{rest} row {number}", dict(row)
