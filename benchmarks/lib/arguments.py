"""The command line of a benchmark."""

from __future__ import annotations

import argparse


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
