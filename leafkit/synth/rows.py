"""The rows of a finished run: in the plan's order, without duplicates, each with its provenance."""

from __future__ import annotations

from typing import Any

from leafkit.synth.answers import normalize
from leafkit.synth.chat_prompts import PROMPT_VERSION
from leafkit.synth.generate import Outcome
from leafkit.synth.journal import Journal


def collect_rows(
    outcome: Outcome, journal: Journal, model: str, base_url: str
) -> tuple[list[dict[str, Any]], int]:
    """Rows in leafkit's own pair form, and how many duplicates were dropped.

    A row is a duplicate if its query is an earlier row's, or its query and positive are an earlier
    row's in either order. All rows say train: a chat model's rows measure nothing.

    Args:
        outcome: of ``generate``.
        journal: that holds its answers.
        model: for the provenance.
        base_url: likewise, without anything secret.
    """
    accepted = journal.accepted()
    rows: list[dict[str, Any]] = []
    queries: set[str] = set()
    pairs: set[frozenset[str]] = set()
    duplicates = 0
    for job in outcome.jobs:
        entry = accepted.get(job.job.key)
        if entry is None or entry.answer is None:
            continue
        query, positive = normalize(entry.answer["query"]), normalize(entry.answer["positive"])
        pair = frozenset((query, positive))
        if query in queries or pair in pairs:
            duplicates += 1
            continue
        queries.add(query)
        pairs.add(pair)
        source, target = job.languages
        rows.append(
            {
                **entry.answer,
                "instruction": outcome.instructions[job.slot.index],
                "task": job.slot.task.task,
                "language": source if source == target else f"{source}-{target}",
                "split": "train",
                "provenance": {
                    "model": model,
                    "base_url": base_url,
                    "persona": job.persona.id,
                    "task_type": job.slot.task.name,
                    "prompt_version": PROMPT_VERSION,
                    "created": entry.created,
                },
            }
        )
    return rows, duplicates


def collect_instructions(outcome: Outcome) -> list[dict[str, Any]]:
    """The instructions that personas wrote, each with its persona."""
    slots = {job.slot.index: job.slot for job in outcome.jobs}
    return [
        {
            "instruction": text,
            "task_type": slot.task.name,
            "language": slot.language,
            "persona": slot.persona.id,
        }
        for index, text in outcome.instructions.items()
        if not (slot := slots[index]).task.instruction
    ]
