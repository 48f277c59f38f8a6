"""Turns of ways in processes of their own, and what is computed of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
from lib.children import measure, median, ratio, ratios, take_turns

SCRIPT = """
import json, os, sys
word = sys.argv[1]
if word == "fail":
    sys.exit("it broke")
print("a line before")
if word != "silent":
    print(json.dumps({"word": word, "variable": os.environ.get("BENCHMARK_TEST"), "seconds": 2.0}))
"""


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT, encoding="utf-8")
    return str(path)


def test_figures_are_the_last_line(script: str) -> None:
    found = measure(script, ["a"], {"BENCHMARK_TEST": "set"})
    assert found == {"word": "a", "variable": "set", "seconds": 2.0}


@pytest.mark.parametrize(("word", "told"), [("fail", "it broke"), ("silent", "no figures")])
def test_a_child_that_fails_ends_the_run_with_its_words(script: str, word: str, told: str) -> None:
    with pytest.raises(SystemExit, match=told):
        measure(script, [word])


@pytest.mark.parametrize(("is_alternating", "order"), [(False, "abab"), (True, "abba")])
def test_ways_take_turns(script: str, is_alternating: bool, order: str, capsys) -> None:
    found = take_turns(script, {"a": ["a"], "b": ["b"]}, 2, is_alternating=is_alternating)
    assert {way: [run["word"] for run in runs] for way, runs in found.items()} == {
        "a": ["a", "a"],
        "b": ["b", "b"],
    }
    told = [line.split(", ")[1][0] for line in capsys.readouterr().out.splitlines()]
    assert "".join(told) == order


def test_ratios_are_of_the_same_turn() -> None:
    ours, theirs = [{"s": 2}, {"s": 9}, {"s": 4}], [{"s": 1}, {"s": 3}, {"s": 4}]
    assert median(ours, "s") == 4
    assert ratios(ours, theirs, "s") == (2, 1, 3)
    assert ratio(ours, theirs, "s") == "2.00 [1.00, 3.00]"
