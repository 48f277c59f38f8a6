"""The inheritance grid: what truncation and quantisation cost the student, against what they cost
the teacher.

A cell is a Matryoshka dimension, a precision of the stored documents, queries that stay float or
are quantised as well, and a rescoring factor. Every cell is measured for the teacher (teacher
queries and documents), the symmetric student (student queries and documents) and the asymmetric one
(student queries, teacher documents).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass

import numpy as np

from leafkit.config import InheritConfig
from leafkit.core.console import Bar, progress_bar
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.evaluation.bootstrap import Bootstrap
from leafkit.evaluation.diagnosis.searches import Judged, score_heads
from leafkit.evaluation.inheritance.cells import Cell, choose_dims, plan_cells
from leafkit.evaluation.inheritance.rescore import score_again
from leafkit.evaluation.inheritance.streaming import search_codes
from leafkit.evaluation.inheritance.verdicts import Retentions, judge_cells
from leafkit.evaluation.metrics import Judgments, fast_ndcg
from leafkit.index.codecs.codec import Codec
from leafkit.index.codecs.fit import check_codecs, fit_codecs
from leafkit.index.codecs.floats import Float32
from leafkit.index.exact import SPARE
from leafkit.index.ranking import Ranking, break_ties, exclude_self
from leafkit.index.vectors import Vectors
from leafkit.results import InheritanceGrid, Interval

DEPTH = 10  # of the metric
MODES = ("symmetric", "asymmetric")
# what one pass over documents gives: nDCG by column name, and the codecs' scales
Pass = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Grid:
    """What was measured.

    Attributes:
        result: every cell with its verdict.
        per_query: (Q,) nDCG@10 of every system in every cell, by ``Cell.column``.
        scales: what a database needs to write the same codes, by documents/dim/precision/name.
    """

    result: InheritanceGrid
    per_query: dict[str, np.ndarray]
    scales: dict[str, np.ndarray]


def run_grid(
    vectors: Mapping[str, tuple[Vectors, Vectors]],
    judgments: Judgments,
    config: InheritConfig,
    *,
    num_resamples: int,
    seed: int,
    collection_name: str = "",
    own: Sequence[int] | None = None,
    known_dims: Sequence[int] = (),
    done: MutableMapping[str, Pass] | None = None,
) -> Grid:
    """nDCG@10 of teacher and student in every cell, and a verdict on their difference.

    Retention is a cell's nDCG over the same system's own nDCG at full dimension in float32. The gap
    is the teacher's retention minus the student's: a fragile teacher does not pass on its fragility
    as a fault of the student. A truncated cell also has the teacher's gain over as many random
    directions, for any of them keep something: only what the first ones keep beyond that is
    Matryoshka, and a student has nothing to inherit where there is none. Intervals are of a paired
    bootstrap over queries; for the verdicts see ``judge`` and ``judge_cells``.

    Documents are read in chunks, twice for each truncation: once to calibrate and once to search
    them with all queries at all precisions. Memory is a few chunks, however many documents there
    are.

    Args:
        vectors: for "teacher", "symmetric" and "asymmetric" (or the first and one of the others)
            the (Q, D) query and (N, D) document vectors. Documents that are one object are searched
            once for all its systems.
        judgments: of Q queries over N documents.
        config: dims (empty takes ``known_dims``), precisions, queries, rescoring, gates and codec
            settings.
        num_resamples: of the bootstrap.
        seed: of the bootstrap and of PQ.
        collection_name: for the result.
        own: (Q,) position of a document that is not retrieved for a query, the query itself say; -1
            for none.
        known_dims: Matryoshka dimensions the teacher was trained for; empty where that is not
            known.
        done: keeps what each pass over the documents gave, and spares the passes it holds already.
            A grid that fails late fails without losing them.

    Raises:
        UsageError: a system, a dimension, a gate or a codec's setting is missing, unknown or out of
            range.
        LeafkitError: vectors that do not fit the judgments or are not finite, or a teacher that
            finds nothing.
    """
    _check_judgments(judgments)
    _check_systems(vectors)
    full_dim = vectors["teacher"][1][0:1].shape[1]
    _check_vectors(vectors, judgments, full_dim)
    dims = choose_dims(config.dims, known_dims, full_dim)
    _check_gates(config)
    check_codecs(judgments.num_documents, dims, config.precisions, config)
    left_out = np.full(len(judgments.ideal), -1) if own is None else np.asarray(own, dtype=np.int64)
    passes = _measure(
        vectors,
        judgments,
        config,
        dims,
        own=left_out,
        seed=seed,
        done=done if done is not None else {},
    )
    per_query, scales, sizes = _sort_by_content(passes)
    bootstrap = Bootstrap(len(judgments.ideal), num_resamples, seed)
    heads = [dim for dim in dims if dim < full_dim]
    gains = {dim: _gain(per_query, bootstrap, dim, full_dim) for dim in heads}
    modes = [mode for mode in MODES if mode in vectors]
    values = Retentions(per_query, full_dim, bootstrap)
    result = InheritanceGrid(
        collection=collection_name,
        num_queries=len(judgments.ideal),
        num_documents=judgments.num_documents,
        strict=config.strict,
        scales={name: (float(v.min()), float(v.max())) for name, v in scales.items()},
        cells=judge_cells(
            plan_cells(dims, config),
            modes,
            values,
            gates=config.max_gap,
            sizes=sizes,
            gains=gains,
            floor=config.min_retention,
        ),
        min_retention=config.min_retention,
        of_teacher={mode: values.of_teacher(mode) for mode in modes},
    )
    return Grid(result, per_query, scales)


def _gain(
    per_query: Mapping[str, np.ndarray], bootstrap: Bootstrap, dim: int, full_dim: int
) -> Interval:
    """What the teacher's first dimensions keep beyond as many random directions."""
    full = per_query[_of_head("head", full_dim)]
    head, turned = (per_query[_of_head(name, dim)] for name in ("head", "turned"))
    return bootstrap.ratio_gap(head, full, turned, full)


def _of_head(name: str, dim: int) -> str:
    return Cell(dim, "float32", "float", 0).column(name)


def _sort_by_content(
    passes: Pass,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, int]]:
    """What the passes gave: nDCG per query by column, the codecs' scales, and the bytes of a vector
    by bytes/dim/precision.
    """
    per_query = {
        name: values for name, values in passes.items() if not name.startswith(("scale/", "bytes/"))
    }
    scales = {
        name.removeprefix("scale/"): values
        for name, values in passes.items()
        if name.startswith("scale/")
    }
    sizes = {name: int(v[0]) for name, v in passes.items() if name.startswith("bytes/")}
    return per_query, scales, sizes


def _check_judgments(judgments: Judgments) -> None:
    if not len(judgments.ideal) or not judgments.num_documents:
        raise LeafkitError(
            "there is no judged query or no document: inheritance cannot be measured"
        )


def _check_gates(config: InheritConfig) -> None:
    missing = [p for p in config.precisions if p not in config.max_gap]
    if missing:
        raise UsageError(
            f"inherit.max_gap has no gate for {', '.join(missing)}",
            "inherit.max_gap.NAME=0.02 sets one",
        )


def _check_systems(systems: Collection[str]) -> None:
    """A grid without a student, or with one under another name, has no row and would pass whatever
    the vectors are.
    """
    unknown = [system for system in systems if system not in ("teacher", *MODES)]
    if unknown or "teacher" not in systems or len(systems) < 2:
        raise UsageError(
            f"vectors of {', '.join(map(repr, systems)) or 'nothing'}: there is no student to "
            f"measure against a teacher",
            f"name them 'teacher', and {' or '.join(map(repr, MODES))} or both",
        )


def _check_vectors(
    vectors: Mapping[str, tuple[Vectors, Vectors]], judgments: Judgments, full_dim: int
) -> None:
    for system, (queries, documents) in vectors.items():
        for what, rows, count in (
            ("queries", queries, len(judgments.ideal)),
            ("documents", documents, judgments.num_documents),
        ):
            if len(rows) != count:
                raise LeafkitError(
                    f"{system}: {len(rows)} vectors for {count} {what}",
                    "give one vector for each, in order",
                )
            dim = rows[0:1].shape[1]
            if dim != full_dim:
                raise LeafkitError(
                    f"{system}: {what} have {dim} dimensions and the teacher's documents "
                    f"{full_dim}: they share no space",
                    "measure a student that was distilled from this teacher",
                )
        is_finite = np.isfinite(np.asarray(queries[0 : len(queries)], dtype=np.float32)).all(axis=1)
        if not is_finite.all():
            raise LeafkitError(
                f"{system}: the vector of query {int(np.flatnonzero(~is_finite)[0])} is not finite"
            )


def _measure(
    vectors: Mapping[str, tuple[Vectors, Vectors]],
    judgments: Judgments,
    config: InheritConfig,
    dims: Sequence[int],
    *,
    own: np.ndarray,
    seed: int,
    done: MutableMapping[str, Pass],
) -> Pass:
    """Every cell of every system: one pass for each form of the documents and each dimension, kept
    in ``done``.
    """
    # whose documents, and the systems that search them: documents that several share come once
    owners: dict[int, tuple[str, list[str]]] = {}
    for system in ("teacher", *MODES):
        if system in vectors:
            name = "student" if system == "symmetric" else system
            owners.setdefault(id(vectors[system][1]), (name, []))[1].append(system)
    values: Pass = {}
    heads = [dim for dim in dims if dim < vectors["teacher"][1][0:1].shape[1]]
    num_passes = len(owners) * len(dims) + bool(heads)
    total = num_passes * judgments.num_documents
    with progress_bar("inheritance grid", total, "documents") as bar:
        for owner, systems in owners.values():
            documents = vectors[systems[0]][1]
            names = {dim: f"{owner}-{dim}" for dim in dims}
            open_dims = [dim for dim in dims if names[dim] not in done]
            precisions = [*dict.fromkeys(config.precisions)]
            codecs = (
                fit_codecs(
                    documents,
                    open_dims,
                    precisions,
                    config,
                    seed=seed,
                    what=f"{owner} document",
                )
                if open_dims
                else {}
            )
            for dim in dims:
                if dim in open_dims:
                    chosen = {p: codecs[dim, p] for p in precisions}
                    if dim == max(dims):  # retention is relative to float32 at full size
                        chosen.setdefault("float32", Float32(dim))
                    queries = {
                        system: np.asarray(vectors[system][0][0 : len(judgments.ideal)])
                        for system in systems
                    }
                    done[names[dim]] = _one_pass(
                        documents,
                        dim,
                        chosen,
                        queries,
                        judgments=judgments,
                        own=own,
                        config=config,
                        owner=owner,
                        bar=bar,
                    )
                else:
                    bar.advance(judgments.num_documents)
                values |= done[names[dim]]
        if heads:
            name = f"heads-{'-'.join(map(str, heads))}"
            if name not in done:
                done[name] = _heads_pass(vectors["teacher"], heads, judgments, own=own, seed=seed)
            bar.advance(judgments.num_documents)
            values |= done[name]
    return values


def _heads_pass(
    teacher: tuple[Vectors, Vectors],
    heads: Sequence[int],
    judgments: Judgments,
    *,
    own: np.ndarray,
    seed: int,
) -> Pass:
    """The teacher's first dimensions and as many random directions, in columns head and turned."""
    queries, documents = teacher
    asked = np.asarray(queries[0 : len(judgments.ideal)], dtype=np.float32)
    scores = score_heads(documents, Judged(asked, judgments, own.tolist()), heads, seed)
    names = {"dim": "head", "turned": "turned"}
    return {_of_head(names[kind], dim): values for (kind, dim), values in scores.items()}


def _one_pass(
    documents: Vectors,
    dim: int,
    codecs: Mapping[str, Codec],
    queries: Mapping[str, np.ndarray],
    *,
    judgments: Judgments,
    own: np.ndarray,
    config: InheritConfig,
    owner: str,
    bar: Bar,
) -> Pass:
    """Search, rescore and measure all cells of one dimension over one form of the documents."""
    most = max(1, *config.rescoring) * DEPTH
    has_own = int((own >= 0).any())  # a query's own document takes a place and is left out
    depths = {p: (DEPTH if p == "float32" else most) + has_own + SPARE for p in codecs}
    nearest = search_codes(
        documents,
        dim,
        codecs,
        queries,
        forms=[*config.queries],
        depths=depths,
        advance=bar.advance,
    )
    rankings = {
        name: exclude_self(ranking, own, ranking.positions.shape[1])
        for name, ranking in nearest.items()
    }
    factors = [factor for factor in dict.fromkeys(config.rescoring) if factor]
    candidates = {
        n: r.positions[:, :most] for n, r in rankings.items() if factors and n[1] != "float32"
    }
    again = score_again(documents, dim, queries, candidates) if candidates else {}
    out: Pass = {}
    for name, ranking in rankings.items():
        system, precision, form = name
        if 0 in config.rescoring or precision == "float32":
            best = break_ties(ranking, judgments.ties, DEPTH)
            out[Cell(dim, precision, form, 0).column(system)] = fast_ndcg(best, judgments)
        for factor in factors if name in again else []:
            width = factor * DEPTH
            best = break_ties(
                Ranking(candidates[name][:, :width], again[name][:, :width]), judgments.ties, DEPTH
            )
            out[Cell(dim, precision, form, factor).column(system)] = fast_ndcg(best, judgments)
    for precision, codec in codecs.items():
        out[f"bytes/{dim}/{precision}"] = np.array([codec.bytes_per_vector])
        out |= {
            f"scale/{owner}/{dim}/{precision}/{name}": values
            for name, values in codec.scale().items()
        }
    return out
