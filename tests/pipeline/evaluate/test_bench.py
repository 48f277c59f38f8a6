"""The benchmark as a stage: what it writes, what it keeps when a part fails, what it refuses."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from leafkit.core.artifact import open_artifact
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.evaluation.per_query import read_per_query
from leafkit.pipeline.evaluate.bench import run_bench
from leafkit.pipeline.run import Run
from leafkit.results import EvaluationResult

SYSTEMS = ["teacher", "symmetric", "asymmetric", "reversed", "baseline", "bm25"]


@pytest.fixture
def away(tmp_path) -> str:
    """Another collection: the pairs the other way round, all of them test pairs."""
    rows = [
        {"query": document, "positive": query, "split": "test"}
        for query, document in tiny.make_pairs(30)
    ]
    (tmp_path / "away.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"jsonl:{tmp_path / 'away.jsonl'}"


def results(run: Run) -> EvaluationResult:
    return EvaluationResult.load(run.folder / "bench" / "results.json")


def redone(run: Run) -> set[str]:
    return {
        step["name"]
        for step in run.steps
        if step["status"] == "done" and step["name"].startswith("bench")
    }


def test_a_baseline_that_is_the_teacher_embeds_nothing_again(done, start, home):
    vectors = done.parent / "ck" / "vectors"
    before = {path.name for path in vectors.iterdir()}
    run = start(done, f"bench.baseline=model:{home / 'big'}", work=run_bench)
    assert {path.name for path in vectors.iterdir()} == before
    [found] = results(run).collections
    scores = {row.system: row.metrics["ndcg@10"].value for row in found.systems}
    assert scores["baseline"] == scores["teacher"]


def test_figures_of_every_system_and_their_values_per_query(done, start, home, away):
    run = start(
        done,
        f"bench.baseline=model:{home / 'small'}",
        f"bench.collections=[{away}]",
        work=run_bench,
    )
    found = results(run)
    assert [(c.name, c.kind, c.num_queries) for c in found.collections] == [
        ("pairs", "in-domain", 12),
        ("away", "out-of-domain", 30),
    ]
    assert [row.system for row in found.collections[1].systems] == SYSTEMS
    assert found.macro.num_collections == 2
    per_query = read_per_query(run.folder / "bench" / "per_query.parquet")
    assert [(one.collection, len(one.query_ids)) for one in per_query] == [
        ("pairs", 12),
        ("away", 30),
    ]
    for collection, one in zip(found.collections, per_query, strict=True):
        for row in collection.systems:
            assert set(row.metrics) == {"ndcg@10", "map@100", "recall@10", "recall@100", "mrr@10"}
            for metric, measured in row.metrics.items():
                assert one.values[row.system][metric].mean() == pytest.approx(measured.value)
                assert measured.n == collection.num_queries
        assert collection.own_documents_dropped == 0
        assert list(collection.per_query.ids) == one.query_ids
    for row in found.macro.systems:
        of_each = [one.values[row.system]["ndcg@10"].mean() for one in per_query]
        assert row.metrics["ndcg@10"].value == pytest.approx(np.mean(of_each))
    assert len(found.samples) == 2
    assert [c.contamination.queries.total for c in found.collections] == [12, 30]
    recorded = open_artifact(run.folder / "bench").metrics["ndcg@10"]
    assert recorded["pairs/teacher"]["n"] == 12


def test_one_collection_has_no_macro_average_and_contamination_can_be_left_out(done, start):
    run = start(done, "bench.contamination=false", work=run_bench)
    found = results(run)
    assert (found.macro, found.tasks, found.indexes) == (None, (), ())
    assert found.collections[0].contamination is None


def test_a_recipe_without_a_corpus_measures_the_other_collections(done, start, away, home):
    student = f"bench.student=model:{done.parent / 'ck' / 'tiny' / 'student'}"
    run = start(
        done,
        "data.corpus=",
        student,
        f"bench.collections=[{away}]",
        "bench.contamination=false",
        work=run_bench,
    )
    assert [(c.name, c.kind) for c in results(run).collections] == [("away", "out-of-domain")]


@pytest.mark.slow
def test_what_has_not_changed_is_not_measured_again(done, start, away):
    first = start(done, f"bench.collections=[{away}]", work=run_bench)
    assert redone(first) == {"bench away", "bench"}  # the distillation measured pairs
    assert redone(start(done, f"bench.collections=[{away}]", work=run_bench)) == set()
    other = start(done, f"bench.collections=[{away}]", "data.exclude_self=never", work=run_bench)
    # no query is a document here: the figures are the same, and so is what is put together
    assert redone(other) == {"bench pairs", "bench away"}
    assert redone(
        start(done, f"bench.collections=[{away}]", "bench.num_latency_queries=2", work=run_bench)
    ) == {"bench"}


@pytest.mark.slow
def test_results_are_kept_when_a_later_part_fails(done, start, away, monkeypatch):
    def fail(*args: Any, **kwargs: Any) -> None:
        raise LeafkitError("a part failed")

    before = (done.parent / "ck/tiny/bench/results.json").read_text()
    with monkeypatch.context() as patch:
        patch.setattr("leafkit.pipeline.evaluate.parts.compare_indexes", fail)
        with pytest.raises(LeafkitError, match="a part failed"):
            start(done, f"bench.collections=[{away}]", "bench.indexes.kinds=[flat]", work=run_bench)
    assert (done.parent / "ck/tiny/bench/results.json").read_text() == before
    parts = sorted(part.name[:5] for part in (done.parent / "ck" / "measured").iterdir())
    assert parts == ["away-", "pairs"]
    for part in (done.parent / "ck" / "measured").iterdir():
        open_artifact(part)
    run = start(done, f"bench.collections=[{away}]", "bench.indexes.kinds=[flat]", work=run_bench)
    assert redone(run) == {"bench indexes pairs", "bench"}
    assert len(results(run).collections) == 2


def test_an_index_that_cannot_be_built_is_refused_before_anything_is_measured(
    done, start, monkeypatch
):
    monkeypatch.setattr(
        "leafkit.pipeline.evaluate.bench.measure_collection",
        lambda *_: pytest.fail("a collection was measured"),
    )
    with pytest.raises(UsageError, match="ivf_pq needs 256 documents to train on, there are 72"):
        start(done, "bench.indexes.kinds=[ivf_pq]", work=run_bench)


def test_indexes_are_compared_on_the_first_collection_with_both_encoders_queries(done, start):
    run = start(
        done, "bench.indexes.kinds=[flat,hnsw]", "bench.indexes.ef_search=[16]", work=run_bench
    )
    rows = results(run).indexes
    assert {(row.kind, row.queries) for row in rows} == {
        (k, q) for k in ("flat", "hnsw") for q in ("teacher", "student")
    }
    assert {row.collection for row in rows} == {"pairs"}
    flat = {row.queries: row.ndcg_at_10.value for row in rows if row.kind == "flat"}
    systems = {
        row.system: row.metrics["ndcg@10"].value for row in results(run).collections[0].systems
    }
    assert flat["teacher"] == pytest.approx(systems["teacher"])
    assert flat["student"] == pytest.approx(systems["asymmetric"])


def test_tasks_stand_beside_the_collections(done, start, tmp_path):
    pairs = tiny.make_pairs(20)
    rows = [{"s1": q, "s2": d, "score": i % 6, "split": "test"} for i, (q, d) in enumerate(pairs)]
    (tmp_path / "alike.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    override = f"bench.tasks=['sts:{tmp_path / 'alike.jsonl'}']"
    (task,) = results(start(done, override, work=run_bench)).tasks
    assert (task.kind, task.name, task.num_rows) == ("sts", "alike", 20)
    assert list(task.scores) == ["teacher", "student"]
    assert redone(start(done, override, work=run_bench)) == set()
    (tmp_path / "alike.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:10]))
    assert redone(start(done, override, work=run_bench)) == {"bench sts alike", "bench"}


def test_two_collections_of_one_name_are_refused(done, start, tmp_path):
    path = tiny.write_pairs(tmp_path / "pairs.jsonl", count=40)
    with pytest.raises(UsageError, match="two collections are called 'pairs'"):
        start(done, f"bench.collections=[jsonl:{path}]", work=run_bench)


def test_nothing_to_measure_is_an_error_where_it_is_asked_for(home, tmp_path, start, done):
    documents = tiny.write_documents(tmp_path / "docs.jsonl", count=2)

    def strictly(run: Run) -> Path:
        return run_bench(run, allow_empty=False)

    with pytest.raises(
        LeafkitError, match="no judged test query is left: there is nothing to measure"
    ) as caught:
        start(done, f"data.corpus=jsonl:{documents}", work=strictly)
    assert "bench.collections" in caught.value.hint
    run = start(done, f"data.corpus=jsonl:{documents}", work=run_bench)
    assert results(run) == EvaluationResult()
    assert read_per_query(run.folder / "bench" / "per_query.parquet") == []
    # of more documents there is the agreement with the teacher
    more = tiny.write_documents(tmp_path / "more.jsonl")
    (found,) = results(start(done, f"data.corpus=jsonl:{more}", work=strictly)).agreements
    assert (found.num_queries, found.training) == (60, "perhaps seen in training")


def test_a_damaged_part_is_named(done, start):
    (path,) = (done.parent / "ck" / "measured").glob("pairs-*/per_query.parquet")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        LeafkitError, match=r"per_query\.parquet does not have the sha256 in its manifest"
    ):
        start(done, work=run_bench)


def test_vectors_that_are_not_finite_are_named(done, start):
    """As if memory had gone bad after they were checked, before they were hashed and written."""
    stores = list((done.parent / "ck" / "vectors").glob("big-query-*/00000.vectors"))
    for path in stores:
        vectors = np.fromfile(path, dtype=np.float16)
        vectors[3 * 48 + 5] = np.nan
        vectors.tofile(path)
    with pytest.raises(LeafkitError, match=r"00000\.vectors does not have the sha256"):
        start(done, "force=true", work=run_bench)
    for path in stores:
        record = json.loads(path.with_suffix(".json").read_text())
        record["sha256"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        path.with_suffix(".json").write_text(json.dumps(record))
    with pytest.raises(
        LeafkitError, match=r"pairs: the teacher's vector of query '.*' \(row 3\) is not finite"
    ):
        start(done, "force=true", work=run_bench)


@pytest.mark.slow
def test_two_processes_measure_what_one_does(done, start, tmp_path, away):
    words = (
        "bench",
        f"recipe={done}",
        f"bench.collections=[{away}]",
        f"checkpoints={done.parent / 'ck'}",
    )
    run = start(done, f"bench.collections=[{away}]", work=run_bench)
    alone = replace(results(run), latency=())
    launched = tiny.run_cli(*words, "force=true", processes=2)
    assert launched.returncode == 0, launched.stderr
    assert replace(results(run), latency=()) == alone
