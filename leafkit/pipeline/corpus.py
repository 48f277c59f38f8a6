"""Collections as artifacts, and the texts that training draws from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

from leafkit.core.artifact import fingerprint
from leafkit.core.checkpoint_layout import CORPORA_FOLDER
from leafkit.core.console import log
from leafkit.core.errors import UsageError
from leafkit.core.method import method_of
from leafkit.data.augment import as_question, make_pseudo_texts
from leafkit.data.records import FORMAT, Collection
from leafkit.data.sources import OrderTexts, read_collection, source_fingerprint
from leafkit.embedders.make_embedder import make_embedder
from leafkit.evaluation.leverage import order_by_leverage
from leafkit.models.checkpoint import load_encoder
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.embed import load_vectors
from leafkit.pipeline.run import Run, folder_name
from leafkit.results import CorpusFacts

MIN_WORD_LENGTH = 4  # of vocabulary words in pseudo-texts; shorter pieces are rarely words


@dataclass(frozen=True, slots=True)
class CorpusInputs:
    """What decides about a collection that is kept."""

    uri: str
    source: str  # fingerprint of its content
    limit: int
    split: str  # of pairs that state none
    format: int


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Corpus:
    """A collection and the fingerprint of the artifact it was read from."""

    collection: Collection
    fingerprint: str

    def about(self) -> CorpusFacts:
        """What the report says of it."""
        splits = [q.split for q in self.collection.queries]
        return CorpusFacts(
            name=self.collection.name,
            num_documents=len(self.collection.documents),
            queries={split: splits.count(split) for split in sorted(set(splits))},
            counts=self.collection.counts,
        )


def load_corpus(run: Run, uri: str, limit: int = 0, default_split: str = "") -> Corpus:
    """The collection a source names, read once and kept as an artifact while the source does not
    change.

    Args:
        run: this run.
        uri: of the source.
        limit: rows read of a jsonl or hf source; 0 reads all.
        default_split: of pairs that state none; "" lets a hash of the query decide.

    Raises:
        UsageError: ``uri`` is empty.
        LeafkitError: the source cannot be read; see ``leafkit.data.sources``.
    """
    if not uri:
        raise UsageError(
            f"recipe {run.recipe.name} names no corpus",
            "data.corpus=beir:FOLDER or jsonl:FILE, your own documents; data.corpus=builtin:pydocs "
            "is this machine's Python documentation",
        )
    data = run.recipe.data
    source = run.on_main(lambda: source_fingerprint(uri, data))
    folder = (
        run.root
        / CORPORA_FOLDER
        / f"{folder_name(uri)}-{fingerprint([source, limit, default_split])[:8]}"
    )
    inputs = CorpusInputs(
        uri=uri,
        source=source,
        limit=limit,
        split=default_split,
        format=FORMAT,
    )
    return run.share(f"corpus {folder} {uri}", lambda: _load(run, folder, inputs))


def _load(run: Run, folder: Path, inputs: CorpusInputs) -> Corpus:
    data, uri = run.recipe.data, inputs.uri

    def work(metrics: dict[str, Any]) -> Collection:
        collection = read_collection(uri, data, inputs.limit, inputs.split)
        metrics.update(
            documents=len(collection.documents),
            queries=len(collection.queries),
            counts=collection.counts,
        )
        return collection

    def save(collection: Collection, draft: Path) -> None:
        collection.save(draft)

    manifest = run.step(
        name=f"corpus {folder_name(uri)}",
        folder=folder,
        inputs=inputs,
        method=method_of(read_collection, Collection),
        work=work,
        save=save,
    )
    corpus = Corpus(Collection.load(folder), manifest.fingerprint())
    if run.steps[-1]["status"] == "done":
        about = corpus.about()
        log(f"  {about.num_documents:,} documents, queries {dict(about.queries)}")
        for what, count in about.counts.items():
            log(f"  {what}: {count:,}", style="dim")
    return corpus


def vary_queries(queries: Sequence[str], question_ratio: float, seed: int) -> list[str]:
    """The queries, a share of them turned into questions, so that training knows both forms."""
    return [
        (as_question(q, seed) or q)
        if ceil((i + 1) * question_ratio) > ceil(i * question_ratio)
        else q
        for i, q in enumerate(queries)
    ]


def pseudo_texts(encoder: TextEncoder, count: int, seed: int) -> list[str]:
    """Pseudo-texts from the encoder's vocabulary; see ``make_pseudo_texts``."""
    words = sorted(
        w
        for w in encoder.tokenizer.get_vocab()
        if w.isascii() and w.isalpha() and len(w) >= MIN_WORD_LENGTH
    )
    return make_pseudo_texts(words, count, seed)


def order_by_start(run: Run) -> OrderTexts:
    """Texts by their leverage on what the student's start model makes of them: see
    ``order_by_leverage``.

    The start model reads every text, once: its vectors are kept as a teacher's are. Nothing but the
    texts and the start model decides, and one process decides for all.

    Args:
        run: whose recipe names the start model and cuts the texts.
    """

    def order(texts: Sequence[str], role: str, limit: int) -> list[int]:
        if not texts:
            return []
        init, data = run.recipe.student.init, run.recipe.data
        model = make_embedder(_unnormalized(load_encoder(init)), run.device, run.precision)
        states = load_vectors(
            run,
            model,
            folder_name(init),
            texts,
            role=role,
            max_tokens=data.max_document_tokens if role == "document" else data.max_query_tokens,
            what=f"{role} texts to choose from",
        )
        return run.on_main(lambda: order_by_leverage(states, limit))

    return order


def _unnormalized(encoder: TextEncoder) -> TextEncoder:
    """The same model, which shares its weights, under an identity of its own."""
    return TextEncoder(
        encoder.backbone,
        encoder.tokenizer,
        replace(encoder.spec, normalized=False),
        encoder.projection,
        **encoder.beside,
        fingerprint=f"{encoder.fingerprint}-unnormalized",
    )
