"""One prompt: what mining, soft labels and batches embed is what training trains on, whatever the
task of a row and whoever says its instruction.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from leafkit.config import (
    INSTRUCTIONS,
    ContrastiveLossConfig,
    DataConfig,
    MiningConfig,
    SoftLabelConfig,
    StageConfig,
    TrainSourceConfig,
)
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.data.pair_records import rows_of_pairs
from leafkit.data.prompts import GEMMA_TEMPLATE, KALM_TEMPLATE, make_prompt
from leafkit.models.text_encoder import EncoderSpec
from leafkit.pipeline.teacher.average import HeldOut, held_out_loss
from leafkit.pipeline.teacher.batch_plan import plan_batches
from leafkit.pipeline.teacher.memory_library import MemoryLibrary
from leafkit.pipeline.teacher.mine import mine_sources
from leafkit.pipeline.teacher.soft_labels import score_sources
from leafkit.pipeline.teacher.sources import read_sources
from leafkit.pipeline.teacher.stage import prepare_encoder
from leafkit.pipeline.teacher.task import Source, StageTask
from leafkit.pipeline.teacher.training_table import StageRows, check_prompts, join_sources
from leafkit.synth.chat_prompts import TASK_TYPES
from leafkit.train.world import read_world

TEMPLATE = "find {instruction} : {query}"
CPU = torch.device("cpu")
WORDS = tiny.make_pairs(60)
Write = Callable[..., str]


@dataclass
class Recorder(MemoryLibrary):
    """A library that remembers what its models saw, prompts included."""

    seen: set[str] = field(default_factory=set)

    def embed(self, embedder, name, request):
        prompt = embedder.prompt(request.role)
        self.seen.update(prompt + text for text in request.texts)
        return MemoryLibrary.embed(self, embedder, name, request)


def make_task(config: StageConfig, pairs: list[dict[str, Any]] | None = None) -> StageTask:
    """A stage after one that was trained with the same template and another instruction."""
    data = DataConfig(max_query_tokens=64, max_document_tokens=64)
    library = Recorder(data)
    before = tiny.make_encoder(prompts={"query": "find things : ", "document": "text : "})
    library.stages["weak"] = tiny.with_spec(before, templates={"query": TEMPLATE})
    rows = None if pairs is None else rows_of_pairs("pairs", pairs)
    return StageTask(
        "tune",
        config,
        data,
        library=library,
        device=CPU,
        precision=torch.float32,
        world=read_world(),
        seed=0,
        pairs=rows,
    )


def stage(**changes: Any) -> StageConfig:
    plain = StageConfig(
        init="stage:weak",
        query_template=TEMPLATE,
        instruction="answers",
        batching="random",
        batch_size=4,
        num_steps=6,
        question_ratio=0.0,
        loss=ContrastiveLossConfig(anchor_weight=0.0),
    )
    return replace(plain, **changes)


@pytest.fixture
def jsonl(tmp_path: Path) -> Write:
    def write(rows: list[dict[str, Any]], name: str = "rows") -> str:
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return f"jsonl:{path}"

    return write


def pairs(first: int, last: int, **extra: Any) -> list[dict[str, Any]]:
    return [{"query": q, "positive": d} | extra for q, d in WORDS[first:last]]


def read(config: StageConfig, **sources: TrainSourceConfig) -> list[Source]:
    return read_sources(make_task(replace(config, sources=sources)))


def sides(rows: StageRows) -> list[tuple[str, str]]:
    return [
        (query, rows.documents[p]) for query, p in zip(rows.queries, rows.positives, strict=True)
    ]


# --- the prompt of training is the prompt of all else

MIXED = [
    *pairs(0, 8),
    *pairs(8, 16, instruction="a value"),
    *pairs(16, 24, task="sts"),
    *pairs(24, 32, task="bitext", instruction="the second"),
    *pairs(32, 40, task="pair_classification"),
]
MINES = {"mining": MiningConfig(model="start", num_negatives=2, first_rank=0, last_rank=4)}
GIVEN = [row | {"negatives": [WORDS[50 + i % 9][1]]} for i, row in enumerate(MIXED)]


def trained_texts(rows: StageRows, sources: list[Source]) -> set[str]:
    """What the model will see, with the document prompt that foreign documents have."""
    documents = {
        text if text.startswith("find ") and " : " in text else f"text : {text}"
        for text in rows.documents
    }
    return {*rows.queries, *documents}


@pytest.mark.parametrize("who", ["mining", "soft labels", "soft labels' template", "neighbors"])
def test_what_is_embedded_is_what_is_trained(who: str, jsonl: Write) -> None:
    rows = GIVEN if "soft" in who else MIXED
    changes: dict[str, Any] = {"sources": {"a": TrainSourceConfig(jsonl(rows))}}
    if who == "mining":
        changes |= MINES
    elif who == "neighbors":
        changes |= {"batching": "neighbors", "neighbor_model": "stage:weak", "num_neighbors": 3}
    else:
        template = TEMPLATE if "template" in who else ""
        changes["soft_labels"] = SoftLabelConfig(models=["stage:weak"], query_template=template)
    task = make_task(stage(**changes))
    sources = read_sources(task)
    mine_sources(task, sources)
    score_sources(task, sources)
    table = join_sources(sources)
    if who == "neighbors":
        plan_batches(task, table)
    seen, trained = task.library.seen, trained_texts(table, sources)
    queries = set(table.queries) if who != "neighbors" else set()
    assert queries <= seen
    assert {text for text in seen if not text.startswith("text : ")} <= trained
    # documents of symmetric tasks under the prompt, of retrieval alone under the model's own
    symmetric = {row["positive"] for row in MIXED[16:]}
    assert not any(text.removeprefix("text : ") in symmetric for text in seen)
    assert f"find the second : {MIXED[24]['positive']}" in seen
    assert f"text : {MIXED[8]['positive']}" in seen


def test_a_model_without_a_template_keeps_its_own_prompt(jsonl: Write) -> None:
    config = stage(sources={"a": TrainSourceConfig(jsonl(MIXED))}, **MINES)
    task = make_task(config)
    weak = task.library.stages["weak"]
    task.library.stages["weak"] = tiny.with_spec(weak, templates={})
    mine_sources(task, read_sources(task))
    assert {"find things : " + row["query"] for row in MIXED} <= task.library.seen
    assert not any(text.startswith(("find a value", "find answers")) for text in task.library.seen)


def test_held_out_pairs_are_asked_under_their_own_instruction() -> None:
    task = make_task(stage())
    encoder = task.library.stages["weak"]
    plain = [HeldOut(q, d) for q, d in WORDS[:8]]
    own = [HeldOut(q, d, "a value") for q, d in WORDS[:8]]
    told = tiny.with_spec(encoder, prompts={"query": "find a value : ", "document": "text : "})
    alike = [HeldOut(q, d, "a value", "sts") for q, d in WORDS[:8]]
    both = tiny.with_spec(encoder, prompts=dict.fromkeys(("query", "document"), "find a value : "))
    assert held_out_loss(task, encoder, alike) == pytest.approx(held_out_loss(task, both, plain))
    assert held_out_loss(task, encoder, own) == pytest.approx(held_out_loss(task, told, plain))
    assert held_out_loss(task, encoder, own) != held_out_loss(task, encoder, plain)


# --- few-shot examples


@pytest.mark.parametrize("task", ["retrieval", "sts"])
def test_rows_with_an_instruction_of_their_own_see_the_examples_too(
    task: str, jsonl: Write
) -> None:
    config = stage(num_examples=2, example_template="{instruction}|{query}={document};")
    rows = pairs(0, 22, instruction="a value", task=task)
    (source,) = read(config, a=TrainSourceConfig(jsonl(rows)))
    shown = "".join(f"a value|{e.query}={e.document};" for e in source.examples)
    table = join_sources([source])
    assert len(table) == 20
    assert all(query.startswith(f"{shown}find a value : ") for query in table.queries)
    assert all(text.startswith(shown) == (task == "sts") for text in table.documents if text)
    with pytest.raises(UsageError, match="source a: the prompt takes"):
        check_prompts(tiny.make_encoder(), [source], 24, 64)


def test_a_trained_model_can_make_its_prompt_for_another_instruction(jsonl: Write) -> None:
    """With the examples that it was trained with."""
    from leafkit.embedders.prompted import place_prompts, prompt_with

    config = stage(num_examples=1, example_template="{query}={document};")
    sources = read(config, a=TrainSourceConfig(jsonl(pairs(0, 6))))
    task = make_task(config)
    encoder = prepare_encoder(tiny.make_encoder(), config, 0, sources)
    model = task.embedder(encoder)
    assert model.prompt("query") == prompt_with(model, "answers") == prompt_with(model, "")
    assert prompt_with(model, "a value") == model.prompt("query").replace("answers", "a value")
    mixed = [prompt_with(model, ""), prompt_with(model, "a value")]
    texts, role = place_prompts(model, ["a", "b"], mixed, ("query",))
    assert model.prompt(role) == ""
    assert texts == [mixed[0] + "a", mixed[1] + "b"]
    assert place_prompts(model, ["a"], mixed[:1], ("query",)) == (["a"], "query")


# --- rows of all tasks


def synthetic_rows() -> list[dict[str, Any]]:
    """Rows as leafkit synth writes them, three of each of the six types."""
    texts = iter(WORDS)
    rows = []
    for number in range(3):
        for kind in TASK_TYPES.values():
            query, document = next(texts)
            rows.append(
                {
                    "query": query,
                    "positive": document,
                    "negatives": [f"{document} not"],
                    "instruction": kind.instruction or f"the {number} {kind.name}",
                    "task": kind.task,
                    "language": "en",
                    "split": "train",
                    "provenance": {"task_type": kind.name},
                }
            )
    return rows


def test_synthetic_rows_train_as_what_they_are(jsonl: Write) -> None:
    rows = synthetic_rows()
    sources = read(stage(), synth=TrainSourceConfig(jsonl(rows), weight=2.0))
    assert [source.name for source in sources] == [
        "synth.retrieval",
        "synth.classification",
        "synth.sts",
        "synth.bitext",
    ]
    assert [source.config.weight for source in sources] == pytest.approx([1.0] + [1 / 3] * 3)
    table = join_sources(sources)
    by_query = dict(zip(table.queries, range(len(table)), strict=True))
    for row in rows:
        prompt = make_prompt(TEMPLATE, row["instruction"])
        i = by_query[prompt + row["query"]]
        on_documents = prompt if row["task"] in ("sts", "bitext") else ""
        assert table.documents[table.positives[i]] == on_documents + row["positive"]
        assert [table.documents[d] for d in table.negatives[i]] == [
            on_documents + row["negatives"][0]
        ]
        # another row's label may be right for this row's text
        assert table.in_batch[i] == (row["task"] != "classification")


@pytest.mark.parametrize("task", ["sts", "bitext", "pair_classification"])
@pytest.mark.parametrize("said_by", ["row", "source"])
@pytest.mark.parametrize("form", ["query", "s1", "sentence1"])
def test_symmetric_rows_of_both_forms(task: str, said_by: str, form: str, jsonl: Write) -> None:
    names = {"query": ("query", "positive"), "s1": ("s1", "s2")}.get(
        form, ("sentence1", "sentence2")
    )
    rows: list[dict[str, Any]] = [dict(zip(names, pair, strict=True)) for pair in WORDS[:4]]
    if said_by == "row":
        rows = [row | {"task": task} for row in rows]
    elif task == "sts" and form != "query":
        rows = [row | {"score": 5} for row in rows]
    config = TrainSourceConfig(jsonl(rows), task=task if said_by == "source" else "auto")
    (source,) = read(stage(instruction=""), a=config)
    assert source.config.task == task
    prompt = make_prompt(TEMPLATE, INSTRUCTIONS[task])
    assert sides(join_sources([source])) == [(prompt + q, prompt + d) for q, d in WORDS[:4]]


def test_rows_with_labels_for_alike_or_not(jsonl: Write) -> None:
    rows = [{"s1": q, "s2": d, "label": i % 2} for i, (q, d) in enumerate(WORDS[:6])]
    (source,) = read(stage(), a=TrainSourceConfig(jsonl(rows), task="pair_classification"))
    assert source.rows.queries == [q for q, _ in WORDS[1:6:2]]
    assert source.rows.counts == {"pairs of label 0 left out": 3}


@pytest.mark.parametrize("task", ["sts", "clustering"])
def test_sentences_and_labelled_texts_keep_their_own_instruction(task: str, jsonl: Write) -> None:
    form = {"sts": {"s1": "a", "s2": "b", "score": 5}, "clustering": {"text": "a", "label": "l"}}
    rows = [
        {key: f"{value} {i}" if value in ("a", "b") else value for key, value in form[task].items()}
        | {"instruction": f"the {i}"}
        for i in range(4)
    ]
    config = stage(mining=MiningConfig(model="start", num_negatives=1))
    (source,) = read(config, a=TrainSourceConfig(jsonl(rows), task=task))
    assert {query for query, _ in sides(join_sources([source]))} == {
        f"find the {i} : a {i}" for i in range(4)
    }
    with pytest.raises(LeafkitError, match=r"rows.jsonl:1: 'instruction' is not"):
        read(config, a=TrainSourceConfig(jsonl([form[task] | {"instruction": 3}]), task=task))


def test_names_of_labels_have_no_prompt_and_texts_of_labels_have(jsonl: Write) -> None:
    texts = [{"text": f"{q} {i}", "label": i % 2} for i, (q, _) in enumerate(WORDS[:6])]
    config = stage(mining=MiningConfig(model="start", num_negatives=1))
    named = pairs(0, 3, negatives=["another label"], task="clustering")
    sources = read(
        config,
        texts=TrainSourceConfig(jsonl(texts, "texts"), task="clustering"),
        names=TrainSourceConfig(jsonl(named, "names")),
        told=TrainSourceConfig(jsonl(named, "told"), task="clustering", prompt_on="both"),
    )
    assert [source.is_symmetric for source in sources] == [True, False, True]
    assert not join_sources(sources).in_batch.any()


def test_the_sources_task_overrules_the_rows_and_says_so(
    jsonl: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*pairs(0, 2, task="sts"), *pairs(2, 5)]
    (source,) = read(stage(), a=TrainSourceConfig(jsonl(rows), task="retrieval"))
    assert (source.config.task, source.is_symmetric, len(source.rows)) == ("retrieval", False, 5)
    assert "rows of another task trained as retrieval, which the source says: 2" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize("own", ["sst", "STS", "msmarco"])
def test_a_task_of_no_known_name_is_refused(own: str, jsonl: Write) -> None:
    with pytest.raises(LeafkitError, match=f"source a: 2 rows are of task '{own}'") as caught:
        read(stage(), a=TrainSourceConfig(jsonl([*pairs(0, 2, task=own), *pairs(2, 4)])))
    assert "that of the source a" in caught.value.hint
    (source,) = read(stage(), a=TrainSourceConfig(jsonl(pairs(0, 2, task=own)), task="retrieval"))
    assert len(source.rows) == 2


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"s1": "a", "s2": "b", "score": 4.5}, "a scored pair of sentences"),
        ({"query": "a", "positive": "b", "task": 3}, "'task' is not text"),
        ({"query": "a", "positive": "b", "instruction": ["x"]}, "'instruction' is not text"),
    ],
)
def test_rows_whose_task_cannot_be_read(row: dict[str, Any], reason: str, jsonl: Write) -> None:
    with pytest.raises(LeafkitError, match=f"rows.jsonl:1: {reason}"):
        read(stage(), a=TrainSourceConfig(jsonl([row])))


def test_a_source_that_is_called_like_a_part_of_another_is_refused(jsonl: Write) -> None:
    uri = jsonl([*pairs(0, 2), *pairs(2, 4, task="sts")])
    other = TrainSourceConfig(jsonl(pairs(0, 2), "other"))
    with pytest.raises(UsageError, match=r"'a.sts' is a source, and one task's rows of another"):
        read(stage(), **{"a": TrainSourceConfig(uri), "a.sts": other})


def test_pairs_in_memory_say_their_task(jsonl: Write) -> None:
    task = make_task(stage(), [*pairs(0, 3), *pairs(3, 5, task="sts")])
    plain, sts = read_sources(task)
    assert (plain.name, sts.name, sts.is_symmetric) == ("pairs.retrieval", "pairs.sts", True)
    # each has its own documents, so that no search brings those of another task
    assert (len(plain.rows.documents), len(sts.rows.documents)) == (3, 2)


@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_batches_are_of_one_task_even_within_a_source(ratio: float, jsonl: Write) -> None:
    rows = [*pairs(0, 20), *pairs(20, 40, task="sts"), *pairs(40, 60, task="bitext")]
    config = stage(sources={"a": TrainSourceConfig(jsonl(rows))}, same_task_ratio=ratio)
    task = make_task(config)
    table = join_sources(read_sources(task))
    plan = plan_batches(task, table)
    kept = round(4 * ratio)
    tasks = np.array([source.config.task for source in table.sources])[table.source_of_row]
    assert all(len(set(tasks[batch[:kept]])) == 1 for batch in plan.batches)
    assert [line["source"] for line in plan.table] == ["a.retrieval", "a.sts", "a.bitext"]
    assert {line["batches"] for line in plan.table} == {2} or ratio < 1
    assert (plan.same_task_share == 1.0) == (ratio == 1.0)


# --- prompts inside the rows


def prompted(template: str = KALM_TEMPLATE) -> list[dict[str, Any]]:
    return [
        {"query": make_prompt(template, f"Find {i}.") + q, "positive": d}
        for i, (q, d) in enumerate(WORDS[:5])
    ]


@pytest.mark.parametrize(
    "template", [KALM_TEMPLATE, GEMMA_TEMPLATE, "Instruct:{instruction}\n\nQuery:{query}"]
)
def test_a_prompt_inside_a_query_is_refused_stripped_or_kept(template: str, jsonl: Write) -> None:
    uri = jsonl([*prompted(template), *pairs(5, 9)])
    with pytest.raises(UsageError, match="source a: 5 texts of its 9 rows hold a prompt") as caught:
        read(stage(), a=TrainSourceConfig(uri))
    assert "stages.tune.sources.a.prompt_in_query=strip" in caught.value.hint
    (source,) = read(stage(), a=TrainSourceConfig(uri, prompt_in_query="strip"))
    assert source.rows.queries == [q for q, _ in WORDS[:9]]
    assert source.rows.instructions == [*(f"Find {i}." for i in range(5)), *[""] * 4]
    assert sum(source.rows.counts.values()) == 5
    assert join_sources([source]).queries[1] == f"find Find 1. : {WORDS[1][0]}"
    (source,) = read(stage(), a=TrainSourceConfig(uri, prompt_in_query="keep"))
    assert source.rows.queries[0] == prompted(template)[0]["query"]


def test_a_prompt_inside_the_documents_of_a_symmetric_task_goes_too(jsonl: Write) -> None:
    texts = [make_prompt(KALM_TEMPLATE, "Find.") + text for text in WORDS[0]]
    uri = jsonl([{"query": texts[0], "positive": texts[1], "task": "sts"}])
    (source,) = read(stage(), a=TrainSourceConfig(uri, prompt_in_query="strip"))
    assert sides(join_sources([source])) == [tuple(f"find Find. : {text}" for text in WORDS[0])]


def test_a_prompt_inside_pairs_in_memory_is_refused() -> None:
    with pytest.raises(UsageError, match="source pairs: 5 texts of its 5 rows") as caught:
        read_sources(make_task(stage(), prompted()))
    assert '"instruction"' in caught.value.hint


def test_the_default_instruction_suits_any_collection(jsonl: Write) -> None:
    assert StageConfig().instruction == ""
    sources = read(
        replace(stage(), instruction=""),
        plain=TrainSourceConfig(jsonl(pairs(0, 2))),
        own=TrainSourceConfig(jsonl(pairs(0, 2)), instruction="mine"),
    )
    assert [source.instruction for source in sources] == [
        "Given a query, retrieve documents that answer the query.",
        "mine",
    ]
    assert EncoderSpec().templates == {}
