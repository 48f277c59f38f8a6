"""Does the student inherit Matryoshka truncation and quantisation? A verdict for each setting."""

from __future__ import annotations

import io
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from leafkit.config import to_plain
from leafkit.core.artifact import fingerprint, write_durably
from leafkit.core.checkpoint_layout import (
    GRID_FILE,
    GRID_PER_QUERY_FILE,
    GRID_SCALES_FILE,
    INHERIT,
    INHERIT_PASSES,
    JUNIT_FILE,
)
from leafkit.core.console import log
from leafkit.core.errors import explain_write_errors
from leafkit.core.method import method_of
from leafkit.evaluation.benchmark import check_judged
from leafkit.evaluation.inheritance.cells import choose_dims
from leafkit.evaluation.inheritance.grid import Grid, Pass, run_grid
from leafkit.evaluation.inheritance.junit import to_junit
from leafkit.evaluation.metrics import Judgments
from leafkit.index.vectors import Vectors
from leafkit.pipeline.corpus import Corpus, load_corpus
from leafkit.pipeline.embed import load_query_vectors, load_vectors
from leafkit.pipeline.model_handle import ModelHandle, load_student, load_teacher
from leafkit.pipeline.run import Run, plain_inputs
from leafkit.pipeline.space_guard import check_cosine
from leafkit.results import InheritanceGrid

PASSES_FORMAT = 1
_OF_SEARCH = ("dims", "precisions", "queries", "rescoring", "int8_range", "pq_bytes")
_OF_GATES = ("max_gap", "min_retention", "strict")


@dataclass(frozen=True, slots=True)
class PassInputs:
    """What decides about a pass over the documents."""

    config: dict[str, Any]  # how documents are searched
    teacher: str
    dims: list[int]
    student: str
    seed: int
    corpus: str
    split: str
    own: str  # policy for a query's own document
    precision: str
    tokens: list[int]  # cuts of queries and documents
    format: int


@dataclass(frozen=True, slots=True)
class InheritInputs:
    """What decides about an inheritance grid."""

    passes: PassInputs
    gates: dict[str, Any]
    resamples: int


def run_inherit(run: Run) -> InheritanceGrid:
    """The grid on the judged queries of the recipe's corpus.

    The artifact holds grid.json, junit.xml, the scales of the codecs and every query's values. Each
    pass over the documents (one for the teacher's and one for the student's, at each dimension) is
    kept as soon as it is done: a run that fails or is killed later goes on from there, and other
    gates are judged without another search.

    Raises:
        UsageError: a dimension the teacher was not trained for, or a setting that does not fit the
            collection.
        LeafkitError: a model is missing or lives in another space, or there is no judged query.
    """
    recipe, config = run.recipe, run.recipe.inherit
    teacher = load_teacher(run)
    student = load_student(run, teacher)
    space = teacher.model.space("document", recipe.data.max_document_tokens)
    check_cosine(teacher.reference or teacher.name, space, "leafkit inherit")
    choose_dims(config.dims, teacher.model.mrl_dims, teacher.model.dim)
    corpus = load_corpus(run, recipe.data.corpus)
    collection = corpus.collection
    check_judged(collection, recipe.bench.split)
    passes = _describe_passes(run, teacher, student, corpus)
    inputs = InheritInputs(
        passes=passes,
        gates={key: to_plain(config)[key] for key in _OF_GATES},
        resamples=recipe.bench.num_resamples,
    )
    vectors = load_systems(run, teacher, student, corpus)
    queries = collection.judged(recipe.bench.split)
    own = collection.own_documents(recipe.bench.split, recipe.data.exclude_self)
    done = Passes(
        run.folder / INHERIT_PASSES,
        fingerprint([plain_inputs(passes), method_of(run_grid, load_systems)]),
    )

    def work(metrics: dict[str, Any]) -> Grid:
        if recipe.force:
            done.forget()
        judgments = Judgments(
            [q.id for q in queries], [d.id for d in collection.documents], collection.qrels
        )
        grid = run_grid(
            vectors,
            judgments,
            config,
            num_resamples=recipe.bench.num_resamples,
            seed=recipe.seed,
            collection_name=collection.name,
            own=own,
            known_dims=teacher.model.mrl_dims,
            done=done,
        )
        metrics.update(passed=grid.result.passed, num_undecided=grid.result.num_undecided)
        return grid

    def save(grid: Grid, draft: Path) -> None:
        grid.result.save(draft / GRID_FILE)
        (draft / JUNIT_FILE).write_text(to_junit(grid.result), encoding="utf-8")
        np.savez_compressed(draft / GRID_PER_QUERY_FILE, **grid.per_query)  # type: ignore[arg-type]
        np.savez_compressed(draft / GRID_SCALES_FILE, **grid.scales)  # type: ignore[arg-type]

    run.step(
        name=INHERIT,
        folder=run.folder / INHERIT,
        inputs=inputs,
        method=method_of(run_inherit),
        work=work,
        save=save,
    )
    run.on_main(done.forget_others)
    return InheritanceGrid.load(run.folder / INHERIT / GRID_FILE)


def _describe_passes(
    run: Run, teacher: ModelHandle, student: ModelHandle, corpus: Corpus
) -> PassInputs:
    recipe = run.recipe
    return PassInputs(
        config={key: to_plain(recipe.inherit)[key] for key in _OF_SEARCH},
        teacher=teacher.model.fingerprint,
        dims=list(teacher.model.mrl_dims),
        student=student.model.fingerprint,
        seed=recipe.seed,
        corpus=corpus.fingerprint,
        split=recipe.bench.split,
        own=recipe.data.exclude_self,
        precision=str(run.precision),
        tokens=[recipe.data.max_query_tokens, recipe.data.max_document_tokens],
        format=PASSES_FORMAT,
    )


def load_systems(
    run: Run, teacher: ModelHandle, student: ModelHandle, corpus: Corpus
) -> dict[str, tuple[Vectors, Vectors]]:
    """Query and document vectors of teacher, symmetric and asymmetric; documents stay on disk and
    are read in chunks.
    """
    collection, data = corpus.collection, run.recipe.data
    documents = [d.full_text for d in collection.documents]
    queries = collection.judged(run.recipe.bench.split)
    of_queries: dict[str, np.ndarray] = {}
    of_documents: dict[str, Vectors] = {}
    for name, handle in (("teacher", teacher), ("student", student)):
        of_queries[name] = load_query_vectors(
            run,
            handle.model,
            handle.name,
            queries,
            max_tokens=data.max_query_tokens,
            what=f"{collection.name} {run.recipe.bench.split} queries",
        )[:]
        of_documents[name] = load_vectors(
            run,
            handle.model,
            handle.name,
            documents,
            role="document",
            max_tokens=data.max_document_tokens,
            what=f"{collection.name} documents",
        )
    return {
        "teacher": (of_queries["teacher"], of_documents["teacher"]),
        "symmetric": (of_queries["student"], of_documents["student"]),
        "asymmetric": (of_queries["student"], of_documents["teacher"]),
    }


class Passes(MutableMapping[str, Pass]):
    """Finished passes over the documents, one file each, written durably.

    Args:
        folder: of the files.
        identity: of everything that decides about the numbers; files of another identity are not
            seen.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder, self._identity = folder, identity

    def __setitem__(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write a pass.

        Raises:
            LeafkitError: the disk refuses.
        """
        with explain_write_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        stream = io.BytesIO()
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
        write_durably(self._path(name), stream.getvalue())

    def __getitem__(self, name: str) -> Pass:
        """Read a pass; one that is damaged is deleted, with a word about it, and counts as not
        done.
        """
        path = self._path(name)
        if not path.is_file():
            raise KeyError(name)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return {key: arrays[key] for key in arrays.files}
        except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as err:
            log(f"  {path} is damaged ({err}): its pass is measured again", style="yellow")
            path.unlink()
            raise KeyError(name) from err

    def __contains__(self, name: object) -> bool:
        """Whether a pass is there and can be read."""
        try:
            self[str(name)]
        except KeyError:
            return False
        return True

    def __delitem__(self, name: str) -> None:
        """Delete a pass."""
        self._path(name).unlink()

    def __iter__(self) -> Iterator[str]:
        """Names of the passes that are there."""
        prefix = f"{self._identity}-"
        return (
            path.stem.removeprefix(prefix) for path in sorted(self._folder.glob(f"{prefix}*.npz"))
        )

    def __len__(self) -> int:
        """Number of passes that are there."""
        return sum(1 for _ in self)

    def forget(self) -> None:
        """Delete all passes, of whatever identity."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def forget_others(self) -> None:
        """Delete passes of other identities; nobody will ask for them."""
        for path in self._folder.glob("*.npz"):
            if not path.name.startswith(f"{self._identity}-"):
                path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._folder / f"{self._identity}-{name}.npz"
