"""Cells of a benchmark: kept, gone on with, and never mixed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
from lib.cells import FAILED, Cell, check_one_case, is_done, read_cells, run_missing

SCRIPT = """
import json, pathlib, sys
count = pathlib.Path(sys.argv[2])
count.write_text(count.read_text() + "x" if count.exists() else "x")
if sys.argv[1] == "fail":
    sys.exit("a first line\\nerror: the teacher has no Matryoshka dimensions")
print(json.dumps({"word": sys.argv[1], "about": {"fingerprint": "a"}}))
"""


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT, encoding="utf-8")
    return str(path)


def test_another_command_line_is_another_file():
    names = {Cell("l2, 3 layers", words).file_name for words in (("a",), ("b",), ("a", "b"))}
    assert len(names) == 3
    assert all(name.startswith("l2__3_layers-") and "/" not in name for name in names)


def test_a_second_run_measures_what_failed_and_nothing_else(script, tmp_path, capsys):
    cells = [Cell(word, (word, str(tmp_path / f"{word}.count"))) for word in ("good", "fail")]
    for _ in range(2):
        run_missing(script, cells, tmp_path / "cells", {})
    counts = [(tmp_path / f"{word}.count").read_text() for word in ("good", "fail")]
    assert counts == ["x", "xx"]
    found = read_cells(tmp_path / "cells", cells)
    assert found[cells[0]]["word"] == "good"
    assert found[cells[1]] == {FAILED: "error: the teacher has no Matryoshka dimensions"}
    assert [is_done(found[cell]) for cell in cells] == [True, False]
    assert "no Matryoshka" in capsys.readouterr().out


def test_a_cell_is_there_in_whole_or_not_at_all(script, tmp_path):
    cell = Cell("good", ("good", str(tmp_path / "count")))
    run_missing(script, [cell], tmp_path / "cells", {})
    assert [p.name for p in (tmp_path / "cells").iterdir()] == [cell.file_name]
    json.loads((tmp_path / "cells" / cell.file_name).read_text(encoding="utf-8"))


def test_figures_of_two_collections_are_not_put_into_one_report():
    cells = {Cell(name, ()): {"about": {"fingerprint": name}} for name in ("first", "second")}
    with pytest.raises(SystemExit, match="first and second"):
        check_one_case(cells)
    check_one_case({cell: {"about": {"fingerprint": "same"}} for cell in cells})
    check_one_case({Cell("broken", ()): {FAILED: "why"}})
