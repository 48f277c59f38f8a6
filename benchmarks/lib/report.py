"""Dated Markdown reports."""

from __future__ import annotations

import datetime
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

REPORTS = Path(__file__).parents[1] / "reports"
_PRIVATE = (
    "--data",
    "--folder",
    "--checkpoints",
    "--work",
    "--run",
    "--teacher",
    "--against",
    "--out",
    "--pair",
    "--exported",
    "--runtime",
    "--peer-python",
    "--vllm-python",
    "--ray-python",
    "--python",
    "--make-environments",
    "--case",
    "--table",
    "--foretold",
    "--beside",
)
# the path in a reference to a file or folder, wherever it stands
_PATH = re.compile(r"\b(beir|jsonl|csv|tsv|parquet|vectors|model):[^\s,\]]+")


def today() -> str:
    """The date in ISO's form, as in titles and file names."""
    return datetime.date.today().isoformat()


def command() -> str:
    """This call of the script, in backquotes; folders are called DIR."""
    words = sys.argv[1:]
    shown = [
        "DIR" if before in _PRIVATE else _PATH.sub(r"\1:DIR", word)
        for before, word in zip(["", *words], words, strict=False)
    ]
    return f"`{shlex.join(['python', f'benchmarks/{Path(sys.argv[0]).name}', *shown])}`"


def title(text: str) -> list[str]:
    """The dated title and an empty line."""
    return [f"# {text}, {today()}", ""]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table, with an empty line after it."""
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)] + [""]


def save(lines: Sequence[str], name: str, folder: Path = REPORTS) -> Path:
    """Write the lines as the report ``name`` of today, over one of the same day.

    Returns:
        Where it lies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{today()}-{name}.md"
    path.write_text("\n".join(lines).rstrip("\n") + "\n", encoding="utf-8")
    return path


def publish(lines: Sequence[str], name: str, *, print_only: bool = False) -> None:
    """Print the lines, and save them unless told not to."""
    print("\n".join(lines))
    if not print_only:
        print(save(lines, name))
