"""Queries with an instruction of their own are learnt and measured under it, by every command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from leafkit.config import DataConfig, Recipe, SourceConfig, StudentConfig
from leafkit.data.prompts import make_prompt
from leafkit.data.records import Collection, Document, Query
from leafkit.embedders.prompted import PROMPTED
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.corpus import Corpus
from leafkit.pipeline.evaluate.corpora import BenchCorpus
from leafkit.pipeline.evaluate.diagnose import _embed_queries
from leafkit.pipeline.evaluate.evaluate_pair import embed_systems
from leafkit.pipeline.evaluate.inherit import load_systems
from leafkit.pipeline.evaluate.parts import embed_collection
from leafkit.pipeline.model_in_memory import as_handle
from leafkit.pipeline.pair import Pair
from leafkit.pipeline.run import Run
from leafkit.pipeline.student.text_groups import choose_texts
from leafkit.train.world import read_world

TEMPLATE = "find {instruction} : {query}"
CPU = torch.device("cpu")


def make_encoder(seed: int) -> TextEncoder:
    prompts = {"query": "find the answer : "}
    encoder = tiny.make_encoder(seed=seed, prompts=prompts)
    return tiny.with_spec(encoder, templates={"query": TEMPLATE})


def make_collection(instructions: Sequence[str]) -> Collection:
    rows = tiny.make_pairs(len(instructions))
    return Collection(
        "asked",
        [Document(f"d{i}", text) for i, (_, text) in enumerate(rows)],
        [
            Query(f"q{i}", text, instruction=own)
            for i, ((text, _), own) in enumerate(zip(rows, instructions, strict=True))
        ],
        {f"q{i}": {f"d{i}": 1} for i in range(len(rows))},
    )


@pytest.mark.parametrize("command", ["bench", "inherit", "diagnose", "evaluate"])
def test_a_query_is_measured_under_its_own_instruction(command: str, tmp_path: Path) -> None:
    instructions = ["", "the matrix", "a value", "the matrix", ""]
    collection = make_collection(instructions)
    teacher, student = (as_handle(make_encoder(seed)) for seed in (1, 2))
    recipe = Recipe(name="asked", checkpoints=str(tmp_path), data=DataConfig(corpus="jsonl:x"))
    run = Run(recipe, CPU, torch.float32, read_world())
    if command == "bench":
        measured_on = BenchCorpus(Corpus(collection, "one"), "in-domain", 64)
        stores = embed_collection(run, {"teacher": teacher, "student": student}, measured_on)
        found = {name: queries[:] for name, (queries, _) in stores.items()}
    elif command == "inherit":
        systems = load_systems(run, teacher, student, Corpus(collection, "one"))
        found = {"teacher": systems["teacher"][0], "student": systems["symmetric"][0]}
    elif command == "diagnose":
        store = _embed_queries(run, teacher, collection)
        assert store is not None
        found = {"teacher": store[:]}
    else:
        embedder = teacher.model
        texts = [document.text for document in collection.documents]
        pair = Pair(
            student.model.encoder,
            collection,
            embedder.embed(texts, "document", 64),
            embedder.space("document", 64),
            embedder=student.model,
            teacher=teacher,
        )
        asked = embed_systems(pair, collection, "test")
        found = {"teacher": asked["teacher"][0], "student": asked["symmetric"][0]}
    for name, handle in (("teacher", teacher), ("student", student)):
        bare = TransformerEmbedder(tiny.with_spec(handle.encoder, prompts={}), CPU, torch.float32)
        written = [
            make_prompt(TEMPLATE, own or "the answer") + query.text
            for own, query in zip(instructions, collection.queries, strict=True)
        ]
        if name in found:
            expected = bare.embed(written, "query", 64)
            np.testing.assert_allclose(found[name], expected, atol=2e-3)  # stores hold float16
            plain = bare.embed([query.text for query in collection.queries], "query", 64)
            assert np.abs(found[name] - plain).max() > 0.02


@pytest.mark.parametrize("kind", ["transformer", "static"])
def test_a_student_learns_queries_under_the_prompts_it_is_measured_with(kind: str) -> None:
    instructions = ["", "the matrix", "a value"]
    collection = make_collection(instructions)
    collection.queries = [replace(query, split="train") for query in collection.queries]
    teacher = as_handle(make_encoder(1))
    config = StudentConfig(kind=kind, question_ratio=0.0, query_repeats=2)
    data = DataConfig(sources={"more": SourceConfig("jsonl:more")})
    groups = choose_texts(
        collection, teacher, config, data, seed=0, sources={"more": make_collection(())}
    )
    more = replace(data, sources={"more": SourceConfig("jsonl:more")})
    groups_of_source = choose_texts(
        make_collection(()), teacher, config, more, seed=0, sources={"more": collection}
    )
    # a source of the recipe is learnt like the corpus, each text once
    assert [(group.role, group.texts) for group in groups] == [
        (group.role, group.texts) for group in groups_of_source
    ]
    texts = [query.text for query in collection.queries]
    found = [(group.role, group.texts, group.repeats) for group in groups if group.repeats == 2]
    if kind == "static":  # a table has no prompts
        assert found == [("query", texts, 2)]
        return
    written = [
        make_prompt(TEMPLATE, own) + text
        for own, text in zip(instructions[1:], texts[1:], strict=True)
    ]
    assert found == [("query", texts[:1], 2), (PROMPTED, written, 2)]
