"""A parsed page, for the tests of what is written as HTML."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

from leafkit.results import RunReport

# what every report says of its run
BLANK = {
    "name": "",
    "command": "",
    "created": "",
    "commit": "",
    "recipe": {},
    "versions": {},
    "hardware": {
        "cpu": "",
        "cores": None,
        "threads": 2,
        "memory_gib": None,
        "peak_memory_gib": 0.0,
        "device": "cpu",
        "precision": "float32",
        "accelerator": "",
    },
}


def read_report(data: dict[str, Any]) -> RunReport:
    """A report of plain data; what it does not say of its run is blank."""
    return RunReport.from_json(BLANK | data)


VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Checks that tags are balanced and remembers what it saw."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(markup)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def sections(self) -> list[str | None]:
        return [attributes["id"] for tag, attributes in self.tags if tag == "section"]


HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=alert(1)>"


def check_safe(markup: str) -> Page:
    """Hostile text stayed text: the page runs nothing, loads nothing and is balanced."""
    page = Page(markup)
    assert "<script" not in markup
    assert not {"script", "img", "iframe", "object", "link"} & {tag for tag, _ in page.tags}
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert not any(
        key in {"src", "srcset", "data", "poster"}
        for _, attributes in page.tags
        for key in attributes
    )
    assert all(str(a["href"]).startswith("#") for _, a in page.tags if "href" in a)
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<script", markup)
    assert "default-src 'none'" in markup
    return page
