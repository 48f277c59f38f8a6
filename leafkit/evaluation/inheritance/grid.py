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
from typing import Any, NamedTuple

import numpy as np

from leafkit.config.schema import InheritConfig
from leafkit.core.console import Bar, progress_bar
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.evaluation.bootstrap import Bootstrap, interval, share
from leafkit.evaluation.inheritance.rescore import score_again
from leafkit.evaluation.inheritance.streaming import search_codes
from leafkit.evaluation.metrics import Judgments, fast_ndcg
from leafkit.index.codecs.codec import Codec
from leafkit.index.codecs.fit import check_codecs, fit_codecs
from leafkit.index.codecs.floats import Float32
from leafkit.index.exact import SPARE
from leafkit.index.ranking import Ranking, break_ties, exclude_self
from leafkit.index.vectors import Vectors

DEPTH = 10  # of the metric
MODES = ("symmetric", "asymmetric")
INHERITED, NOT_INHERITED, UNDECIDED = "inherited", "not inherited", "undecided"
# what one pass over documents gives: nDCG by column name, and the codecs' scales
Pass = dict[str, np.ndarray]


class Cell(NamedTuple):
    """One setting of the grid."""

    dim: int
    precision: str
    queries: str
    rescoring: int

    def column(self, system: str) -> str:
        """Name of a system's per-query values in this cell."""
        return f"{system}/{self.dim}/{self.precision}/{self.queries}/x{self.rescoring}"


@dataclass(frozen=True, slots=True)
class Grid:
    """What was measured.

    Attributes:
        figures: plain data: num_queries, num_documents, passed, strict, num_undecided, scales,
            rows.
        per_query: (Q,) nDCG@10 of every system in every cell, by ``Cell.column``.
        scales: what a database needs to write the same codes, by documents/dim/precision/name.
    """

    figures: dict[str, Any]
    per_query: dict[str, np.ndarray]
    scales: dict[str, np.ndarray]


def plan_cells(dims: Sequence[int], config: InheritConfig) -> list[Cell]:
    """Every setting once; float32 with quantised queries, or rescored, is float32 itself."""
    return [
        Cell(dim, precision, queries, rescoring)
        for dim in dims
        for precision in dict.fromkeys(config.precisions)
        for queries in (dict.fromkeys(config.queries) if precision != "float32" else ["float"])
        for rescoring in (dict.fromkeys(config.rescoring) if precision != "float32" else [0])
    ]


def run_grid(
    vectors: Mapping[str, tuple[Vectors, Vectors]],
    judgments: Judgments,
    config: InheritConfig,
    num_resamples: int,
    seed: int,
    own: Sequence[int] | None = None,
    known_dims: Sequence[int] = (),
    done: MutableMapping[str, Pass] | None = None,
) -> Grid:
    """nDCG@10 of teacher and student in every cell, and a verdict on their difference.

    Retention is a cell's nDCG over the same system's own nDCG at full dimension in float32. The gap
    is the teacher's retention minus the student's: a fragile teacher does not pass on its fragility
    as a fault of the student. Intervals are of a paired bootstrap over queries; for the verdicts
    see ``judge``.

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
    if not len(judgments.ideal) or not judgments.num_documents:
        raise LeafkitError(
            "there is no judged query or no document: inheritance cannot be measured"
        )
    _check_systems(vectors)
    full_dim = vectors["teacher"][1][0:1].shape[1]
    _check_vectors(vectors, judgments, full_dim)
    dims = choose_dims(config.dims, known_dims, full_dim)
    missing = [p for p in config.precisions if p not in config.max_gap]
    if missing:
        raise UsageError(
            f"inherit.max_gap has no gate for {', '.join(missing)}",
            "inherit.max_gap.NAME=0.02 sets one",
        )
    check_codecs(judgments.num_documents, dims, config.precisions, config)
    left_out = np.full(len(judgments.ideal), -1) if own is None else np.asarray(own, dtype=np.int64)
    passes = _measure(
        vectors, judgments, left_out, dims, config, seed, done if done is not None else {}
    )
    per_query = {
        name: values for name, values in passes.items() if not name.startswith(("scale/", "bytes/"))
    }
    scales = {
        name.removeprefix("scale/"): values
        for name, values in passes.items()
        if name.startswith("scale/")
    }
    cells = plan_cells(dims, config)
    modes = [mode for mode in MODES if mode in vectors]
    rows = _judge_cells(
        cells,
        modes,
        per_query,
        full_dim,
        config,
        Bootstrap(len(judgments.ideal), num_resamples, seed),
    )
    for row in rows:
        row["bytes_per_vector"] = int(passes[f"bytes/{row['dim']}/{row['precision']}"][0])
    verdicts = [row["verdict"] for row in rows]
    figures = {
        "num_queries": len(judgments.ideal),
        "num_documents": judgments.num_documents,
        "passed": is_passed(verdicts, config.strict),
        "strict": config.strict,
        "num_undecided": verdicts.count(UNDECIDED),
        "scales": {name: _span(values) for name, values in scales.items()},
        "rows": rows,
    }
    return Grid(figures, per_query, scales)


def judge(low: float, high: float, max_gap: float) -> str:
    """Verdict on a gap's interval against a gate: inherited where all of it is within, not where
    all of it is beyond.
    """
    if high <= max_gap:
        return INHERITED
    return NOT_INHERITED if low > max_gap else UNDECIDED


def is_passed(verdicts: Sequence[str], strict: bool) -> bool:
    """Whether a grid's gates hold: no setting is "not inherited", and where ``strict`` none is
    undecided.
    """
    return NOT_INHERITED not in verdicts and not (strict and UNDECIDED in verdicts)


def choose_dims(wanted: Sequence[int], known: Sequence[int], full_dim: int) -> list[int]:
    """The dimensions to measure, largest first: those wanted, or else those known, and the full
    one.

    Raises:
        UsageError: one is larger than the vectors, or the teacher was trained for others.
    """
    for dim in wanted:
        if not 1 <= dim <= full_dim:
            raise UsageError(
                f"inherit.dims: {dim} is not between 1 and the vectors' dimension {full_dim}"
            )
        if known and dim not in known and dim != full_dim:
            raise UsageError(
                f"inherit.dims: {dim} is not among the teacher's Matryoshka dimensions "
                f"({', '.join(map(str, known))})",
                "name some of these, or leave inherit.dims empty to measure all of them",
            )
    return sorted({full_dim, *(wanted or known)}, reverse=True)


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
        found = np.isfinite(np.asarray(queries[0 : len(queries)], dtype=np.float32)).all(axis=1)
        if not found.all():
            raise LeafkitError(
                f"{system}: the vector of query {int(np.flatnonzero(~found)[0])} is not finite"
            )


def _measure(
    vectors: Mapping[str, tuple[Vectors, Vectors]],
    judgments: Judgments,
    own: np.ndarray,
    dims: Sequence[int],
    config: InheritConfig,
    seed: int,
    done: MutableMapping[str, Pass],
) -> Pass:
    """Every cell of every system: one pass for each form of the documents and each dimension, kept
    in ``done``.
    """
    sides: dict[int, tuple[str, list[str]]] = {}
    for system in ("teacher", *MODES):
        if system in vectors:
            name = "student" if system == "symmetric" else system
            sides.setdefault(id(vectors[system][1]), (name, []))[1].append(system)
    found: Pass = {}
    total = len(sides) * len(dims) * judgments.num_documents
    with progress_bar("inheritance grid", total, "documents") as bar:
        for side, systems in sides.values():
            documents = vectors[systems[0]][1]
            names = {dim: f"{side}-{dim}" for dim in dims}
            open_dims = [dim for dim in dims if names[dim] not in done]
            precisions = [*dict.fromkeys(config.precisions)]
            codecs = (
                fit_codecs(
                    documents,
                    open_dims,
                    precisions,
                    config,
                    seed=seed,
                    what=f"{side} document",
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
                        side=side,
                        bar=bar,
                    )
                else:
                    bar.advance(judgments.num_documents)
                found |= done[names[dim]]
    return found


def _one_pass(
    documents: Vectors,
    dim: int,
    codecs: Mapping[str, Codec],
    queries: Mapping[str, np.ndarray],
    *,
    judgments: Judgments,
    own: np.ndarray,
    config: InheritConfig,
    side: str,
    bar: Bar,
) -> Pass:
    """Search, rescore and measure all cells of one dimension over one form of the documents."""
    most = max(1, *config.rescoring) * DEPTH
    has_own = int((own >= 0).any())  # a query's own document takes a place and is left out
    depths = {p: (DEPTH if p == "float32" else most) + has_own + SPARE for p in codecs}
    found = search_codes(
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
        for name, ranking in found.items()
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
            f"scale/{side}/{dim}/{precision}/{name}": values
            for name, values in codec.scale().items()
        }
    return out


def _judge_cells(
    cells: Sequence[Cell],
    modes: Sequence[str],
    per_query: Mapping[str, np.ndarray],
    full_dim: int,
    config: InheritConfig,
    bootstrap: Bootstrap,
) -> list[dict[str, Any]]:
    """A row for every mode and cell: retention of teacher and student, gap, intervals, verdict."""
    full = Cell(full_dim, "float32", "float", 0)
    draws = bootstrap.draws(per_query)
    if not draws.estimates[full.column("teacher")] > 0:
        raise LeafkitError(
            "the teacher finds no relevant document at full dimension in float32: there is "
            "nothing that could be inherited",
            "check that queries, documents and judgments belong together",
        )

    def kept(system: str, cell: Cell) -> tuple[Any, Any]:
        """Retention and its resamples; a student that finds nothing at full size keeps nothing."""
        part, whole = cell.column(system), full.column(system)
        mean = share(draws.estimates[part], draws.estimates[whole])
        return mean, share(draws.resampled[part], draws.resampled[whole])

    rows = []
    for mode in modes:
        for cell in cells:
            teacher, student = kept("teacher", cell), kept(mode, cell)
            gap, gate = (
                interval(teacher[0] - student[0], teacher[1] - student[1]),
                config.max_gap[cell.precision],
            )
            row = {"mode": mode, **cell._asdict(), "bytes_per_vector": 0}
            for name, system, retention in (
                ("teacher", "teacher", teacher),
                ("student", mode, student),
            ):
                found = interval(*retention)
                row |= {
                    name: draws.estimates[cell.column(system)],
                    f"{name}_retention": found.mean,
                    f"{name}_retention_low": found.low,
                    f"{name}_retention_high": found.high,
                }
            row |= {"gap": gap.mean, "low": gap.low, "high": gap.high, "max_gap": gate}
            # one query has no spread
            verdict = judge(gap.low, gap.high, gate) if bootstrap.num_queries > 1 else UNDECIDED
            rows.append(row | {"verdict": verdict})
    return rows


def _span(values: np.ndarray) -> list[float]:
    """Smallest and largest number, for people; the arrays themselves are beside the figures."""
    return [float(values.min()), float(values.max())]
