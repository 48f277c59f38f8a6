"""mteb's retrieval tasks as collections: ``mteb:TASK[:SUBSET][@SPLIT]``. mteb is imported when such
a source is read.
"""

from __future__ import annotations

import importlib
from collections import Counter
from typing import Any

from leafkit.core.artifact import fingerprint
from leafkit.core.errors import LeafkitError, MissingExtra, UsageError
from leafkit.data.records import Collection, Document, Query, clean_text
from leafkit.data.values import describe, is_nan

_LAYOUT = 1  # of the conversion below; part of a source's identity


def read_mteb(reference: str) -> Collection:
    """The collection behind mteb:REFERENCE, from the hub or from what the datasets library keeps of
    it.

    Nothing is dropped that mteb counts: documents stay where their text is empty or a copy of
    another's, and judgments stay where the corpus lacks the document, so that the figures are those
    of mteb.

    Args:
        reference: TASK[:SUBSET][@SPLIT]; the subset is needed where the task has several, the split
            where the task is evaluated on several and none of them is called test.

    Raises:
        MissingExtra: mteb is not installed.
        UsageError: mteb has no such task, subset or evaluation split, or the task is no retrieval
            of texts.
        LeafkitError: its data cannot be had.
    """
    task, subset, split = find_task(reference)
    try:
        task.load_data()
    # datasets and the hub client raise many kinds for one reason: the data is not to be had
    except Exception as err:
        reason = str(err).strip().splitlines()
        raise LeafkitError(
            f"mteb:{reference} cannot be loaded: {type(err).__name__}: "
            f"{reason[0] if reason else ''}",
            "mteb takes the data from the hub, or from the cache of an earlier run: check the "
            "network (HF_HUB_OFFLINE forbids"
            " it); a local copy in BEIR's layout is read with beir:PATH",
        ) from err
    return collect_task(task, subset, split)


def mteb_fingerprint(reference: str) -> str:
    """Identity of mteb:REFERENCE: the data set and the revision that mteb pins for it.

    Raises:
        MissingExtra: mteb is not installed.
        UsageError: see ``read_mteb``.
    """
    task, subset, split = find_task(reference)
    dataset = {key: str(value) for key, value in dict(task.metadata.dataset).items()}
    return fingerprint([task.metadata.name, dataset, subset, split, _LAYOUT])


def find_task(reference: str) -> tuple[Any, str, str]:
    """mteb's task, not yet loaded, with its subset and split.

    Raises:
        MissingExtra: mteb is not installed.
        UsageError: see ``read_mteb``.
    """
    path, _, split = reference.partition("@")
    name, _, subset = path.partition(":")
    try:
        mteb, abstasks = importlib.import_module("mteb"), importlib.import_module("mteb.abstasks")
    except ImportError as err:
        raise MissingExtra("mteb", "bench", f"source mteb:{reference}") from err
    try:
        task = mteb.get_task(name)
    except KeyError as err:
        raise UsageError(
            f"mteb has no task {name!r}",
            str(err.args[0]) if err.args else "mteb.get_tasks() lists them",
        ) from err
    about = task.metadata
    if (
        not isinstance(task, abstasks.AbsTaskRetrieval)
        or "text" not in about.modalities
        or len(about.modalities) > 1
    ):
        raise UsageError(
            f"mteb:{name} is a task of type {about.type} on {', '.join(about.modalities)}: not a "
            f"retrieval of texts",
            "collections are retrieval tasks; bench.tasks measures the other kinds on files",
        )
    subset = _choose("subset", subset, list(task.hf_subsets), "default", hint=f"mteb:{name}:SUBSET")
    split = _choose("split", split, list(task.eval_splits), "test", hint=f"mteb:{path}@SPLIT")
    return mteb.get_task(name, eval_splits=[split], hf_subsets=[subset]), subset, split


def _choose(what: str, wanted: str, known: list[str], usual: str, *, hint: str) -> str:
    """The one that was asked for, else the usual one, else the only one."""
    if wanted in known:
        return wanted
    if not wanted and (usual in known or len(known) == 1):
        return usual if usual in known else known[0]
    found = (
        f"mteb does not evaluate on {what} {wanted!r}"
        if wanted
        else f"mteb evaluates on several {what}s"
    )
    raise UsageError(f"{hint}: {found}; there are {', '.join(sorted(known))}", f"name one: {hint}")


def collect_task(task: Any, subset: str, split: str) -> Collection:
    """The collection in a task whose data is loaded.

    Its queries are test queries whatever mteb calls the split (some tasks are evaluated on "dev" or
    "train"): they measure and never train. A query's instruction is its own where it has one, else
    the task's prompt.

    Args:
        task: an mteb AbsTaskRetrieval.
        subset: which of its subsets; "default" where it has one alone.
        split: an evaluation split.

    Raises:
        LeafkitError: the task ranks given candidates and searches no corpus, its judgments are no
            whole numbers, or it has no document or no judged query.
    """
    where = f"mteb:{task.metadata.name}"
    task.convert_v1_dataset_format_to_v2(num_proc=None)
    part = task.dataset[subset][split]
    if part["top_ranked"]:
        raise LeafkitError(
            f"{where} ranks candidates that it brings along: it searches no corpus",
            "choose a retrieval task",
        )
    counts: Counter[str] = Counter()
    documents: dict[str, Document] = {}
    for row in part["corpus"]:
        identity = str(row["id"])
        if identity in documents:
            raise LeafkitError(
                f"{where}: document id {identity!r} is used twice",
                "choose another revision of mteb",
            )
        text, title = (
            _text(row.get(key), f"{where}: {key!r} of document {identity!r}", counts)
            for key in ("text", "title")
        )
        counts["documents without text"] += not (text or title)
        documents[identity] = Document(identity, text, title)
    qrels = {str(query): _grades(grades, where) for query, grades in part["relevant_docs"].items()}
    general = task_instruction(task.metadata)
    queries = []
    for row in part["queries"]:
        if str(row["id"]) not in qrels:
            counts["queries without judgments left out"] += 1
            continue
        if not isinstance(row["text"], str):
            raise LeafkitError(
                f"{where}: query {row['id']!r} is a conversation, not a text", "choose another task"
            )
        own = row.get("instruction")
        counts[
            "queries with an instruction of their own (mteb puts it behind the query, leafkit "
            "bench into a prompt that has a place for it)"
        ] += bool(own)
        text, instruction = clean_text(row["text"], counts), clean_text(own or general, counts)
        queries.append(Query(str(row["id"]), text, "test", instruction))
    unknown = sum(document not in documents for grades in qrels.values() for document in grades)
    counts["judgments of documents that the corpus lacks"] = unknown
    counts["queries without a relevant document, which count as 0"] = sum(
        not any(grade > 0 for grade in qrels[query.id].values()) for query in queries
    )
    name = task.metadata.name if subset == "default" else f"{task.metadata.name} {subset}"
    found = Collection(
        name, list(documents.values()), queries, qrels, {what: n for what, n in counts.items() if n}
    )
    if not documents or not found.judged("test"):
        raise LeafkitError(
            f"{where} has no {'judged query' if documents else 'document'} in {subset}/{split}"
        )
    return found


def _text(value: object, where: str, counts: Counter[str]) -> str:
    """A text of mteb's, "" where there is none."""
    if value is None or is_nan(value):
        return ""
    if not isinstance(value, str):
        raise LeafkitError(f"{where} is {describe(value)}", "choose another task")
    return clean_text(value, counts)


def _grades(grades: dict[Any, Any], where: str) -> dict[str, int]:
    found = {}
    for document, grade in grades.items():
        if int(grade) != grade:
            raise LeafkitError(
                f"{where}: the grade {grade!r} of document {document!r} is no whole number",
                "choose another task",
            )
        found[str(document)] = int(grade)
    return found


def task_instruction(about: Any) -> str:
    """What mteb tells instruction-following models of a task's queries: the task's own prompt, else
    that of its kind.

    Args:
        about: mteb's TaskMetadata.
    """
    prompt = getattr(about, "prompt", None)
    if isinstance(prompt, dict):
        prompt = prompt.get("query")
    if prompt:
        return str(prompt)
    try:
        kinds = importlib.import_module("mteb.abstasks.abstask")
    except ImportError as err:
        raise MissingExtra("mteb", "bench", "running mteb") from err
    return str(kinds.get_abstask_prompt(about.name) or "")
