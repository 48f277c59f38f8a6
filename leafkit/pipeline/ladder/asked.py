"""What a ladder is measured on, and what its router learns from.

Shapes: Q queries, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from leafkit.core.console import log
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.data.records import Collection, Query, same_text
from leafkit.data.vector_store import hash_texts
from leafkit.embedders.prompted import has_own_prompt, prompt_with
from leafkit.embedders.protocol import Embedder
from leafkit.evaluation.metrics import Judgments
from leafkit.index.ranking import exclude_self
from leafkit.pipeline.corpus import Corpus
from leafkit.pipeline.embed import load_vectors
from leafkit.pipeline.ladder.measure import asked_for
from leafkit.pipeline.ladder.visits import search
from leafkit.pipeline.model_handle import ModelHandle
from leafkit.pipeline.pair import Pair
from leafkit.pipeline.run import Run
from leafkit.pipeline.student.leave_out import leave_out
from leafkit.pipeline.student.targets import Target, hash_contents, read_targets
from leafkit.pipeline.student.text_groups import MADE_QUERIES, QUERIES
from leafkit.pipeline.student.unjudged_test_set import (
    DOCUMENTS,
    HeldOut,
    choose_held_out,
    unseen_texts,
)
from leafkit.results.agreement import HELD_OUT, SEEN
from leafkit.results.ladder import JUDGED, TEACHERS_OWN

FEWEST = 30  # queries of which an interval is worth computing
_DEPTH = 10  # of nDCG
_FEWEST_LEARNED, _MOST_LEARNED = 200, 1000
_TYPICAL_COPIES = 3  # of a query that loses as much as the teacher finds on average


@dataclass(frozen=True, slots=True)
class Questions:
    """Queries with the teacher's vectors and what is relevant for them.

    Attributes:
        queries: Q of them.
        vectors: (Q, D) of the teacher.
        own: (Q,) position of the document that a query may not find, -1 for none.
        judgments: what is relevant.
        relevance: ``JUDGED`` or ``TEACHERS_OWN``.
        asked_with: what they are.
        training: whether the student has seen them: ``HELD_OUT`` or ``SEEN``.
        are_documents: they are documents asked as queries, which are longer than queries are.
    """

    queries: Sequence[Query]
    vectors: np.ndarray
    own: np.ndarray
    judgments: Judgments
    relevance: str
    asked_with: str
    training: str
    are_documents: bool = False

    @property
    def texts(self) -> list[str]:
        """The queries without prompts."""
        return [query.text for query in self.queries]

    def embed(self, model: Embedder, max_tokens: int) -> np.ndarray:
        """(Q, D) vectors of the queries as they are served: under the model's usual prompt.

        Args:
            model: that embeds.
            max_tokens: cut of the queries; 0 takes the model's own limit.
        """
        return model.embed(self.texts, "query", max_tokens or model.max_tokens)


def load_questions(
    run: Run,
    pair: Pair,
    teacher: ModelHandle,
    corpus: Corpus,
    *,
    targets: Sequence[Target],
    trained: Sequence[str],
    has_others: bool,
) -> Questions:
    """The judged queries of bench.split that the student has not seen; where there are none,
    queries that train nothing, or documents asked as queries, with the teacher's own ten nearest
    documents as the relevant ones.

    Args:
        run: of the recipe.
        pair: whose documents are searched.
        teacher: embeds new queries.
        corpus: that is indexed.
        targets: everything that the recipe's words lead a student to learn from.
        trained: hashes of the texts that the finished student did learn from, by target.
        has_others: the router has other queries to learn from.

    Raises:
        LeafkitError: there are fewer than ``FEWEST``.
        UsageError: they are those that train the student, or it was trained by other words.
    """
    collection, split = corpus.collection, run.recipe.bench.split
    if split == "train":
        raise UsageError(
            "bench.split=train: these queries train the student and the rungs, so that what they "
            "keep says nothing of queries that nobody has seen",
            "bench.split=test, or another split that trains nothing",
        )
    judged = collection.judged(split)
    held_out = choose_held_out(collection, split, teacher)
    count = len(judged) or len(held_out.texts if held_out else ())
    if count < FEWEST:
        promise = min(run.recipe.ladder.promises)
        raise LeafkitError(
            f"{collection.name} has {count} {'judged ' if judged else ''}{split} queries, and a "
            f"ladder takes {FEWEST} at least, to calibrate it and to verify it",
            f"a promise of {promise:.0%} takes {queries_to_promise(promise, has_others):,} at "
            "least, more where the teacher finds less or some lose much; bench.split=NAME names "
            "another split",
        )
    # as many texts may be others: drawn by another seed, or out of other sources
    if hash_contents(leave_out(targets, unseen_texts(held_out))) != list(trained):
        raise UsageError(
            "the student learned from other texts than those that these words lead to: which "
            "queries it has not seen cannot be told",
            "the words that finished the recipe, seed, bench.split and those of data among them",
        )
    if judged:
        return _judged_questions(run, teacher, collection, judged, targets=targets)
    assert held_out is not None
    return _unjudged_questions(run, pair, teacher, collection, held_out=held_out)


def _judged_questions(
    run: Run,
    teacher: ModelHandle,
    collection: Collection,
    judged: Sequence[Query],
    *,
    targets: Sequence[Target],
) -> Questions:
    split, data = run.recipe.bench.split, run.recipe.data
    own = np.array(collection.own_documents(split, data.exclude_self), dtype=np.int64)
    # rewritten as questions they are not among the targets as they were
    is_rewritten = run.recipe.student.question_ratio > 0
    rewritten = [q.text for q in collection.queries if is_rewritten and q.split == "train"]
    places = find_unseen(judged, targets, teacher.model, also=rewritten)
    num_seen, training = len(judged) - len(places), HELD_OUT
    if len(places) < FEWEST:
        places, training = list(range(len(judged))), SEEN
        _warn_seen(f"judged {split} queries, of which {num_seen:,} of {len(judged):,}")
    elif num_seen:
        log(
            f"  {num_seen:,} of {len(judged):,} judged {split} queries are among the texts that "
            "the student learned from, and calibrate nothing"
        )
    told = sum(has_own_prompt(teacher.model, judged[i]) for i in places)
    if told:
        log(
            f"  {told:,} of {len(places):,} queries have an instruction of their own, which a "
            "served query has not: they are asked under the usual prompt",
            style="yellow",
        )
    queries = [replace(judged[i], instruction="") for i in places]
    documents = [document.id for document in collection.documents]
    return Questions(
        queries=queries,
        vectors=_embed(run, teacher, queries, f"{collection.name} {split} queries"),
        own=own[places],
        judgments=Judgments([query.id for query in queries], documents, collection.qrels),
        relevance=JUDGED,
        asked_with=f"judged {split} queries",
        training=training,
    )


def _embed(run: Run, teacher: ModelHandle, queries: Sequence[Query], what: str) -> np.ndarray:
    """(Q, D) float32 the teacher's vectors, out of a store."""
    vectors = load_vectors(
        run,
        teacher.model,
        teacher.name,
        [query.text for query in queries],
        role="query",
        max_tokens=run.recipe.data.max_query_tokens,
        what=what,
    )
    return np.asarray(vectors[:], dtype=np.float32)


def find_unseen(
    queries: Sequence[Query],
    targets: Sequence[Target],
    teacher: Embedder,
    also: Sequence[str] = (),
) -> list[int]:
    """Positions of the queries whose text, apart from case and spaces, trains in no role.

    Args:
        queries: to look for.
        targets: everything that the student learned from.
        teacher: before whose queries the texts of some targets have prompts already.
        also: other texts that the student learned from, in another form.
    """
    forms = [
        {same_text(text) for text in (q.text, prompt_with(teacher, q.instruction) + q.text)}
        for q in queries
    ]
    asked = set().union(*forms)
    texts = chain(also, *(target.texts for target in targets))
    trained = {same for text in texts if (same := same_text(text)) in asked}
    return [i for i, both in enumerate(forms) if not both & trained]


def _unjudged_questions(
    run: Run, pair: Pair, teacher: ModelHandle, collection: Collection, *, held_out: HeldOut
) -> Questions:
    if held_out.training == SEEN:
        _warn_seen(f"{held_out.asked_with}, which")
    queries = [Query(str(i), text) for i, text in enumerate(held_out.texts)]
    found = _embed(run, teacher, queries, f"{collection.name} {held_out.asked_with}")
    own = np.array(held_out.own, dtype=np.int64)
    return Questions(
        queries=queries,
        vectors=found,
        own=own,
        judgments=teachers_own(pair, found, own),
        relevance=TEACHERS_OWN,
        asked_with=held_out.asked_with,
        training=held_out.training,
        are_documents=held_out.asked_with == DOCUMENTS,
    )


def _warn_seen(what: str) -> None:
    log(
        f"the router is calibrated on {what} the student has seen in training: a promise says "
        "nothing of other queries, and leafkit serve refuses it without unverified=true",
        style="yellow",
    )


def teachers_own(pair: Pair, vectors: np.ndarray, own: np.ndarray) -> Judgments:
    """The ten documents nearest to (Q, D) vectors of the teacher, as the relevant ones; of equal
    grade, for the router is to find them, in any order.
    """
    ranking = exclude_self(search(pair, vectors, _DEPTH + int((own >= 0).any())), own, _DEPTH)
    names = [document.id for document in pair.documents]
    qrels = {
        str(row): {names[place]: 1 for place in places if place >= 0}
        for row, places in enumerate(ranking.positions.tolist())
    }
    return Judgments(list(qrels), names, qrels)


def queries_to_promise(promise: float, has_others: bool) -> int:
    """Queries to ask for a promise at least, where nothing is lost and the teacher finds
    everything: the unseen query is counted three times, and loses all.

    Args:
        promise: share of the teacher's nDCG@10.
        has_others: the router has other queries to learn from.

    >>> queries_to_promise(0.95, True), queries_to_promise(0.95, False)
    (120, 148)
    """
    needed = math.ceil(round(_TYPICAL_COPIES / (1 - promise), 6))
    return asked_for(needed, has_others=has_others)


@dataclass(frozen=True, slots=True)
class Split:
    """What trains rungs, and what the router learns from.

    Attributes:
        targets: of the rungs.
        queries: (n,) texts that train no rung of the ladder; none where there are too few.
        vectors: (n, D) the teacher's.
    """

    targets: list[Target]
    queries: list[str]
    vectors: np.ndarray


def learning_questions(pair: Pair, split: Split) -> Questions:
    """The queries that the router learns from, with the teacher's own documents as relevant."""
    own = np.full(len(split.queries), -1, dtype=np.int64)
    return Questions(
        queries=[Query(str(i), text) for i, text in enumerate(split.queries)],
        vectors=split.vectors,
        own=own,
        judgments=teachers_own(pair, split.vectors, own),
        relevance=TEACHERS_OWN,
        asked_with="queries that train no rung below the student",
        training=SEEN,
    )


def _as_queries(target: Target) -> Target:
    """Queries made of documents count as queries where the teacher gave their vectors: a rung
    answers nothing else, and what they find decides about its head.
    """
    is_made = target.origin == MADE_QUERIES and not target.sources
    return replace(target, origin=QUERIES) if is_made else target


def split_targets(
    targets: Sequence[Target], collection: Collection, split: str, teacher: ModelHandle
) -> Split:
    """Set some queries aside whose vectors the teacher gave: train queries and queries made of
    documents, the ones of the lowest hashes, none that is asked in the measurement.

    Args:
        targets: everything that the student learned from.
        collection: that is indexed.
        split: whose judged queries measure.
        teacher: of the student.
    """
    held_out = choose_held_out(collection, split, teacher)
    asked = {same_text(query.text) for query in collection.judged(split)}
    asked |= {same_text(text) for text in (held_out.texts if held_out else ())}
    rows: dict[str, tuple[int, int]] = {}
    for g, target in enumerate(targets):
        if target.role == "query" and target.origin in (QUERIES, MADE_QUERIES):
            if target.sources:  # the vectors are those of documents
                continue
            for i, text in enumerate(target.texts):
                if same_text(text) not in asked:
                    rows.setdefault(text, (g, i))
    texts = list(rows)
    number = min(_MOST_LEARNED, len(texts) // 2)
    kept = [_as_queries(target) for target in leave_out(targets, unseen_texts(held_out))]
    if number < _FEWEST_LEARNED:
        none = np.empty((0, teacher.model.dim), dtype=np.float32)
        return Split(kept, [], none)
    order = np.argsort(hash_texts(texts), kind="stable")[:number]
    chosen = [texts[i] for i in order.tolist()]
    vectors = read_targets(targets, [rows[text] for text in chosen])
    return Split(leave_out(kept, frozenset(chosen)), chosen, vectors)
