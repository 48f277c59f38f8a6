"""Per-query values on disk: a parquet file with a row per collection, query, system and metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from leafkit.core.errors import LeafkitError

COLUMNS = ("collection", "query_id", "system", "metric", "value")


@dataclass(frozen=True, slots=True)
class PerQuery:
    """Values of one collection's queries.

    Attributes:
        collection: its name.
        query_ids: Q ids.
        values: (Q,) float64 by system and metric.
    """

    collection: str
    query_ids: list[str]
    values: dict[str, dict[str, np.ndarray]]


def write_per_query(path: Path, per_query: Sequence[PerQuery]) -> None:
    """Write the values of some collections, in the columns ``COLUMNS``."""
    schema = pa.schema(
        [(name, pa.float64() if name == "value" else pa.string()) for name in COLUMNS]
    )
    with pq.ParquetWriter(path, schema) as writer:
        for one in per_query:
            for system, metrics in one.values.items():
                for metric, values in metrics.items():
                    collections, systems, names = (
                        [name] * len(values) for name in (one.collection, system, metric)
                    )
                    columns = [collections, one.query_ids, systems, names, values]
                    arrays = [
                        pa.array(column, field.type)
                        for column, field in zip(columns, schema, strict=True)
                    ]
                    writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def read_per_query(path: Path) -> list[PerQuery]:
    """What ``write_per_query`` wrote.

    Raises:
        LeafkitError: the file is not there, is damaged or lacks a column.
    """
    try:
        table = pq.read_table(path, columns=list(COLUMNS))
    except (pa.ArrowException, OSError) as err:
        reason = str(err).splitlines()[0]
        raise LeafkitError(
            f"{path} holds no per-query values: {reason}",
            "delete its folder and run leafkit bench again",
        ) from err
    columns = {name: table[name].to_numpy() for name in COLUMNS}
    groups: dict[tuple[str, str, str], list[int]] = {}
    for row, key in enumerate(
        zip(columns["collection"], columns["system"], columns["metric"], strict=True)
    ):
        groups.setdefault(key, []).append(row)
    by_collection: dict[str, PerQuery] = {}
    for (collection, system, metric), rows in groups.items():
        one = by_collection.setdefault(
            collection, PerQuery(collection, columns["query_id"][rows].tolist(), {})
        )
        one.values.setdefault(system, {})[metric] = columns["value"][rows]
    return list(by_collection.values())
