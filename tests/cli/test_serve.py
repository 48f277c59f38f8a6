"""``leafkit serve``: a finished folder answers over HTTP, and wrong words are one error."""

from __future__ import annotations

import signal
import subprocess
import sys

import httpx
import pytest
import tiny
import torch

from leafkit.cli import main
from leafkit.data.records import Collection, Document
from leafkit.data.vector_store import Space
from leafkit.embedders.make_embedder import make_embedder
from leafkit.pipeline.pair import Pair


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pair that was saved: two documents, a student that is its own teacher."""
    student = tiny.make_encoder(prompts={"query": tiny.PROMPT}).eval()
    embedder = make_embedder(student)
    documents = [Document("a", "compute the matrix"), Document("b", "draw the graph")]
    vectors = embedder.encode_document([d.text for d in documents])
    space = Space("abc", student.dim, "", 64, "mean", normalized=True)
    place = tmp_path_factory.mktemp("pairs") / "my pair"
    with torch.inference_mode():
        Pair(student, Collection("two", documents), vectors, space, embedder=embedder).save(place)
    return place


@pytest.mark.slow
def test_a_folder_is_served_until_it_is_told_to_stop(folder):
    process = subprocess.Popen(
        [sys.executable, "-m", "leafkit.cli", "serve", str(folder), "port=0"],
        env=tiny.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = iter(process.stdout.readline, "")
        url = next(line for line in lines if "http://" in line).split(" on ")[1].split()[0]
        names = [row["id"] for row in httpx.get(f"{url}/v1/models", timeout=60).json()["data"]]
        assert names == ["my-pair", "my-pair:query", "my-pair:document"]
        body = {"query": "draw the graph", "k": 1}
        found = httpx.post(f"{url}/v1/search", json=body, timeout=60).json()["data"]
        assert (len(found), found[0]["text"] in {"compute the matrix", "draw the graph"}) == (
            1,
            True,
        )
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=120)
        assert (process.returncode, "Traceback" in err) == (0, False)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ([], "serve takes the folder", "leafkit serve checkpoints/kalm-to-23m"),
        (["a", "b"], "serve takes the folder", "leafkit serve"),
        (["a", "prot=1"], "serve has no option 'prot'", "did you mean port=?"),
        (["a", "port=http"], "port=http is no port", "0 for any free one"),
        (["a", "port=70000"], "port=70000 is no port", "0 for any free one"),
        (["a", "api_key_env=NOT_SET_HERE"], "is empty or not set", "export NOT_SET_HERE="),
        (["a", "port=0"], "a", ""),
    ],
)
def test_wrong_words_are_one_error(words, message, hint, capsys, monkeypatch):
    monkeypatch.delenv("NOT_SET_HERE", raising=False)
    assert main.main(["serve", *words]) in (1, 2)
    err = capsys.readouterr().err
    assert message in err
    assert hint in err
    assert "Traceback" not in err


def test_other_machines_need_a_key(folder, capsys):
    assert main.main(["serve", str(folder), "host=0.0.0.0", "port=0"]) == 2
    assert "no API key is asked for" in capsys.readouterr().err
