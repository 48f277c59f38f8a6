"""The words of ``leafkit predict``."""

from __future__ import annotations

import pytest

from leafkit.cli import main
from leafkit.cli.commands.predict import split_words
from leafkit.cli.recipe_words import read_recipe
from leafkit.core.errors import UsageError
from leafkit.pipeline.predict.settings import PredictSettings, refuse_undiagnosed
from leafkit.results.prediction import KINDS


def test_words_are_the_commands_own_and_the_recipes():
    asked, rest = split_words(
        [
            "teacher=model:big",
            "home=beir:docs",
            "target=.9",
            "minutes=1",
            "texts=500",
            "kinds=static,last-layer",
            "diagnose=true",
            "seed=3",
        ]
    )
    assert asked == PredictSettings(0.9, 1.0, 500, ("static", "last-layer"), True)
    assert rest == ["teacher=model:big", "data.corpus=beir:docs", "seed=3"]
    assert split_words(["teacher=model:big", "texts=1e3"])[0].texts == 1000
    assert split_words(["teacher=model:big"]) == (PredictSettings(), ["teacher=model:big"])
    assert PredictSettings().kinds == KINDS


def test_a_folder_of_vectors_brings_its_texts(tmp_path):
    (tmp_path / "documents.jsonl").write_text('{"text": "a"}\n')
    _, rest = split_words([f"teacher=vectors:{tmp_path}"])
    assert rest[-1] == f"data.corpus=jsonl:{tmp_path / 'documents.jsonl'}"
    _, rest = split_words([f"teacher=vectors:{tmp_path}", "home=jsonl:other.jsonl"])
    assert rest[-1] == "data.corpus=jsonl:other.jsonl"


def test_it_does_so_for_a_recipe_too_that_names_no_corpus(tmp_path):
    folder = tmp_path / "vectors"
    folder.mkdir()
    (folder / "documents.jsonl").write_text('{"text": "a"}\n')
    own = f"jsonl:{folder / 'documents.jsonl'}"

    def corpus_of(*words: str) -> str:
        _, rest = split_words(words)
        return read_recipe("predict", rest, has_short_keys=True).data.corpus

    teacher = f"vectors:{folder}"
    assert corpus_of("recipe=own-index", f"teacher={teacher}") == own
    assert corpus_of("recipe=own-index", f"teacher.source={teacher}") == own
    assert corpus_of("recipe=own-index", f"teacher={teacher}", "home=jsonl:b") == "jsonl:b"
    # the recipe may name the teacher itself, and its own corpus stays
    path = tmp_path / "mine.yaml"
    path.write_text(f"teacher:\n  source: {teacher}\n")
    assert corpus_of(f"recipe={path}") == own
    path.write_text(f"teacher:\n  source: {teacher}\ndata:\n  corpus: jsonl:theirs\n")
    assert corpus_of(f"recipe={path}") == "jsonl:theirs"
    with pytest.raises(UsageError, match="no such recipe"):
        corpus_of("recipe=nowhere", f"teacher={teacher}")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["target=1.5"], "target: 1.5 is above 1"),
        (["target=nan"], "target: nan is not a finite number"),
        (["minutes=0"], r"minutes: 0 is below 0\.1"),
        (["minutes="], "minutes: '' is no number"),
        (["texts=1.5"], r"texts: 1\.5 is no whole number"),
        (["texts=-3"], "texts: -3 is below 0"),
        (["texts=-3", "target=0"], "target: 0 is below 0.01; texts: -3 is below 0"),
        (["target=.9", "target=.8"], "target= comes twice"),
        (["kinds=static,huge"], "'huge' is no kind of student"),
        (["kinds=static,static"], "a kind comes twice"),
        (["diagnose=maybe"], "diagnose=maybe is neither true nor false"),
        (["teacher=vectors:nowhere"], "vectors:nowhere: no such folder"),
    ],
)
def test_other_words_are_refused(words, says):
    with pytest.raises(UsageError, match=says) as refused:
        split_words(words)
    assert refused.value.hint


def test_a_folder_without_texts_is_refused(tmp_path):
    with pytest.raises(UsageError, match="by their hashes alone") as refused:
        split_words([f"teacher=vectors:{tmp_path}"])
    assert "home=" in refused.value.hint


def test_what_decides_about_a_prediction_is_taken():
    words = ["teacher=model:a", "home=jsonl:b", "diagnose=true", "precisions=[int8_fixed,pq]"]
    words += ["bench.num_resamples=100", "inherit.int8_range=.3", "inherit.pq_bytes=8"]
    words += ["student.init_layers=first:1", "student.pooling=cls"]
    asked, rest = split_words([*words, "student.attention=bidirectional"])
    recipe = read_recipe("predict", rest, has_short_keys=True)
    refuse_undiagnosed(asked, rest)
    assert (recipe.student.init_layers, recipe.student.pooling) == ("first:1", "cls")
    assert (recipe.inherit.int8_range, recipe.inherit.pq_bytes) == (0.3, 8)
    with pytest.raises(UsageError, match="num_resamples") as refused:
        refuse_undiagnosed(PredictSettings(), rest)
    assert "diagnose=true" in refused.value.hint


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "name a recipe or a teacher"),
        (["teacher=model:nowhere"], "names no corpus"),
        (["teacher=vectors:nowhere"], "no such folder"),
        (["recipe=own-index", "teacher=vectors:nowhere"], "no such folder"),
        (["recipe=own-index", "teacher=model:nowhere"], "names no corpus"),
        (
            ["teacher=model:a", "home=jsonl:b", "student.kind=static"],
            "no effect in leafkit predict",
        ),
        (
            ["teacher=model:a", "home=jsonl:b", "bench.num_samples=3"],
            "no effect in leafkit predict",
        ),
        (
            ["teacher=model:a", "home=jsonl:b", "student.static.num_words=100"],
            "no effect in leafkit predict",
        ),
        (
            ["teacher=model:a", "home=jsonl:b", "bench.num_resamples=100"],
            "bench.num_resamples has no effect in leafkit predict",
        ),
        (["teacher=model:a", "home=jsonl:b", "inherit.pq_bytes=8"], "pq among inherit.precisions"),
        (["teacher=model:a", "home=jsonl:b", "dry_run=true"], "dry_run=true is for the commands"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_made(words, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main.main(["predict", *words]) == 2
    assert says in " ".join("".join(capsys.readouterr()).split())
    assert not list(tmp_path.iterdir())
