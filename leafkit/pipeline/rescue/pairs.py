"""Where an index's texts and vectors lie, and how they become a folder that teaches."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from leafkit.config import DataConfig
from leafkit.core.addresses.store import check_url, shown_of
from leafkit.core.checkpoint_layout import PAIR_MATRIX_FILE, PAIR_TEXTS_FILE, PAIRS, PAIRS_WORK
from leafkit.core.console import log
from leafkit.core.errors import UsageError, explain_write_errors
from leafkit.core.file_hashes import sha256_of_file
from leafkit.core.method import method_of
from leafkit.data.sources import read_raw_rows
from leafkit.data.sources.bad_rows import BadRows, id_of, text_of
from leafkit.data.sources.row_files import FILE_KINDS
from leafkit.embedders.pairs.columns import PairColumns
from leafkit.embedders.pairs.lengths import SIMILARITIES, check_lengths
from leafkit.embedders.pairs.pair_files import PairFiles
from leafkit.embedders.pairs.parquet_pairs import fetch_parquet
from leafkit.embedders.pairs.qdrant_pairs import count_points, fetch_qdrant, open_qdrant
from leafkit.pipeline.run import Run

KINDS = ("vectors", "parquet", "qdrant")
EXAMPLE = "leafkit rescue parquet:old-index.parquet, vectors:FOLDER or qdrant:URL/COLLECTION"


@dataclass(frozen=True, slots=True)
class PairSource:
    """An index that lost its model.

    Attributes:
        kind: one of ``KINDS``.
        place: a folder, a file, an address.
        collection: of a database; "" of a file.
        columns: names of what a pair is made of.
        similarity: one of ``SIMILARITIES``; "" leaves it to the source and the vectors' lengths.
    """

    kind: str
    place: str
    collection: str
    columns: PairColumns
    similarity: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.place}" + (f"/{self.collection}" if self.collection else "")


def read_pair_source(
    word: str, columns: PairColumns | None = None, similarity: str = ""
) -> PairSource:
    """What ``vectors:FOLDER``, ``parquet:FILE`` or ``qdrant:URL/COLLECTION`` names.

    >>> read_pair_source("qdrant:http://localhost:6333/books").collection
    'books'

    Raises:
        UsageError: it is none of these, its URL holds a password, columns or a similarity are named
            of a folder that says them itself, or the similarity is none.
    """
    kind, _, place = word.partition(":")
    if kind not in KINDS or not place:
        raise UsageError(f"{shown_of(word)!r} names no texts with vectors", EXAMPLE)
    columns = columns or PairColumns()
    collection = ""
    if kind == "qdrant":
        if "://" in place:
            # the address is printed, and written into manifest, report and card
            check_url(kind, place)
        place, _, collection = place.rstrip("/").rpartition("/")
        if not place or not collection or place.endswith((":", "/")):
            raise UsageError(f"{word!r} names no collection", "qdrant:URL/COLLECTION")
        if columns.id:
            raise UsageError("id= is for parquet: points have ids of their own", "leave it out")
    if kind == "vectors" and columns != PairColumns():
        raise UsageError(
            "text=, title=, id= and vector= are for parquet and qdrant: a folder of vectors says "
            "itself what is what",
            "leave them out",
        )
    if similarity not in ("", *SIMILARITIES):
        raise UsageError(f"similarity={similarity} is none", "similarity=cosine or similarity=dot")
    if kind == "vectors" and similarity:
        raise UsageError(
            "similarity= is for parquet and qdrant: a folder of vectors says it itself",
            'write {"normalized": true} into its about.json for cosine, false for dot',
        )
    return PairSource(kind, place, collection, columns, similarity)


def check_pair_file(source: PairSource) -> None:
    """Refuse a file or folder that is not there, before anything is made.

    Raises:
        UsageError: naming its whole path.
    """
    path = Path(source.place)
    if source.kind == "parquet" and not path.is_file():
        raise UsageError(f"{source}: no such file: {path.absolute()}", "check the path")
    if source.kind == "vectors" and not path.is_dir():
        raise UsageError(f"{source}: no such folder: {path.absolute()}", "check the path")


@dataclass(frozen=True, slots=True)
class PairInputs:
    """What decides about fetched pairs."""

    source: str
    columns: list[str]
    similarity: str
    content: str  # sha256 of a file; of a collection the number of its points
    on_bad_row: str


def with_pairs(run: Run, source: PairSource) -> Run:
    """The run on the source's texts as its corpus and the source's vectors as its teacher; what
    does not lie in a folder of vectors is fetched first.

    Raises:
        UsageError: the source is not there, has no such column, or the recipe names a corpus of its
            own where the source brings one; or a folder has no texts and the recipe names none, or
            an id stands there twice.
        LeafkitError: it is damaged, cannot be reached, or a row cannot be used.
    """
    data = run.recipe.data
    if source.kind == "vectors":
        texts = Path(source.place) / PAIR_TEXTS_FILE
        if not data.corpus and Path(source.place).is_dir() and not texts.is_file():
            raise UsageError(
                f"{source} knows its texts by their hashes alone, or has none of documents",
                "data.corpus=jsonl:FILE names the texts",
            )
        corpus = data.corpus or f"jsonl:{texts}"
        run.on_main(lambda: refuse_repeated_ids(corpus, data))
        return _taught_by(run, source.place, corpus)
    given = {"data.corpus": data.corpus, "data.columns": data.columns}
    for key, value in (given | {"data.ignore_columns": data.ignore_columns}).items():
        if value:
            raise UsageError(
                f"{key} is set, and {source} brings its own texts",
                "leave it out; text=, title=, id= and vector= name what is read of it",
            )
    folder = fetch_pairs(run, source)
    return _taught_by(run, str(folder), f"jsonl:{folder / PAIR_TEXTS_FILE}")


def refuse_repeated_ids(corpus: str, data: DataConfig) -> None:
    """An id that repeats is one of something else, of the book that a row is a page of say: to skip
    such rows would lose pages that have vectors, so that no policy does it.

    Args:
        corpus: the texts; of another kind than rows in a file it is not looked at.
        data: the names of columns.

    Raises:
        UsageError: naming the row.
    """
    if corpus.partition(":")[0] not in FILE_KINDS:
        return
    counts: Counter[str] = Counter()
    bad = BadRows("skip", sys.maxsize, counts)  # what else is wrong is said when they are read
    used: set[str] = set()
    for where, row in read_raw_rows(corpus, bad, data=data):
        if "query" in row or text_of(row, "text", where, bad, counts=counts) is None:
            continue
        row_id = id_of(row, "id", where, bad, counts=counts)
        if row_id and row_id in used:
            raise UsageError(
                f"{where}: the id {row_id!r} is used twice",
                "rows without ids are numbered: leave id out of the file, or aside with "
                "data.ignore_columns=[id]",
            )
        used.add(row_id or "")


def _taught_by(run: Run, folder: str, corpus: str) -> Run:
    recipe = run.recipe
    teacher = replace(recipe.teacher, source=f"vectors:{folder}")
    data = replace(recipe.data, corpus=corpus)
    return run.with_recipe(replace(recipe, teacher=teacher, data=data))


def fetch_pairs(run: Run, source: PairSource) -> Path:
    """The artifact of a source's pairs: fetched once, gone on with where a fetch was stopped.

    A collection is fetched again when the number of its points changes, or with force=true; a file
    when its content does. What a stopped fetch left is not gone on with under another policy for
    bad rows, nor with force=true.

    Raises:
        UsageError: as of ``with_pairs``.
        LeafkitError: likewise.
    """
    folder, work = run.folder / PAIRS, run.folder / PAIRS_WORK
    data = run.recipe.data
    content = run.on_main(lambda: _content(source))
    columns = source.columns
    inputs = PairInputs(
        str(source),
        [columns.text, columns.title, columns.id, columns.vector],
        source.similarity,
        content,
        data.on_bad_row,
    )

    def fetch(metrics: dict[str, Any]) -> tuple[PairFiles, str]:
        if run.recipe.force and work.is_dir():
            with explain_write_errors(work):
                shutil.rmtree(work)
        decides = (*inputs.columns, source.similarity, content, data.on_bad_row)
        files = PairFiles(work, " ".join([str(source), *decides]))
        if files.progress.rows:
            log(f"  {files.progress.rows:,} rows are there already")
        policy = "skip" if data.on_bad_row == "skip" else "stop"
        counts: Counter[str] = Counter()
        bad = BadRows(policy, data.max_bad_rows, counts, num_before=files.progress.skipped)
        if source.kind == "parquet":
            similarity = source.similarity
            fetch_parquet(Path(source.place), columns, files, bad, similarity=similarity)
        else:
            with open_qdrant(source.place) as client:
                similarity = fetch_qdrant(
                    client,
                    source.place,
                    source.collection,
                    columns,
                    total=int(content),
                    files=files,
                    bad=bad,
                    similarity=source.similarity,
                )
        counts["bad rows skipped"] = files.progress.skipped
        for what, count in counts.items():
            if count:
                log(f"  {what}: {count:,}", style="yellow")
        log(f"  {files.progress.rows:,} texts with vectors of {files.progress.dim:,} dimensions")
        metrics.update(rows=files.progress.rows, dim=files.progress.dim, counts=dict(counts))
        return files, similarity

    def save(found: tuple[PairFiles, str], draft: Path) -> None:
        files, similarity = found
        name = source.collection or Path(source.place).stem
        about: dict[str, str | bool] = {"name": name}
        if similarity:
            about["normalized"] = similarity == "cosine"
        files.move_to(draft, about)

    run.step(
        name=PAIRS,
        folder=folder,
        inputs=inputs,
        method=method_of(fetch_pairs, fetch_parquet, fetch_qdrant, check_lengths, PairFiles),
        work=fetch,
        save=save,
    )
    assert (folder / PAIR_MATRIX_FILE).is_file()
    return folder


def _content(source: PairSource) -> str:
    if source.kind == "parquet":
        check_pair_file(source)
        return sha256_of_file(Path(source.place))
    with open_qdrant(source.place) as client:
        return str(count_points(client, source.place, source.collection))
