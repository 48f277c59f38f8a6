"""README's promises that a machine can check; .ci/run and .ci/release run its two commands."""

from __future__ import annotations

import inspect
import re
import textwrap
import tomllib
from pathlib import Path

import numpy as np
import pytest
from served import make_pair

from leafkit.cli.command_table import COMMANDS
from leafkit.cli.commands import serve as serve_command
from leafkit.config.load import list_recipes
from leafkit.server import serve as serve_module

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_its_two_commands_stand_alone_where_ci_finds_them():
    found = re.findall(r"^    (pip install -e .*)$", README, flags=re.MULTILINE)
    assert found == [
        'pip install -e ".[cpu]" && leafkit distill recipe=kalm-to-23m',
        'pip install -e ".[cpu,dev]" && pytest',
    ]


def test_its_extras_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    named = {name for group in re.findall(r"\.\[([\w,]+)\]", README) for name in group.split(",")}
    assert named
    assert named <= extras.keys()


def test_its_commands_and_recipes_exist():
    commands = set(re.findall(r"leafkit ([a-z]+) (?:recipe=|teacher=|checkpoints|FOLDER)", README))
    recipes = set(re.findall(r"recipe=([a-z0-9-]+)", README))
    assert commands == {
        "distill",
        "teach",
        "mine",
        "synth",
        "embed",
        "bench",
        "inherit",
        "predict",
        "ladder",
        "compare",
        "export",
        "search",
        "serve",
        "show",
    }
    assert commands <= COMMANDS.keys()
    assert recipes
    assert recipes <= list_recipes().keys()


def test_every_command_is_in_its_table():
    table = "".join(line for line in README.splitlines() if line.startswith("| `leafkit"))
    assert all(f"`leafkit {name}" in table or f"`{name}`" in table for name in COMMANDS)


def test_its_links_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert links
    assert all((ROOT / link).is_file() for link in links)


def test_the_quick_start_ends_with_a_server_and_openais_client(monkeypatch, tmp_path):
    """The command as it stands says name and port, and the three lines get its vectors."""
    pytest.importorskip("openai", reason="the openai package is not installed")
    start = README.split("\n## ")[1]
    command = re.findall(r"^    leafkit (serve .+)$", start, flags=re.MULTILINE)[-1]
    lines = textwrap.dedent(re.search(r"^(?:    .*OpenAI.*\n){2}    .*\n", start, re.MULTILINE)[0])
    assert lines.count("\n") == 3
    told: dict = {}
    serve = serve_module.serve
    monkeypatch.setattr(serve_module, "serve", lambda *words, **settings: told.update(settings))
    monkeypatch.chdir(tmp_path)
    assert serve_command.run(command.split()[1:]) == 0
    default_port = inspect.signature(serve).parameters["port"].default
    pair = make_pair()
    with serve(pair, port=0, block=False, name=told["name"]) as server:
        # the tests take any free port; the one that stands there is the command's own
        assert f"http://127.0.0.1:{default_port}/v1" in lines
        scope: dict = {}
        exec(lines.replace(f"http://127.0.0.1:{default_port}", server.url), scope)
        asked = re.search(r'input="(.+)"', lines)[1]
        found = scope["query"].data[0].embedding
        np.testing.assert_allclose(found, pair.encode_query(asked), atol=1e-6)
        document = re.search(r'`model="(.+:document)"`', start)[1]
        answer = scope["client"].embeddings.create(model=document, input="draw")
        np.testing.assert_allclose(
            answer.data[0].embedding, pair.encode_document("draw"), atol=1e-6
        )
