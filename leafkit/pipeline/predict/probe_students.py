"""Probes of every kind of student, from one reading of the texts by the start model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from leafkit.core.console import log
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.model_handle import ModelHandle
from leafkit.pipeline.predict.closed_probe import (
    StatesOf,
    apply_head,
    fit_head,
    probe_closed_form,
)
from leafkit.pipeline.predict.forecasts import Probed
from leafkit.pipeline.predict.sample import Sample
from leafkit.pipeline.predict.start_states import StartStates
from leafkit.pipeline.predict.static_probe import StaticProbe
from leafkit.pipeline.run import Run
from leafkit.pipeline.student.targets import TokenLimits
from leafkit.results.prediction import KINDS, LAST_LAYER, STATIC, TRAINED

MOST_FITTED = 4096  # texts of a probe
FEWEST_FITTED = 64
_NUM_PROBES = 3  # each of twice the texts of the one before
_START_SHARE = 0.35  # of the minutes, for reading
Vectors = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, slots=True)
class Read:
    """What the start model read.

    Attributes:
        states: of all layers.
        texts: those to fit.
        places: their positions among the documents.
        vectors: (n, D) of the teacher.
        counts: numbers of texts that probes are fitted to, rising.
        seconds_per_text: that reading took.
    """

    states: StatesOf
    texts: Sequence[str]
    places: np.ndarray
    vectors: np.ndarray
    counts: Sequence[int]
    seconds_per_text: float


def probe_students(
    run: Run,
    teacher: ModelHandle,
    start: TextEncoder,
    sample: Sample,
    *,
    kinds: Sequence[str],
    minutes: float,
) -> Iterator[Probed]:
    """Probes of each kind that the start model has the layers for.

    Args:
        run: device, precision and recipe.
        teacher: of the students.
        start: with the teacher's prompts.
        sample: what is fitted to and asked.
        kinds: of students.
        minutes: of the whole prediction, a part of which is for reading.
    """
    data, seed = run.recipe.data, run.recipe.seed
    limits = TokenLimits(data.max_query_tokens, data.max_document_tokens)
    reader = StartStates(start, run.device, run.precision)
    read = read_texts(reader, sample, limits, _START_SHARE * minutes * 60)
    # what training makes of a student is told by the probe of its last layer
    probed = [kind for kind in KINDS if kind in kinds or (kind == LAST_LAYER and TRAINED in kinds)]
    for kind in probed:
        if kind == TRAINED:
            continue
        if kind == STATIC:
            probe = StaticProbe(start, teacher, run.recipe.student, limits, seed=seed)
            yield _say(probe_static(probe, sample, read))
            continue
        layers = reader.layers_of(kind)
        if layers is None:
            log(f"  {kind}: the start model has {reader.num_layers} layers, and no such student")
            continue
        own = read.states.of(layers.columns)
        yield _say(probe_instant(kind, own, sample, read, share=layers.share))


def read_texts(reader: StartStates, sample: Sample, limits: TokenLimits, budget_s: float) -> Read:
    """What is asked, then as many texts to fit as the budget holds by the speed of these."""
    held_out = reader.read(sample.held_out_texts, "document", limits.document)
    per_text_s = reader.seconds / reader.num_texts
    queries = reader.read(sample.queries, "query", limits.query)
    affordable = int((budget_s - reader.seconds) / per_text_s)
    most = min(MOST_FITTED, len(sample.fit), max(FEWEST_FITTED, affordable))
    fit = sample.fit[:most]
    log(f"  the start model reads {1 / per_text_s:,.1f} documents/s here: {most:,} are fitted to")
    texts = [sample.texts[i] for i in fit.tolist()]
    states = StatesOf(reader.read(texts, "document", limits.document), held_out, queries)
    return Read(
        states=states,
        texts=texts,
        places=fit,
        vectors=sample.vectors[fit],
        counts=counts_to(most),
        seconds_per_text=per_text_s,
    )


def counts_to(most: int) -> list[int]:
    """Numbers of texts for probes, each half of the next.

    >>> counts_to(1000), counts_to(100)
    ([250, 500, 1000], [100])
    """
    halves = [most >> i for i in reversed(range(_NUM_PROBES))]
    return [count for count in halves if count >= FEWEST_FITTED] or [most]


def probe_instant(
    kind: str, states: StatesOf, sample: Sample, read: Read, *, share: float
) -> Probed:
    """Of a closed-form head.

    Args:
        kind: its name.
        states: of the layers that it reads.
        sample: what is asked.
        read: texts and vectors.
        share: of the start's layers that it runs.
    """
    began_s = time.perf_counter()
    probes, head = probe_closed_form(states, read.vectors, sample.yardstick, read.counts)
    per_text_s = (time.perf_counter() - began_s) / sum(read.counts)
    half = max(1, len(read.texts) // 2)

    def embed_half() -> Vectors:
        own = fit_head(states.fit[:half], read.vectors[:half])
        parts = (states.held_out, states.queries, states.fit[half:])
        held_out, queries, documents = (apply_head(own, part) for part in parts)
        return held_out, queries, documents

    return Probed(
        kind=kind,
        probes=tuple(probes),
        held_out=apply_head(head, states.held_out),
        queries=apply_head(head, states.queries),
        seconds_per_text=per_text_s + share * read.seconds_per_text,
        unfitted=read.places[half:],
        embed_half=embed_half,
    )


def probe_static(probe: StaticProbe, sample: Sample, read: Read) -> Probed:
    """Of a table of token vectors."""
    began_s = time.perf_counter()
    asked = (sample.held_out_texts, sample.queries)
    probes, table = probe.probe(
        read.texts, read.vectors, asked, sample.yardstick, counts=read.counts
    )
    per_text_s = (time.perf_counter() - began_s) / sum(read.counts)
    half = max(1, len(read.texts) // 2)

    def embed_half() -> Vectors:
        own = partial(probe.embed, probe.train(read.texts[:half], read.vectors[:half]))
        documents = own(read.texts[half:], "document")
        return own(asked[0], "document"), own(asked[1], "query"), documents

    held_out, queries = (
        probe.embed(table, asked[0], "document"),
        probe.embed(table, asked[1], "query"),
    )
    return Probed(
        kind=STATIC,
        probes=tuple(probes),
        held_out=held_out,
        queries=queries,
        seconds_per_text=per_text_s,
        unfitted=read.places[half:],
        embed_half=embed_half,
    )


def _say(probed: Probed) -> Probed:
    last = probed.probes[-1]
    log(
        f"  {probed.kind}: cosine {last.figures.document_cosine:.3f}, neighbors of documents "
        f"{last.figures.document_overlap:.1%}, fitted to {last.num_texts:,} texts"
    )
    return probed
