"""Reports: dated, with the command, and without the caller's folders."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
from lib.machine import Cost, describe
from lib.report import command, publish, save, table, title, today


def test_the_command_hides_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["benchmarks/mining.py", "--data", "/home/someone/data", "--size", "10", "--data"]
    monkeypatch.setattr(sys, "argv", words)
    assert command() == "`python benchmarks/mining.py --data DIR --size 10 --data`"


def test_a_report_is_dated_and_ends_in_one_line_break(tmp_path: Path) -> None:
    path = save([*title("Speed"), *table(["a", "b"], [["1", "2"]])], "speed", tmp_path / "new")
    day = datetime.date.today().isoformat()
    assert today() == day
    assert path.name == f"{day}-speed.md"
    assert (
        path.read_text(encoding="utf-8")
        == f"# Speed, {day}\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n"
    )


def test_print_only_writes_nothing(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib.report.save", lambda *_: pytest.fail("a report was written"))
    publish(["a line"], "name", print_only=True)
    assert capsys.readouterr().out == "a line\n"


def test_the_machine_is_described_with_threads_and_versions() -> None:
    import numpy as np

    told = describe("numpy", num_threads=3, hardware="a processor")
    assert told == f"a processor, 3 thread(s), numpy {np.__version__}"
    assert "cores" in describe()


def test_the_cost_of_a_block_is_measured() -> None:
    with Cost() as cost:
        held = bytearray(60 << 20)
        held[:: 1 << 12] = b"x" * len(held[:: 1 << 12])
    assert cost.seconds > 0
    assert cost.cpu_s > 0
    assert cost.peak_mib >= cost.before_mib > 0
    assert set(cost.figures()) == {"seconds", "cpu_s", "before_mib", "peak_mib"}
