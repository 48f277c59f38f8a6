"""Environments that hold a tool of benchmarks/compatibility.py; made where they are not there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from compatibility_parts.tools import Tool

_INSTALL_MINUTES = 30.0


class NotRun(Exception):
    """Why a line of the table has no figures."""


def make_environment(name: str, tool: Tool, root: Path) -> Path:
    """The interpreter of an environment that holds the tool; made where it is not there.

    Raises:
        NotRun: the tool cannot be installed here.
    """
    place = root / name
    if tool.is_node:
        if not (place / "node_modules").is_dir():
            place.mkdir(parents=True, exist_ok=True)
            # onnxruntime-node's script fetches its CUDA build alone, from elsewhere
            quiet = ["--ignore-scripts", "--no-audit", "--no-fund"]
            _run(["npm", "install", *quiet, "--prefix", place, *tool.packages])
        return place
    python = place / "bin" / "python"
    if not (place / "installed").is_file():
        _run([sys.executable, "-m", "venv", place])
        if not tool.is_alone:
            # what is here already, torch above all, is not installed again
            version = f"python{sys.version_info.major}.{sys.version_info.minor}"
            base = place / "lib" / version / "site-packages" / "base.pth"
            seen = [path for path in sys.path if Path(path).name == "site-packages"]
            base.write_text("\n".join(seen), encoding="utf-8")
        _run([python, "-m", "pip", "install", "--quiet", *tool.packages])
        if tool.taken_out:
            _run([python, "-m", "pip", "uninstall", "--quiet", "--yes", *tool.taken_out])
        (place / "installed").touch()
    return python


def _run(words: Sequence[str | Path]) -> None:
    limit_s = 60 * _INSTALL_MINUTES
    try:
        done = subprocess.run(
            [str(word) for word in words], capture_output=True, text=True, timeout=limit_s
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        raise NotRun(f"its installation did not end ({type(err).__name__})") from err
    if done.returncode:
        raise NotRun(f"it does not install here: {last_words(done.stderr)}")


def last_words(text: str) -> str:
    """The last line that says something, without folders of this machine."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else "no message"
    return " ".join("..." if word.count("/") > 1 else word for word in last.split())[:200]
