"""Per-query values survive a round trip through parquet, and other readers understand the file."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from leafkit.core.errors import LeafkitError
from leafkit.evaluation.per_query import COLUMNS, PerQuery, read_per_query, write_per_query


def make(collection: str, size: int, seed: int) -> PerQuery:
    generator = np.random.default_rng(seed)
    values = {
        s: {m: generator.random(size) for m in ("ndcg@10", "map@100")}
        for s in ("teacher", "asymmetric")
    }
    return PerQuery(collection, [f"{seed}-{i} \u00e9" for i in range(size)], values)


def equal(a: PerQuery, b: PerQuery) -> bool:
    flat = [
        {(s, m): v.tolist() for s, metrics in x.values.items() for m, v in metrics.items()}
        for x in (a, b)
    ]
    return (a.collection, a.query_ids) == (b.collection, b.query_ids) and flat[0] == flat[1]


def test_round_trip(tmp_path):
    written = [make("home", 7, 1), make("away, far", 1, 2)]
    write_per_query(tmp_path / "x.parquet", written)
    found = read_per_query(tmp_path / "x.parquet")
    assert len(found) == 2
    assert all(equal(a, b) for a, b in zip(written, found, strict=True))


def test_the_file_is_a_plain_table(tmp_path):
    write_per_query(tmp_path / "x.parquet", [make("home", 3, 1)])
    table = pq.read_table(tmp_path / "x.parquet")
    assert table.column_names == list(COLUMNS)
    assert table.num_rows == 3 * 2 * 2
    assert [str(field.type) for field in table.schema] == ["string"] * 4 + ["double"]
    assert table.to_pylist()[0] | {"value": 0} == {
        "collection": "home",
        "query_id": "1-0 \u00e9",
        "system": "teacher",
        "metric": "ndcg@10",
        "value": 0,
    }


def test_nothing_is_a_table_without_rows(tmp_path):
    write_per_query(tmp_path / "x.parquet", [])
    assert read_per_query(tmp_path / "x.parquet") == []
    assert pq.read_table(tmp_path / "x.parquet").column_names == list(COLUMNS)


def test_the_same_values_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_per_query(tmp_path / name, [make("home", 20, 1)])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_damaged_or_foreign_file_is_named(tmp_path):
    path = tmp_path / "x.parquet"
    write_per_query(path, [make("home", 50, 1)])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(LeafkitError, match=r"x\.parquet holds no per-query values"):
        read_per_query(path)
    pq.write_table(pa.table({"collection": ["a"], "value": [1.0]}), path)
    with pytest.raises(LeafkitError, match=r"x\.parquet holds no per-query values: .*query_id"):
        read_per_query(path)
    with pytest.raises(LeafkitError, match=r"none\.parquet"):
        read_per_query(tmp_path / "none.parquet")
