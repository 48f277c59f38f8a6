"""The student's model card in Markdown, as the Hugging Face hub reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from leafkit.report import facts, tables
from leafkit.report import figures as fig
from leafkit.report.tables import PlainTable

_TAGS = (
    "sentence-transformers",
    "sentence-similarity",
    "feature-extraction",
    "knowledge-distillation",
    "asymmetric-retrieval",
    "leaf",
)
# brackets of an interval are no link and stay readable
_SPECIAL = re.compile(r"[\\`*_<>|#]|\[(?![-+]?\d)|\](?=[(\[:])")
Data = Mapping[str, Any]


def render_card(data: Mapping[str, Any]) -> str:
    """README.md of the student's folder: YAML front matter, then what it is, how to load it and
    what was measured.

    Args:
        data: what the stages measured, as in report.json. Parts that are missing or empty are left
            out of the card.
    """
    parts = [
        _front_matter(data),
        f"# {_plain(data.get('name') or 'student')}",
        _summary(data),
        _space(data),
        _usage(data),
        _retrieval(data),
        _differences(data),
        _tasks(data),
        _indexes(data),
        _inheritance(data),
        _diagnosis(data),
        _latency(data),
        _training(data),
        _limits(data),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _plain(value: object) -> str:
    """Text on one line in which Markdown and HTML mean nothing."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(fig.clean(value).split()))


def _fence(text: str, language: str = "") -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    bars = "`" * max(3, longest + 1)
    return f"{bars}{language}\n{text}\n{bars}"


def _table(table: PlainTable) -> str:
    """The table with its notes in a line below."""
    lines = [
        "| " + " | ".join(table.header) + " |",
        "|" + "|".join("--:" if k == "n" else "---" for k in table.kinds) + "|",
    ]
    rows = "\n".join(
        [*lines, *("| " + " | ".join(_plain(cell) for cell in row) + " |" for row in table.rows)]
    )
    return "\n\n".join([rows, *filter(None, ["; ".join(map(_plain, table.notes))])])


def _front_matter(data: Data) -> str:
    tags = [*_TAGS, *(["matryoshka"] if (data.get("student") or {}).get("mrl_dims") else [])]
    lines = [
        "library_name: sentence-transformers",
        "pipeline_tag: sentence-similarity",
        "tags:",
        *(f"- {tag}" for tag in tags),
    ]
    return "\n".join(["---", *lines, "---"])


def _summary(data: Data) -> str:
    opening = (
        "A small query encoder, distilled with leafkit so that its vectors live in its teacher's "
        "space: documents "
        "embedded by the teacher can be searched with it as they are."
    )
    return "\n\n".join([opening, *map(_plain, facts.verdict_sentences(data))])


def _space(data: Data) -> str:
    teacher, student = data.get("teacher") or {}, data.get("student") or {}
    if not teacher:
        return ""
    dims = ", ".join(str(d) for d in student.get("mrl_dims") or [])
    shown = [
        f"- teacher: {_plain(teacher.get('name', '?'))}, "
        f"{fig.short_count(teacher.get('parameters'))} parameters",
        f"- dimensions: {teacher.get('dim', '?')}" + (f"; Matryoshka: {dims}" if dims else ""),
        "- similarity: cosine of the vectors. Vectors of any other model, also of another "
        "version of the teacher, do not mix "
        "with these.",
    ]
    return "## The space it lives in\n\n" + "\n".join(shown)


def _usage(data: Data) -> str:
    student, teacher = ((data.get(role) or {}) for role in ("student", "teacher"))
    lines = [
        "from sentence_transformers import SentenceTransformer",
        "",
        'student = SentenceTransformer("FOLDER_OR_HUB_ID_OF_THIS_MODEL")',
        'teacher = SentenceTransformer("FOLDER_OR_HUB_ID_OF_THE_TEACHER")',
        "",
        f'queries = student.encode(["how do I invert a '
        f'matrix"]{_prompt_argument(student, "query")})',
        f'documents = teacher.encode(["Compute the inverse of a '
        f'matrix."]{_prompt_argument(teacher, "document")})',
        "print(student.similarity(queries, documents))",
    ]
    prompts = {
        role: model["prompts"]
        for role, model in (("student", student), ("teacher", teacher))
        if model.get("prompts")
    }
    shown = (
        "\n\nPrompts, byte for byte:\n\n" + _fence(json.dumps(prompts, indent=1), "json")
        if prompts
        else ""
    )
    needed = " Queries need their prompt." if (student.get("prompts") or {}).get("query") else ""
    symmetric = (
        "Where the student embeds the documents too (symmetric use), the teacher is not needed "
        "at all."
    )
    return "## Use\n\n" + _fence("\n".join(lines), "python") + f"{shown}\n\n{symmetric}{needed}"


def _prompt_argument(model: Data, role: str) -> str:
    """Queries always name their prompt; documents only where the model has one for them."""
    return (
        f', prompt_name="{role}"'
        if role == "query" or (model.get("prompts") or {}).get(role)
        else ""
    )


def _retrieval(data: Data) -> str:
    shown = [tables.retrieval_table(c) for c in facts.measured(data) if tables.metrics_of(c)]
    if not shown:
        return ""
    note = "Means with 95% paired-bootstrap intervals over the queries, exact search."
    meaning = "; ".join(
        f"{facts.system_name({'system': system})}: {what}" for system, what in facts.SYSTEMS.items()
    )
    return "\n\n".join(
        [
            "## Measured",
            " ".join(filter(None, [note, _when_and_where(data)])),
            f"{meaning[0].upper()}{meaning[1:]}.",
            *(f"**{_plain(table.title)}**\n\n{_table(table)}" for table in shown),
        ]
    )


def _when_and_where(data: Data) -> str:
    hardware = data.get("hardware") or {}
    measured = [
        str(data.get("created") or "")[:10],
        facts.machine(data),
        hardware.get("precision"),
        f"leafkit commit {data['commit'][:12]}" if data.get("commit") else "",
    ]
    shown = ", ".join(_plain(f) for f in measured if f)
    return f"Measured: {shown}." if shown else ""


def _differences(data: Data) -> str:
    table = tables.differences_table(data)
    return (
        "### Differences\n\nWithin noise: the interval contains 0.\n\n" + _table(table)
        if table.rows
        else ""
    )


def _tasks(data: Data) -> str:
    table = tables.tasks_table(data)
    return f"### Tasks without a search\n\n{_table(table)}" if table.rows else ""


def _indexes(data: Data) -> str:
    found = [t for t in tables.index_tables(data) if t.rows]
    if not found:
        return ""
    return "\n\n".join(
        ["### Indexes", *(f"**{_plain(table.title)}**\n\n{_table(table)}" for table in found)]
    )


def _diagnosis(data: Data) -> str:
    if not facts.diagnosis(data):
        return ""
    findings = "\n".join(
        f"- {_plain(sentence)}" for sentence in facts.diagnosis(data).get("findings") or []
    )
    parts = ["### The teacher before training", _plain(facts.diagnosis_sentence(data)), findings]
    return "\n\n".join(part for part in parts if part)


def _inheritance(data: Data) -> str:
    table = tables.inheritance_table(data)
    if not facts.inherit_rows(data):
        return ""
    check = data["inherit"]
    where = (
        f"nDCG@10 on {_plain(check.get('collection', '?'))}, "
        f"{fig.grouped(check.get('num_queries'))} queries."
    )
    gap = (
        "The gap is the teacher's retention minus the student's, each of its own score at full "
        "size."
    )
    shown = [f"**{_plain(table.title)}**\n\n{_table(table)}"] if table.rows else []
    words = f"{facts.inherit_summary(data)} {where} {gap}"
    return "\n\n".join(["### Inheritance of Matryoshka and quantisation", words, *shown])


def _latency(data: Data) -> str:
    table = tables.latency_table(data)
    return f"### Latency of single queries\n\n{_table(table)}" if table.rows else ""


def _training(data: Data) -> str:
    lines = [
        "Distilled on the teacher's vectors alone, without relevance judgments: the squared "
        "distance between the two models' "
        "vectors of a text (LEAF, arXiv 2509.12539)."
    ]
    for corpus in data.get("corpora") or []:
        queries = ", ".join(
            f"{fig.grouped(n)} {split}" for split, n in (corpus.get("queries") or {}).items()
        )
        counts = "; ".join(
            f"{what}: {fig.grouped(n)}" for what, n in (corpus.get("counts") or {}).items()
        )
        read = [
            f"{fig.grouped(corpus.get('num_documents'))} documents",
            f"queries: {queries}" if queries else "",
            counts,
        ]
        lines.append(
            f"- {_plain(corpus.get('name', '?'))}: {_plain('; '.join(filter(None, read)))}"
        )
    text = lines[0] + ("\n\n" + "\n".join(lines[1:]) if lines[1:] else "")
    command = "\n\n" + _fence(fig.clean(data["command"])) if data.get("command") else ""
    return "## Training\n\n" + text + command


def _limits(data: Data) -> str:
    limits = []
    away = [c for c in facts.collections(data) if c.get("kind") == "away"]
    if away:
        names = ", ".join(_plain(c.get("name", "?")) for c in away)
        limits.append(
            f"Figures away from home ({names}) say more about other texts than those at home do."
        )
    else:
        limits.append(
            "Nothing was measured away from the home collection: expect less on other kinds of "
            "text."
        )
    read = (data.get("recipe") or {}).get("data") or {}
    if "max_query_tokens" in read:
        limits.append(
            f"Trained on queries of up to {read['max_query_tokens']} tokens, prompt included."
        )
    kept = (data.get("spectrum") or {}).get("variance_kept")
    if fig.is_number(kept):
        limits.append(
            f"Its vectors pass through {data['spectrum'].get('rank', '?')} dimensions; a map of "
            f"that rank keeps at most "
            f"{fig.percent(kept)} of the variance of the teacher's vectors."
        )
    limits.append("The intervals cover the choice of queries, not another training run.")
    limits.append(
        "The licence follows from the start model and the texts; set `license` above before "
        "publishing."
    )
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)
