"""A page in headless Chromium, driven through playwright-core; tests skip where one is missing."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "browser"
MODULES = FOLDER / "node_modules"
_NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str:
    """The program; "" where there is none."""
    return next(filter(None, map(shutil.which, _NAMES)), "")


def why_missing(*packages: str) -> str:
    """Why no page can be opened here, or no package of tests/browser/package.json be read; "" where
    all are there.
    """
    if not find_chromium() or shutil.which("node") is None:
        return "needs Chromium and node: apt-get install chromium nodejs npm"
    missing = [name for name in ("playwright-core", *packages) if not (MODULES / name).is_dir()]
    return f"{', '.join(missing)} not installed: npm ci --prefix tests/browser" if missing else ""


def need(*packages: str) -> None:
    """Skip where Chromium or a package of tests/browser/package.json is not installed."""
    if reason := why_missing(*packages):
        pytest.skip(reason)


class Browser:
    """One page.

    Args:
        program: Chromium, or a script that starts it; the one of this machine unless said.

    Attributes:
        console: what it wrote there, one after another, with the kind of each.
        requests: every address that it asked.
    """

    def __init__(self, program: str = "") -> None:
        need()
        self._process = subprocess.Popen(
            ["node", str(FOLDER / "driver.mjs"), program or find_chromium()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # the driver ends with its input
        self._process.wait(60)
        self._process.stdout.close()

    def call(self, method: str, *args: Any) -> Any:
        """What a method of playwright's page gives; a dot leads to a part of the page."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"call": method, "args": args}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the driver ended"
        answer = json.loads(line)
        assert "error" not in answer, f"{method}{args}: {answer['error']}"
        return answer["value"]

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript, in the page."""
        return self.call("evaluate", expression)

    def wait(self, expression: str, seconds: float = 180) -> None:
        """Wait until an expression of JavaScript is true in the page: asked again and again, for
        playwright's own way needs an eval in the page, which its policy forbids.
        """
        end_s = time.monotonic() + seconds
        while not self.evaluate(expression):
            assert time.monotonic() < end_s, f"never true: {expression}; {self.console}"
            time.sleep(0.02)

    @property
    def console(self) -> list[str]:
        return self.call("seen")["console"]

    @property
    def requests(self) -> list[str]:
        return self.call("seen")["requests"]

    def foreign_requests(self, url: str) -> list[str]:
        """Addresses asked that are not of the server at ``url``."""
        home = urlsplit(url)[:2]
        # a blob's address has that of the page that made it in it
        places = {one: urlsplit(one.removeprefix("blob:"))[:2] for one in self.requests}
        return [one for one, place in places.items() if place != home]
