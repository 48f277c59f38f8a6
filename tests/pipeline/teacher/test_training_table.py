"""The rows of a stage: sources with prompts and examples, joined into one table in which no answer
is a negative.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from leafkit.config import DataConfig, MiningConfig, Recipe, StageConfig, TrainSourceConfig
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.data.prompts import GEMMA_TEMPLATE
from leafkit.data.training_rows import TrainingRows
from leafkit.pipeline.run import Run
from leafkit.pipeline.teacher.sources import identify_sources, read_sources, source_configs
from leafkit.pipeline.teacher.task import Source
from leafkit.pipeline.teacher.teach import recipe_task
from leafkit.pipeline.teacher.training_table import StageRows, check_prompts, join_sources
from leafkit.train.world import read_world

TEMPLATE = "{instruction} > {query}"
Write = Callable[..., str]


@pytest.fixture
def jsonl(tmp_path: Path) -> Write:
    """Write rows and return the source's name."""

    def write(rows: list[dict[str, Any]], name: str = "rows") -> str:
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return f"jsonl:{path}"

    return write


@pytest.fixture
def run(tmp_path: Path) -> Run:
    recipe = Recipe(
        name="rows", checkpoints=str(tmp_path / "ck"), data=DataConfig(corpus="jsonl:absent")
    )
    return Run(recipe, torch.device("cpu"), torch.float32, read_world())


def pairs(count: int, **extra: Any) -> list[dict[str, Any]]:
    return [{"query": f"q{i}", "positive": f"p{i}"} | extra for i in range(count)]


def stage(**changes: Any) -> StageConfig:
    return replace(StageConfig(query_template=TEMPLATE, instruction="seek"), **changes)


def read(run: Run, config: StageConfig, **sources: TrainSourceConfig) -> list[Source]:
    return read_sources(recipe_task(run, "tune", replace(config, sources=sources)))


def joined(run: Run, config: StageConfig, **sources: TrainSourceConfig) -> StageRows:
    return join_sources(read(run, config, **sources))


def texts(rows: StageRows) -> list[tuple[str, str, list[str]]]:
    return [
        (q, rows.documents[p], [rows.documents[n] for n in given])
        for q, p, given in zip(rows.queries, rows.positives, rows.negatives, strict=True)
    ]


def relevant(rows: StageRows) -> list[set[str]]:
    return [{rows.documents[d] for d in known} for known in rows.relevant]


# --- prompts


def test_the_instruction_is_the_rows_own_else_the_sources_else_the_stages(
    run: Run, jsonl: Write
) -> None:
    uri = jsonl(
        [{"query": "q", "positive": "p"}, {"query": "r", "positive": "s", "instruction": "own"}]
    )
    rows = joined(
        run, stage(), a=TrainSourceConfig(uri), b=TrainSourceConfig(uri, instruction="find")
    )
    assert rows.queries == ["seek > q", "own > r", "find > q", "own > r"]
    assert rows.documents == ["p", "s"]  # one text is one document


def test_symmetric_tasks_have_their_prompt_before_documents_too(run: Run, jsonl: Write) -> None:
    sts = jsonl([{"s1": "a", "s2": "b", "score": 5}], "sts")
    plain = jsonl([{"query": "a", "positive": "c"}], "plain")
    rows = joined(
        run, stage(), sts=TrainSourceConfig(sts, task="sts"), plain=TrainSourceConfig(plain)
    )
    assert texts(rows) == [("seek > a", "seek > b", []), ("seek > a", "c", [])]
    rows = joined(
        run,
        stage(),
        sts=TrainSourceConfig(sts, task="sts", prompt_on="query"),
        p=TrainSourceConfig(plain, prompt_on="both"),
    )
    assert texts(rows) == [("seek > a", "b", []), ("seek > a", "seek > c", [])]


def test_templates_are_byte_exact_in_the_texts(run: Run, jsonl: Write) -> None:
    source = TrainSourceConfig(jsonl(pairs(1)), instruction="Given a question, find passages.")
    assert joined(run, StageConfig(), a=source).queries == [
        "Instruct: Given a question, find passages. \n Query: q0"
    ]
    gemma = StageConfig(query_template=GEMMA_TEMPLATE)
    assert joined(run, gemma, a=source).queries == [
        "Instruct: Given a question, find passages.\nQuery: q0"
    ]


def test_examples_come_from_the_training_rows_and_train_no_more(run: Run, jsonl: Write) -> None:
    config = stage(num_examples=2, example_template="{query}={document};")
    (source,) = read(run, config, a=TrainSourceConfig(jsonl(pairs(9))))
    assert len(source.examples) == 2
    assert source.prompt == "".join(f"{e.query}={e.document};" for e in source.examples) + "seek > "
    assert len(source.rows) == 7
    assert source.num_read == 9
    shown = {e.query for e in source.examples}
    assert not shown & set(source.rows.queries)
    assert all(e.query[1:] == e.document[1:] for e in source.examples)
    (again,) = read(run, config, a=TrainSourceConfig(jsonl(pairs(9))))
    assert again.prompt == source.prompt
    rows = join_sources([source])
    assert all(q.startswith(source.prompt) for q in rows.queries)


def test_all_rows_of_an_examples_query_leave_with_it(run: Run, jsonl: Write) -> None:
    rows = [{"query": f"q{i}", "positives": [f"p{i}", f"r{i}"]} for i in range(3)]
    (source,) = read(run, stage(num_examples=2), a=TrainSourceConfig(jsonl(rows)))
    assert len({e.query for e in source.examples}) == 2
    assert len(source.rows) == 2
    assert len(set(source.rows.queries)) == 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_examples_must_leave_rows_to_train_on(run: Run, jsonl: Write, count: int) -> None:
    with pytest.raises(
        UsageError, match=f"source a: num_examples=3 is not less than its {count} rows"
    ):
        read(run, stage(num_examples=3), a=TrainSourceConfig(jsonl(pairs(count))))


def test_a_prompt_that_leaves_no_room_is_refused_examples_counted(run: Run, jsonl: Write) -> None:
    encoder = tiny.make_encoder()
    uri = jsonl([{"query": "find the matrix", "positive": "the matrix " * 10}] * 2 + pairs(20))
    (short,) = read(run, stage(), a=TrainSourceConfig(uri))
    check_prompts(encoder, [short], 32, 48)
    (long,) = read(run, stage(num_examples=5), a=TrainSourceConfig(uri))
    with pytest.raises(
        UsageError, match=r"source a: the prompt takes \d+ of the 32 tokens a query may have"
    ):
        check_prompts(encoder, [short, long], 32, 48)
    with pytest.raises(UsageError, match="of the 16 tokens"):  # the model's own limit counts too
        check_prompts(tiny.with_spec(encoder, max_tokens=16), [long], 512, 512)


def test_a_rows_own_instruction_must_leave_room_too(run: Run, jsonl: Write) -> None:
    rows = [*pairs(3), {"query": "q", "positive": "p", "instruction": "matrix " * 40}]
    found = read(run, stage(), a=TrainSourceConfig(jsonl(rows)))
    check_prompts(tiny.make_encoder(), found, 64, 64)
    with pytest.raises(UsageError, match=r"source a: the prompt takes 4\d of the 48 tokens"):
        check_prompts(tiny.make_encoder(), found, 48, 48)


# --- the table


def test_what_any_source_calls_relevant_is_no_negative(run: Run, jsonl: Write) -> None:
    first = jsonl(
        [
            {
                "query": "q",
                "positive": "a",
                "negatives": ["b", "c", "d"],
                "scores": [1, 0.5, 0.25, 0.125],
            }
        ],
        "first",
    )
    second = jsonl([{"query": "q", "positive": "b"}, {"query": "r", "positive": "c"}], "second")
    sources = read(
        run,
        stage(),
        one=TrainSourceConfig(first),
        two=TrainSourceConfig(second, instruction="other"),
    )
    rows = join_sources(sources)
    assert texts(rows) == [
        ("seek > q", "a", ["c", "d"]),
        ("other > q", "b", []),
        ("other > r", "c", []),
    ]
    assert relevant(rows) == [{"a", "b"}, {"a", "b"}, {"c"}]
    # the score of b went with it
    assert [s.tolist() for s in rows.soft] == [
        [1.0, 0.25, 0.125],
        [],
        [],
    ]
    assert sources[0].rows.counts == {"negatives that some row calls relevant left out": 1}
    assert rows.source_of_row.tolist() == [0, 1, 1]


def test_a_query_is_no_negative_of_itself(run: Run, jsonl: Write) -> None:
    """In symmetric tasks a text is a query here and a document there, with prompt and without."""
    sts = jsonl(
        [
            {"s1": "a", "s2": "b", "score": 5},
            {"s1": "b", "s2": "c", "score": 5},
            {"s1": "c", "s2": "a", "score": 5},
        ]
    )
    plain = jsonl([{"query": "x", "positive": "a"}], "plain")
    rows = joined(
        run, stage(), sts=TrainSourceConfig(sts, task="sts"), plain=TrainSourceConfig(plain)
    )
    assert relevant(rows) == [
        {"seek > a", "a", "seek > b"},
        {"seek > b", "seek > c"},
        {"seek > c", "seek > a", "a"},
        {"seek > a", "a"},
    ]


def test_rows_of_labels_keep_to_themselves(run: Run, jsonl: Write) -> None:
    labels = jsonl(
        [{"text": f"{label}{i}", "label": label} for label in "ab" for i in range(3)], "labels"
    )
    config = stage(mining=MiningConfig(model="start", num_negatives=2))
    rows = joined(
        run,
        config,
        l=TrainSourceConfig(labels, task="clustering"),
        p=TrainSourceConfig(jsonl(pairs(2))),
    )
    assert rows.in_batch.tolist() == [False] * 6 + [True] * 2
    for query, positive, negatives in texts(rows)[:6]:
        label = query.removeprefix("seek > ")[0]
        assert positive.startswith(f"seek > {label}")
        assert [n.removeprefix("seek > ")[0] != label for n in negatives] == [True, True]
    # all else is masked anyhow: no list of a whole class per row
    assert all(len(known) == 1 for known in rows.relevant[:6])


def test_rows_without_any_negative_are_counted_and_said(
    run: Run, jsonl: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = jsonl([{"query": "q", "positive": "a", "negatives": ["b"]}, *pairs(2)])
    (source,) = read(run, stage(), alone=TrainSourceConfig(uri, in_batch="none"))
    join_sources([source])
    assert source.rows.counts == {"rows without any negative": 2}
    assert "alone: rows without any negative: 2" in capsys.readouterr().out


def test_what_reading_left_out_is_said(
    run: Run, jsonl: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = jsonl([{"s1": "a", "s2": "b", "score": 5}, {"s1": "c", "s2": "d", "score": 1}])
    (source,) = read(run, stage(), pairs=TrainSourceConfig(uri, task="sts"))
    assert source.rows.counts == {"pairs with a score below 4 left out": 1}
    assert "pairs: pairs with a score below 4 left out: 1" in capsys.readouterr().out


def test_a_large_label_costs_no_list_per_row() -> None:
    """20,000 rows of two labels: a list of relevant texts per row would be 200 million entries."""
    rows = TrainingRows("labels", documents=[f"t{i}" for i in range(20_000)])
    halves = [frozenset(range(half, 20_000, 2)) for half in range(2)]
    for i in range(20_000):
        rows.relevant.append(halves[i % 2])
        rows.add(f"t{i}", "", i, (i + 2) % 20_000, negatives=[(i + 1) % 20_000], scores=[])
    found = join_sources([Source("labels", TrainSourceConfig(task="clustering"), rows)])
    assert sum(map(len, found.relevant)) == 20_000
    assert [len(given) for given in found.negatives] == [1] * 20_000


def test_no_row_left_is_refused() -> None:
    with pytest.raises(UsageError, match="no training row is left"):
        join_sources([Source("empty", TrainSourceConfig(), TrainingRows("empty"))])


# --- where rows come from


def test_the_corpus_is_the_source_of_a_stage_that_names_none(run: Run, jsonl: Write) -> None:
    run = run.with_recipe(replace(run.recipe, data=DataConfig(corpus=jsonl(pairs(200)))))
    config = stage(question_ratio=0.0)
    task = recipe_task(run, "tune", config)
    assert list(source_configs(task)) == ["corpus"]
    (corpus,) = read_sources(task)
    assert 120 < len(corpus.rows) < 200  # the hash of a query says which of them are held out
    (named,) = read(run, config, own=TrainSourceConfig(jsonl(pairs(200))))
    assert named.name == "own"
    # a training source is for training
    assert len(named.rows) == 200


def test_the_identity_of_sources_follows_files_and_settings(run: Run, jsonl: Write) -> None:
    def identity(count: int = 3, **changes: Any) -> Any:
        config = stage(sources={"a": TrainSourceConfig(jsonl(pairs(count)), **changes)})
        return identify_sources(recipe_task(run, "tune", config))

    assert identity() == identity()
    assert (
        len(
            {
                json.dumps(i)
                for i in (identity(), identity(4), identity(weight=2.0), identity(task="bitext"))
            }
        )
        == 4
    )


@pytest.mark.parametrize(
    ("rows", "task", "match"),
    [
        (
            [{"text": "only a document"}],
            "retrieval",
            "source a: rows.jsonl|source a: rows has no judged train queries",
        ),
        (
            [{"query": "q", "positive": "p", "split": "test"}],
            "retrieval",
            "source a: rows has no judged train queries",
        ),
        (
            [{"text": "x", "label": "l"}],
            "classification",
            "gives no training row for task classification",
        ),
        ([{"s1": "q", "other": "p", "score": 5}], "sts", "rows.jsonl:1: 's2' is missing"),
    ],
)
def test_sources_without_a_row_of_the_task(
    run: Run, jsonl: Write, rows: list[Any], task: str, match: str
) -> None:
    with pytest.raises(LeafkitError, match=match):
        read(run, stage(), a=TrainSourceConfig(jsonl(rows), task=task))


def test_lengths_agree(run: Run, jsonl: Write) -> None:
    rows = joined(
        run,
        stage(),
        a=TrainSourceConfig(jsonl(pairs(5))),
        b=TrainSourceConfig(jsonl(pairs(7), "b"), limit=6),
    )
    columns = [
        rows.queries,
        rows.positives,
        rows.negatives,
        rows.relevant,
        rows.in_batch,
        rows.soft,
        rows.source_of_row,
    ]
    assert {len(column) for column in columns} == {len(rows)} == {11}
    assert len(set(rows.documents)) == len(rows.documents) == 6
    assert np.array_equal(np.bincount(rows.source_of_row), [5, 6])
