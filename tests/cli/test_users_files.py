"""What a user has in a recipe's folder under a name that leafkit writes: nothing of it is lost, and
it is said before the work.
"""

from __future__ import annotations

import json

import pytest
import tiny

from leafkit.cli import main

FILES = {
    "distill": ["README.md", "report.html", "report.json"],
    "bench": ["bench.html", "bench.json"],
    "inherit": ["inherit.html", "inherit.json"],
    "compare": ["comparison.html"],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tiny.make_home(tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize(
    ("command", "name"), [(command, name) for command, names in FILES.items() for name in names]
)
def test_a_users_own_file_stays_and_no_step_is_done(command, name, home, tmp_path, capsys):
    place = tmp_path / "ck" / "mine"
    place.mkdir(parents=True)
    precious = '{"mine": true}' if name.endswith("json") else "ten years"
    (place / name).write_text(precious)
    content = tiny.tiny_recipe(home, tmp_path / "ck")
    words = [f"recipe={tiny.write_recipe(tmp_path / 'mine.yaml', content)}"]
    if command == "compare":
        words = ["/no/such", "/no/other", f"out={place / name}"]
    assert main.main([command, *words]) == 1
    told = capsys.readouterr().err
    assert f"{place / name} was not written by leafkit, or was edited since" in told
    assert "hint: move it elsewhere" in told
    assert (place / name).read_text() == precious
    assert {p.name for p in place.iterdir()} - {".lock"} == {name}


def test_an_edited_report_is_noticed_by_who_reads_it(tmp_path, capsys):
    from leafkit.results import Machine, RunReport

    machine = Machine(
        cpu="one",
        cores=1,
        threads=1,
        memory_gib=1.0,
        peak_memory_gib=1.0,
        device="cpu",
        precision="float32",
        accelerator="",
        processes=1,
    )
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        report = RunReport(
            name, "leafkit bench", "2026-01-01T00:00:00+00:00", "", {}, {}, machine,
            losses={"student": (0.5, 0.25)},
        )  # fmt: skip
        report.save(tmp_path / name / "report.json")
    words = ["compare", str(tmp_path / "one"), str(tmp_path / "two"), f"out={tmp_path / 'c.html'}"]
    assert main.main(words) == 0
    assert main.main(words) == 0  # its own page is replaced
    path = tmp_path / "two" / "report.json"
    sound = path.read_text()
    for old, new in (("0.25", "0.125"), ('"name": "two"', '"name": "best"'), ("0.5,", "0.5, 0.4,")):
        assert old in sound
        path.write_text(sound.replace(old, new))
        assert main.main(words) == 1
        told = capsys.readouterr().err
        assert str(path) in told
        assert "it was edited since leafkit wrote it" in told
    without = {key: value for key, value in json.loads(sound).items() if key != "seal"}
    path.write_text(json.dumps(without))  # as earlier versions wrote it
    assert main.main(words) == 0
