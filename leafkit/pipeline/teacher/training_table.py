"""The training rows of a stage: read from its sources, prompted, mined, scored, and numbered as one
table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from leafkit.config import LABEL_TASKS, StageConfig, TrainSourceConfig, to_plain
from leafkit.core.console import log
from leafkit.core.errors import UsageError
from leafkit.data.prompts import (
    check_room,
    fill_prompt,
    is_symmetric,
    render_examples,
    takes_in_batch_negatives,
)
from leafkit.data.sources import source_fingerprint
from leafkit.data.training_rows import (
    SCORED_TASKS,
    read_task_rows,
    rows_of_collection,
)
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.corpus import vary_queries
from leafkit.pipeline.teacher.task import Source, StageTask

CORPUS = "corpus"


@dataclass(slots=True)
class StageRows:
    """All rows of a stage. Texts are as the encoder sees them: with their prompts.

    Attributes:
        sources: in the recipe's order.
        source_of_row: (R,) index into ``sources``.
        queries: (R,) texts.
        documents: distinct texts.
        positives: (R,) positions in ``documents``.
        negatives: (R,) positions in ``documents``, as many as the row has.
        relevant: (R,) positions that are never negatives of the row, its positive among them.
        in_batch: (R,) whether other rows' documents are negatives.
        soft: (R,) a score for the positive and each negative; empty without soft labels.
    """

    sources: list[Source]
    source_of_row: np.ndarray
    queries: list[str]
    documents: list[str]
    positives: np.ndarray
    negatives: list[np.ndarray]
    relevant: list[np.ndarray]
    in_batch: np.ndarray
    soft: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.queries)


def source_configs(task: StageTask) -> dict[str, TrainSourceConfig]:
    """The stage's sources; the pairs in memory, else data.corpus, where it names none."""
    if task.config.sources:
        return task.config.sources
    if task.pairs is not None:
        return {task.pairs.name: TrainSourceConfig()}
    return {CORPUS: TrainSourceConfig(uri=task.data.corpus)}


def identify_sources(task: StageTask) -> dict[str, list[Any]]:
    """What decides about the rows, without reading them."""
    return {
        name: [to_plain(source), source_fingerprint(source.uri, task.data)]
        for name, source in source_configs(task).items()
    }


def read_sources(task: StageTask) -> list[Source]:
    """Rows of every source, with their prompts; few-shot examples are taken out of them.

    Raises:
        LeafkitError: a source cannot be read or holds no training row.
    """
    return [_read_source(task, name, config) for name, config in source_configs(task).items()]


def _read_source(task: StageTask, name: str, source: TrainSourceConfig) -> Source:
    config, is_own = task.config, bool(task.config.sources)
    if is_own and source.task in (*LABEL_TASKS, *SCORED_TASKS):
        rows = read_task_rows(
            name, source, task.data, num_negatives=config.mining.num_negatives, seed=task.seed
        )
    elif is_own or task.pairs is None:
        split = "train" if is_own else ""
        collection = task.library.read_collection(source.uri, source.limit, split)
        rows = rows_of_collection(name, collection, source.limit)
    else:
        rows = task.pairs.take(range(len(task.pairs)))
    if not is_own:
        rows.queries = vary_queries(rows.queries, config.question_ratio, task.seed)
    found = Source(name, source, rows, num_read=len(rows))
    counts, rows.counts = Counter(rows.counts), {}
    _report(found, counts)
    if config.num_examples:
        _take_examples(found, config, task.seed)
    instruction = source.instruction or config.instruction
    shown = render_examples(config.example_template, instruction, found.examples)
    found.prompt = fill_prompt(config.query_template, instruction, shown)
    return found


def _take_examples(source: Source, config: StageConfig, seed: int) -> None:
    """Move ``num_examples`` rows of different queries from training into the prompt: a row in the
    prompt trains no more.

    Raises:
        UsageError: there are not more rows than that.
    """
    rows = source.rows
    order = np.random.default_rng([seed, len(rows)]).permutation(len(rows))
    chosen: dict[int, int] = {}
    for row in order:
        chosen.setdefault(rows.query_ids[row], int(row))
        if len(chosen) == config.num_examples:
            break
    if len(chosen) < config.num_examples or len(rows) <= len(chosen):
        raise UsageError(
            f"source {source.name}: num_examples={config.num_examples} is not less than its "
            f"{len(rows)} rows",
            "take fewer few-shot examples",
        )
    source.examples = [
        (rows.queries[i], rows.documents[rows.positives[i]]) for i in chosen.values()
    ]
    source.rows = rows.take([i for i in range(len(rows)) if rows.query_ids[i] not in chosen])


def check_prompts(
    encoder: TextEncoder, sources: Sequence[Source], template: str, max_query_tokens: int
) -> None:
    """Refuse prompts that leave no room for the query, those of rows with an instruction of their
    own among them.

    Raises:
        UsageError: one does; the message names the source.
    """
    plain = replace(encoder.spec, prompts={}, max_tokens=10**9)
    counter = TextEncoder(encoder.backbone, encoder.tokenizer, plain)
    for source in sources:
        own = {instruction for instruction in source.rows.instructions if instruction}
        prompts = [
            source.prompt,
            *(fill_prompt(template, instruction) for instruction in sorted(own)),
        ]
        longest = max(map(len, counter.tokenize(prompts, "query")))
        check_room(f"source {source.name}", longest, encoder.limit(max_query_tokens))


def join_sources(sources: Sequence[Source], config: StageConfig) -> StageRows:
    """One table out of all sources.

    Equal texts are one document, so that none is a negative of itself; what any source says is
    relevant to a query's text, and that text itself, is no negative of it.

    Raises:
        UsageError: no row is left.
    """
    known = _known_answers(sources)
    documents = _NumberedTexts()
    columns: dict[str, list[Any]] = {
        name: [] for name in ("source", "query", "positive", "negatives", "soft", "in_batch")
    }
    for number, source in enumerate(sources):
        rows = source.rows
        takes = takes_in_batch_negatives(source.config.task, source.config.in_batch)
        counts: Counter[str] = Counter()
        for i in range(len(rows)):
            own_instruction, query = rows.instructions[i], rows.queries[i]
            prompt = (
                fill_prompt(config.query_template, own_instruction)
                if own_instruction
                else source.prompt
            )
            prefix = prompt if is_symmetric(source.config.task, source.config.prompt_on) else ""
            texts = [rows.documents[d] for d in rows.negatives[i]]
            kept = [
                k
                for k, text in enumerate(texts)
                if text != query and not any(text in known_ for known_ in known[query])
            ]
            counts["negatives that some row calls relevant left out"] += len(texts) - len(kept)
            counts["rows without any negative"] += not (kept or takes)
            columns["source"].append(number)
            columns["query"].append(prompt + query)
            columns["positive"].append(documents.place(prefix, rows.documents[rows.positives[i]]))
            columns["negatives"].append(
                np.array([documents.place(prefix, texts[k]) for k in kept], dtype=np.int64)
            )
            scores = (
                [rows.scores[i][0], *(rows.scores[i][k + 1] for k in kept)]
                if rows.scores[i]
                else []
            )
            columns["soft"].append(np.array(scores, dtype=np.float32))
            columns["in_batch"].append(takes)
        _report(source, counts)
    if not columns["query"]:
        raise UsageError(
            "no training row is left",
            "loosen mining.filter_rank or mining.on_shortfall, or give more rows",
        )
    queries = [query for source in sources for query in source.rows.queries]
    # a row without in-batch negatives sees its own documents alone, and a label may have many
    # others
    relevant = [
        documents.numbers_of({query}.union(*known[query])) if takes else np.array([positive])
        for query, takes, positive in zip(
            queries, columns["in_batch"], columns["positive"], strict=True
        )
    ]
    return StageRows(
        sources=list(sources),
        source_of_row=np.array(columns["source"]),
        queries=columns["query"],
        documents=documents.texts(),
        positives=np.array(columns["positive"]),
        negatives=columns["negatives"],
        relevant=relevant,
        in_batch=np.array(columns["in_batch"]),
        soft=columns["soft"],
    )


class _NumberedTexts:
    """Distinct documents, in the order of their first appearance."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._under_text: dict[str, list[int]] = {}  # a text may be there with and without a prompt

    def place(self, prompt: str, text: str) -> int:
        """Number of the text with this prompt before it."""
        number = self._numbers.setdefault(prompt + text, len(self._numbers))
        numbers = self._under_text.setdefault(text, [])
        if number not in numbers:
            numbers.append(number)
        return number

    def numbers_of(self, texts: set[str]) -> np.ndarray:
        """Numbers of the texts that are there, under any prompt, in order."""
        found = sorted(n for text in texts for n in self._under_text.get(text, ()))
        return np.array(found, dtype=np.int64)

    def texts(self) -> list[str]:
        """All documents with their prompts."""
        return list(self._numbers)


def _known_answers(sources: Sequence[Source]) -> dict[str, list[frozenset[str]]]:
    """By query text, the document texts that sources say are relevant to it; rows of one label
    share one set.
    """
    known: dict[str, list[frozenset[str]]] = {}
    for source in sources:
        rows = source.rows
        texts_of: dict[frozenset[int], frozenset[str]] = {}
        for query, query_id in zip(rows.queries, rows.query_ids, strict=True):
            positions = rows.relevant[query_id]
            if positions not in texts_of:
                texts_of[positions] = frozenset(rows.documents[d] for d in positions)
            answers = known.setdefault(query, [])
            if not any(texts is texts_of[positions] for texts in answers):
                answers.append(texts_of[positions])
    return known


def _report(source: Source, counts: Counter[str]) -> None:
    """Add what was found in a source's rows to its counts, and say it."""
    found = {what: count for what, count in counts.items() if count}
    source.rows.counts = source.rows.counts | found
    for what, count in found.items():
        log(f"  {source.name}: {what}: {count:,}", style="dim")
