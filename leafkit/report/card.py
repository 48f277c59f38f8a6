"""The student's model card in Markdown, as the Hugging Face hub reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from markupsafe import Markup

from leafkit.report import facts, provenance, tables
from leafkit.report.environment import render_markdown
from leafkit.report.format import clean, flatten, is_known
from leafkit.results import Interval, RunReport

_STOCK = "sentence-transformers"
_TAGS = (
    _STOCK,
    "sentence-similarity",
    "feature-extraction",
    "knowledge-distillation",
    "asymmetric-retrieval",
    "leaf",
)
# plain words that YAML reads as something else
_NO_TEXT = ("true", "false", "yes", "no", "on", "off", "null", "y", "n")
_HUB_METRICS = {
    "ndcg@10": "ndcg_at_10",
    "map": "map",
    "mrr@10": "mrr_at_10",
    "recall@10": "recall_at_10",
    "recall@100": "recall_at_100",
}


def front_matter(report: RunReport) -> list[str]:
    """The YAML that the Hugging Face hub reads, without its bars: what is known of language, start
    model, data, and the measured figures as a model index
    (https://huggingface.co/docs/hub/model-cards).

    A license is for the owner to name; ``leafkit.export(..., license=...)`` adds it.
    """
    student = report.student
    is_nested = student is not None and bool(student.mrl_dims)
    loss = "static-embeddings" if provenance.is_static(report) else ""
    results = [one for part in facts.scored(report) if part.collection for one in _results(part)]
    is_stock = student is None or student.is_stock
    tags = [tag for tag in _TAGS if is_stock or tag != _STOCK]
    matter = {
        "language": list(report.languages),
        "library_name": _STOCK if is_stock else "leafkit",
        "pipeline_tag": "sentence-similarity",
        "base_model": report.base_model,
        "datasets": list(report.datasets),
        "tags": [*tags, *(["matryoshka"] if is_nested else []), *filter(None, [loss])],
        "model-index": [{"name": report.name, "results": results}] if results else [],
    }
    return list(_yaml({key: value for key, value in matter.items() if value}))


def _results(part: facts.Scored) -> Iterator[dict[str, object]]:
    """What either way to use the student scored on a collection, as the hub's leaderboards have
    it.
    """
    for system in ("asymmetric", "symmetric"):
        row = next((row for row in part.systems if row.system == system), None)
        metrics = [
            {
                "type": hub_name,
                "name": f"{facts.metric_name(metric)} ({facts.SYSTEMS[system]})",
                "value": round(row.metrics[metric].value, 4),
                "args": _interval(row.metrics[metric]),
            }
            for metric, hub_name in _HUB_METRICS.items()
            if row and metric in row.metrics and is_known(row.metrics[metric].value)
        ]
        if metrics:
            yield {
                "task": {"type": "information-retrieval", "name": f"Retrieval, {system}"},
                "dataset": {"type": clean(part.name), "name": clean(part.title)},
                "metrics": metrics,
            }


def _interval(found: Interval) -> dict[str, object]:
    """Where the hub keeps what a value was measured with: its 95% interval, and over how many
    queries.
    """
    counted = {} if found.n is None else {"num_queries": found.n}
    return {"interval_95": [round(found.low, 4), round(found.high, 4)], **counted}


def _yaml(value: object, indent: str = "") -> Iterator[str]:
    """Block YAML of nested mappings and lists; scalars as JSON, which is YAML too, plain words as
    they are.
    """
    if isinstance(value, Mapping):
        for key, child in value.items():
            if isinstance(child, Mapping | list):
                yield f"{indent}{key}:"
                yield from _yaml(child, f"{indent}  " if isinstance(child, Mapping) else indent)
            else:
                yield f"{indent}{key}: {_scalar(child)}"
    elif isinstance(value, list):
        for child in value:
            if isinstance(child, Mapping):
                first, *rest = _yaml(child, f"{indent}  ")
                yield f"{indent}- {first.lstrip()}"
                yield from rest
            else:
                yield f"{indent}- {_scalar(child)}"


def _scalar(value: object) -> str:
    is_plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w./-]*", value)
    is_word = is_plain and str(value).lower() not in _NO_TEXT
    if is_word:
        return str(value)
    # what is no markup in YAML is none in Markdown either
    return json.dumps(value).replace("<", "\\u003c").replace("](", "]\\u0028")


def render_card(report: RunReport) -> str:
    """README.md of the student's folder: YAML front matter, then what it is, how to load it and
    what was measured. Parts that the run did not measure are left out.
    """
    models = {"student": report.student, "teacher": report.teacher}
    prompts = {role: dict(model.prompts) for role, model in models.items() if model}
    commit = f"leafkit commit {report.commit[:12]}" if report.commit else ""
    recipe = dict(flatten(report.recipe))
    return render_markdown(
        "card.md.j2",
        report=report,
        **models,
        prompts=json.dumps(prompts, indent=1) if prompts else "",
        parts=facts.scored(report),
        front_matter=Markup("\n".join(["---", *front_matter(report), "---"])),
        made=[provenance.measured(report), report.machine.precision, commit],
        max_query_tokens=recipe.get("data.max_query_tokens"),
        first_dims=recipe.get("student.dim"),
        facts=facts,
        provenance=provenance,
        tables=tables,
    )
