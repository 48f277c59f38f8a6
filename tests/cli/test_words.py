"""Words of the command line beside recipes: copies, keys explained, shells, questions by line."""

from __future__ import annotations

import io
import itertools
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import tiny

from leafkit.cli import main
from leafkit.cli.command_table import COMMANDS
from leafkit.cli.completion import SHELLS, completion_script
from leafkit.cli.word_hints import check_words
from leafkit.config.load import list_recipes, load_recipe
from leafkit.config.reference import find_general_keys, list_keys
from leafkit.config.renamed import FAMILIAR
from leafkit.core.errors import UsageError


@pytest.mark.parametrize("name", list_recipes())
def test_a_copy_of_a_recipe_is_that_recipe_with_its_comments(name, tmp_path, monkeypatch, capsys):
    target = tmp_path / "deep" / "mine.yaml"
    assert main.main(["recipes", "copy", name, str(target)]) == 0
    assert f"recipe={target}" in capsys.readouterr().out
    assert target.read_text() == list_recipes()[name].read_text()
    copy, original = load_recipe(str(target)), load_recipe(name)
    assert copy.name == "mine"
    assert (copy.stages, copy.data, copy.student) == (
        original.stages,
        original.data,
        original.student,
    )
    before = target.read_text()
    assert main.main(["recipes", "copy", "measure", str(target)]) == 2
    assert target.read_text() == before
    assert "exists" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["mine", "there", "there/"])
def test_a_copy_is_a_yaml_file_wherever_it_is_asked_for(target, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    assert main.main(["recipes", "copy", "own-data", target]) == 0
    expected = "mine.yaml" if target == "mine" else "there/own-data.yaml"
    assert load_recipe(str(tmp_path / expected)).student.num_epochs == 1


def test_show_prints_a_sentence_for_each_key_and_is_a_recipe(tmp_path, capsys):
    for name in ("own-data", "kalm-v2"):
        assert main.main(["show", f"recipe={name}"]) == 0
        shown = capsys.readouterr().out
        (tmp_path / f"{name}.yaml").write_text(shown)
        assert load_recipe(str(tmp_path / f"{name}.yaml")) == load_recipe(name)
        lines = shown.splitlines()
        for key in list_keys():
            if "NAME" not in key.name:
                last = key.name.rpartition(".")[2]
                assert any(
                    key.doc in before and line.strip().startswith(f"{last}:")
                    for before, line in itertools.pairwise(lines)
                ), key.name
    assert "Queries are cut here" in shown
    assert "(tokens, at least 0" in shown


@pytest.mark.parametrize("key", [key.name for key in list_keys()][::9])
def test_every_key_is_explained(key, capsys):
    found = next(one for one in list_keys() if one.name == key)
    assert main.main(["explain", key.replace("NAME", "tune", 1)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{key}  (")
    assert found.doc in shown
    assert f"default: {found.default!r}" in shown
    assert "counts in: leafkit" in shown


def test_explain_says_which_recipes_set_a_key(capsys):
    assert main.main(["explain", "num_epochs"]) == 0
    shown = capsys.readouterr().out
    assert "student.num_epochs  (number, above 0" in shown
    assert "recipe kalm-to-23m: 0.35" in shown
    assert "recipe own-data" not in shown


def test_every_familiar_name_is_one_of_todays_keys():
    names = {key.name for key in list_keys()}
    for familiar, keys in FAMILIAR.items():
        assert set(keys) <= names, familiar
        assert find_general_keys(familiar)


@pytest.mark.parametrize("word", ["--force", "-f", "--batch-size", "--max_length=5", "--Recipe=x"])
@pytest.mark.parametrize("command", COMMANDS)
def test_options_with_dashes_get_the_word_that_does_it(command, word):
    with pytest.raises(UsageError, match="no options with dashes") as error:
        check_words(command, ["recipe=own-data", word, "9"])
    assert error.value.hint.startswith("write ")
    assert "=" in error.value.hint
    assert "--" not in error.value.hint


def test_a_question_may_begin_with_a_dash():
    check_words("search", ["folder", "-1 in a list comprehension"])
    check_words("search", ["folder", "- what is this"])


@pytest.mark.parametrize("words", [["--help"], ["recipe=x", "-h"], ["help"]])
def test_help_is_asked_for_anywhere(words, capsys):
    assert main.main(["bench", *words]) == 0
    assert capsys.readouterr().out.startswith("leafkit bench ")


# --- shells


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_can_read_its_script(shell, capsys):
    assert main.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in (*COMMANDS, *list_recipes(), "student.num_epochs="))
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("leafkit dis", {"distill"}),
        ("leafkit distill recipe=kalm-mini-t", {"kalm-mini-to-23m"}),
        ("leafkit distill student.num_e", {"student.num_epochs="}),
        ("leafkit bench student.num_e", set()),
        ("leafkit bench collec", {"collections="}),
        ("leafkit completion z", {"zsh"}),
        ("leafkit explain data.max_q", {"data.max_query_tokens"}),
        ("leafkit serve folder po", {"port="}),
        ("leafkit export recipe=own-data pus", {"push="}),
        ("leafkit distill data.corpus=jsonl:docs.j", {"docs.jsonl"}),
    ],
)
def test_bash_completes(line, expected, tmp_path):
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    (tmp_path / "docs.jsonl").write_text("")
    script = completion_script("bash") + (
        'COMP_LINE="$1"; COMP_POINT=${#1}; COMP_WORDS=($1); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n'
        '_leafkit; printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    found = subprocess.run(
        ["bash", "-c", script, "bash", line],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(found.stdout.split()) == expected


# --- questions


class Terminal(io.StringIO):
    """Input that somebody types."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Questions that a pair got; one without words is refused, as pairs do."""
    questions = []

    class Hits(list):
        num_documents, embed_ms, search_ms = 3, 0.1, 0.2

    def search(question, count):
        questions.append((question, count))
        if question == "?":
            raise UsageError("the question has no words", "ask something")
        return Hits([SimpleNamespace(id=f"of {question}", score=0.5, text="text")])

    from leafkit.pipeline import load_pair

    pair = SimpleNamespace(search=search)
    monkeypatch.setattr(load_pair, "load_pair", lambda folder, index: pair)
    return questions


@pytest.mark.parametrize("source", [io.StringIO, Terminal])
def test_without_a_question_each_line_is_one(source, asked, tmp_path, monkeypatch, capsys):
    lines = ["invert a matrix", "?", "Jaka partia [bold]?", "last"]
    text = "\n".join(lines) + "\n"
    monkeypatch.setattr("builtins.input", lambda prompt: _next_line())
    monkeypatch.setattr(sys, "stdin", source(text))

    def _next_line():
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line

    assert main.main(["search", str(tmp_path), "k=2"]) == 0
    assert asked == [(line, 2) for line in lines]
    shown = capsys.readouterr().out
    assert "of last" in shown
    assert "of Jaka partia [bold]?" in shown
    assert "the question has no words; ask something" in shown


def test_an_empty_line_at_the_prompt_ends(asked, tmp_path, monkeypatch):
    answers = iter(["one", "", "two"])
    monkeypatch.setattr(sys, "stdin", Terminal(""))
    monkeypatch.setattr("builtins.input", lambda prompt: next(answers))
    assert main.main(["search", str(tmp_path)]) == 0
    assert asked == [("one", 10)]


@pytest.mark.parametrize("stdin", [io.StringIO(""), io.StringIO("\n \n"), None])
def test_no_question_at_all_is_wrong_use(stdin, asked, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main.main(["search", str(tmp_path)]) == 2
    assert "there is no question" in capsys.readouterr().err
    assert asked == []


# --- at once


def test_wrong_use_imports_nothing_heavy():
    """Imports are what takes seconds; they are counted, not timed."""
    wrong = (
        ["distill", "recipe=kalm-to-23m", "student.lrr=1"],
        ["bench", "recipe=kalm-to-23m", "stages.tune.num_steps=1"],
        ["distill", "recipe=own-data"],
        ["embed", "recipe=own-data", "teacher.source=/tmp"],
        ["inherit", "teacher=builtin:minilm"],
        ["bench", "teacher=builtin:minilm", "student=builtin:minilm"],
        ["teach", "recipe=own-data", "--force"],
        ["search", "/no/such/folder", "how"],
        ["search", "/tmp", "how", "index=nix"],
        ["serve", "/tmp", "port=x"],
        ["compare", "one"],
        ["synth", "recipe=kalm-v1", "seed=x"],
        ["export", "recipe=nix"],
        ["explain", "nix"],
        ["nix"],
    )
    code = f"""
import sys, time
from leafkit.cli.main import main
started = time.process_time()
assert all(main(words) == 2 for words in {wrong!r})
heavy = {{"torch", "transformers", "numpy", "lightning", "datasets", "faiss"}} & set(sys.modules)
assert not heavy, heavy
"""
    started = time.process_time()
    subprocess.run([sys.executable, "-c", code], env=tiny.environment(), check=True, timeout=60)
    assert time.process_time() - started < 5
