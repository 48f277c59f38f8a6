"""Batches of pairs: random, full, other every pass; what is no negative; bad input."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import tiny

from leafkit.core.errors import UsageError
from leafkit.train.contrastive_data import ContrastiveData

PAIRS = [{"query": q, "positives": [d]} for q, d in tiny.make_pairs(22)]


def attach(
    data: ContrastiveData, rank: int = 0, world_size: int = 1, **settings
) -> ContrastiveData:
    data.trainer = SimpleNamespace(
        lightning_module=SimpleNamespace(encoder=tiny.make_encoder(**settings)),
        global_rank=rank,
        world_size=world_size,
    )
    data.setup("fit")
    return data


def test_a_pass_is_full_batches_of_different_rows_and_the_next_has_others():
    data = attach(ContrastiveData(PAIRS, batch_size=4))
    assert data.num_batches == 5
    passes = []
    for epoch in (0, 1, 0):
        batches = data.make_pass(epoch)
        queries = [tuple(ids) for i in range(5) for ids in batches[i].queries]
        assert len(queries) == len(set(queries)) == 20
        passes.append(queries)
    assert passes[0] == passes[2] != passes[1]


def test_a_document_that_answers_the_query_in_another_row_is_no_negative():
    rows = [
        {"query": "the matrix", "positives": ["solve the matrix"]},
        {"query": "the matrix", "positive": "invert the matrix"},
        {"query": "the graph", "positive": "draw the graph", "negatives": ["solve the matrix"]},
    ]
    batch = attach(ContrastiveData(rows, batch_size=3)).make_pass(0)[0]
    masked = {
        tuple(ids): [
            ids_of_one.tolist()
            for ids_of_one, is_masked in zip(batch.documents, row, strict=True)
            if is_masked
        ]
        for ids, row in zip(batch.queries, batch.masked.tolist(), strict=True)
    }
    encoder = tiny.make_encoder()
    matrix, graph = (tuple(ids) for ids in encoder.tokenize(["the matrix", "the graph"], "query"))
    answers = encoder.tokenize(["solve the matrix", "invert the matrix"], "document")
    assert sorted(masked[matrix]) == sorted(answers)
    assert masked[graph] == encoder.tokenize(["draw the graph"], "document")


@pytest.mark.parametrize(
    ("pairs", "settings", "message"),
    [
        (PAIRS[:3], {"batch_size": 4}, "3 rows do not fill one batch of 4"),
        ([PAIRS[0] | {"instruction": "find"}], {"batch_size": 1}, "instruction='find' of its own"),
        ([PAIRS[0] | {"task": "sts"}], {"batch_size": 1}, "task='sts' of its own"),
    ],
)
def test_what_cannot_be_trained_is_refused(pairs, settings, message):
    with pytest.raises(UsageError, match=message):
        ContrastiveData(pairs, **settings)


def test_a_prompt_inside_a_query_is_refused_where_the_encoder_puts_its_own():
    pairs = [pair | {"query": f"Instruct: Find.\nQuery: {pair['query']}"} for pair in PAIRS]
    with pytest.raises(UsageError, match="queries hold a prompt already, the first is 'Instruct"):
        attach(ContrastiveData(pairs, batch_size=4), prompts={"query": tiny.PROMPT})
    attach(ContrastiveData(pairs, batch_size=4), prompts={})


def test_a_batch_that_does_not_divide_among_processes_is_refused():
    with pytest.raises(UsageError, match="batch_size=4 does not divide among 3 processes"):
        attach(ContrastiveData(PAIRS, batch_size=4), 0, 3)
