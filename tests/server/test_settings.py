"""The settings of the server are one list: in Python, in the command and in the documentation."""

from __future__ import annotations

import dataclasses
import re
import typing

import pytest
import tiny

from leafkit.cli.command_table import COMMANDS
from leafkit.cli.commands.serve import OPTIONS
from leafkit.server.settings import ServerSettings, Settings

FIELDS = {f.name: f for f in dataclasses.fields(ServerSettings)}
PAGE = (tiny.ROOT / "docs" / "serve.md").read_text("utf-8")
TABLE = PAGE[PAGE.index("## Settings") :]


def test_python_takes_them_all_with_their_types():
    hints = typing.get_type_hints(ServerSettings)
    assert typing.get_type_hints(Settings) == {name: hints[name] for name in FIELDS}


def test_the_command_takes_all_but_the_key_itself():
    assert set(OPTIONS) == {"port", "host", *FIELDS} - {"api_key"}
    assert {word.removesuffix("=") for word in COMMANDS["serve"].words} == set(OPTIONS)


@pytest.mark.parametrize("name", ["port", "host", *FIELDS])
def test_the_page_has_it(name):
    assert f"`{name}`" in TABLE


@pytest.mark.parametrize("name", [n for n, f in FIELDS.items() if f.type in ("int", "bool")])
def test_the_page_has_its_default(name):
    row = re.search(rf"^\| `{name}` \| (\S+) \|", TABLE.replace("`", "`"), re.MULTILINE)
    assert row, name
    assert row[1].strip("`") == str(FIELDS[name].default).lower()


@pytest.mark.parametrize("name", FIELDS)
def test_it_is_explained_beside_the_field(name):
    assert re.search(rf"^        {name}: ", ServerSettings.__doc__ or "", re.MULTILINE)
