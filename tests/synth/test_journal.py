"""The journal: killed at every file operation, torn, of other settings, damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from crash import kill_at_every_operation

from leafkit.core.checkpoint_layout import SYNTH_JOURNAL_FILE
from leafkit.core.errors import LeafkitError
from leafkit.synth.journal import Entry, Journal, count_entries

IDENTITY = {"model": "m", "seed": 1}
ENTRIES = [
    Entry(f"k{i}", {"query": f"zażółć 你好 {i}"}, requests=1, input_tokens=10, created="now")
    for i in range(4)
]


def fill(folder: Path, entries: list[Entry] = ENTRIES) -> None:
    journal = Journal(folder, IDENTITY)
    for entry in entries:
        if entry.key not in journal.accepted():
            journal.append(entry)
    journal.close()


def read(folder: Path) -> list[Entry]:
    journal = Journal(folder, IDENTITY)
    journal.close()
    return journal.entries


def test_what_was_appended_is_read_again(tmp_path: Path) -> None:
    fill(tmp_path / "a" / "b")
    assert read(tmp_path / "a" / "b") == ENTRIES


def test_killed_at_every_operation_it_keeps_a_beginning_and_goes_on(tmp_path: Path) -> None:
    folders = iter(tmp_path / str(i) for i in range(1000))
    current: list[Path] = []
    lengths = set()
    for _ in kill_at_every_operation(
        lambda: current.append(next(folders)), lambda: fill(current[-1])
    ):
        found = read(current[-1])
        assert found == ENTRIES[: len(found)]
        lengths.add(len(found))
        fill(current[-1])
        assert read(current[-1]) == ENTRIES
    assert lengths == {0, 1, 2, 3, 4}


def test_a_line_torn_at_any_byte_is_dropped_and_written_again(tmp_path: Path) -> None:
    fill(tmp_path)
    whole = (tmp_path / SYNTH_JOURNAL_FILE).read_bytes()
    start = whole[:-1].rfind(b"\n") + 1
    for end in {*range(start, len(whole), 23), len(whole) - 1}:
        (tmp_path / SYNTH_JOURNAL_FILE).write_bytes(whole[:end])
        assert read(tmp_path) == ENTRIES[:-1]
        fill(tmp_path)
        assert (tmp_path / SYNTH_JOURNAL_FILE).read_bytes() == whole


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    fill(tmp_path)
    with pytest.raises(
        LeafkitError, match=r"holds 4 answers .* seed, temperature changed"
    ) as caught:
        Journal(tmp_path, {"model": "m", "seed": 2, "temperature": 1.0})
    assert str(tmp_path) in caught.value.hint
    assert read(tmp_path) == ENTRIES


@pytest.mark.parametrize(
    "line",
    [b"{}", b"garbage", b"[1]", b'{"key": "k", "answer": null, "colour": 1}', b"\xff", b"null"],
)
@pytest.mark.parametrize("position", [0, 2])
def test_damage_in_the_middle_is_named(tmp_path: Path, line: bytes, position: int) -> None:
    fill(tmp_path)
    lines = (tmp_path / SYNTH_JOURNAL_FILE).read_bytes().splitlines()
    lines[position] = line
    (tmp_path / SYNTH_JOURNAL_FILE).write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(LeafkitError, match="is damaged") as caught:
        Journal(tmp_path, IDENTITY)
    assert "delete" in caught.value.hint


def test_an_empty_file_is_damage(tmp_path: Path) -> None:
    (tmp_path / SYNTH_JOURNAL_FILE).write_bytes(b"")
    with pytest.raises(LeafkitError, match="is damaged"):
        Journal(tmp_path, IDENTITY)


def test_a_full_disk_is_explained_and_loses_nothing(tiny_disk: Path) -> None:
    journal = Journal(tiny_disk / "work", IDENTITY)
    written = []

    def write_on() -> None:
        for i in range(1000):
            journal.append(Entry(f"k{i}", {"text": "x" * 1000}))
            written.append(f"k{i}")

    with pytest.raises(LeafkitError, match="cannot write"):
        write_on()
    assert [e.key for e in read(tiny_disk / "work")] == written


def test_counts() -> None:
    entries = [
        Entry(
            key="a",
            answer=None,
            failed="timeout",
            requests=3,
            refused={"timeout": 2, "not JSON": 1},
            input_tokens=5,
            output_tokens=1,
            unreported=1,
        ),
        Entry(
            key="b",
            answer={"x": 1},
            failed="",
            requests=2,
            refused={"timeout": 1},
            input_tokens=10,
            output_tokens=2,
        ),
        Entry(
            key="a",
            answer={"x": 2},
            failed="",
            requests=1,
            refused={},
            input_tokens=5,
            output_tokens=1,
        ),
        Entry("c", None, "status 500", 1, {"status 500": 1}),
    ]
    assert count_entries(entries) == {
        "requests": 7,
        "accepted": 2,
        "failed": {"status 500": 1},
        "refused": {"timeout": 3, "not JSON": 1, "status 500": 1},
        "input_tokens": 20,
        "output_tokens": 4,
        "answers_without_usage": 1,
    }
    assert count_entries([])["requests"] == 0


def test_lines_are_json_with_an_end(tmp_path: Path) -> None:
    fill(tmp_path, ENTRIES[:1])
    first, second = (tmp_path / SYNTH_JOURNAL_FILE).read_text(encoding="utf-8").splitlines()
    assert json.loads(first) == {"identity": IDENTITY}
    assert "你好" in second
