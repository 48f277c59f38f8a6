"""Rescue an index whose model is gone: its pairs, a student distilled from documents alone, the
certificate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from leafkit.config.effects import refuse_useless
from leafkit.config.load import load_recipe
from leafkit.core.console import log
from leafkit.core.errors import UsageError
from leafkit.embedders.pairs.columns import PairColumns
from leafkit.embedders.prefix import precomputed_of
from leafkit.pipeline.check_settings import say_idle
from leafkit.pipeline.corpus import load_corpus
from leafkit.pipeline.distill import run_distill
from leafkit.pipeline.load_pair import load_pair
from leafkit.pipeline.model_handle import load_teacher
from leafkit.pipeline.pair import Pair
from leafkit.pipeline.rescue.certify import (
    NoCertificateError,
    remove_certificate,
    run_certificate,
)
from leafkit.pipeline.rescue.pairs import (
    PairSource,
    check_pair_file,
    read_pair_source,
    with_pairs,
)
from leafkit.pipeline.run import Run, open_run
from leafkit.pipeline.student.candidates import NoQueriesError
from leafkit.results import Certificate


@dataclass(frozen=True, slots=True)
class Rescued:
    """An index that answers again.

    Attributes:
        pair: the student for queries, the stored vectors for documents.
        certificate: what can be said of it; None where there are too few documents to keep any out
            of training, 400, or nothing can be asked of those that are.
        folder: of the recipe, which ``leafkit search``, ``leafkit serve`` and
            ``leafkit.load_pair`` take.
    """

    pair: Pair
    certificate: Certificate | None
    folder: Path


def rescue(
    source: str,
    *settings: str,
    recipe: str = "rescue",
    columns: Mapping[str, str] | None = None,
    similarity: str = "",
) -> Rescued:
    """A query encoder for an index whose model is gone, from its texts and vectors alone, and a
    certificate of what can be said of it.

    What is fetched and made is kept below ``checkpoints/NAME``, as ``leafkit rescue`` does: the
    same call finds it there, and goes on after an interruption.

    Args:
        source: "vectors:FOLDER" (documents.jsonl and documents.npy), "parquet:FILE" or
            "qdrant:URL/COLLECTION", a folder of its local mode too.
        settings: "key=value" of the recipe: "name=mine", "checkpoints=DIR", "student.minutes=5".
        recipe: its name or file.
        columns: names of the columns, or keys of the payload, where they are not the usual ones:
            "text", "title", "id" ("-" numbers the rows) and "vector".
        similarity: "cosine" or "dot", how the lost model's vectors are compared: needed where they
            are not of length one and the source does not say it.

    Returns:
        The pair, its certificate and the folder that they are in; of fewer than 400 documents
        there is no certificate.

    Raises:
        UsageError: the source is not there or has no such columns, its address holds a password,
            nothing says how its vectors are compared, there are fewer texts than dimensions, or a
            setting is wrong or counts for nothing.
        MissingExtra: Qdrant without qdrant-client.
        LeafkitError: a row cannot be used, the source fails, or a loss is not finite.

    Examples:
        >>> import leafkit
        >>> leafkit.rescue("books")
        Traceback (most recent call last):
        leafkit.core.errors.UsageError: 'books' names no texts with vectors
    """
    loaded = load_recipe(recipe, settings)
    refuse_useless("rescue", loaded, settings)
    say_idle("rescue", loaded)
    wrong = sorted(set(columns or {}) - {"text", "title", "id", "vector"})
    if wrong:
        raise UsageError(f"columns: {wrong[0]!r} is none", "text, title, id and vector are")
    found = read_pair_source(source, PairColumns(**(columns or {})), similarity)
    check_pair_file(found)
    with open_run(loaded) as run:
        finished, certificate = run_rescue(run, found)
        return Rescued(load_pair(finished.folder), certificate, finished.folder)


def run_rescue(run: Run, source: PairSource) -> tuple[Run, Certificate | None]:
    """Pairs -> student -> index -> certificate.

    The student is what was asked for: where there are too few documents to keep any out of
    training, or nothing can be asked of those that are, it stays without a certificate, and a line
    says why. Where no query can be made to train on, it is the closed form.

    Args:
        run: of the recipe, which names no teacher.
        source: texts and vectors.

    Returns:
        The run with the source as its corpus and teacher, and the certificate if there is one.

    Raises:
        UsageError: the source is not there, or has queries.
        LeafkitError: a step failed; what was finished before it stays.
    """
    run = with_pairs(run, source)
    refuse_queries(run, source)
    run = distill_or_fit(run)
    try:
        return run, run_certificate(run)
    except NoCertificateError as err:
        remove_certificate(run)
        log(f"no certificate: {err}; {err.hint}. The student is there.", style="yellow")
        return run, None


def distill_or_fit(run: Run) -> Run:
    """The student; the closed form alone where no query can be made to train on, for there are no
    others in a rescue.

    Returns:
        The run with the recipe that made the student.

    Raises:
        LeafkitError: as of ``run_distill``.
    """
    try:
        run_distill(run)
        return run
    except NoQueriesError:
        log(
            "  no query is made of the documents that train: nothing is trained, and the student "
            "is the closed form",
            style="yellow",
        )
    recipe = run.recipe
    run = run.with_recipe(replace(recipe, student=replace(recipe.student, kind="instant")))
    run_distill(run)
    return run


def refuse_queries(run: Run, source: PairSource) -> None:
    """A rescue is for an index of which documents alone are left.

    Raises:
        UsageError: there are vectors of queries, or the corpus has queries of its own.
    """
    known = precomputed_of(load_teacher(run, roles=()).model)
    if known is not None and set(known.roles) == {"document", "query"} and not known.is_one_store:
        raise UsageError(
            f"{source} has vectors of queries too: they teach more than a rescue can",
            f"leafkit distill recipe=own-index teacher.source={source} trains on them",
        )
    queries = load_corpus(run, run.recipe.data.corpus).collection.queries
    if queries:
        raise UsageError(
            f"data.corpus={run.recipe.data.corpus} has {len(queries):,} queries, and there is no "
            "model to embed them",
            "name the documents alone, jsonl:corpus.jsonl say",
        )
