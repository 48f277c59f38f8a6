"""The shipped personas, and files of one's own."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from leafkit.config import SYNTH_LANGUAGES
from leafkit.core.errors import UsageError
from leafkit.synth.language import is_other_language
from leafkit.synth.personas import group_by_language, hash_personas, read_personas

BUILTIN = read_personas("builtin")


def test_there_are_enough_in_each_language() -> None:
    counts = Counter(p.language for p in BUILTIN)
    assert set(counts) == set(SYNTH_LANGUAGES)
    assert min(counts.values()) >= 55


def test_each_is_written_in_its_own_language_and_says_something() -> None:
    assert [p for p in BUILTIN if is_other_language(p.persona, p.language)] == []
    assert [
        p for p in BUILTIN if not (20 if p.language == "zh" else 60) <= len(p.persona) <= 250
    ] == []


def test_none_is_another_one_with_a_word_changed() -> None:
    """Two personas of a language share few word pairs (characters pairs in Chinese)."""

    def pairs(text: str, language: str) -> set[tuple[str, ...]]:
        units = re.findall(r"[\u4e00-\u9fff]" if language == "zh" else r"\w+", text.lower())
        return set(itertools.pairwise(units))

    for language in SYNTH_LANGUAGES:
        found = [(p.id, pairs(p.persona, language)) for p in BUILTIN if p.language == language]
        alike = [
            (a, b)
            for i, (a, x) in enumerate(found)
            for b, y in found[:i]
            if len(x & y) > 0.3 * min(len(x), len(y))
        ]
        assert alike == []


def test_ids_are_in_order() -> None:
    assert [p.id for p in BUILTIN] == sorted(
        (p.id for p in BUILTIN), key=lambda i: (SYNTH_LANGUAGES.index(i[:2]), i)
    )


@pytest.mark.slow
def test_the_wheel_ships_them(project_root: Path, tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    code = f"import hatchling.build as b; print(b.build_wheel({str(tmp_path)!r}))"
    built = subprocess.run(
        [sys.executable, "-c", code], cwd=project_root, capture_output=True, text=True, check=True
    )
    with zipfile.ZipFile(tmp_path / built.stdout.split()[-1]) as wheel:
        lines = wheel.read("leafkit/synth/personas.jsonl").decode().splitlines()
    assert len(lines) == len(BUILTIN)


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(
        '\ufeff{"persona": " A cook. ", "language": "en"}\n\n{"id": "x", "persona": "厨师。", '
        '"language": "zh"}\n'
    )
    personas = read_personas(f"jsonl:{path}")
    assert [(p.id, p.language, p.persona) for p in personas] == [
        ("line-1", "en", "A cook."),
        ("x", "zh", "厨师。"),
    ]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "holds no persona"),
        (b"\n \n", "holds no persona"),
        (b'{"persona": "A cook."}', ":1: 'language' is missing"),
        (b'{"persona": "", "language": "en"}', ":1: 'persona' is missing, empty"),
        (b'{"persona": 3, "language": "en"}', ":1: 'persona' is missing, empty or not text"),
        (b'{"id": 3, "persona": "A cook.", "language": "en"}', ":1: 'id'"),
        (
            b'{"persona": "A cook.", "language": "de"}',
            ":1: the language 'de' is not one of en, zh, fr, pl",
        ),
        (b'["A cook."]', ":1: a persona is an object, this is list"),
        (b'{"persona": "A cook.", "language": "en"}\n{broken', ":2: not JSON"),
        (b"[" * 100_000, ":1: not JSON"),
        (
            b'{"id": "a", "persona": "A.", "language": "en"}\n{"id": "a", "persona": "B.", '
            b'"language": "en"}',
            ":2: the id 'a'",
        ),
        (b"\xff\xfe", "is not UTF-8"),
    ],
)
def test_a_bad_file_is_refused_by_line(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=re.escape(complaint)) as caught:
        read_personas(f"jsonl:{path}")
    assert caught.value.hint


@pytest.mark.parametrize(
    "source", ["", "jsonl:", "csv:x", "mine", "jsonl:/nowhere/at/all.jsonl", "jsonl:/"]
)
def test_a_source_that_is_none(source: str) -> None:
    with pytest.raises(UsageError, match=r"synth\.personas="):
        read_personas(source)


def test_the_order_is_the_seeds_and_complete() -> None:
    first, again, other = (group_by_language(BUILTIN, ["fr"], seed)["fr"] for seed in (1, 1, 2))
    assert first == again != other
    assert set(first) == set(other) == {p for p in BUILTIN if p.language == "fr"}


def test_a_language_without_personas(tmp_path: Path) -> None:
    path = tmp_path / "en.jsonl"
    path.write_text(json.dumps({"persona": "A cook.", "language": "en"}))
    with pytest.raises(UsageError, match="no persona speaks 'pl'"):
        group_by_language(read_personas(f"jsonl:{path}"), ["en", "pl"], 1)


def test_the_hash_follows_the_content() -> None:
    assert hash_personas(BUILTIN) == hash_personas(list(BUILTIN)) != hash_personas(BUILTIN[1:])
