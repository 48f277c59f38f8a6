"""What a benchmark of students is measured on: texts with the teacher's vectors, made once and kept
in the recipe's checkpoints folder, and judged queries that train nothing.

Shapes: Q judged queries, N documents, D dimensions.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from leafkit.config import Recipe
from leafkit.config.load import load_recipe
from leafkit.core.artifact import fingerprint
from leafkit.core.errors import UsageError
from leafkit.data.records import Collection, same_text
from leafkit.data.sources import read_collection
from leafkit.embedders.precomputed import PrecomputedVectors
from leafkit.embedders.prompted import prompted_queries
from leafkit.evaluation.metrics import Judgments, fast_ndcg
from leafkit.index.exact import search_exact
from leafkit.index.ranking import exclude_self
from leafkit.index.vectors import Vectors
from leafkit.models.checkpoint import load_encoder
from leafkit.pipeline.corpus import load_corpus, order_by_start
from leafkit.pipeline.embed import load_query_vectors, load_vectors
from leafkit.pipeline.model_handle import ModelHandle, load_teacher
from leafkit.pipeline.run import Run, folder_name
from leafkit.pipeline.student.leave_out import leave_out
from leafkit.pipeline.student.targets import Target, TokenLimits, embed_groups
from leafkit.pipeline.student.text_groups import choose_texts

DEPTH = 10  # of nDCG


@dataclass(frozen=True)
class Judged:
    """A collection that is measured on.

    Attributes:
        collection: its documents, queries and judgments.
        split: whose queries.
        limits: where its texts are cut.
        asked: the queries as text, those under instructions of their own with their prompts.
        role: that they are embedded in.
        queries: (Q, D) of the teacher.
        documents: (N, D) of the teacher.
    """

    collection: Collection
    split: str
    limits: TokenLimits
    asked: list[str]
    role: str
    queries: np.ndarray
    documents: Vectors

    @cached_property
    def judgments(self) -> Judgments:
        """Of the queries over the documents."""
        asked = [query.id for query in self.collection.judged(self.split)]
        ids = [document.id for document in self.collection.documents]
        return Judgments(asked, ids, self.collection.qrels)

    @cached_property
    def own(self) -> np.ndarray:
        """(Q,) position of the document that a query may not find, itself, or -1."""
        return np.array(self.collection.own_documents(self.split, "auto"), dtype=np.int64)

    @property
    def texts(self) -> list[str]:
        """The documents as text."""
        return [document.full_text for document in self.collection.documents]

    def ndcg(self, queries: np.ndarray, documents: Vectors | None = None) -> np.ndarray:
        """(Q,) nDCG@10 of query vectors over document vectors, the teacher's unless given."""
        found = self.documents if documents is None else documents
        depth = DEPTH + bool((self.own >= 0).any())
        ranking = search_exact(queries, found, depth, self.judgments.ties)
        return fast_ndcg(exclude_self(ranking, self.own, DEPTH), self.judgments)


@dataclass(frozen=True)
class Case:
    """What students are trained on, and the collection that is theirs.

    Attributes:
        run: device, precision, recipe and the folder of the teacher's vectors.
        teacher: of all students.
        targets: the texts of every student with the teacher's vectors; none asks what a judged
            query of a measured collection asks.
        home: the collection that is indexed.
        away: other collections that are measured on.
    """

    run: Run
    teacher: ModelHandle
    targets: Sequence[Target]
    home: Judged
    away: Sequence[Judged]

    @property
    def measured(self) -> list[Judged]:
        """All collections with judged queries, the indexed one first."""
        return [one for one in (self.home, *self.away) if one.asked]

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Text and role of everything that trains, prompts before the texts, as often as leafkit
        sees it in a pass.
        """
        return [
            (self.teacher.model.prompt(target.role) + text, target.role)
            for target in self.targets
            for _ in range(target.repeats)
            for text in target.texts
        ]

    def vectors(self) -> np.ndarray:
        """(rows, D) float32 of the teacher, in the order of ``rows``."""
        return np.concatenate(
            [
                np.asarray(target.vectors[: len(target.texts)], dtype=np.float32)
                for target in self.targets
                for _ in range(target.repeats)
            ]
        )

    def about(self) -> dict[str, Any]:
        """What it is, for reports, and what identifies it."""
        home = self.home
        return {
            "teacher": self.teacher.name,
            "start": folder_name(self.run.recipe.student.init),
            "precision": str(self.run.precision).removeprefix("torch."),
            "texts": [[target.name, len(target.texts)] for target in self.targets],
            "limits": [home.limits.query, home.limits.document],
            "collections": [
                [one.collection.name, len(one.texts), len(one.asked)] for one in self.measured
            ],
            "fingerprint": fingerprint(
                [
                    self.teacher.model.fingerprint,
                    [one.collection.fingerprint() for one in self.measured],
                ]
            ),
        }


def add_case_options(parser: argparse.ArgumentParser, recipe: str) -> None:
    """Options that say what is measured on; further words are the recipe's."""
    parser.add_argument("--corpus", required=True, help="beir:FOLDER, builtin:pydocs, jsonl:FILE")
    parser.add_argument("--teacher", default="builtin:mpnet", help="as teacher.source takes it")
    parser.add_argument(
        "--folder", type=Path, required=True, help="keeps vectors and finished work"
    )
    parser.add_argument("--recipe", default=recipe)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("words", nargs="*", metavar="key=value", help="of the recipe")


def case_words(options: argparse.Namespace, defaults: Sequence[str] = ()) -> list[str]:
    """The words that load the case's recipe: defaults give way to what the user says."""
    said = {word.partition("=")[0] for word in options.words}
    return [
        f"data.corpus={options.corpus}",
        f"teacher.source={options.teacher}",
        f"checkpoints={options.folder}",
        *(word for word in defaults if word.partition("=")[0] not in said),
        *options.words,
    ]


def read_case_recipe(name: str, words: Sequence[str]) -> Recipe:
    """The recipe; the last of two words of one key counts.

    Raises:
        SystemExit: no such recipe, or a key or value is wrong.
    """
    last = {word.partition("=")[0]: word for word in words}
    try:
        return load_recipe(name, list(last.values()))
    except UsageError as err:
        sys.exit(f"{err}\n{err.hint}")


def load_case(run: Run, away: Sequence[str] = (), *, is_home_judged: bool = True) -> Case:
    """Texts and vectors; what the folder lacks, the teacher embeds now.

    Args:
        run: of the case's recipe.
        away: other collections to measure on.
        is_home_judged: the indexed collection has judged queries; else it trains alone.

    Raises:
        SystemExit: a collection has no judged query.
    """
    recipe = run.recipe
    teacher = load_teacher(run)
    limits = TokenLimits(recipe.data.max_query_tokens, recipe.data.max_document_tokens)
    home = _judged(run, teacher, recipe.data.corpus, limits, may_lack=not is_home_judged)
    others = replace(limits, document=recipe.bench.max_document_tokens)
    further = [_judged(run, teacher, uri, others) for uri in away]
    asked = {
        same_text(query.text)
        for one in (home, *further)
        for query in (one.collection.judged(one.split) if one.asked else ())
    }
    is_precomputed = isinstance(teacher.model, PrecomputedVectors)
    vocabulary = None if is_precomputed else teacher.encoder or load_encoder(recipe.student.init)
    groups = choose_texts(
        home.collection,
        teacher,
        recipe.student,
        recipe.data,
        seed=recipe.seed,
        vocabulary=vocabulary,
        sources={
            name: read_collection(source.uri, recipe.data)
            for name, source in recipe.data.sources.items()
        },
        measured=[one.collection for one in further],
        order=order_by_start(run),
    )

    def embed(texts: Sequence[str], role: str, max_tokens: int, what: str) -> Vectors:
        return load_vectors(
            run,
            teacher.model,
            teacher.name,
            texts,
            role=role,
            max_tokens=max_tokens,
            what=what,
        )

    targets = embed_groups(groups, limits, embed)
    # documents are left: a student is measured as one that never read a judged query
    same = frozenset(text for t in targets for text in t.texts if same_text(text) in asked)
    return Case(
        run=run,
        teacher=teacher,
        targets=leave_out(targets, same),
        home=home,
        away=further,
    )


def _judged(
    run: Run, teacher: ModelHandle, uri: str, limits: TokenLimits, *, may_lack: bool = False
) -> Judged:
    collection, split = load_corpus(run, uri).collection, run.recipe.bench.split
    queries = [] if may_lack else collection.judged(split)
    if not queries and not may_lack:
        sys.exit(f"{uri} has no judged query of the split {split}: there is nothing to measure")
    documents = load_vectors(
        run,
        teacher.model,
        teacher.name,
        [document.full_text for document in collection.documents],
        role="document",
        max_tokens=limits.document,
        what=f"{collection.name} documents",
    )
    if not queries:
        none = np.empty((0, teacher.model.dim), dtype=np.float32)
        return Judged(collection, split, limits, [], "query", none, documents)
    asked = load_query_vectors(
        run,
        teacher.model,
        teacher.name,
        queries,
        max_tokens=limits.query,
        what=f"{collection.name} {split} queries",
    )
    texts, role = prompted_queries(teacher.model, queries)
    vectors = np.asarray(asked[:], dtype=np.float32)
    return Judged(collection, split, limits, texts, role, vectors, documents)


def describe_case(about: Mapping[str, Any]) -> str:
    """The case in sentences."""
    texts = ", ".join(f"{count:,} {name}" for name, count in about["texts"])
    measured = ", ".join(
        f"{name} ({count:,} documents, {asked:,} judged queries)"
        for name, count, asked in about["collections"]
    )
    cuts = " and ".join(str(limit) if limit else "the model's own" for limit in about["limits"])
    return (
        f"Teacher {about['teacher']}, start {about['start']}, {about['precision']}. Trained on "
        f"{texts}; no text trains that is a judged query too. Queries and documents are cut at "
        f"{cuts} tokens. Measured on {measured}."
    )
