"""The words of ``leafkit rescue``."""

from __future__ import annotations

import pytest

from leafkit.cli import main
from leafkit.cli.commands.rescue import split_words
from leafkit.core.errors import UsageError
from leafkit.embedders.pairs.columns import PairColumns
from leafkit.pipeline.rescue.pairs import read_pair_source


def test_words_are_the_source_its_columns_and_the_recipes_own():
    words = ["name=mine", "parquet:a=b.parquet", "text=body", "vector=emb", "recipe=own.yaml"]
    assert split_words(words) == (
        "parquet:a=b.parquet",
        {"text": "body", "vector": "emb"},
        ["name=mine", "recipe=own.yaml"],
    )
    assert split_words(["vectors:old"]) == ("vectors:old", {}, ["recipe=rescue"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "name one index"),
        (["name=mine"], "name one index"),
        (["vectors:a", "parquet:b"], "name one index"),
        (["old-index"], "'old-index' names no texts with vectors"),
        (["parquet:a", "text="], "text= names nothing"),
        (["parquet:a", "text=a", "text=b"], "text= comes twice"),
        (["parquet:a", "similarity="], "similarity= names nothing"),
    ],
)
def test_other_words_are_refused(words, says):
    with pytest.raises(UsageError, match=says) as refused:
        split_words(words)
    assert refused.value.hint


@pytest.mark.parametrize(
    ("word", "place", "collection"),
    [
        ("qdrant:http://localhost:6333/books", "http://localhost:6333", "books"),
        ("qdrant:/data/local/books/", "/data/local", "books"),
        ("vectors:old/index", "old/index", ""),
        ("parquet:old.parquet", "old.parquet", ""),
    ],
)
def test_a_source_is_a_place_and_a_collection(word, place, collection):
    found = read_pair_source(word)
    assert (found.place, found.collection) == (place, collection)
    assert str(found) == word.rstrip("/")


@pytest.mark.parametrize(
    "word", ["qdrant:books", "qdrant:http://localhost", "qdrant:http://", "vectors:", "lance:x", ""]
)
def test_a_source_that_is_none(word):
    with pytest.raises(UsageError, match="names no"):
        read_pair_source(word)


@pytest.mark.parametrize(
    "word",
    [
        "qdrant:http://user:S3CRET@localhost:1/books",
        "qdrant:https://S3CRET@db.example.org/books",
        "qdrant:https://db.example.org/books?api_key=S3CRET",
        "qdrant:http://user:S3/CRET@localhost/books",
        "http://user:S3CRET@localhost:1/books",
    ],
)
def test_an_address_that_holds_a_secret_is_refused_and_not_shown(
    word, tmp_path, monkeypatch, capsys
):
    with pytest.raises(UsageError) as refused:
        read_pair_source(word)
    assert "S3" not in f"{refused.value} {refused.value.hint}"
    assert "CRET" not in f"{refused.value} {refused.value.hint}"
    monkeypatch.chdir(tmp_path)
    assert main.main(["rescue", word, "name=mine"]) == 2
    assert "CRET" not in "".join(capsys.readouterr())
    assert not list(tmp_path.iterdir())


def test_a_key_is_not_for_a_plain_address(tmp_path, monkeypatch, capsys):
    pytest.importorskip("qdrant_client", reason="qdrant-client is not installed: extra qdrant")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QDRANT_API_KEY", "S3CRET")
    assert main.main(["rescue", "qdrant:http://db.example.org:6333/books", "name=mine"]) == 2
    shown = " ".join("".join(capsys.readouterr()).split())
    assert "would get it unencrypted" in shown
    assert "S3CRET" not in shown


def test_a_similarity_is_one_that_a_source_does_not_say_itself():
    assert read_pair_source("parquet:a", similarity="cosine").similarity == "cosine"
    assert read_pair_source("qdrant:old/books", similarity="dot").similarity == "dot"
    with pytest.raises(UsageError, match="similarity=euclid is none"):
        read_pair_source("parquet:a", similarity="euclid")
    with pytest.raises(UsageError, match="says it itself") as refused:
        read_pair_source("vectors:old", similarity="cosine")
    assert "about.json" in refused.value.hint


def test_columns_that_a_source_does_not_have():
    with pytest.raises(UsageError, match="says itself what is what"):
        read_pair_source("vectors:old", PairColumns(text="body"))
    with pytest.raises(UsageError, match="points have ids of their own"):
        read_pair_source("qdrant:old/books", PairColumns(id="key"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["vectors:nowhere"], "vectors:nowhere: no such folder"),
        (["parquet:nowhere"], "parquet:nowhere: no such file"),
        (["parquet:nowhere", "teacher.source=builtin:minilm"], "no effect in leafkit rescue"),
        (["parquet:nowhere", "bench.num_samples=3"], "no effect in leafkit rescue"),
        (["parquet:nowhere", "dry_run=true"], "dry_run=true is for the commands that train"),
        (
            ["parquet:nowhere", "data.num_made_queries=0", "data.made_query_vectors=source"],
            "no effect in leafkit rescue",
        ),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_made(words, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main.main(["rescue", *words]) == 2
    shown = " ".join("".join(capsys.readouterr()).split())
    assert says in shown
    assert not list(tmp_path.iterdir())
