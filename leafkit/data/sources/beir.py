"""``beir:PATH``: a folder with corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv.

It is read so that figures are those of BEIR's and mteb's own evaluation: documents stay where their
text is empty or a copy of another's, and judgments where no row has their document, which is then
relevant and never found.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from leafkit.config import DataConfig
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.data.records import Collection, Document, Query
from leafkit.data.sources.bad_rows import BadRows, id_of, optional_text, text_of
from leafkit.data.sources.files import COMPRESSED, fingerprint_files, open_path, what_is_wrong
from leafkit.data.sources.finish import finish_collection
from leafkit.data.sources.jsonl import read_jsonl
from leafkit.data.sources.names import UnusedColumns
from leafkit.data.sources.qrels import Judgment, read_splits, split_files

_LAYOUT = "BEIR's layout is corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv"
_CORPUS, _QUERIES, _QRELS = "corpus.jsonl", "queries.jsonl", "qrels"


@dataclass(frozen=True, slots=True)
class BeirSource:
    """A collection in BEIR's layout.

    Attributes:
        uri: as the recipe names it.
        root: the folder.
    """

    uri: str
    root: Path

    @classmethod
    def parse(cls, uri: str, rest: str) -> BeirSource:
        """Read the address.

        Raises:
            UsageError: there is no such folder.
        """
        return cls(uri, open_path(uri, rest, "folder"))

    def fingerprint(self, data: DataConfig) -> str:
        """Identity of the content of its files."""
        qrels = [path for path, _ in split_files(self._part(_QRELS, "folder"))]
        files = [self._part(_CORPUS), *qrels, self._part(_QUERIES)]
        return fingerprint_files(self.uri, self.root, files, data)

    def read(self, data: DataConfig, *, limit: int, default_split: str) -> Collection:
        """The collection; it is read whole, and its qrels say the splits.

        Raises:
            UsageError: a file is missing.
            LeafkitError: it is empty, or a row is bad and the policy is to stop.
        """
        counts: Counter[str] = Counter()
        bad = BadRows(data.on_bad_row, data.max_bad_rows, counts)
        splits = split_files(self._part(_QRELS, "folder"))
        documents = _read_documents(self._part(_CORPUS), bad, counts)
        texts = _read_queries(self._part(_QUERIES), bad, counts)
        judgments = read_splits(splits, bad, counts, texts, documents=documents)
        queries, qrels = _judge(judgments, texts, documents, counts=counts)
        found = Collection(self.root.name, list(documents.values()), queries, qrels)
        return finish_collection(self.uri, found, counts, is_merged=False)

    def _part(self, name: str, kind: str = "file") -> Path:
        """A file of the folder, or the same with the ending of a compression."""
        path = self.root / name
        if what_is_wrong(path, kind) == "is missing":
            packed = [path.with_name(name + ending) for ending in COMPRESSED]
            path = next((other for other in packed if other.is_file()), path)
        if reason := what_is_wrong(path, kind):
            raise UsageError(f"beir:{self.root}: {path.name} {reason}", _LAYOUT)
        return path


def _read_documents(path: Path, bad: BadRows, counts: Counter[str]) -> dict[str, Document]:
    """By id; a document without any text stays, and is counted."""
    documents: dict[str, Document] = {}
    unused = UnusedColumns(counts)
    for where, row in read_jsonl(path, bad):
        identity = id_of(row, "_id", where, bad, counts=counts)
        text, title = (
            optional_text(row, key, where, bad, counts=counts) for key in ("text", "title")
        )
        if identity is None or text is None or title is None:
            continue
        if not identity or not row.keys() & {"text", "title"}:
            bad.refuse(where, "a document needs '_id' and 'text' or 'title'")
        elif identity in documents:
            bad.refuse(where, f"_id {identity!r} is used twice")
        else:
            documents[identity] = Document(identity, text, title)
            counts["documents without text kept, as BEIR's evaluation does"] += not (text or title)
            unused.add(row, {"_id", "text", "title"})
    return documents


def _read_queries(path: Path, bad: BadRows, counts: Counter[str]) -> dict[str, str]:
    """Texts by id."""
    texts: dict[str, str] = {}
    unused = UnusedColumns(counts, "of queries ")
    for where, row in read_jsonl(path, bad):
        text = text_of(row, "text", where, bad, counts=counts)
        identity = id_of(row, "_id", where, bad, counts=counts)
        if text is None or identity is None:
            continue
        if not identity:
            bad.refuse(where, "a query needs '_id'")
        elif identity in texts:
            bad.refuse(where, f"_id {identity!r} is used twice")
        else:
            texts[identity] = text
            unused.add(row, {"_id", "text"})
    return texts


def _judge(
    judgments: list[Judgment],
    texts: dict[str, str],
    documents: dict[str, Document],
    *,
    counts: Counter[str],
) -> tuple[list[Query], dict[str, dict[str, int]]]:
    """Judged queries in the order of their judgments, and the grades.

    Raises:
        LeafkitError: no judgment names a document that is there, or none a query.
    """
    queries: dict[str, Query] = {}
    qrels: dict[str, dict[str, int]] = {}
    num_found = 0
    for judgment in judgments:
        if judgment.query not in texts:
            counts["judgments of queries that are in no row left out"] += 1
            continue
        qrels.setdefault(judgment.query, {})[judgment.document] = judgment.grade
        queries.setdefault(
            judgment.query, Query(judgment.query, texts[judgment.query], judgment.split)
        )
        num_found += judgment.document in documents
    strangers = sum(len(grades) for grades in qrels.values()) - num_found
    counts["judgments of documents that are in no row kept as never found"] = strangers
    if judgments and not num_found:
        first = judgments[0]
        raise LeafkitError(
            f"{first.where}: a judgment names query {first.query!r} and document "
            f"{first.document!r}; of {len(judgments):,} judgments none names a query and a "
            "document that are there",
            f"ids in qrels are those under '_id' of {_QUERIES} and {_CORPUS}",
        )
    counts["queries without judgments left out"] = len(texts) - len(queries)
    return list(queries.values()), qrels
