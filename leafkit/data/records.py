"""Rows: documents, queries and judgments, and the collection they form."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from leafkit.config import OWN_DOCUMENT_POLICIES
from leafkit.core.artifact import fingerprint
from leafkit.core.checkpoint_layout import (
    COLLECTION_FILE,
    DOCUMENTS_FILE,
    JUDGMENTS_FILE,
    NEGATIVES_FILE,
    QUERIES_FILE,
)
from leafkit.core.errors import LeafkitError

FORMAT = 2  # of a saved collection; 2 brought negatives.jsonl
SPLITS = ("train", "validation", "test")
TEST_SHARE, VALIDATION_SHARE = 0.10, 0.03

_REMAKE = "delete that folder and run the command again"


@dataclass(frozen=True, slots=True)
class Document:
    """A text that is retrieved."""

    id: str
    text: str
    title: str = ""

    @property
    def full_text(self) -> str:
        """Title and text with a space between, as BEIR's evaluations join them."""
        return f"{self.title} {self.text}".strip()


@dataclass(frozen=True, slots=True)
class Query:
    """A text that asks. ``split`` says whether it trains, validates or tests; ``instruction`` and
    ``task`` are its own, where it has them.
    """

    id: str
    text: str
    split: str = "test"
    instruction: str = ""
    task: str = ""


@dataclass(slots=True)
class Collection:
    """Documents, queries and judgments: ``qrels[query id][document id]`` is the grade, 0 for not
    relevant.

    ``negatives[query id]`` are documents known not to answer it; ``soft[query id][document id]``
    are graded scores that the rows brought with them. ``counts`` says what reading it found and
    dropped, in words.
    """

    name: str
    documents: list[Document]
    queries: list[Query] = field(default_factory=list)
    qrels: dict[str, dict[str, int]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    negatives: dict[str, list[str]] = field(default_factory=dict)
    soft: dict[str, dict[str, float]] = field(default_factory=dict)

    def judged(self, split: str) -> list[Query]:
        """Queries of a split that have judgments; none where no judgment of the split is positive.

        As in BEIR's and mteb's evaluation, one without a relevant document counts, with 0.
        """
        judged = [q for q in self.queries if q.split == split and self.qrels.get(q.id)]
        is_any = any(grade > 0 for q in judged for grade in self.qrels[q.id].values())
        return judged if is_any else []

    def judged_texts(self) -> set[str]:
        """Queries with judgments that no split trains on, as ``same_text`` gives them: what a model
        is measured by, or may be.
        """
        asked = (query for query in self.queries if query.split != "train")
        return {same_text(query.text) for query in asked if self.qrels.get(query.id)}

    def pairs(self, split: str) -> list[tuple[Query, list[int]]]:
        """Queries of a split with the positions of their relevant documents, those that have any
        among the documents.
        """
        position = {document.id: i for i, document in enumerate(self.documents)}
        found = (
            (
                query,
                [
                    position[d]
                    for d, grade in self.qrels[query.id].items()
                    if grade > 0 and d in position
                ],
            )
            for query in self.judged(split)
        )
        return [(query, positions) for query, positions in found if positions]

    def own_documents(self, split: str, policy: str) -> list[int]:
        """For each judged query of a split the position of the document that has its id and is
        not to be retrieved, else -1.

        In collections such as ArguAna and Quora a query is one of the documents and would find
        itself first. In others (Cranfield) queries and documents are both numbered 1, 2, 3, and a
        common number means nothing.

        Args:
            split: whose queries.
            policy: "always" takes every document of the query's id that its judgments do not name;
                "auto" only one whose text, with or without its title, is the query's too, apart
                from case and spaces; "never" none.

        Raises:
            ValueError: the policy is another.
        """
        if policy not in OWN_DOCUMENT_POLICIES:
            raise ValueError(f"{policy!r} is not one of {', '.join(OWN_DOCUMENT_POLICIES)}")
        position = {document.id: i for i, document in enumerate(self.documents)}
        found = []
        for query in self.judged(split):
            at = position.get(query.id, -1)
            if policy == "never" or at < 0 or query.id in self.qrels[query.id]:
                at = -1
            elif policy == "auto":
                document = self.documents[at]
                at = (
                    at
                    if same_text(query.text)
                    in {same_text(document.text), same_text(document.full_text)}
                    else -1
                )
            found.append(at)
        return found

    def fingerprint(self) -> str:
        """Identity of the content."""
        signals = [
            sorted(self.qrels.items()),
            sorted(self.negatives.items()),
            sorted(self.soft.items()),
        ]
        return fingerprint(
            [[asdict(d) for d in self.documents], [asdict(q) for q in self.queries], *signals]
        )

    def save(self, folder: Path) -> None:
        """Write documents.jsonl, queries.jsonl, judgments.jsonl and negatives.jsonl."""
        _write_lines(folder / DOCUMENTS_FILE, (asdict(d) for d in self.documents))
        _write_lines(folder / QUERIES_FILE, (asdict(q) for q in self.queries))
        _write_lines(
            folder / JUDGMENTS_FILE,
            ({"query": q, "documents": d} for q, d in self.qrels.items()),
        )
        _write_lines(
            folder / NEGATIVES_FILE,
            (
                {"query": q, "documents": self.negatives.get(q, []), "soft": self.soft.get(q, {})}
                for q in self.negatives | self.soft
            ),
        )
        (folder / COLLECTION_FILE).write_text(
            json.dumps({"name": self.name, "counts": self.counts}, indent=1)
        )

    @classmethod
    def load(cls, folder: Path) -> Collection:
        """Read what ``save`` wrote.

        Raises:
            LeafkitError: a file is missing, or is not as this leafkit writes it.
        """
        try:
            return cls._load(folder)
        except OSError as err:
            raise LeafkitError(f"cannot read {err.filename}: {err.strerror}", _REMAKE) from err
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as err:
            raise LeafkitError(
                f"{folder} holds no collection that this leafkit reads: "
                f"{type(err).__name__}: {str(err)[:200]}",
                _REMAKE,
            ) from err

    @classmethod
    def _load(cls, folder: Path) -> Collection:
        about = json.loads((folder / COLLECTION_FILE).read_text())
        hard = _read_lines(folder / NEGATIVES_FILE)
        return cls(
            name=about["name"],
            documents=[Document(**row) for row in _read_lines(folder / DOCUMENTS_FILE)],
            queries=[Query(**row) for row in _read_lines(folder / QUERIES_FILE)],
            qrels={row["query"]: row["documents"] for row in _read_lines(folder / JUDGMENTS_FILE)},
            counts=about["counts"],
            negatives={row["query"]: row["documents"] for row in hard if row["documents"]},
            soft={row["query"]: row["soft"] for row in hard if row["soft"]},
        )


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def _read_lines(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def split_of(name: str) -> str:
    """train, validation or test, from a hash of the name alone: adding other rows never moves this
    one.
    """
    share = int(hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8], 16) / 2**32
    if share < TEST_SHARE:
        return "test"
    return "validation" if share < TEST_SHARE + VALIDATION_SHARE else "train"


def clean_text(text: str, counts: Counter[str]) -> str:
    """Text that a tokenizer, JSON and a terminal accept; every repair is counted.

    A lone surrogate would raise TypeError inside the tokenizer and kill a whole job.
    """
    if text.startswith("\ufeff"):
        counts["byte order marks removed"] += 1
        text = text.lstrip("\ufeff")
    if "\0" in text:
        counts["texts with NUL characters repaired"] += 1
        text = text.replace("\0", " ")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        counts["texts with lone surrogates repaired"] += 1
        text = text.encode("utf-8", "replace").decode("utf-8")
    return text.strip()


def same_text(text: str) -> str:
    """What texts that differ in case and spaces only have in common."""
    return " ".join(text.lower().split())


def drop_duplicates(
    documents: Iterable[Document], counts: Counter[str]
) -> tuple[list[Document], dict[str, str]]:
    """Documents of different titles and texts, and for each dropped one the id of the document that
    stands for it. Texts that differ in case or spaces are different.
    """
    first: dict[bytes, str] = {}
    kept: list[Document] = []
    stands_for: dict[str, str] = {}
    for document in documents:
        digest = hashlib.blake2b(document.full_text.encode(), digest_size=16).digest()
        if digest in first:
            stands_for[document.id] = first[digest]
            counts["duplicate documents dropped"] += 1
        else:
            first[digest] = document.id
            kept.append(document)
    return kept, stands_for
