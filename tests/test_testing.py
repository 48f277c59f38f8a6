"""The gates in somebody else's test suite: five lines, a green run where it inherits, a readable
table where not.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from leafkit.config import InheritConfig
from leafkit.core.artifact import publish
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.results import GridCell, InheritanceGrid, Interval, Verdict
from leafkit.testing import check_inheritance, check_inheritance_of

DIM, NUM_DOCUMENTS, NUM_QUERIES = 16, 400, 200
GENERATOR = np.random.default_rng(0)
WEIGHTS = np.where(np.arange(DIM) < DIM // 2, 1.0, 0.3)
DOCUMENTS = (GENERATOR.normal(size=(NUM_DOCUMENTS, DIM)) * WEIGHTS).astype(np.float32)
QUERIES = (DOCUMENTS[:NUM_QUERIES] + 0.5 * GENERATOR.normal(size=(NUM_QUERIES, DIM))).astype(
    np.float32
)
IDS = {
    "query_ids": [f"q{i}" for i in range(NUM_QUERIES)],
    "document_ids": [f"d{i}" for i in range(NUM_DOCUMENTS)],
    "qrels": {f"q{i}": {f"d{i}": 1} for i in range(NUM_QUERIES)},
}
CONFIG = InheritConfig(dims=[DIM // 2], precisions=["float32", "int8"])


def make_grid(*verdicts: Verdict, strict: bool = False) -> InheritanceGrid:
    cells = tuple(
        GridCell(
            mode="symmetric",
            dim=32,
            precision="int8",
            queries="float",
            rescoring=0,
            bytes_per_vector=32,
            teacher=0.6,
            student=0.6,
            teacher_retention=Interval(0.9, 0.88, 0.92, 99),
            student_retention=Interval(0.85, 0.83, 0.87, 99),
            gap=Interval(0.05, 0.03, 0.07, 99),
            max_gap=0.02,
            verdict=verdict,
        )
        for verdict in verdicts
    )
    return InheritanceGrid("docs", 99, 500, strict, {}, cells)


@pytest.fixture
def write_run(tmp_path):
    """A finished run with a made-up grid."""

    def write(*verdicts: str, strict: bool = False, recipe: dict | None = None) -> Path:
        folder = tmp_path / "checkpoints" / "mine"
        with publish(
            folder / "inherit", "inherit", {"passes": {"student": "s"}}, recipe or {}
        ) as draft:
            make_grid(*verdicts, strict=strict).save(draft / "grid.json")
        return folder

    return write


def test_a_run_that_inherits_passes(write_run):
    check_inheritance(write_run("inherited", "undecided"))
    check_inheritance(str(write_run("inherited")), strict=True)


def test_a_run_that_does_not_fails_with_a_table(write_run):
    with pytest.raises(AssertionError) as caught:
        check_inheritance(write_run("inherited", "not inherited", "undecided"))
    lines = str(caught.value).splitlines()
    assert lines[0] == "1 of 3 settings are not inherited (docs, 99 queries):"
    assert lines[1].split() == [
        "mode",
        "setting",
        "teacher",
        "keeps",
        "student",
        "keeps",
        "gap",
        "allowed",
        "verdict",
    ]
    assert "+0.050 [+0.030, +0.070]" in lines[3]
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("of_recipe", "asked", "passes"),
    [(False, None, True), (True, None, False), (False, True, False), (True, False, True)],
)
def test_undecided_fails_where_the_recipe_or_the_test_is_strict(
    write_run, of_recipe, asked, passes
):
    folder = write_run("undecided", strict=of_recipe)
    if passes:
        check_inheritance(folder, strict=asked)
    else:
        with pytest.raises(AssertionError, match="1 of 1 settings"):
            check_inheritance(folder, strict=asked)


def test_a_run_without_a_grid_is_an_error_with_the_command(tmp_path):
    with pytest.raises(LeafkitError, match="has no inheritance grid") as caught:
        check_inheritance(tmp_path)
    assert f"leafkit inherit recipe={tmp_path.name}" in caught.value.hint


def test_a_grid_that_was_changed_by_hand_is_refused(write_run):
    folder = write_run("not inherited")
    path = folder / "inherit" / "grid.json"
    path.write_text(path.read_text().replace("not inherited", "inherited"))
    with pytest.raises(LeafkitError, match="does not have the sha256 in its manifest"):
        check_inheritance(folder)


def test_overrides_cannot_change_a_finished_run(write_run):
    with pytest.raises(LeafkitError, match=r"inherit\.strict=true cannot change it"):
        check_inheritance(write_run("inherited"), "inherit.strict=true")


def test_neither_a_folder_nor_a_recipe_is_an_error():
    with pytest.raises(UsageError, match="recipe=checkpoints/nothing-here: no such file"):
        check_inheritance("checkpoints/nothing-here")


# --- vectors at hand


def test_a_copy_of_the_teacher_passes_and_reversed_dimensions_do_not():
    teacher = (QUERIES, DOCUMENTS)
    check_inheritance_of(
        {"teacher": teacher, "symmetric": teacher},
        **IDS,
        config=CONFIG,
        strict=True,
        num_resamples=300,
    )
    reverse = tuple(np.ascontiguousarray(v[:, ::-1]) for v in teacher)
    with pytest.raises(AssertionError, match="8-d float32"):
        check_inheritance_of(
            {"teacher": teacher, "symmetric": reverse}, **IDS, config=CONFIG, num_resamples=300
        )


def test_vectors_that_are_not_finite_are_an_error_and_no_failed_gate():
    broken = QUERIES.copy()
    broken[0, 0] = np.nan
    with pytest.raises(LeafkitError, match="the vector of query 0 is not finite"):
        check_inheritance_of(
            {"teacher": (QUERIES, DOCUMENTS), "asymmetric": (broken, DOCUMENTS)},
            **IDS,
            config=CONFIG,
        )


@pytest.mark.parametrize("which", ["query", "document"])
def test_an_id_that_comes_twice_is_an_error(which):
    again = IDS | {f"{which}_ids": [*IDS[f"{which}_ids"][:-1], IDS[f"{which}_ids"][0]]}
    with pytest.raises(LeafkitError, match=f"the {which} id '{which[0]}0' comes more than once"):
        check_inheritance_of(
            {"teacher": (QUERIES, DOCUMENTS), "symmetric": (QUERIES, DOCUMENTS)},
            **again,
            config=CONFIG,
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precisions": []}, r"inherit\.precisions: is empty: name some of float32, "),
        (
            {"precisions": ["int3"], "max_gap": {"int3": 0.1}},
            r"inherit\.precisions: 'int3' is not one of float32",
        ),
        (
            {"queries": ["rounded"]},
            r"inherit\.queries: 'rounded' is not one of float, quantized",
        ),
        ({"rescoring": [-1]}, r"inherit\.rescoring: -1 is below 0"),
        (
            {"max_gap": {"float32": 2.0, "int8": 0.02, "binary": 0.03}},
            r"inherit\.max_gap\.float32: 2.0 is not between 0 and 1",
        ),
        ({"int8_range": -1.0}, r"inherit\.int8_range: -1.0 is below 0"),
    ],
)
def test_settings_that_no_recipe_may_have_are_refused_here_too(settings, message):
    """An empty list would measure nothing, which every student passes."""
    reverse = tuple(np.ascontiguousarray(v[:, ::-1]) for v in (QUERIES, DOCUMENTS))
    vectors = {"teacher": (QUERIES, DOCUMENTS), "symmetric": reverse}
    with pytest.raises(UsageError, match=message):
        check_inheritance_of(vectors, **IDS, config=InheritConfig(**settings))


def test_judgments_of_documents_that_are_not_there_are_counted_and_refused():
    qrels = IDS["qrels"] | {
        "q0": {"d0": 1, "gone": 1, "not relevant": 0},
        "q7": {"lost": 2},
        "of no query": {"elsewhere": 1},
    }
    vectors = {"teacher": (QUERIES, DOCUMENTS), "symmetric": (QUERIES, DOCUMENTS)}
    with pytest.raises(
        LeafkitError,
        match="2 judgments name documents that are not among document_ids, 'gone' for one",
    ):
        check_inheritance_of(vectors, **(IDS | {"qrels": qrels}), config=CONFIG)


# --- pytest on a test file of five lines


def run_pytest(folder: Path, run: Path, strict: bool = False) -> subprocess.CompletedProcess[str]:
    (folder / "test_student.py").write_text(
        "from leafkit.testing import check_inheritance\n\n\ndef test_the_student_inherits():\n"
        f"    check_inheritance({str(run)!r}, strict={strict})\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(folder),
        "test_student.py",
    ]
    return subprocess.run(
        command,
        cwd=folder,
        env=tiny.environment(),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


@pytest.mark.slow
def test_five_lines_in_a_test_suite(write_run, tmp_path):
    good = run_pytest(tmp_path, write_run("inherited", "undecided"))
    assert good.returncode == 0, good.stdout + good.stderr
    assert "1 passed" in good.stdout
    bad = run_pytest(tmp_path, write_run("inherited", "not inherited"))
    assert bad.returncode == 1
    assert "1 of 2 settings are not inherited (docs, 99 queries):" in bad.stdout
    assert "32-d int8" in bad.stdout
    assert "describe_failures" not in bad.stdout  # the reader sees the table and no inner workings
    assert run_pytest(tmp_path, write_run("undecided"), strict=True).returncode == 1


# --- a real run


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Recipe of a finished tiny distillation."""
    from leafkit.config.load import load_recipe
    from leafkit.pipeline.distill import run_distill
    from leafkit.pipeline.run import open_run

    root = tmp_path_factory.mktemp("run")
    content = tiny.tiny_recipe(tiny.make_home(root / "home"), root / "ck")
    content["inherit"] = {"max_gap": dict.fromkeys(InheritConfig().max_gap, 1.0)}
    recipe = tiny.write_recipe(root / "tiny.yaml", content)
    with open_run(load_recipe(str(recipe), [])) as run:
        run_distill(run)
    return recipe


def test_folder_and_recipe_of_a_finished_run_both_work(finished):
    check_inheritance(finished.parent / "ck" / "tiny")
    check_inheritance(finished)
    with pytest.raises(AssertionError, match="settings are not inherited"):
        check_inheritance(
            finished,
            *(f"inherit.max_gap.{name}=0" for name in ("float32", "int8", "binary")),
            strict=True,
        )


def test_the_grid_of_a_static_student_is_read(write_run):
    """A static student's folder holds a table of token vectors and no transformer."""
    from leafkit.models.static_encoder import (
        StaticEncoder,
        bare_tokenizer,
        read_static,
        write_static,
    )

    folder = write_run("inherited")
    tokenizer = bare_tokenizer(tiny.make_tokenizer())
    table, projection = torch.randn(tokenizer.get_vocab_size(), 8), torch.nn.Linear(8, 16)
    static = StaticEncoder(tokenizer, table, projection, (16,))
    with publish(folder / "student", "student", {}, {}) as draft:
        write_static(static, draft, {"kind": "student", "teacher": "x"})
    with pytest.raises(LeafkitError, match="was measured on another student"):
        check_inheritance(folder)
    with publish(
        folder / "inherit",
        "inherit",
        {"passes": {"student": read_static(folder / "student").fingerprint}},
        {},
    ) as draft:
        make_grid("inherited").save(draft / "grid.json")
    check_inheritance(folder)


def test_a_grid_of_an_earlier_student_is_refused(finished, tmp_path):
    shutil.copytree(finished.parent / "ck" / "tiny", tmp_path / "tiny")
    shutil.rmtree(tmp_path / "tiny" / "student")
    encoder = tiny.make_encoder(hidden=32, dim=48, seed=3)
    from leafkit.models.checkpoint import write_encoder

    with publish(tmp_path / "tiny" / "student", "student", {}, {}) as draft:
        write_encoder(encoder, draft, {"kind": "student", "teacher": "x"})
    with pytest.raises(LeafkitError, match="was measured on another student"):
        check_inheritance(tmp_path / "tiny")
