"""Probes and outcomes of students in the spaces of a case, each measured once and kept."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lib.cells import write

from predict_parts.case import SEED, START, Case, Space

# a prediction has two minutes: it probes some texts, and speaks of all
PROBED = 512
DIMS_PART, WAYS = 2, ("int8", "binary")
OWN_DOCUMENTS = "its own documents"  # where all of them are read


def layers_of(states: np.ndarray, kind: str) -> slice:
    """Columns of a kind of MiniLM's six layers and its embeddings."""
    from leafkit.results.prediction import ALL_LAYERS, LAST_LAYER, THREE_LAYERS, TWO_LAYERS

    width = states.shape[1] // 7
    layer = {TWO_LAYERS: 2, THREE_LAYERS: 3, LAST_LAYER: 6}.get(kind)
    if layer is None:
        assert kind == ALL_LAYERS
        return slice(0, states.shape[1])
    return slice(layer * width, (layer + 1) * width)


def ways_of(space: Space, dim: int) -> list[tuple[int, str]]:
    """Dimensions and precisions that are measured of one kind."""
    return [(dim // DIMS_PART, "float32"), *((dim, precision) for precision in WAYS)]


def static_probe(space: Space) -> Any:
    """Trains tables."""
    from leafkit.config import StudentConfig
    from leafkit.embedders.precomputed import PrecomputedVectors
    from leafkit.models.checkpoint import load_encoder
    from leafkit.pipeline.model_handle import ModelHandle
    from leafkit.pipeline.predict.static_probe import StaticProbe
    from leafkit.pipeline.student.targets import TokenLimits

    case = space.case
    place = next(p for p in (case.checkpoints / "vectors").iterdir() if "-document-" in p.name)
    teacher = ModelHandle(PrecomputedVectors(place), "stored", "")
    limits = TokenLimits(*case.limits)
    return StaticProbe(load_encoder(START), teacher, StudentConfig(), limits, seed=SEED)


def probe(space: Space, kinds: Sequence[str]) -> dict[str, Any]:
    """Figures of each kind's probes, and of its ways by their names."""
    from leafkit.config import InheritConfig
    from leafkit.pipeline.predict.closed_probe import StatesOf, apply_head, probe_closed_form
    from leafkit.pipeline.predict.probe_students import counts_to
    from leafkit.pipeline.predict.ways import measure_ways
    from leafkit.results.codec import to_plain
    from leafkit.results.prediction import LAST_LAYER, STATIC

    case, found = space.case, {}
    counts = counts_to(min(PROBED, len(case.fit) // 2))
    fit = case.fit[: counts[-1]]
    for kind in kinds:
        if kind == STATIC:
            texts = [case.texts[i] for i in fit.tolist()]
            asked = ([case.texts[i] for i in case.held_out.tolist()], case.queries)
            probes, _ = static_probe(space).probe(
                texts, space.documents[fit], asked, space.yardstick, counts=counts
            )
            found[kind] = {"probes": to_plain(probes)}
            continue
        states = case.states
        own = StatesOf(states["fit"][: len(fit)], states["held_out"], states["queries"])
        own = own.of(layers_of(states["fit"], kind))
        probes, head = probe_closed_form(own, space.documents[fit], space.yardstick, counts)
        found[kind] = {"probes": to_plain(probes)}
        if kind == LAST_LAYER:
            parts = [apply_head(head, part) for part in (own.held_out, own.queries)]
            ways = measure_ways(
                space.yardstick,
                *parts,
                ways_of(space, space.documents.shape[1]),
                InheritConfig(),
                seed=SEED,
            )
            found[kind]["ways"] = {name_of(w.dim, w.precision, space): to_plain(f) for w, f in ways}
            if case.is_whole:
                found[kind]["own"] = to_plain(probe_own_documents(space, own, fit))
    return found


def probe_own_documents(space: Space, states: Any, fit: np.ndarray) -> Any:
    """Ratios of the figures over a student's own documents, as a prediction measures them."""
    from leafkit.pipeline.predict.closed_probe import apply_head, fit_head
    from leafkit.pipeline.predict.sample import Sample
    from leafkit.pipeline.predict.ways import measure_symmetric
    from leafkit.results.prediction import MADE_QUERIES

    case, half = space.case, len(fit) // 2
    head = fit_head(states.fit[:half], space.documents[fit[:half]])
    parts = (states.held_out, states.queries, states.fit[half:])
    held_out, queries, documents = (apply_head(head, part) for part in parts)
    asked = (case.queries, MADE_QUERIES, space.yardstick)
    sample = Sample(case.texts, case.fit, case.held_out, *asked)
    return measure_symmetric(sample, fit[half:], (held_out, queries, documents))


def name_of(dim: int, precision: str, space: Space) -> str:
    """Of a way, the same in spaces of all widths."""
    return precision if dim == space.documents.shape[1] else f"1/{DIMS_PART} of the dimensions"


def settle(space: Space, kinds: Sequence[str]) -> dict[str, Any]:
    """Retention of each kind made of all texts that are fitted, and of its ways."""
    from leafkit.config import InheritConfig
    from leafkit.core.truncate import truncate_then_normalize
    from leafkit.index.codecs.fit import fit_codecs
    from leafkit.pipeline.predict.closed_probe import apply_head, fit_head
    from leafkit.results.prediction import LAST_LAYER, STATIC

    case, found = space.case, {}
    for kind in kinds:
        if kind == STATIC:
            maker = static_probe(space)
            texts = [case.texts[i] for i in case.fit.tolist()]
            table = maker.train(texts, space.documents[case.fit])
            queries = maker.embed(table, [query.text for query in case.judged], "query")
            found[kind] = {"outcome": space.retention(space.ndcg(queries))}
            continue
        columns = layers_of(case.states["fit"], kind)
        head = fit_head(case.states["fit"][:, columns], space.documents[case.fit])
        queries = apply_head(head, case.states["judged"][:, columns])
        found[kind] = {"outcome": space.retention(space.ndcg(queries))}
        if kind != LAST_LAYER:
            continue
        ways = {}
        for dim, precision in ways_of(space, space.documents.shape[1]):
            stored = truncate_then_normalize(space.documents, dim)
            if precision != "float32":
                codec = fit_codecs(space.documents, [dim], [precision], InheritConfig(), seed=SEED)
                stored = codec[dim, precision].round_trip(stored)
            cut = truncate_then_normalize(queries, dim)
            values = space.ndcg(cut, np.ascontiguousarray(stored))
            ways[name_of(dim, precision, space)] = space.retention(values)
        if case.is_whole:
            own = np.empty_like(space.documents)
            own[case.fit] = apply_head(head, case.states["fit"][:, columns])
            own[case.held_out] = apply_head(head, case.states["held_out"][:, columns])
            ways[OWN_DOCUMENTS] = space.retention(space.ndcg(queries, own))
        found[kind]["ways"] = ways
    return found


def cells(
    cases: Sequence[Case], folder: Path, what: str, options: argparse.Namespace
) -> Iterator[tuple[Case, str, dict[str, Any]]]:
    """Probes or outcomes by case and space, measured where they are not kept."""
    from leafkit.results.prediction import STATIC

    work = {"probes": probe, "outcomes": settle}[what]
    for case in cases:
        for name in options.spaces:
            place = folder / what / f"{case.name}-{options.fitted}-{name.replace(' ', '-')}.json"
            place.parent.mkdir(parents=True, exist_ok=True)
            kept = json.loads(place.read_text()) if place.is_file() else {}
            kinds = [k for k in options.kinds if k != STATIC or name in options.static_spaces]
            missing = [kind for kind in kinds if kind not in kept]
            if missing:
                print(f"{what}: {case.name}, {name}: {', '.join(missing)}", flush=True)
                kept |= work(Space(case, name), missing)
                write(place, kept)
            yield case, name, {kind: kept[kind] for kind in kinds}
