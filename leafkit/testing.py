"""The inheritance gates in your own test suite.

from leafkit.testing import check_inheritance

def test_the_student_inherits():
    check_inheritance("checkpoints/kalm-to-23m")
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from leafkit.config import InheritConfig, Recipe
from leafkit.config.effects import refuse_useless
from leafkit.config.load import load_recipe
from leafkit.core.artifact import Manifest, open_artifact, read_manifest
from leafkit.core.checkpoint_layout import GRID_FILE, INHERIT, MANIFEST_FILE, STUDENT
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.data.records import Collection
from leafkit.evaluation.inheritance.grid import run_grid
from leafkit.evaluation.inheritance.junit import describe_failures
from leafkit.evaluation.metrics import Judgments
from leafkit.index.vectors import Vectors
from leafkit.models.encoder_protocol import read_model
from leafkit.pipeline.check_settings import check_settings
from leafkit.pipeline.evaluate.evaluate_pair import measure_inheritance
from leafkit.pipeline.evaluate.inherit import run_inherit
from leafkit.pipeline.pair import Pair
from leafkit.pipeline.run import open_run
from leafkit.results import InheritanceGrid


def check_inheritance(
    run: Pair | str | Path,
    *overrides: str,
    strict: bool | None = None,
    collection: str | Collection | None = None,
    config: InheritConfig | None = None,
    num_resamples: int = 10_000,
    seed: int = 42,
) -> InheritanceGrid:
    """Pass if a student inherits what the gates ask for, else fail with a table of what it does
    not.

    Args:
        run: a pair, whose grid is measured now; or the folder of a finished run
            (``checkpoints/NAME``), whose grid is read; or a recipe, by name or path, whose grid is
            measured where it is not up to date.
        overrides: ``key=value`` for a recipe.
        strict: whether undecided settings fail too; None takes what the config or recipe says.
        collection: of a pair: a judged one; None takes the judged queries that it came with.
        config: of a pair: dimensions, precisions, gates; None takes the defaults at the teacher's
            Matryoshka dimensions.
        num_resamples: of a pair: of the bootstrap.
        seed: of a pair: of the bootstrap.

    Returns:
        The grid, where it passes.

    Raises:
        AssertionError: a setting is not inherited.
        LeafkitError: there is no grid, it is damaged, it was measured on another student than the
            one that is there now, or a pair has no judged queries.
        UsageError: there is no such recipe, or a setting has a value that no recipe may have.

    Examples:
        >>> import leafkit
        >>> pair = leafkit.distill(
        ...     "builtin:minilm",
        ...     texts=["Invert a sparse matrix.", "Bake bread from rye."],
        ...     config=leafkit.StudentConfig(kind="instant"),
        ...     num_pseudo_texts=400,
        ... )
        >>> judged = leafkit.Collection(
        ...     "kitchen", list(pair.documents), [leafkit.Query("q", "bread")], {"q": {"1": 1}}
        ... )
        >>> grid = leafkit.check_inheritance(pair, collection=judged, num_resamples=100)
        >>> grid.passed, sorted({cell.precision for cell in grid.cells})
        (True, ['binary', 'float32', 'int8'])
    """
    __tracebackhide__ = True
    if isinstance(run, Pair):
        if overrides:
            raise UsageError(
                f"{overrides[0]} is for a recipe; a pair has none", "give settings with config="
            )
        grid = measure_inheritance(run, collection, config, num_resamples=num_resamples, seed=seed)
    elif collection is not None or config is not None:
        raise UsageError(
            "collection and config are for a pair; a recipe has its own",
            "change them with key=value, or load the pair with leafkit.load_pair",
        )
    elif Path(run).is_dir():
        if overrides:
            raise LeafkitError(
                f"{run} is a finished run: {overrides[0]} cannot change it",
                "name the recipe instead",
            )
        grid = read_grid(Path(run))
    else:
        recipe = load_recipe(str(run), overrides)
        refuse_useless("inherit", recipe, overrides)
        with open_run(recipe) as opened:
            grid = run_inherit(opened)
    _check(grid, strict)
    return grid


def check_inheritance_of(
    vectors: Mapping[str, tuple[Vectors, Vectors]],
    query_ids: Sequence[str],
    document_ids: Sequence[str],
    qrels: Mapping[str, Mapping[str, int]],
    *,
    config: InheritConfig | None = None,
    strict: bool | None = None,
    num_resamples: int = 10_000,
    seed: int = 42,
) -> InheritanceGrid:
    """``check_inheritance`` for vectors in memory, whatever made them.

    Args:
        vectors: for "teacher", and "symmetric" or "asymmetric" or both, (Q, D) query and (N, D)
            document vectors: arrays, memory maps or vector stores.
        query_ids: Q ids.
        document_ids: N ids.
        qrels: grades by query id and document id.
        config: dimensions, precisions, gates; None takes the defaults at full dimension.
        strict: whether undecided settings fail too; None takes ``config.strict``.
        num_resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        AssertionError: a setting is not inherited.
        UsageError: a setting has a value that no recipe may have, or see
            ``leafkit.evaluation.inheritance.grid.run_grid``.
        LeafkitError: an id comes twice, a judged document is none of the N, or see there.
    """
    __tracebackhide__ = True
    config = config or InheritConfig()
    check_settings(Recipe(inherit=config), "inherit")
    for what, ids in (("query", query_ids), ("document", document_ids)):
        if len(set(ids)) != len(ids):
            again = next(name for name, count in Counter(ids).items() if count > 1)
            raise LeafkitError(
                f"the {what} id {again!r} comes more than once", "give every row an id of its own"
            )
    _check_qrels(query_ids, document_ids, qrels)
    judgments = Judgments(query_ids, document_ids, qrels)
    grid = run_grid(vectors, judgments, config, num_resamples=num_resamples, seed=seed)
    _check(grid.result, strict)
    return grid.result


def _check_qrels(
    query_ids: Sequence[str], document_ids: Sequence[str], qrels: Mapping[str, Mapping[str, int]]
) -> None:
    """Refuse relevant documents that nobody can find: they would lower every score, the teacher's
    and the student's.
    """
    known = set(document_ids)
    lost = [
        d
        for q in query_ids
        for d, grade in qrels.get(q, {}).items()
        if grade > 0 and d not in known
    ]
    if lost:
        raise LeafkitError(
            f"{len(lost)} judgments name documents that are not among document_ids, {lost[0]!r} "
            f"for one",
            "give these documents' vectors too, or leave their judgments out",
        )


def read_grid(folder: Path) -> InheritanceGrid:
    """The grid of a finished run, verified against its manifest and against the student that is
    there now.

    Raises:
        LeafkitError: see ``check_inheritance``.
    """
    if not (folder / INHERIT / MANIFEST_FILE).is_file():
        raise LeafkitError(
            f"{folder} has no inheritance grid", f"leafkit inherit recipe={folder.name} measures it"
        )
    manifest = open_artifact(folder / INHERIT, INHERIT)
    _check_student(folder, manifest)
    return InheritanceGrid.load(folder / INHERIT / GRID_FILE)


def _check_student(folder: Path, manifest: Manifest) -> None:
    """Refuse a grid of an earlier student: its gates say nothing about this one."""
    own = not manifest.recipe.get("bench", {}).get("student")
    if own and (folder / STUDENT / MANIFEST_FILE).is_file():
        read_manifest(folder / STUDENT)
        student = read_model(folder / STUDENT)
        if student.fingerprint != manifest.inputs.get("passes", {}).get("student"):
            raise LeafkitError(
                f"{folder / INHERIT} was measured on another student than {folder / STUDENT}",
                f"leafkit inherit recipe={folder.name} measures this one",
            )


def _check(grid: InheritanceGrid, strict: bool | None) -> None:
    __tracebackhide__ = True
    failures = describe_failures(grid, strict)
    if failures:
        raise AssertionError(failures)
