"""What a student learns from, and what it may not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from leafkit.config import DataConfig, SourceConfig, StudentConfig
from leafkit.data.records import Collection, Document, Query
from leafkit.pipeline.model_handle import ModelHandle
from leafkit.pipeline.student.text_groups import choose_texts

# no vectors of its own, no prompts
TEACHER = ModelHandle(SimpleNamespace(prompt=lambda role: ""), "teacher", "teacher")


def with_queries(name, *, documents=(), train=(), **judged):
    queries = [Query(f"t{i}", text, "train") for i, text in enumerate(train)]
    queries += [Query(split, text, split) for split, text in judged.items()]
    rows = [Document(f"d{i}", text, title) for i, (title, text) in enumerate(documents)]
    return Collection(name, rows, queries, {split: {"d0": 1} for split in judged})


HOME = with_queries(
    "home",
    documents=[
        ("Inverse of a matrix", "How it is computed is told here at some length."),
        ("Baking bread", "How one bakes bread of rye is what this document tells."),
        ("What is judged", "A document may be what a query asks."),
    ],
    train=["how to bake", "INVERSE  of a matrix", "dev text", "elsewhere asked", "open files"],
    test="Inverse of a Matrix",
    validation="Dev text",
)
ELSEWHERE = with_queries("elsewhere", documents=[("", "x")], test="Elsewhere  asked")
SOURCE = with_queries(
    "source", documents=[("", "Baking soda"), ("", "inverse of a matrix")], train=["dev  text"]
)


@pytest.mark.parametrize("measured", [(), (ELSEWHERE,)])
def test_what_a_judged_query_asks_trains_nothing(measured, capsys):
    groups = choose_texts(
        HOME,
        TEACHER,
        StudentConfig(),
        DataConfig(num_made_queries=100, sources={"source": SourceConfig(uri="jsonl:x")}),
        seed=1,
        sources={"source": SOURCE},
        measured=measured,
    )
    texts = {group.name: group.texts for group in groups}
    # the index holds them all
    assert texts["home documents"] == [document.full_text for document in HOME.documents]
    asked = ["how to bake", *(["elsewhere asked"] if not measured else []), "open files"]
    assert texts["home queries"] == asked
    assert "Baking bread" in texts["home made queries"]
    assert "Inverse of a matrix" not in texts["home made queries"]
    assert texts["source documents"] == ["Baking soda"]
    assert "source queries" not in texts
    number = 5 + len(measured)
    assert f"{number} texts ask what a judged query asks" in capsys.readouterr().out


def test_queries_that_train_are_judged_by_nobody():
    some = with_queries("some", train=["one"], test="two")
    some.qrels["t0"] = {"d0": 1}
    some.queries.append(Query("n", "three", "test"))
    assert some.judged_texts() == {"two"}
