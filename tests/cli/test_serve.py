"""``leafkit serve``: a finished folder answers over HTTP, and wrong words are one error."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys

import httpx
import pytest
import tiny
from served import save_pair

from leafkit.cli import main
from leafkit.server.settings import ServerSettings, check_settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_pair(tmp_path_factory.mktemp("pairs") / "my pair")


@pytest.mark.slow
def test_a_folder_is_served_until_it_is_told_to_stop(folder):
    process = subprocess.Popen(
        [sys.executable, "-m", "leafkit.cli", "serve", str(folder), "port=0", "index=hnsw"],
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
        (["a", "api_key=secret"], "serve has no option 'api_key'", "api_key_"),
        (["a", "api_key_file=/no/such/key"], "cannot be read", "on one line"),
        (["a", "api_key_file="], "api_key_file= names nothing", "leave it out"),
        (["a", "api_key_env="], "api_key_env= names nothing", "leave it out"),
        (["a", "workers=two"], "workers=two is not a whole number", "workers=1"),
        (["a", "workers=0"], "workers=0 is not a whole number from 1", "leave it out"),
        (["a", "max_inputs=-1"], "max_inputs=-1 is not a whole number", "max_inputs=32"),
        (["a", "student_documents=yes"], "neither true nor false", "student_documents=true"),
        (["a", "promise=0"], "promise=0.0 is no share", "leave it out to ask the student alone"),
        (["a", "promise=1.5"], "promise=1.5 is no share", "promise=.99"),
        (["a", "promise=95"], "promise=95.0 is no share", "promise=.99"),
        (["a", "promise=nan"], "promise=nan is not a number", "promise=.99"),
        (["a", "promise="], "promise= is not a number", "promise=.99"),
        (["a", "unverified=true"], "none is asked for", "promise=.99"),
        (["a", "promise=.9", "unverified=1"], "neither true nor false", "unverified=true"),
        (["a", "teacher=on"], "teacher='on' says nothing", "lazy, eager, off"),
        (["a", "index=nix"], "index='nix': no such kind", "hnsw"),
        (["a", "allow_hosts="], "is no list of hosts", "without http:// and port"),
        (["a", "allow_hosts=b.org,http://c.org"], "is no list of hosts", "several with commas"),
        (["a", "name=x y"], "is no name of a model", "letters"),
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


def test_the_key_file_is_read_once(tmp_path, monkeypatch):
    path = tmp_path / "key"
    path.write_text("k-first")
    found = {}

    def serve(folder, port, host, **settings):
        path.write_text("k-second")
        found.update(dataclasses.asdict(check_settings(ServerSettings(**settings))))

    monkeypatch.setattr("leafkit.server.serve.serve", serve)
    words = [f"api_key_file={path}", "workers=2", "allow_hosts=b.org,::1"]
    assert main.main(["serve", str(tmp_path), *words]) == 0
    assert (found["api_key"], found["workers"]) == ("k-first", 2)
    assert found["allow_hosts"] == ("b.org", "::1")
