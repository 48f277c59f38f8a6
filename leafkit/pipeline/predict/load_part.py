"""The texts of a prediction: all of a corpus, or of a large one as many as are looked at."""

from __future__ import annotations

from dataclasses import dataclass

from leafkit.core.artifact import fingerprint
from leafkit.core.console import log
from leafkit.data.sources import drawn_from, has_more_rows, read_part, source_fingerprint
from leafkit.pipeline.corpus import Corpus, load_corpus
from leafkit.pipeline.predict.settings import PredictSettings
from leafkit.pipeline.run import Run

MOST_DOCUMENTS = 50_000  # that are read, and whose vectors are looked at


@dataclass(frozen=True, slots=True)
class Part:
    """What was read of a corpus.

    Attributes:
        corpus: its documents, those that were drawn alone.
        num_documents: that there are; about so many, where rows were drawn.
        num_rows: that a part was drawn from; 0 where all were read.
    """

    corpus: Corpus
    num_documents: int
    num_rows: int = 0


def load_part(run: Run, settings: PredictSettings) -> Part:
    """The recipe's corpus. Of a file of more rows than are looked at, or a folder of BEIR's layout,
    so many are drawn by a hash of their content, the same ones in every run, without holding more.
    What is small enough is kept as every command keeps it.

    Raises:
        UsageError: the recipe names no corpus.
        LeafkitError: the source cannot be read; see ``leafkit.data.sources``.
    """
    data, most = run.recipe.data, max(MOST_DOCUMENTS, settings.texts)
    uri = data.corpus
    if not uri or not run.on_main(lambda: has_more_rows(uri, most)):
        corpus = load_corpus(run, uri)
        return Part(corpus, len(corpus.collection.documents))
    identity = fingerprint([run.on_main(lambda: source_fingerprint(uri, data)), most])
    corpus = run.share(
        f"{most} rows of {uri}", lambda: Corpus(read_part(uri, data, most), identity)
    )
    num_read, num_rows = len(corpus.collection.documents), drawn_from(corpus.collection.counts)
    # a row is no document: a pair brings several, or names one that another row has
    num_documents = round(num_read * num_rows / most)
    log(
        f"  {uri}: {most:,} of {num_rows:,} rows are read, drawn by a hash of their content, the "
        f"same ones each time: {num_read:,} of about {num_documents:,} documents"
    )
    return Part(corpus, num_documents, num_rows)
