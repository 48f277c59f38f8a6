"""The command line of a benchmark."""

from __future__ import annotations

import argparse
from pathlib import Path


def make_parser(
    doc: str | None, *, turns: int = 0, turns_flag: str = "--turns", can_print: bool = False
) -> argparse.ArgumentParser:
    """A parser whose help is the script's docstring, line for line.

    Args:
        doc: the docstring.
        turns: default of ``--turns``; 0 leaves the flag out.
        turns_flag: another name of it.
        can_print: add ``--print-only``.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if turns:
        parser.add_argument(
            turns_flag, type=int, default=turns, help=f"turns of each way; {turns} unless said"
        )
    if can_print:
        parser.add_argument("--print-only", action="store_true", help="write no report")
    return parser


def add_cell_options(parser: argparse.ArgumentParser, name: str, recipe: str) -> None:
    """Options of a script that measures some corpora and keeps a cell of each.

    Args:
        parser: gets them.
        name: of the script: of its cells and its report unless said.
        recipe: whose words come behind the options.
    """
    parser.add_argument("--corpus", nargs="+", required=True, help="beir:FOLDER ...")
    parser.add_argument("--teacher", default="builtin:mpnet", help="as teacher.source takes it")
    parser.add_argument("--folder", type=Path, required=True, help="keeps vectors and cells")
    parser.add_argument("--max-document-tokens", type=int, default=256, help="of the teacher")
    parser.add_argument("--label", default=name, help="of the cells, apart from other words")
    parser.add_argument("--name", default=name, help="of the report")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("words", nargs="*", metavar="key=value", help=f"of the recipe {recipe}")


def add_pool_options(parser: argparse.ArgumentParser, kept: str) -> None:
    """Options of a script that learns from kinds of texts and measures elsewhere.

    Args:
        parser: gets them.
        kept: what the folder keeps beside vectors.
    """
    parser.add_argument("--texts", action="append", required=True, metavar="NAME=URI")
    parser.add_argument("--out-of-domain", nargs="+", required=True, help="judged collections")
    parser.add_argument("--teacher", default="builtin:mpnet", help="as teacher.source takes it")
    parser.add_argument("--folder", type=Path, required=True, help=f"keeps vectors and {kept}")
    parser.add_argument("--recipe", default="own-data")
