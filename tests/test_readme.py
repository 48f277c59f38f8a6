"""README's promises that a machine can check; .ci/run and .ci/release run its two commands."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from leafkit.cli.command_table import COMMANDS
from leafkit.config.load import list_recipes

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
