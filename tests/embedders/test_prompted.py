"""Queries under instructions of their own: every way to ask a model agrees with the text written
out.
"""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch

from leafkit.data.prompts import KALM_TEMPLATE, make_prompt
from leafkit.data.records import Query
from leafkit.embedders.prompted import EXAMPLES, PROMPTED, prompted_queries
from leafkit.embedders.transformer import TransformerEmbedder

USUAL = make_prompt(KALM_TEMPLATE, "find the value")


def embedder(**templates: str) -> TransformerEmbedder:
    encoder = tiny.make_encoder(prompts={"query": USUAL, "document": "a "})
    return TransformerEmbedder(
        tiny.with_spec(encoder, templates=templates), torch.device("cpu"), torch.float32
    )


def queries(*instructions: str) -> list[Query]:
    return [
        Query(str(i), text, instruction=instruction)
        for i, ((text, _), instruction) in enumerate(
            zip(tiny.make_pairs(9), instructions, strict=False)
        )
    ]


@pytest.mark.parametrize(
    "instructions",
    [
        ("sort the table", "", "count the values"),
        ("sort the table",) * 3,
        ("{query} of {instruction}", "\n", "x"),
    ],
)
@pytest.mark.parametrize("examples", ["", "matrix > vector\n"])
def test_each_query_is_asked_under_its_own_instruction(
    instructions: tuple[str, ...], examples: str
) -> None:
    model = embedder(query=KALM_TEMPLATE, **({EXAMPLES: examples} if examples else {}))
    asked = queries(*instructions)
    texts, role = prompted_queries(model, asked)
    written = [
        (examples + make_prompt(KALM_TEMPLATE, q.instruction) if q.instruction else USUAL) + q.text
        for q in asked
    ]
    bare = TransformerEmbedder(
        tiny.with_spec(model.encoder, prompts={}), torch.device("cpu"), torch.float32
    )
    expected = bare.embed(written, "query", 128)
    assert np.array_equal(model.embed(texts, role, 128), expected)
    assert (role == PROMPTED) == any(instructions)


@pytest.mark.parametrize("template", ["", "query: {query}"])
def test_a_model_without_a_place_for_it_keeps_its_prompt_and_says_so(
    template: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = embedder(**({"query": template} if template else {}))
    asked = queries("sort the table", "", "x")
    assert prompted_queries(model, asked, "some queries, mine") == (
        [q.text for q in asked],
        "query",
    )
    assert "some queries, mine: 2 have an instruction of their own" in capsys.readouterr().out
    prompted_queries(model, queries("", ""), "some queries, mine")
    assert capsys.readouterr().out == ""


def test_a_prompt_inside_a_query_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    asked = [Query("1", make_prompt(KALM_TEMPLATE, "Find it.") + "why"), Query("2", "how")]
    prompted_queries(embedder(), asked, "some queries, mine")
    shown = " ".join(capsys.readouterr().out.split())
    assert "some queries, mine: 1 of 2 hold a prompt already, the first is 'Instruct" in shown
