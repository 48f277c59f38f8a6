"""What docs/ says of the code that a machine can check; .ci/run builds the site."""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path

import pytest
import yaml

import leafkit
from leafkit.cli.command_table import COMMANDS
from leafkit.config.load import list_recipes, load_recipe
from leafkit.config.reference import list_keys

ROOT = Path(__file__).resolve().parents[1]
MADE = Path("reference/recipes.md")  # rendered when the site is built, and not tracked
PAGES = {
    page: (ROOT / "docs" / page).read_text("utf-8")
    for page in sorted(p.relative_to(ROOT / "docs") for p in ROOT.glob("docs/**/*.md"))
    if page != MADE
}
ALL = "\n".join(PAGES.values())
# file that a page has the reader make -> the recipe that it is a copy of
COPIES = {
    (page, file): name
    for page, text in PAGES.items()
    for name, file in re.findall(r"^    leafkit recipes copy (\S+) (\S+)$", text, re.MULTILINE)
}
RECIPE = r"recipe=([a-z0-9-]+(?:\.ya?ml)?)"
# `room.module.Name` or `room/module` in the architecture; `leafkit.name` everywhere
ROOMS = {p.stem for p in (ROOT / "leafkit").iterdir() if not p.name.startswith("_")}
KEYS = {key.name for key in list_keys()}
DOTTED = sorted(set(re.findall(r"`((?:[a-z_]+\.)+[A-Za-z_.]+?)(?:\([^`]*\))?`", ALL)))


def resolve(name: str) -> object:
    """The module, class or function of a dotted name below leafkit; a dataclass field counts."""
    parts = name.removeprefix("leafkit.").split(".")
    found: object = leafkit
    for number, part in enumerate(parts):
        try:
            found = getattr(found, part)
        except AttributeError:
            if part in getattr(found, "__dataclass_fields__", {}):
                return found
            module = importlib.import_module(".".join(["leafkit", *parts[: number + 1]]))
            found = module
    return found


def is_of_the_code(name: str) -> bool:
    """Whether a dotted name is meant for one of Python's: no recipe key and no file."""
    is_other = name in KEYS or name.endswith(".json")
    return name.split(".")[0] in {*ROOMS, "leafkit"} and not is_other


@pytest.mark.parametrize("name", filter(is_of_the_code, DOTTED))
def test_names_in_the_text_are_in_the_code(name: str) -> None:
    resolve(name)


def test_a_name_that_is_not_in_the_code_is_noticed() -> None:
    with pytest.raises((AttributeError, ModuleNotFoundError)):
        resolve("pipeline.distill.run_nothing")
    assert len(DOTTED) > 30


def test_the_reference_shows_what_the_package_offers() -> None:
    shown = set(re.findall(r"^::: leafkit\.(\w+)$", PAGES[Path("reference/api.md")], re.MULTILINE))
    assert shown <= set(leafkit.__all__)
    functions = {n for n in leafkit.__all__ if n[0].islower() and not n.startswith("_")}
    assert functions - shown == {"make_embedder"}  # what load_model and distill call


def test_commands_and_recipes_exist() -> None:
    assert set(re.findall(r"^    leafkit ([a-z]+) ", ALL, re.MULTILINE)) <= COMMANDS.keys()
    named = {(page, name) for page, text in PAGES.items() for name in re.findall(RECIPE, text)}
    assert {COPIES.get(pair, pair[1]) for pair in named} <= list_recipes().keys()
    assert COPIES.keys() <= named  # what the reader copies is used


def test_overrides_in_the_text_are_taken() -> None:
    """Each ``recipe=NAME key=value`` line of the pages is a recipe that resolves."""
    lines = [
        (COPIES.get((page, name), name), overrides.split())
        for page, text in PAGES.items()
        for name, overrides in re.findall(rf"leafkit distill {RECIPE}((?: [a-z_.]+=\S+)*)", text)
    ]
    assert any(overrides for _, overrides in lines)
    for name, overrides in lines:
        load_recipe(name, [word.rstrip("`") for word in overrides])


def test_every_page_is_in_the_navigation_and_every_link_leads_somewhere() -> None:
    entries = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]
    places = [place for entry in entries for place in entry.values()]
    nested = [entry for place in places if isinstance(place, list) for entry in place]
    places = [place for place in places if isinstance(place, str)]
    listed = {Path(path) for path in [*places, *(p for e in nested for p in e.values())]}
    assert {*PAGES, MADE} == listed
    for page, text in PAGES.items():
        for link in re.findall(r"\]\((?!http)([^)#]+)", text):
            target = Path(os.path.normpath(page.parent / link))
            is_file = target.suffix != ".md" and (ROOT / "docs" / target).is_file()
            assert target in listed or is_file, f"{page} links to {link}"
