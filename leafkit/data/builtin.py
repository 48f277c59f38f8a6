"""Collections that every machine has: ``builtin:pydocs`` and ``builtin:pydocs-out-of-domain``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from leafkit.core.artifact import fingerprint
from leafkit.core.errors import LeafkitError
from leafkit.core.watch import watched_value
from leafkit.data import pydocs
from leafkit.data.records import Collection, Document, Query, clean_text, split_of

PYDOCS_QUESTION = "pydocs:"  # before the packages, in what a run watches
_NO_QUESTION = (
    "args:",
    "arguments:",
    "parameters",
    "param ",
    ":param",
    "return:",
    "returns:",
    "example",
    "copyright",
    "see ",
)


def short_title(name: str) -> str:
    """``scipy.sparse.linalg.inv`` as ``scipy linalg inv``: what a person would type, and a third of
    the tokens.
    """
    parts = name.split(".")
    kept = parts if len(parts) <= 3 else [parts[0], *parts[-2:]]
    return " ".join(kept).replace("_", " ").strip()


def pydocs_fingerprint(packages: Sequence[str]) -> str:
    """Identity of what reading these packages would find: their files' names, sizes and times of
    change.

    It is taken from the files' entries alone: they are thousands. Packages that are installed
    again are read again, and give the same collection.
    """
    return watched_value(f"{PYDOCS_QUESTION}{','.join(packages)}", lambda: _look(packages))


def _look(packages: Sequence[str]) -> str:
    files = [
        (module, found.st_size, found.st_mtime_ns)
        for package in packages
        for module, path in pydocs.list_files(package)
        for found in (path.stat(),)
    ]
    return fingerprint(["pydocs", pydocs.VERSION, files])


def read_pydocs(name: str, packages: Sequence[str]) -> Collection:
    """First paragraphs as queries, the rest of each docstring as the document, judged relevant to
    each other.

    A first paragraph that several objects share asks for none of them in particular and is no
    query.

    Raises:
        LeafkitError: none of the packages is installed.
    """
    counts: Counter[str] = Counter()
    entries, unreadable = pydocs.read_packages(tuple(packages))
    for package in packages:
        if pydocs.find_package(package) is None:
            counts[f"package {package} is not installed"] += 1
    counts["files that could not be read"] += len(unreadable)
    counts["docstrings read"] += len(entries)
    if not entries:
        raise LeafkitError(
            f"builtin:{name} is empty: none of {', '.join(packages) or 'no packages'} is installed",
            "name installed packages in data.packages",
        )
    documents: list[Document] = []
    summaries: list[str] = []
    for entry in _drop_twins(entries, counts):
        documents.append(
            Document(entry.name, clean_text(entry.body, counts), short_title(entry.name))
        )
        summaries.append(clean_text(entry.summary, counts))
    asked = Counter(summary.lower() for summary in summaries)
    queries, qrels = [], {}
    for document, summary in zip(documents, summaries, strict=True):
        if not summary or asked[summary.lower()] > 1 or summary.lower().startswith(_NO_QUESTION):
            counts["first paragraphs that ask for nothing in particular"] += 1
            continue
        queries.append(Query(document.id, summary, split_of(document.id)))
        qrels[document.id] = {document.id: 1}
    return Collection(name, documents, queries, qrels, {k: v for k, v in counts.items() if v})


def _drop_twins(entries: Sequence[pydocs.DocEntry], counts: Counter[str]) -> list[pydocs.DocEntry]:
    """One entry per name (the fullest) and per text (the shortest name, which is the one people
    use), sorted by name.
    """
    by_name: dict[str, pydocs.DocEntry] = {}
    for entry in sorted(entries, key=lambda e: (-len(e.body), e.body)):
        by_name.setdefault(entry.name, entry)
    by_text: dict[str, pydocs.DocEntry] = {}
    for entry in sorted(by_name.values(), key=lambda e: (len(e.name), e.name)):
        by_text.setdefault(entry.body.lower(), entry)
    counts["duplicate documents dropped"] += len(entries) - len(by_text)
    return sorted(by_text.values(), key=lambda e: e.name)
