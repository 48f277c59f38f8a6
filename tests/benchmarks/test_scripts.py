"""Every benchmark imports what is there and explains itself; some run on next to nothing."""

from __future__ import annotations

import ast
import importlib.util
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from browser import need

pytest.importorskip("sentence_transformers", reason='needs pip install "leafkit[dev]"')
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(path.name for path in BENCHMARKS.glob("*.py"))
SMALL = {
    "mining.py": ["--size", "300", "--repeats", "1", "--print-only"],
    "bootstrap.py": ["--queries", "50", "--resamples", "100", "--repeats", "1", "--print-only"],
    "million_texts.py": ["--texts", "300", "600", "--steps", "3", "--tiny", "--print-only"],
    "checkpoint_cost.py": ["--saves", "3", "--tiny", "--print-only"],
    "data_parallel.py": ["--steps", "6", "--turns", "1", "--tiny", "--print-only"],
    "embed_workers.py": ["--turns", "1", "--tiny", "--print-only"],
    "inheritance.py": ["--size", "1024", "--queries", "20", "--no-report"],
    "serve.py": ["--tiny", "--print-only"],
    "web_page.py": ["--tiny", "--print-only"],
}


def test_there_are_scripts():
    assert len(SCRIPTS) > 10
    assert set(SMALL) <= set(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_imports_and_prints_its_help(script, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", [str(BENCHMARKS / script), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BENCHMARKS / script), run_name="__main__")
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert told.startswith("usage: ")
    assert f"python benchmarks/{script}" in told  # the launch line of its docstring


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_a_script_imports_only_when_it_measures_is_there_too(script):
    tree = ast.parse((BENCHMARKS / script).read_text(encoding="utf-8"))
    missing = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("leafkit"):
            module = importlib.import_module(node.module)
            for name in (alias.name for alias in node.names):
                if not hasattr(module, name):
                    is_module = importlib.util.find_spec(f"{node.module}.{name}")
                    missing += [] if is_module else [f"{node.module}.{name}"]
    assert missing == []


@pytest.mark.slow
@pytest.mark.timeout(900)  # serve.py starts server after server
@pytest.mark.parametrize("script", SMALL)
def test_a_tiny_run_ends_in_a_report(script, tmp_path):
    if script == "web_page.py":
        need("onnxruntime-web", "@huggingface/tokenizers")
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *SMALL[script]],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"`python benchmarks/{script} {SMALL[script][0]}" in done.stdout
    assert done.stdout.count("\n| ") >= 3  # a table with rows


@pytest.mark.slow
def test_a_point_of_growth_prints_its_figures():
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "growth.py"), "--child", "search", "--texts", "500"],
        capture_output=True,
        text=True,
        check=True,
    )
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["seconds"] > 0
    assert figures["peak_mib"] > 0
