"""``beir:PATH``: a folder with corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from leafkit.config import DataConfig
from leafkit.core.errors import UsageError
from leafkit.data.records import SPLITS, Collection, Document, Query, clean_text
from leafkit.data.sources.bad_rows import BadRows, text_of
from leafkit.data.sources.files import fingerprint_files
from leafkit.data.sources.finish import finish_collection
from leafkit.data.sources.jsonl import read_jsonl


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
        if not Path(rest).is_dir():
            what = f"source {uri}: no such folder: {Path(rest).absolute()}"
            raise UsageError(what, "check the path")
        return cls(uri, Path(rest))

    def fingerprint(self, data: DataConfig) -> str:
        """Identity of the content of its files."""
        return fingerprint_files(self.uri, self.root, data)

    def read(self, data: DataConfig, *, limit: int, default_split: str) -> Collection:
        """The collection; it is read whole, and its qrels say the splits.

        Raises:
            UsageError: a file is missing.
            LeafkitError: it is empty, or a row is bad and the policy is to stop.
        """
        counts: Counter[str] = Counter()
        bad = BadRows(data.on_bad_row, data.max_bad_rows, counts)
        return finish_collection(self.uri, _read_beir(self.root, bad, counts), counts)


def _read_beir(root: Path, bad: BadRows, counts: Counter[str]) -> Collection:
    for needed in ("corpus.jsonl", "queries.jsonl", "qrels"):
        if not (root / needed).exists():
            raise UsageError(
                f"beir:{root}: {needed} is missing",
                "BEIR's layout is corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv",
            )
    documents: dict[str, Document] = {}
    for where, row in read_jsonl(root / "corpus.jsonl", bad):
        text = clean_text(str(row.get("text") or ""), counts)
        title = clean_text(str(row.get("title") or ""), counts)
        if "_id" not in row or not (text or title):
            bad.refuse(where, "a document needs '_id' and 'text' or 'title'")
        elif (identity := clean_text(str(row["_id"]), counts)) in documents:
            bad.refuse(where, f"_id {identity!r} is used twice")
        else:
            documents[identity] = Document(identity, text, title)
    texts: dict[str, str] = {}
    for where, row in read_jsonl(root / "queries.jsonl", bad):
        clean = text_of(row, "text", where, bad, counts=counts)
        if clean is not None and "_id" not in row:
            bad.refuse(where, "a query needs '_id'")
        elif clean is not None:
            texts[clean_text(str(row["_id"]), counts)] = clean
    queries: list[Query] = []
    qrels: dict[str, dict[str, int]] = {}
    taken: set[str] = set()
    strangers: list[tuple[str, str]] = []
    for path in sorted((root / "qrels").glob("*.tsv")):
        split = {"dev": "validation"}.get(path.stem, path.stem)
        if split not in SPLITS:
            counts[f"judgments in qrels/{path.name} left out (not a split)"] += 1
            continue
        for where, query_id, document_id, grade in _read_qrels(path, bad):
            if query_id not in texts or document_id not in documents:
                strangers.append((where, query_id if query_id not in texts else document_id))
                continue
            qrels.setdefault(query_id, {})[document_id] = grade
            if query_id not in taken:
                taken.add(query_id)
                queries.append(Query(query_id, texts[query_id], split))
    _refuse_strangers(strangers, bad, counts)
    return Collection(root.name, list(documents.values()), queries, qrels)


def _refuse_strangers(strangers: list[tuple[str, str]], bad: BadRows, counts: Counter[str]) -> None:
    """Refuse the judgments that name a query or a document that is in no row: where they stand, and
    the id.
    """
    others = (
        f" ({len(strangers):,} judgments name ids that are in no row)" if len(strangers) > 1 else ""
    )
    for where, name in strangers:
        bad.refuse(where, f"a judgment names {name!r}, which is in no row{others}")
        counts["judgments of unknown ids"] += 1


def _read_qrels(path: Path, bad: BadRows) -> Iterator[tuple[str, str, str, int]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        for number, row in enumerate(csv.reader(stream, delimiter="\t"), 1):
            where = f"{path}:{number}"
            if not row or (number == 1 and len(row) == 3 and not row[2].lstrip("-").isdigit()):
                continue  # an empty line, or BEIR's header
            try:
                query_id, document_id, grade = row
                yield where, query_id, document_id, int(grade)
            except ValueError:
                bad.refuse(
                    where,
                    f"a judgment is query-id, corpus-id and a whole number, tab-separated; this "
                    f"is {row!r}",
                )
