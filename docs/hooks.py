"""Renders the recipes reference from the config's own metadata each time the site is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_INTRODUCTION = """\
Every key of a recipe, made from the metadata that stands beside its field. Keys are set in the
recipe's YAML or as `key=value` on the command line; `leafkit show recipe=NAME` prints the resolved
ones. Order: defaults, then the recipe and its `base`, then the command line; an empty mapping
(`data.sources={}`) drops what was named before it.
"""


def on_pre_build(config: Any) -> None:
    """Write docs/reference/recipes.md; unchanged text is not written, so that a server rests."""
    from leafkit.config.reference import render_reference

    path = Path(config["docs_dir"]) / "reference" / "recipes.md"
    text = f"# Recipes reference\n\n{_INTRODUCTION}\n{render_reference()}"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
