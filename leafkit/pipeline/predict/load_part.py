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
        num_rows: that the corpus has; its documents, where all were read.
    """

    corpus: Corpus
    num_rows: int

    @property
    def is_drawn(self) -> bool:
        """Whether there are more rows than were read."""
        return self.num_rows > len(self.corpus.collection.documents)


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
    num_rows = drawn_from(corpus.collection.counts)
    log(
        f"  {uri}: {most:,} of {num_rows:,} rows are read, drawn by a hash of their content, the "
        f"same ones each time: {len(corpus.collection.documents):,} documents"
    )
    return Part(corpus, num_rows)
