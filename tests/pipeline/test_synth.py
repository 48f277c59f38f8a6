"""leafkit synth from the command line: the artifact, its cost, its secrets, and a run that is
killed on the way.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from synth_server import MODEL, ChatServer, chat_server

from leafkit.cli.main import main
from leafkit.config import DataConfig, EndpointConfig, Recipe, SynthConfig
from leafkit.config.validate import find_problems
from leafkit.core.artifact import open_artifact
from leafkit.core.checkpoint_layout import VERIFIED_FILE
from leafkit.data.sources import read_collection

pytest.importorskip("openai")
KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def _environment(monkeypatch) -> None:
    for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as running:
        yield running


@pytest.fixture
def synth(server: ChatServer, tmp_path: Path):
    """``leafkit synth`` on a small recipe; returns the exit status. The artifact is in
    ck/small/synth.
    """
    recipe = tmp_path / "small.yaml"
    recipe.write_text(
        "device: cpu\nprecision: float32\nsynth:\n  num_instructions: 12\n  "
        "rows_per_instruction: 2\n"
        f"  model: {MODEL}\n  endpoint: {{backoff_s: 0.001, max_retries: 1, timeout_s: 20, "
        "max_concurrency: 4}\n"
    )

    def run(*words: str, folder: str = "ck") -> int:
        address = (
            []
            if any(w.startswith("synth.endpoint.base_url=") for w in words)
            else [f"synth.endpoint.base_url={server.url}"]
        )
        return main(
            ["synth", f"recipe={recipe}", f"checkpoints={tmp_path / folder}", *address, *words]
        )

    return run


def artifact(tmp_path: Path, folder: str = "ck") -> Path:
    return tmp_path / folder / "small" / "synth"


def rows_of(folder: Path, name: str = "rows.jsonl") -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row.get("provenance", {}).pop("created", None)
    return rows


def all_bytes(folder: Path) -> bytes:
    """Of the artifact's files; what was verified of them is not part of it."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != VERIFIED_FILE]
    return b"".join(p.read_bytes() for p in files)


def test_the_artifact_is_a_training_source(
    server: ChatServer, synth, tmp_path: Path, capsys
) -> None:
    assert synth() == 0
    folder = artifact(tmp_path)
    manifest = open_artifact(folder, "synth")
    rows = rows_of(folder)
    assert len(rows) == 24
    collection = read_collection(f"jsonl:{folder / 'rows.jsonl'}", DataConfig())
    pairs = {
        (query.text, collection.documents[i].text)
        for query, found in collection.pairs("train")
        for i in found
    }
    assert pairs == {(row["query"], row["positive"]) for row in rows}
    assert {query.split for query in collection.queries} == {"train"}
    assert {n for row in rows for n in row["negatives"]} <= {d.text for d in collection.documents}

    by_task = {
        path.stem: rows_of(folder, f"tasks/{path.name}") for path in (folder / "tasks").iterdir()
    }
    assert sorted(map(str, rows)) == sorted(str(row) for found in by_task.values() for row in found)
    assert all(
        row["provenance"]["task_type"] == task for task, found in by_task.items() for row in found
    )
    assert len(rows_of(folder, "instructions.jsonl")) == 8
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["rows"], summary["requests"], summary["cost"]) == (24, 32, None)
    assert {k: manifest.metrics[k] for k in summary} == summary
    provenance = json.loads((folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()[0])[
        "provenance"
    ]
    assert set(provenance) == {
        "model",
        "base_url",
        "persona",
        "task_type",
        "prompt_version",
        "created",
    }
    assert (provenance["model"], provenance["base_url"]) == (MODEL, server.url)
    said = capsys.readouterr().out
    assert (
        said.index("32 requests to chatter")
        < said.index("cost: unknown")
        < said.index("24 rows; 32 requests")
    )
    assert not (folder.parent / "synth.work").exists()
    assert KEY.encode() not in all_bytes(tmp_path)


def test_a_finished_run_asks_nothing_and_needs_no_key(
    server: ChatServer, synth, tmp_path: Path, monkeypatch
) -> None:
    assert synth() == 0
    monkeypatch.delenv("OPENAI_API_KEY")
    before = all_bytes(artifact(tmp_path))
    assert synth("synth.endpoint.max_concurrency=1", "synth.endpoint.timeout_s=3") == 0
    assert len(server.requests) == 32
    assert all_bytes(artifact(tmp_path)) == before
    assert synth("synth.rows_per_instruction=1") == 0
    assert len(server.requests) == 32 + 8 + 12


def test_killed_on_the_way_it_goes_on_without_asking_again(
    server: ChatServer, synth, tmp_path: Path
) -> None:
    server.script = lambda request: "hang" if request.number >= 17 else "good"
    pid = os.fork()
    if pid == 0:
        try:
            synth()
        finally:
            os._exit(0)
    deadline_s = time.monotonic() + 20
    while len(server.requests) < 17 + 4 and time.monotonic() < deadline_s:
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    assert len(server.requests) == 17 + 4
    journal = tmp_path / "ck" / "small" / "synth.work" / "journal.jsonl"
    assert journal.read_bytes().count(b"\n") == 1 + 17
    assert not artifact(tmp_path).exists()

    journal.write_bytes(journal.read_bytes() + b'{"key": "torn')
    answered = {request.prompt for request in server.requests[:17]}
    server.release.set()
    server.script = lambda request: "good"
    assert synth() == 0
    later = [request.prompt for request in server.requests[21:]]
    assert len(later) == 32 - 17
    assert not answered & set(later)
    assert synth(folder="undisturbed") == 0
    assert rows_of(artifact(tmp_path)) == rows_of(artifact(tmp_path, "undisturbed"))
    assert rows_of(artifact(tmp_path), "instructions.jsonl") == rows_of(
        artifact(tmp_path, "undisturbed"), "instructions.jsonl"
    )


def test_sigterm_keeps_what_was_answered(server: ChatServer, synth, tmp_path: Path, capfd) -> None:
    server.script = lambda request: "hang" if request.number >= 3 else "good"
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            status = synth()
        finally:
            os._exit(status)
    deadline_s = time.monotonic() + 20
    while len(server.requests) < 3 + 4 and time.monotonic() < deadline_s:
        time.sleep(0.01)
    started_s = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    assert os.WEXITSTATUS(os.waitpid(pid, 0)[1]) == 143
    assert time.monotonic() - started_s < 5  # the hanging requests are given up, not waited for
    assert (tmp_path / "ck" / "small" / "synth.work" / "journal.jsonl").read_bytes().count(
        b"\n"
    ) == 1 + 3
    assert "Traceback" not in "".join(capfd.readouterr())


def test_an_interrupted_run_of_other_settings_is_not_mixed_in(
    server: ChatServer, synth, tmp_path: Path, capsys
) -> None:
    server.script = lambda request: "good" if request.number < 5 else "404"
    assert synth() == 1
    assert "refuses model 'chatter' with status 404" in capsys.readouterr().err
    server.script = lambda request: "good"
    num_before = len(server.requests)
    assert synth("synth.temperature=0.5") == 1
    assert "other settings: temperature changed" in " ".join(capsys.readouterr().err.split())
    assert len(server.requests) == num_before
    assert synth("synth.num_instructions=6") == 0  # fewer is no other setting
    assert len(rows_of(artifact(tmp_path))) == 12


def test_nothing_accepted_is_an_error_and_no_artifact(
    server: ChatServer, synth, tmp_path: Path, capsys
) -> None:
    server.script = lambda request: "prose"
    assert synth() == 1
    assert "gave no usable row with model 'chatter': not JSON (" in " ".join(
        capsys.readouterr().err.split()
    )
    assert not artifact(tmp_path).exists()


def test_losses_are_reported(server: ChatServer, synth, tmp_path: Path, capsys) -> None:
    server.script = lambda request: "broken" if request.number < 6 else "good"
    assert synth("synth.endpoint.max_retries=0", "synth.endpoint.max_concurrency=1") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "refused answers: not JSON (6); jobs given up: not JSON (6)" in said
    assert len(rows_of(artifact(tmp_path))) == 24 - 6 * 2


def test_the_cost_is_shown_and_bounded_before_it_starts(
    server: ChatServer, synth, tmp_path: Path, capsys
) -> None:
    prices = [
        "synth.price_per_million_input_tokens=1000",
        "synth.price_per_million_output_tokens=2000",
    ]
    assert synth(*prices, "synth.max_cost=0.5") == 2
    captured = capsys.readouterr()
    assert "above synth.max_cost=0.5; nothing was sent" in captured.err
    found = re.search(
        r"about ([\d,]+) tokens in and ([\d,]+) out .* at most ([\d,]+) out", captured.out
    )
    assert found is not None
    tokens_in, tokens_out, most = (int(number.replace(",", "")) for number in found.groups())
    assert most == 32 * 1024
    assert (
        f"cost: about {tokens_in / 1000 + tokens_out / 500:.4f}, at most "
        f"{tokens_in / 1000 + most / 500:.4f}" in captured.out
    )
    assert server.requests == []
    assert synth("synth.max_cost=1") == 2
    assert "names no price" in capsys.readouterr().err
    assert synth(*prices, "synth.max_cost=1000") == 0
    summary = json.loads((artifact(tmp_path) / "summary.json").read_text())
    assert summary["cost"] == pytest.approx(32 * (100 / 1000 + 10 / 500))


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["synth.model="], "synth.model is missing"),
        (["synth.personas=jsonl:/nowhere"], "No such file"),
        (
            [
                "synth.endpoint.base_url=https://api.openai.com/v1",
                "synth.endpoint.api_key_env=NO_SUCH_API_KEY",
            ],
            "NO_SUCH_API_KEY is not set",
        ),
        (["synth.endpoint.base_url=nonsense"], "is no http address"),
        (["synth.languages=[en,de]"], "'de' is not one of en, zh, fr, pl"),
        (["synth.endpoint.base_url=http://me:pass-word@host/v1"], "OPENAI_BASE_URL"),
    ],
)
def test_mistakes_are_usage_errors(
    server: ChatServer, synth, words: list[str], complaint: str, capsys
) -> None:
    assert synth(*words) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert complaint in said
    assert "pass-word" not in said
    assert server.requests == []


def test_a_password_in_the_environments_address_is_in_no_file(
    server: ChatServer, synth, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url.replace("http://", "http://ann:pass-word-1@"))
    assert synth("synth.endpoint.base_url=", "synth.num_instructions=6") == 0
    written = all_bytes(tmp_path)
    assert server.url.encode() in written
    assert b"pass-word-1" not in written
    assert KEY.encode() not in written


@pytest.mark.parametrize(
    ("config", "key", "text"),
    [
        (SynthConfig(tasks=["sts", "long"]), "synth.tasks", "'long' is not one of"),
        (SynthConfig(tasks=[]), "synth.tasks", "is empty"),
        (SynthConfig(languages=[]), "synth.languages", "is empty"),
        (
            SynthConfig(languages=["en", "EN"]),
            "synth.languages",
            "'EN' is not one of en, zh, fr, pl",
        ),
        (SynthConfig(languages=["en"]), "synth.tasks", "bitext needs two languages"),
        (
            SynthConfig(endpoint=EndpointConfig(base_url="http://a:b@c/v1")),
            "synth.endpoint.base_url",
            "OPENAI_BASE_URL",
        ),
        (
            SynthConfig(endpoint=EndpointConfig(base_url="http://c/v1?key=1")),
            "synth.endpoint.base_url",
            "OPENAI_BASE_URL",
        ),
    ],
)
def test_rules(config: SynthConfig, key: str, text: str) -> None:
    problems = [
        p for p in find_problems(Recipe(name="x", synth=config)) if p[0].startswith("synth")
    ]
    assert any(found == key and text in words for found, words in problems)


def test_rules_let_good_values_pass() -> None:
    for config in (
        SynthConfig(),
        SynthConfig(languages=["pl"], tasks=["sts"]),
        SynthConfig(endpoint=EndpointConfig(base_url="http://h:1/v1")),
    ):
        assert [
            p for p in find_problems(Recipe(name="x", synth=config)) if p[0].startswith("synth")
        ] == []
