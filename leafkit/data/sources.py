"""Sources to collections: ``builtin:NAME``, ``jsonl:PATH``, ``beir:PATH``,
``hf:NAME[:CONFIG]@SPLIT``, ``mteb:TASK``.

Rows of jsonl and hf are either a document, ``{"text", "id"?, "title"?}``, or a pair, ``{"query",
"positive" or "positives", "negatives"?, "scores"?, "instruction"?, "split"?}``. Every bad row is
named by file and line.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from leafkit.config.schema import DataConfig
from leafkit.core.artifact import fingerprint
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.file_hashes import sha256_of_file
from leafkit.core.watch import watch_folders
from leafkit.data.builtin import pydocs_fingerprint, read_pydocs
from leafkit.data.mteb_source import mteb_fingerprint, read_mteb
from leafkit.data.records import (
    SPLITS,
    Collection,
    Document,
    Query,
    clean_text,
    drop_duplicates,
    split_of,
)

_ALIASES = {
    "anchor": "query",
    "pos": "positives",
    "neg": "negatives",
    "negative": "negatives",
    "sentence1": "s1",
    "sentence2": "s2",
}
KINDS = (
    "builtin:pydocs",
    "builtin:pydocs-out-of-domain",
    "jsonl:PATH",
    "beir:PATH",
    "hf:NAME[:CONFIG]@SPLIT",
    "mteb:TASK[:SUBSET][@SPLIT]",
)


class BadRows:
    """The policy for rows that cannot be used: stop at the first, or skip, count and stop at a cap."""

    def __init__(self, policy: str, max_bad_rows: int, counts: Counter[str]) -> None:
        self._skip, self._cap, self._counts = policy == "skip", max_bad_rows, counts
        self._seen = 0

    def refuse(self, where: str, reason: str) -> None:
        """Record one bad row.

        Raises:
            LeafkitError: the policy is to stop, or the cap is reached.
        """
        self._seen += 1
        if not self._skip:
            raise LeafkitError(
                f"{where}: {reason}", "mend the row, or drop such rows with data.on_bad_row=skip"
            )
        if self._seen > self._cap:
            raise LeafkitError(
                f"{where}: {reason}; that is bad row number {self._seen}, more than "
                f"data.max_bad_rows={self._cap}",
                "mend the file or raise data.max_bad_rows",
            )
        self._counts["bad rows skipped"] += 1


def read_collection(
    uri: str, data: DataConfig, limit: int = 0, default_split: str = ""
) -> Collection:
    """The collection a source names; of jsonl and hf at most ``limit`` rows (0: all).

    Pairs that state no split are of ``default_split``; without one, a hash of the query decides.

    Raises:
        UsageError: the source is of no known kind or does not exist.
        LeafkitError: it is empty, or a row is bad and the policy is to stop.
    """
    kind, rest = _split_uri(uri)
    counts: Counter[str] = Counter()
    bad = BadRows(data.on_bad_row, data.max_bad_rows, counts)
    if kind == "builtin":
        return read_pydocs(rest, _packages(rest, data))
    if kind == "mteb":
        return read_mteb(rest)
    if kind == "beir":
        collection = _read_beir(Path(rest), bad, counts)
    elif kind == "jsonl":
        collection = _collect(
            Path(rest).stem, read_raw_rows(uri, bad, limit), bad, counts, default_split
        )
    else:
        collection = _collect(rest, read_raw_rows(uri, bad, limit), bad, counts, default_split)
    collection.documents, stands_for = drop_duplicates(collection.documents, counts)
    for query, grades in collection.qrels.items():
        merged: dict[str, int] = {}
        for document, grade in grades.items():
            kept = stands_for.get(document, document)
            merged[kept] = max(grade, merged.get(kept, grade))
        collection.qrels[query] = merged
    for query, wrong in collection.negatives.items():
        collection.negatives[query] = list(dict.fromkeys(stands_for.get(d, d) for d in wrong))
    for query, scores in collection.soft.items():
        collection.soft[query] = {stands_for.get(d, d): score for d, score in scores.items()}
    collection.counts = {name: count for name, count in counts.items() if count}
    if not collection.documents:
        raise LeafkitError(
            f"{uri} is empty: no document with text",
            "check the file; rows need a text, see leafkit show",
        )
    return collection


def source_fingerprint(uri: str, data: DataConfig) -> str:
    """Identity of a source's content, without reading all of it where that can be helped."""
    kind, rest = _split_uri(uri)
    policy = [data.on_bad_row, data.max_bad_rows]
    if kind == "builtin":
        return pydocs_fingerprint(_packages(rest, data))
    if kind == "hf":
        return fingerprint([uri, policy])
    if kind == "mteb":
        return fingerprint([uri, mteb_fingerprint(rest)])
    root = Path(rest)
    if root.is_dir():
        watch_folders(root)
    files = (
        [root]
        if root.is_file()
        else sorted(p for p in root.rglob("*") if p.suffix in {".jsonl", ".tsv"})
    )
    return fingerprint(
        [uri, policy, [(str(p.relative_to(root.parent)), sha256_of_file(p)) for p in files]]
    )


def _split_uri(uri: str) -> tuple[str, str]:
    kind, _, rest = uri.partition(":")
    if (
        kind not in {"builtin", "jsonl", "beir", "hf", "mteb"}
        or not rest
        or (kind == "hf" and "@" not in rest)
    ):
        raise UsageError(f"unknown source {uri!r}", f"a source is one of {', '.join(KINDS)}")
    if kind == "builtin" and rest not in {"pydocs", "pydocs-out-of-domain"}:
        raise UsageError(
            f"unknown built-in source {uri!r}",
            "there are builtin:pydocs and builtin:pydocs-out-of-domain",
        )
    if (kind == "jsonl" and not Path(rest).is_file()) or (
        kind == "beir" and not Path(rest).is_dir()
    ):
        what = "file" if kind == "jsonl" else "folder"
        raise UsageError(f"source {uri}: no such {what}: {Path(rest).absolute()}", "check the path")
    return kind, rest


def _packages(name: str, data: DataConfig) -> list[str]:
    return data.packages if name == "pydocs" else data.out_of_domain_packages


def _read_jsonl(path: Path, bad: BadRows) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            where = f"{path}:{number}"
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig"))
            except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as err:
                bad.refuse(where, f"not JSON in UTF-8: {err}")
                continue
            if isinstance(row, dict):
                yield where, row
            else:
                bad.refuse(where, f"a row must be an object, this is {type(row).__name__}")


def read_raw_rows(uri: str, bad: BadRows, limit: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a jsonl or hf source as they are, each with where it stands; at most ``limit`` (0:
    all).

    Raises:
        UsageError: the source is of no known kind, does not exist, or is not made of rows.
    """
    kind, rest = _split_uri(uri)
    if kind not in {"jsonl", "hf"}:
        raise UsageError(
            f"source {uri} has no rows of texts with labels or scores",
            "jsonl:PATH and hf:NAME@SPLIT do",
        )
    rows = _read_jsonl(Path(rest), bad) if kind == "jsonl" else _read_hub(rest, limit)
    return itertools.islice(((where, _rename(row)) for where, row in rows), limit or None)


def _rename(row: dict[str, Any]) -> dict[str, Any]:
    """Names that other toolkits' rows have (FlagEmbedding's, sentence-transformers', MTEB's) as
    ours.
    """
    renamed = {
        _ALIASES[key]: value
        for key, value in row.items()
        if key in _ALIASES and _ALIASES[key] not in row
    }
    if isinstance(renamed.get("negatives"), str):
        renamed["negatives"] = [renamed["negatives"]]
    return {key: value for key, value in row.items() if key not in _ALIASES} | renamed


def _read_hub(rest: str, limit: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    import datasets

    path, _, split = rest.rpartition("@")
    name, _, config = path.partition(":")
    try:
        # a few rows need no download
        rows = datasets.load_dataset(name, config or None, split=split, streaming=limit > 0)
    except Exception as err:  # the hub client raises many kinds for one reason: it is not to be had
        reason = str(err).strip().splitlines()
        raise LeafkitError(
            f"hf:{rest} cannot be loaded: {type(err).__name__}: {reason[0] if reason else ''}",
            "check name, configuration, split and the network; a local copy is read with "
            "jsonl:PATH or beir:PATH",
        ) from err
    for number, row in enumerate(rows):
        yield f"hf:{rest} row {number}", dict(row)


def _text_of(
    row: dict[str, Any], key: str, where: str, bad: BadRows, counts: Counter[str]
) -> str | None:
    value = row.get(key)
    if not isinstance(value, str):
        bad.refuse(where, f"{key!r} is {'missing' if value is None else 'not text'}")
        return None
    text = clean_text(value, counts)
    if not text:
        bad.refuse(where, f"{key!r} is empty")
        return None
    return text


def _collect(
    name: str,
    rows: Iterable[tuple[str, dict[str, Any]]],
    bad: BadRows,
    counts: Counter[str],
    default_split: str,
) -> Collection:
    documents: dict[str, Document] = {}
    by_text: dict[str, str] = {}
    queries: dict[str, Query] = {}
    qrels: dict[str, dict[str, int]] = {}

    def add(text: str, title: str = "", identity: str | None = None) -> str:
        full = f"{title}\n{text}"
        if identity is None and full in by_text:
            return by_text[full]
        key = identity if identity is not None else f"d{len(documents)}"
        documents[key] = Document(key, text, title)
        by_text.setdefault(full, key)
        return key

    found = Collection(name, [])
    for where, row in rows:
        if "query" in row:
            pair = _parse_pair(where, row, bad, counts, default_split)
            if pair is not None:
                _add_pair(pair, add, queries, qrels, found)
        else:
            text = _text_of(row, "text", where, bad, counts)
            identity = clean_text(str(row["id"]), counts) if row.get("id") is not None else None
            if text is not None and identity in documents:
                bad.refuse(where, f"id {identity!r} is used twice")
            elif text is not None:
                add(text, clean_text(str(row.get("title") or ""), counts), identity)
    found.documents, found.queries, found.qrels = (
        list(documents.values()),
        list(queries.values()),
        qrels,
    )
    return found


@dataclass(frozen=True, slots=True)
class _Pair:
    """One good pair row."""

    query: str
    positives: list[str]
    negatives: list[str]
    scores: list[float]  # of the positives, then of the negatives; empty where the row has none
    instruction: str
    split: str


def _parse_pair(
    where: str, row: dict[str, Any], bad: BadRows, counts: Counter[str], default_split: str
) -> _Pair | None:
    """The row as a pair; None, and one bad row more, where it is none."""
    query = _text_of(row, "query", where, bad, counts)
    if query is None:
        return None
    positives = row.get("positives", [row["positive"]] if "positive" in row else [])
    negatives = row.get("negatives") or []
    if not isinstance(positives, list) or not isinstance(negatives, list) or not positives:
        bad.refuse(
            where,
            "a pair needs 'positive' (text) or 'positives' (a list of texts); 'negatives' is a "
            "list of texts",
        )
        return None
    texts: dict[str, list[str]] = {"positives": [], "negatives": []}
    for key, values in (("positives", positives), ("negatives", negatives)):
        for value in values:
            clean = _text_of({key: value}, key, where, bad, counts)
            if clean is None:
                return None
            texts[key].append(clean)
    if set(texts["positives"]) & set(texts["negatives"]):
        bad.refuse(where, "a negative is equal to a positive")
        return None
    scores = row.get("scores") or []
    expected = len(positives) + len(negatives)
    if (
        not isinstance(scores, list)
        or (scores and len(scores) != expected)
        or not all(is_number(s) for s in scores)
    ):
        bad.refuse(
            where,
            f"'scores' must be {expected} numbers: one per positive, then one per negative, in "
            f"their order",
        )
        return None
    split = row.get("split") or default_split or split_of(query)
    if split not in SPLITS:
        bad.refuse(where, f"split {split!r} is not one of {', '.join(SPLITS)}")
        return None
    instruction = clean_text(str(row.get("instruction") or ""), counts)
    return _Pair(
        query,
        texts["positives"],
        texts["negatives"],
        [float(s) for s in scores],
        instruction,
        split,
    )


def is_number(value: Any) -> TypeGuard[float]:
    """A finite number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _add_pair(
    pair: _Pair,
    add: Callable[[str], str],
    queries: dict[str, Query],
    qrels: dict[str, dict[str, int]],
    found: Collection,
) -> None:
    # another task, another query
    asked = f"{pair.instruction}\n{pair.query}" if pair.instruction else pair.query
    query_id = f"{pair.split}:{asked}"
    queries.setdefault(query_id, Query(query_id, pair.query, pair.split, pair.instruction))
    positives, negatives = (
        [add(text) for text in pair.positives],
        [add(text) for text in pair.negatives],
    )
    qrels.setdefault(query_id, {}).update(dict.fromkeys(positives, 1))
    if negatives:
        known = found.negatives.setdefault(query_id, [])
        known.extend(d for d in dict.fromkeys(negatives) if d not in known)
    if pair.scores:
        found.soft.setdefault(query_id, {}).update(
            zip(positives + negatives, pair.scores, strict=True)
        )


def _read_beir(root: Path, bad: BadRows, counts: Counter[str]) -> Collection:
    for needed in ("corpus.jsonl", "queries.jsonl", "qrels"):
        if not (root / needed).exists():
            raise UsageError(
                f"beir:{root}: {needed} is missing",
                "BEIR's layout is corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv",
            )
    documents: dict[str, Document] = {}
    for where, row in _read_jsonl(root / "corpus.jsonl", bad):
        text = clean_text(str(row.get("text") or ""), counts)
        title = clean_text(str(row.get("title") or ""), counts)
        if "_id" not in row or not (text or title):
            bad.refuse(where, "a document needs '_id' and 'text' or 'title'")
        elif (identity := clean_text(str(row["_id"]), counts)) in documents:
            bad.refuse(where, f"_id {identity!r} is used twice")
        else:
            documents[identity] = Document(identity, text, title)
    texts: dict[str, str] = {}
    for where, row in _read_jsonl(root / "queries.jsonl", bad):
        clean = _text_of(row, "text", where, bad, counts)
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
