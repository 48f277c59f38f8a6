"""Which collections a benchmark measures on."""

from __future__ import annotations

from dataclasses import dataclass

from leafkit.core.console import log
from leafkit.core.errors import UsageError
from leafkit.data.records import Collection
from leafkit.evaluation.benchmark import check_judged
from leafkit.pipeline.corpus import Corpus, load_corpus
from leafkit.pipeline.run import Run
from leafkit.results.retrieval import IN_DOMAIN, OUT_OF_DOMAIN


@dataclass(frozen=True, slots=True)
class BenchCorpus:
    """A collection that is measured on.

    Attributes:
        corpus: its artifact.
        kind: "in-domain" or "out-of-domain".
        max_document_tokens: its documents are cut here.
    """

    corpus: Corpus
    kind: str
    max_document_tokens: int

    @property
    def collection(self) -> Collection:
        """Its documents, queries and judgments."""
        return self.corpus.collection


def choose_corpora(run: Run) -> list[BenchCorpus]:
    """The recipe's corpus, where it has judged queries, and the collections beside it.

    Raises:
        LeafkitError: one of the latter has no judged query.
        UsageError: two have one name.
    """
    config, data = run.recipe.bench, run.recipe.data
    corpora: list[BenchCorpus] = []
    if data.corpus:
        corpus = load_corpus(run, data.corpus)
        if corpus.collection.judged(config.split):
            corpora.append(BenchCorpus(corpus, IN_DOMAIN, data.max_document_tokens))
        else:
            log(
                f"  {corpus.collection.name} has no judged {config.split} query: the student is "
                f"measured by its agreement with the teacher alone"
            )
    for uri in config.collections:
        corpus = load_corpus(run, uri)
        check_judged(corpus.collection, config.split)
        corpora.append(BenchCorpus(corpus, OUT_OF_DOMAIN, config.max_document_tokens))
    names = [chosen.collection.name for chosen in corpora]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise UsageError(
            f"bench.collections: two collections are called {twice[0]!r}, and their figures "
            f"could not be told apart",
            "rename one's file or folder, or leave it out",
        )
    return corpora
