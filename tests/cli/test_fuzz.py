"""Malformed command lines by the hundred: one error with a hint, no traceback, no work."""

from __future__ import annotations

import io
import logging
import signal
from collections import Counter
from pathlib import Path

import pytest
import tiny
from fuzz_recipes import bad_words

from leafkit.cli import main


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The word that names a recipe whose models are not there; an empty working folder."""
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pairs = tiny.write_pairs(tmp_path / "pairs.jsonl", 8, 2, 1)
    content = {
        "device": "cpu",
        "precision": "float32",
        "data": {"corpus": f"jsonl:{pairs}"},
        "teacher": {"source": "model:/no/such"},
        "student": {"init": "model:/no/such"},
    }
    yield f"recipe={tiny.write_recipe(tmp_path / 'none.yaml', content)}"
    signal.signal(signal.SIGTERM, handler)


def _check(words: list[str], capsys: pytest.CaptureFixture[str]) -> int:
    status = main.main(words)
    shown = capsys.readouterr()
    if status == 0 and words[0] in {"show", "explain"}:  # some words are right for it
        return 0
    assert status in {1, 2}, (words, status, shown.out[-500:])
    assert shown.err.startswith("error: "), words
    assert "hint: " in shown.err, (words, shown.err)
    assert "unexpected" not in shown.err, (words, shown.err)
    assert "Traceback" not in shown.err + shown.out, words
    assert len(shown.err) < 6000, (words, len(shown.err))
    assert all(c.isprintable() or c == "\n" for c in shown.err), words
    return status


def _check_all(cases, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())  # search takes questions from it
    counts, wrong = Counter(), []
    for words in cases:
        try:
            counts[_check(words, capsys)] += 1
        except Exception as err:
            wrong.append(f"{words!r:.200}: {type(err).__name__}: {str(err)[:400]}")
    assert not wrong, "\n".join([f"{len(wrong)} wrong, {counts} good", *wrong])
    return counts


def test_some_command_lines(recipe, capsys, monkeypatch):
    counts = _check_all(bad_words(recipe, 60, seed=1), capsys, monkeypatch)
    assert counts[2] > counts[1] > 0


@pytest.mark.slow
def test_many_command_lines(recipe, capsys, monkeypatch):
    counts = _check_all(bad_words(recipe, 300), capsys, monkeypatch)
    logging.getLogger(__name__).warning("command lines by status: %s", dict(counts))
    assert counts.total() == 300
