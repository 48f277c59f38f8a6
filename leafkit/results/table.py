"""Results as tables: for the terminal, a notebook, Markdown, LaTeX and pandas."""

from __future__ import annotations

import csv
import html
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

Record = dict[str, str | float | int | None]
_LATEX = re.compile("[&%$#_{}~^\\\\\N{MINUS SIGN}\N{HORIZONTAL ELLIPSIS}\N{MULTIPLICATION SIGN}]")
_LATEX_WORDS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\N{MINUS SIGN}": "$-$",
    "\N{HORIZONTAL ELLIPSIS}": r"\ldots{}",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
}


@dataclass(frozen=True, slots=True)
class Table:
    """Cells of text under their headings.

    Attributes:
        title: what the table holds.
        header: one heading per column.
        align: one letter per column, r for numbers; l and all others for text.
        rows: the cells.
        note: what one has to know beside the cells; "" for nothing.
    """

    title: str
    header: tuple[str, ...]
    align: str
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def __str__(self) -> str:
        """Columns padded with spaces."""
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        lines = [self.title, _padded(self.header, widths, self.align)]
        lines += ["  ".join("-" * width for width in widths)]
        lines += [_padded(row, widths, self.align) for row in self.rows]
        return "\n".join([*lines, *([self.note] if self.note else [])])

    def to_markdown(self) -> str:
        """A pipe table with the title in bold above it."""
        rule = "|".join("--:" if a == "r" else "---" for a in self.align)
        lines = [_piped(self.header), f"|{rule}|", *map(_piped, self.rows)]
        parts = [f"**{self.title}**", "\n".join(lines), self.note]
        return "\n\n".join(part for part in parts if part)

    def to_csv(self) -> str:
        """Header and rows as comma-separated values; title and note are left out."""
        written = io.StringIO()
        csv.writer(written, lineterminator="\n").writerows([self.header, *self.rows])
        return written.getvalue()

    def to_latex(self) -> str:
        """A ``table`` float with rules of the package booktabs."""
        rows = [rf"{' & '.join(map(_latex, row))} \\" for row in self.rows]
        caption = _latex(" ".join(part for part in (f"{self.title}.", self.note) if part))
        lines = [
            r"\begin{table}",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{{''.join('r' if a == 'r' else 'l' for a in self.align)}}}",
            r"\toprule",
            rf"{' & '.join(map(_latex, self.header))} \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
        return "\n".join(lines)

    def to_html(self) -> str:
        """A ``table`` element with a caption; every cell is escaped."""
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in self.header)
        body = "".join(
            "<tr>"
            + "".join(
                f'<td style="text-align:{"right" if a == "r" else "left"}">{html.escape(cell)}</td>'
                for cell, a in zip(row, self.align, strict=True)
            )
            + "</tr>"
            for row in self.rows
        )
        note = f"<p>{html.escape(self.note)}</p>" if self.note else ""
        caption = f"<caption>{html.escape(self.title)}</caption>"
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"


class Tabular(ABC):
    """What prints as tables: a class gives ``tables`` and ``records``, the rest follows."""

    __slots__ = ()

    @abstractmethod
    def tables(self) -> Sequence[Table]:
        """The tables that people see."""

    @abstractmethod
    def records(self) -> list[Record]:
        """One flat record per measured figure, for ``to_pandas``."""

    def __str__(self) -> str:
        """The tables, one below the other."""
        return "\n\n".join(map(str, self.tables()))

    def to_markdown(self) -> str:
        """The tables in Markdown."""
        return "\n\n".join(table.to_markdown() for table in self.tables())

    def to_csv(self) -> str:
        """The figures as comma-separated values, a row per figure, bounds in columns of their
        own.
        """
        rows = self.records()
        heads = list(dict.fromkeys(head for row in rows for head in row))
        written = io.StringIO()
        writer = csv.DictWriter(written, heads, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return written.getvalue()

    def to_latex(self) -> str:
        """The tables in LaTeX (``\\usepackage{booktabs}``)."""
        return "\n\n".join(table.to_latex() for table in self.tables())

    def _repr_html_(self) -> str:
        """The tables as a notebook shows them."""
        return "".join(table.to_html() for table in self.tables())

    def to_pandas(self) -> pd.DataFrame:
        """The figures as a data frame, a row per figure, numbers as numbers."""
        import pandas as pd

        return pd.DataFrame.from_records(self.records())


def _padded(cells: Sequence[str], widths: Sequence[int], align: str) -> str:
    padded = [
        cell.rjust(width) if a == "r" else cell.ljust(width)
        for cell, width, a in zip(cells, widths, align, strict=True)
    ]
    return "  ".join(padded).rstrip()


def _piped(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", r"\|") for cell in cells) + " |"


def _latex(text: str) -> str:
    return _LATEX.sub(lambda m: _LATEX_WORDS.get(m[0], rf"\{m[0]}"), text)
