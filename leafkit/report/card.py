"""The student's model card in Markdown, as the Hugging Face hub reads it."""

from __future__ import annotations

import json

from leafkit.report import facts, tables
from leafkit.report.environment import render_markdown
from leafkit.report.format import flatten
from leafkit.results import RunReport


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
        made=[report.created[:10], facts.machine(report), report.machine.precision, commit],
        max_query_tokens=recipe.get("data.max_query_tokens"),
        facts=facts,
        tables=tables,
    )
