"""The inheritance stage: what its artifact holds, when it is made again, and what a failure leaves
behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tiny

from leafkit.core.artifact import open_artifact
from leafkit.core.checkpoint_layout import INHERIT_PASSES
from leafkit.core.errors import UsageError
from leafkit.evaluation.bootstrap import Bootstrap
from leafkit.pipeline.evaluate.inherit import Passes, run_inherit
from leafkit.results import InheritanceGrid

SETTINGS = [
    "inherit.precisions=[float32,int8,int4,binary]",
    "inherit.queries=[float,quantized]",
    "inherit.rescoring=[0,2]",
]


def measured(run) -> bool:
    """Whether the last run of the stage did anything."""
    return next(s["status"] for s in reversed(run.steps) if s["name"] == "inherit") == "done"


def num_passes(monkeypatch) -> list[int]:
    """Counts the passes over documents from here on."""
    import leafkit.evaluation.inheritance.grid as module

    calls: list[int] = []
    real = module._one_pass

    def one_pass(documents, dim, *rest, **more):
        calls.append(dim)
        return real(documents, dim, *rest, **more)

    monkeypatch.setattr(module, "_one_pass", one_pass)
    return calls


def test_the_artifact_holds_grid_junit_scales_and_every_querys_value(done, start):
    run = start(done, *SETTINGS, work=run_inherit)
    folder = run.folder / "inherit"
    manifest = open_artifact(folder, "inherit")
    assert set(manifest.files) == {"grid.json", "junit.xml", "scales.npz", "per_query.npz"}
    grid = InheritanceGrid.load(folder / "grid.json")
    assert (grid.collection, grid.num_queries, grid.num_documents) == ("pairs", 12, 72)
    assert not grid.strict
    assert len(grid.cells) == 2 * 2 * (1 + 3 * 2 * 2)
    cases = ElementTree.parse(folder / "junit.xml").getroot().findall(".//testcase")
    assert len(cases) == len(grid.cells)
    with np.load(folder / "scales.npz") as scales:
        assert scales["teacher/24/int8/step"].shape == (24,)
        assert scales["student/48/int4/low"].shape == (48,)
    with np.load(folder / "per_query.npz") as values:
        (cell,) = [
            c
            for c in grid.cells
            if (c.mode, c.dim, c.precision, c.queries, c.rescoring)
            == ("asymmetric", 24, "int4", "quantized", 2)
        ]
        assert cell.student == pytest.approx(values["asymmetric/24/int4/quantized/x2"].mean())
        a, a0, b, b0 = (
            values[f"{s}/{c}"]
            for s in ("teacher", "asymmetric")
            for c in ("24/int4/quantized/x2", "48/float32/float/x0")
        )
        expected = Bootstrap(12, 200, 42).ratio_gap(a, a0, b, b0)
        assert astuple(cell.gap) == pytest.approx(astuple(expected))


@pytest.mark.parametrize(
    "change",
    [
        "inherit.dims=[24]",
        "inherit.precisions=[float32]",
        "inherit.queries=[quantized]",
        "inherit.rescoring=[0,3]",
        "inherit.int8_range=0.5",
        "inherit.pq_bytes=2",
        "inherit.max_gap.int8=0.5",
        "inherit.strict=true",
        "seed=5",
        "bench.num_resamples=77",
    ],
)
def test_every_key_that_decides_makes_the_grid_stale(done, start, change):
    assert not measured(start(done, work=run_inherit))
    assert measured(start(done, change, work=run_inherit))
    assert not measured(start(done, change, work=run_inherit))


@pytest.mark.parametrize("change", ["inherit.diagnose=true", "inherit.ranks=[8]"])
def test_keys_of_the_diagnosis_leave_the_grid_alone(done, start, change):
    assert not measured(start(done, change, work=run_inherit))


def test_other_gates_are_judged_without_another_search(done, start, monkeypatch):
    calls = num_passes(monkeypatch)
    run = start(done, "inherit.max_gap.float32=0.9", "bench.num_resamples=50", work=run_inherit)
    assert measured(run)
    assert calls == []
    start(done, "inherit.precisions=[float32,int4]", work=run_inherit)
    assert calls == [48, 24, 48, 24]
    kept = [path.stem.split("-", 1) for path in (run.folder / INHERIT_PASSES).glob("*.npz")]
    assert len({identity for identity, _ in kept}) == 1  # those of the former setting are gone
    assert sorted(name for _, name in kept) == [
        "heads-24",  # dimensions at random, for the gain over them
        "student-24",
        "student-48",
        "teacher-24",
        "teacher-48",
    ]


def test_force_measures_again(done, start, monkeypatch):
    calls = num_passes(monkeypatch)
    start(done, "force=true", work=run_inherit)
    assert calls == [48, 24, 48, 24]


def test_a_failure_late_in_the_grid_keeps_the_passes_before_it(done, start, monkeypatch):
    import leafkit.evaluation.inheritance.grid as module

    real, before = (
        module._one_pass,
        (done.parent / "ck" / "tiny" / "inherit" / "grid.json").read_bytes(),
    )

    def one_pass(documents, dim, codecs, queries, **more):
        if "symmetric" in queries and dim == 24:
            raise MemoryError
        return real(documents, dim, codecs, queries, **more)

    monkeypatch.setattr(module, "_one_pass", one_pass)
    with pytest.raises(MemoryError):
        start(done, *SETTINGS, work=run_inherit)
    assert (done.parent / "ck" / "tiny" / "inherit" / "grid.json").read_bytes() == before
    monkeypatch.setattr(module, "_one_pass", real)
    calls = num_passes(monkeypatch)
    start(done, *SETTINGS, work=run_inherit)
    assert calls == [24]


@pytest.mark.slow
def test_a_killed_grid_goes_on_from_the_passes_it_finished(done, start):
    """kill -9 after the second pass, in a process of its own."""
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(tiny.__file__).parent)!r})
import leafkit.evaluation.inheritance.grid as module
from leafkit.config.load import load_recipe
from leafkit.pipeline.evaluate.inherit import run_inherit
from leafkit.pipeline.run import open_run
from leafkit.results import InheritanceGrid
real, calls = module._one_pass, []
def one_pass(*arguments, **more):
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    calls.append(1)
    return real(*arguments, **more)
module._one_pass = one_pass
with open_run(load_recipe({str(done)!r}, {SETTINGS!r})) as run:
    run_inherit(run)
"""
    killed = subprocess.run(
        [sys.executable, "-c", code], env=tiny.environment(), timeout=900, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    folder = done.parent / "ck" / "tiny" / INHERIT_PASSES
    assert len([p for p in folder.glob("*.npz") if p.stat().st_mtime > os.stat(done).st_mtime]) >= 2
    with pytest.MonkeyPatch.context() as patch:
        calls = num_passes(patch)
        start(done, *SETTINGS, work=run_inherit)
    assert calls == [48, 24]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text"])
def test_a_damaged_pass_is_named_and_measured_again(tmp_path, damage, capsys):
    passes = Passes(tmp_path / "passes", "identity")
    passes["teacher-48"] = {"a": np.arange(1000.0)}
    (path,) = (tmp_path / "passes").glob("*.npz")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(
        {"truncated": content[:-40], "flipped": content, "empty": b"", "text": b"hello"}[damage]
    )
    assert "teacher-48" not in passes
    assert f"{path} is damaged" in capsys.readouterr().out.replace("\n", "")
    assert not path.exists()


def test_passes_are_a_mapping(tmp_path):
    passes = Passes(tmp_path / "passes", "mine")
    assert list(passes) == []
    passes["teacher-48"], passes["student-24"] = {"a": np.arange(3.0)}, {"b/c": np.ones((2, 2))}
    Passes(tmp_path / "passes", "other")["teacher-48"] = {"a": np.zeros(1)}
    assert sorted(passes) == ["student-24", "teacher-48"]
    assert passes["teacher-48"]["a"].tolist() == [0, 1, 2]
    assert passes["student-24"]["b/c"].shape == (2, 2)
    del passes["student-24"]
    assert len(passes) == 1
    passes.forget_others()
    assert len(list((tmp_path / "passes").iterdir())) == 1
    with pytest.raises(KeyError):
        passes["student-24"]


def test_a_dimension_outside_the_teachers_list_is_refused_before_anything_is_embedded(
    done, start, monkeypatch
):
    monkeypatch.setattr(
        "leafkit.pipeline.evaluate.inherit.load_vectors", lambda *a, **k: pytest.fail("embedded")
    )
    with pytest.raises(
        UsageError,
        match=r"inherit.dims: 20 is not among the teacher's Matryoshka dimensions \(48, 24\)",
    ):
        start(done, "inherit.dims=[20]", work=run_inherit)


def test_pq_on_a_small_collection_is_refused_with_both_numbers(done, start):
    with pytest.raises(
        UsageError, match="pq has 256 centroids per byte and there are 72 documents"
    ):
        start(done, "inherit.precisions=[float32,pq]", work=run_inherit)


def test_a_strict_gate_fails_on_what_is_undecided(done, start, monkeypatch):
    monkeypatch.setattr(
        "leafkit.evaluation.inheritance.verdicts.judge", lambda *numbers: "undecided"
    )
    results = []
    for strict in ("false", "true"):
        with_gate = [f"inherit.strict={strict}", "seed=7"]
        folder = start(done, *with_gate, work=run_inherit).folder
        results.append(InheritanceGrid.load(folder / "inherit" / "grid.json").passed)
    assert results == [True, False]
