"""``benchmarks/gpu.py``: its arithmetic, its limits, its report; every part on next to nothing."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from argparse import Namespace
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import gpu
from gpu_parts import equality
from gpu_parts.arithmetic import forward_flops, training_flops
from gpu_parts.part import Setting, append, read_rows

from leafkit.models.tiny import tiny_encoder

pytest.importorskip("sentence_transformers", reason='needs pip install "leafkit[dev]"')
SCRIPT = gpu.__file__
OPTIONS = Namespace(device="cpu", tiny=True, peak_tflops=None, only=["card"], minutes=1.0)
TRAINED = {"part": "training", "texts_per_step": 10, "tokens_per_s": 1e6, "steps_per_s": 5.0}
ROWS = [
    {"about": "`python benchmarks/gpu.py`", "date": "2026-01-02", "tiny": False},
    {"part": "card", "way": "NVIDIA X", "machine": "NVIDIA X, 4 cores", "peak_tflops": 100.0},
    {"part": "card", "ended": "done", "seconds": 3.0},
    TRAINED | {"way": "leafkit, batches that fill the card", "texts_per_s": 100, "mfu": 0.3},
    {"part": "training", "profile": "NAME | TIME\nmm | 5 ms", "what": "3 steps"},
    TRAINED | {"way": "sentence-transformers, as many texts", "texts_per_s": 40, "mfu": None},
    {"part": "training", "ended": "done", "seconds": 20.0},
    {"part": "indexes", "skipped": "no faiss is installed"},
    {"part": "indexes", "ended": "done", "seconds": 1.0},
    {"part": "whole", "ended": "ended at its limit of 300 s", "seconds": 300.2},
]


@contextmanager
def written_out():
    with equality.padded(), sdpa_kernel(SDPBackend.MATH):
        yield


@pytest.mark.parametrize("architecture", ["bert", "qwen2", "mpnet"])
def test_operations_are_those_that_torch_counts(architecture):
    """Of equally long texts, with attention in products that its counter sees."""
    encoder = tiny_encoder(architecture, tiny.make_tokenizer(), 0, pooling="mean")
    ids = [[5] * 12 for _ in range(3)]
    with FlopCounterMode(display=False) as counter, torch.no_grad(), written_out():
        encoder.pool(ids)
    counted = counter.get_total_flops()
    assert forward_flops(encoder, [12] * 3) == pytest.approx(counted, rel=1e-6)
    with FlopCounterMode(display=False) as counter, written_out():
        encoder.pool(ids).sum().backward()
    trained = training_flops(encoder, [12] * 3)
    assert trained == pytest.approx(counter.get_total_flops(), rel=1e-6)


def test_a_report_says_bars_profiles_and_what_is_missing():
    lines = gpu.make_report(ROWS)
    text = "\n".join(lines)
    assert "measured 2026-01-02, NVIDIA X, 4 cores." in text
    assert "| MFU, training a 23M student | at least 40% | 30% | **missed** |" in lines
    ratio = "| training, times sentence-transformers bf16 | at least 2.00 | 2.50 | reached |"
    assert ratio in lines
    assert "| faiss on the card, share of the same first ten | at least 99.90% |" in text
    assert "not measured" in text
    assert "Where the time goes, 3 steps:" in lines
    assert lines[lines.index("NAME | TIME") - 1] == "```"
    assert "Skipped: no faiss is installed." in lines
    assert "**ended at its limit of 300 s** (300 s of at most 300)." in lines
    assert "Tiny mode" not in text
    assert "## Encoding" not in text  # nothing of it was asked for


def test_a_part_that_the_whole_run_was_cut_short_in_says_so():
    lines = gpu.make_report([*ROWS[:-1], {"part": "whole", "way": "x", "seconds": 1.0}])
    assert lines[lines.index("## The whole default recipe") + 3] == "Cut short with the whole run."


def test_a_difference_that_is_no_number_misses_the_bar():
    found = [{"way": name, "float32": 1e-7} for name in equality.KINDS]
    assert equality.judge(found)[0].is_reached is True
    assert equality.judge(found[:-1])[0].is_reached is None
    found[3]["float32"] = math.nan
    assert equality.judge(found)[0].is_reached is False


def test_rows_come_back_as_they_were_written(tmp_path):
    for row in ROWS:
        append(tmp_path / "rows", row)
    assert read_rows(tmp_path / "rows") == ROWS


def test_missing_and_damaged_rows_are_refused(tmp_path):
    with pytest.raises(SystemExit, match="there are no results"):
        read_rows(tmp_path / "rows")
    (tmp_path / "rows").write_text('{"part": "card"}\n{"part": "ca\n')
    with pytest.raises(SystemExit, match=r"line 2 is no row of figures"):
        read_rows(tmp_path / "rows")


def test_a_part_at_its_limit_is_ended_and_costs_the_others_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "_LEAST_S", 0.0)
    short = replace(gpu.PARTS["card"], limit_s=0.1)
    started_s = time.monotonic()
    assert gpu.run_part(short, OPTIONS, tmp_path / "rows", 99.0) == "ended at its limit of 0 s"
    assert time.monotonic() - started_s < 30
    assert gpu.run_part(short, OPTIONS, tmp_path / "rows", -1.0).startswith("not begun")


@pytest.mark.slow
def test_a_part_that_fails_says_why_and_the_next_one_runs(tmp_path, monkeypatch):
    rows = tmp_path / "rows"
    monkeypatch.setattr(gpu, "run_part", lambda part, *_: "done" if part.name == "card" else "x")
    gpu.measure(Namespace(**vars(OPTIONS) | {"only": ["whole", "card"]}), rows)
    assert [row.get("ended") for row in read_rows(rows)] == [None, "x", "done"]
    monkeypatch.undo()
    options = Namespace(**vars(OPTIONS) | {"device": "no-device"})
    ended = gpu.run_part(gpu.PARTS["card"], options, rows, 200.0)
    assert ended.startswith("failed (status 1): ")
    assert "no-device" in ended


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in gpu.PARTS if name != "whole"])
def test_every_part_measures_something_in_tiny_mode(name, tmp_path):
    part, rows = gpu.PARTS[name], []
    part.run(Setting("cpu", True, 1000.0, tmp_path), rows.append)
    measured = [row for row in rows if "way" in row]
    assert measured
    json.dumps(rows)
    shown = part.columns.keys()
    for row in measured:
        assert row.keys() & shown
        assert all(math.isfinite(v) for v in row.values() if isinstance(v, float))
    if any(row.get("mfu") is not None for row in rows) and name != "kalm-v2":
        assert any("Self CPU" in row.get("profile", "") for row in rows)  # no such peak is reached
    text = "\n".join(gpu.report_part(part, [{"part": name} | row for row in rows], True))
    assert all(str(row["way"]) in text for row in measured)


@pytest.mark.slow
def test_the_whole_recipe_runs_dry(tmp_path):
    rows = []
    gpu.PARTS["whole"].run(Setting("cpu", True, None, tmp_path), rows.append)
    (row,) = rows
    assert row["seconds"] > 0
    assert "the student keeps" in row["quality"]


@pytest.mark.slow
def test_a_tiny_run_leaves_rows_and_a_report(tmp_path):
    for words in (["--tiny", "--only", "card"], ["--tiny", "--report-only"]):
        done = subprocess.run(
            [sys.executable, SCRIPT, *words, "--out", str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        (rows,) = tmp_path.glob("*-gpu-tiny.jsonl")
        (report,) = tmp_path.glob("*-gpu-tiny.md")
        assert "Tiny mode" in report.read_text()
        assert "| processor |" in report.read_text()
        assert [row.get("ended") for row in read_rows(rows)][-1] == "done"
        report.unlink()


@pytest.mark.slow
def test_a_run_that_is_told_to_end_takes_its_part_with_it(tmp_path):
    words = [sys.executable, SCRIPT, "--tiny", "--only", "whole", "--out", str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout.readline() == "whole ...\n"
        children, deadline = [], time.monotonic() + 60
        while not children and time.monotonic() < deadline:
            time.sleep(0.1)
            children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        run.send_signal(signal.SIGTERM)
        assert run.wait(60) == 143
    assert children
    assert not [child for child in children if Path(f"/proc/{child}").exists()]
    (rows,) = tmp_path.glob("*.jsonl")
    assert len(read_rows(rows)) == 1  # what the run is
