"""``leafkit rescue``: a query encoder for an index whose model is gone."""

from __future__ import annotations

from collections.abc import Sequence

from leafkit.cli.recipe_words import read_recipe
from leafkit.core.addresses.store import shown_of
from leafkit.core.checkpoint_layout import (
    CARD_FILE,
    CERTIFICATE,
    CERTIFICATE_PAGE_FILE,
    REPORT,
    STUDENT,
)
from leafkit.core.console import console, log
from leafkit.core.errors import UsageError

DEFAULT_RECIPE = "rescue"
COLUMNS = ("text", "title", "id", "vector", "similarity")


def run(words: Sequence[str]) -> int:
    """Fetch the pairs, distill the student, measure it; certificate and report are in the recipe's
    folder.
    """
    source_word, columns, rest = split_words(words)
    similarity = columns.pop("similarity", "")
    recipe = read_recipe("rescue", rest)
    from leafkit.cli.unchanged import SEARCH_HINT
    from leafkit.cli.write_report import check_places, write_report
    from leafkit.core.own_files import write_own
    from leafkit.embedders.pairs.columns import PairColumns
    from leafkit.pipeline.collect import collect_report
    from leafkit.pipeline.rescue.pairs import check_pair_file, read_pair_source
    from leafkit.pipeline.rescue.rescue import run_rescue
    from leafkit.pipeline.run import open_run
    from leafkit.report.card import render_card

    source = read_pair_source(source_word, PairColumns(**columns), similarity)
    check_pair_file(source)
    with open_run(recipe) as opened:
        opened.on_main(lambda: check_places(opened.folder, REPORT, has_card=True))
        finished, certificate = run_rescue(opened, source)
        report = collect_report(finished, " ".join(["leafkit rescue", *words]))
        if finished.is_main:
            for card in (finished.folder / CARD_FILE, finished.folder / STUDENT / CARD_FILE):
                write_own(card, render_card(report))
            write_report(finished.folder, REPORT, report)
            if certificate is not None:
                console.print(str(certificate), markup=False)
                log(f"certificate: {finished.folder / CERTIFICATE / CERTIFICATE_PAGE_FILE}")
            log(SEARCH_HINT.format(folder=finished.folder))
    return 0


def split_words(words: Sequence[str]) -> tuple[str, dict[str, str], list[str]]:
    """The source, the names of its columns with ``similarity=``, and the words of the recipe, which
    is ``rescue`` where none is named.

    >>> split_words(["parquet:old.parquet", "text=body", "name=mine"])
    ('parquet:old.parquet', {'text': 'body'}, ['name=mine', 'recipe=rescue'])

    Raises:
        UsageError: no source or several are named, a column comes twice or is empty.
    """
    # a path may hold a =
    sources = [w for w in words if w.partition(":")[0] in ("vectors", "parquet", "qdrant")]
    columns: dict[str, str] = {}
    rest: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if word in sources:
            continue
        if equals and key in COLUMNS:
            if not value or key in columns:
                raise UsageError(
                    f"{key}= {'comes twice' if key in columns else 'names nothing'}",
                    "similarity=cosine or similarity=dot"
                    if key == "similarity"
                    else f"{key}=NAME, of a column or a payload's key",
                )
            columns[key] = value
        elif not equals:
            raise UsageError(
                f"{shown_of(word)!r} names no texts with vectors",
                "vectors:FOLDER, parquet:FILE or qdrant:URL/COLLECTION",
            )
        else:
            rest.append(word)
    if len(sources) != 1:
        raise UsageError(
            "name one index to rescue",
            "leafkit rescue vectors:FOLDER, parquet:FILE or qdrant:URL/COLLECTION",
        )
    if not any(word.startswith("recipe=") for word in rest):
        rest.append(f"recipe={DEFAULT_RECIPE}")
    return sources[0], columns, rest
