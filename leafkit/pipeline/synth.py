"""Persona-based synthetic rows: personas -> instructions -> rows, as an artifact that is a training
source.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leafkit.config import SynthConfig
from leafkit.core.artifact import fingerprint
from leafkit.core.checkpoint_layout import (
    SYNTH,
    SYNTH_INSTRUCTIONS_FILE,
    SYNTH_ROWS_FILE,
    SYNTH_SUMMARY_FILE,
    SYNTH_TASKS_FOLDER,
    SYNTH_WORK,
)
from leafkit.core.console import log
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.openai_client import check_consent, shown_url
from leafkit.pipeline.run import Run
from leafkit.synth.chat_endpoint import SECTION, Endpoint, base_url_of, read_address
from leafkit.synth.chat_prompts import INSTRUCTION_LENGTH, hash_prompts
from leafkit.synth.generate import generate, plan_rows
from leafkit.synth.journal import Journal, count_entries
from leafkit.synth.personas import Persona, hash_personas, read_personas
from leafkit.synth.plan import Job, Slot, estimate, instruction_job, plan_slots, price, row_jobs
from leafkit.synth.rows import collect_instructions, collect_rows


@dataclass(frozen=True, slots=True)
class SynthInputs:
    """What decides about synthetic rows."""

    answers: dict[str, object]  # see ``identify``
    num_instructions: int
    rows_per_instruction: int


def run_synth(run: Run) -> Path:
    """Ask for what is missing, then publish the rows; returns the artifact's folder.

    Raises:
        UsageError: model, key or personas are missing, or the estimate is above synth.max_cost;
            nothing was sent.
        LeafkitError: the endpoint refuses the run or is gone, or no row was accepted; answers so
            far are kept.
    """
    config, seed = run.recipe.synth, run.recipe.seed
    personas = read_personas(config.personas)
    slots = plan_slots(config, personas, seed)
    folder, work_folder = run.folder / SYNTH, run.folder / SYNTH_WORK
    identity = identify(config, personas, seed)
    is_asked = False
    inputs = SynthInputs(
        answers=identity,
        num_instructions=config.num_instructions,
        rows_per_instruction=config.rows_per_instruction,
    )

    def work(metrics: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
        nonlocal is_asked
        check_consent(config.endpoint, run.recipe.allow_hosts, SECTION)
        address = read_address(config)
        key = f", the key in {address.key_env} with them" if address.has_key else ""
        log(f"  texts go to {address.shown}{key}")
        endpoint = Endpoint(address, config)
        journal = Journal(work_folder, identity)
        try:
            show_estimate(slots, journal, config, seed, shown=address.shown)
            outcome = generate(slots, endpoint, journal, config, seed=seed)
        finally:
            journal.close()
        rows, duplicates = collect_rows(outcome, journal, config.model, address.shown)
        counts = count_entries(journal.entries)
        metrics.update(
            counts,
            rows=len(rows),
            duplicate_rows=duplicates,
            duplicate_instructions=outcome.duplicate_instructions,
            cost=price(counts["input_tokens"], counts["output_tokens"], config)
            if _has_price(config)
            else None,
        )
        if not rows:
            raise LeafkitError(
                f"{address.shown} gave no usable row with model {config.model!r}: "
                f"{describe_reasons(counts['refused'])}",
                "try another model or a larger synth.max_output_tokens; the same command asks "
                "again",
            )
        is_asked = True
        return {
            "rows": rows,
            "instructions": collect_instructions(outcome),
            "summary": [dict(metrics)],
        }

    def save(result: dict[str, list[dict[str, Any]]], draft: Path) -> None:
        _write_lines(draft / SYNTH_ROWS_FILE, result["rows"])
        _write_lines(draft / SYNTH_INSTRUCTIONS_FILE, result["instructions"])
        (draft / SYNTH_SUMMARY_FILE).write_text(
            json.dumps(result["summary"][0], indent=1, ensure_ascii=False), encoding="utf-8"
        )
        (draft / SYNTH_TASKS_FOLDER).mkdir()
        for task in dict.fromkeys(row["provenance"]["task_type"] for row in result["rows"]):
            rows = [row for row in result["rows"] if row["provenance"]["task_type"] == task]
            # each its own source, with its own prompt and weight
            _write_lines(draft / SYNTH_TASKS_FOLDER / f"{task}.jsonl", rows)

    run.step(
        name=SYNTH,
        folder=folder,
        inputs=inputs,
        method="",  # answers are paid for: new code alone is no reason to ask again
        work=work,
        save=save,
    )
    if run.is_main and is_asked:
        shutil.rmtree(work_folder)  # its answers are in the artifact
    return folder


def identify(config: SynthConfig, personas: list[Persona], seed: int) -> dict[str, object]:
    """Everything that an answer depends on; how many are wanted and how they are fetched is not
    part of it.
    """
    return {
        "model": config.model,
        "base_url": shown_url(base_url_of(config)),
        "personas": hash_personas(personas),
        "prompts": hash_prompts(),
        "seed": seed,
        "tasks": fingerprint(config.tasks),
        "languages": fingerprint(config.languages),
        "num_negatives": config.num_negatives,
        "temperature": config.temperature,
        "max_output_tokens": config.max_output_tokens,
    }


def show_estimate(
    slots: list[Slot], journal: Journal, config: SynthConfig, seed: int, *, shown: str
) -> None:
    """Say what is about to be asked and what it may cost.

    Raises:
        UsageError: the estimate, with what an interrupted run has spent, is above synth.max_cost.
    """
    jobs = pending_jobs(slots, journal, config, seed)
    size = estimate(jobs, config)
    spent = count_entries(journal.entries)
    cost = price(size.input_tokens, size.output_tokens, config)
    most = price(size.input_tokens, size.most_output_tokens, config)
    before = price(spent["input_tokens"], spent["output_tokens"], config)
    if journal.entries:
        log(
            f"  {spent['accepted']:,} answers are there from an interrupted run"
            + (f" ({before:.2f} spent)" if before else "")
        )
    log(
        f"  {size.requests:,} requests to {config.model} at {shown}, "
        f"{config.endpoint.max_concurrency} at a time; about"
        f" {size.input_tokens:,} tokens in and {size.output_tokens:,} out (a token per Chinese "
        f"character or 3.5 others),"
        f" at most {size.most_output_tokens:,} out; retries come on top"
    )
    if _has_price(config):
        limit = f"; stops at synth.max_cost={config.max_cost}" if config.max_cost else ""
        log(f"  cost: about {cost:.4f}, at most {most:.4f} without retries{limit}")
    else:
        log(
            "  cost: unknown, the recipe names no price (synth.price_per_million_input_tokens, "
            "..._output_tokens)"
        )
    if config.max_cost and not _has_price(config):
        raise UsageError(
            f"synth.max_cost={config.max_cost} cannot be kept: the recipe names no price",
            "set synth.price_per_million_input_tokens and synth.price_per_million_output_tokens",
        )
    if config.max_cost and before + cost > config.max_cost:
        raise UsageError(
            f"the estimate of {before + cost:.4f} is above synth.max_cost={config.max_cost}; "
            f"nothing was sent",
            "lower synth.num_instructions or synth.rows_per_instruction, or raise synth.max_cost",
        )


def pending_jobs(slots: list[Slot], journal: Journal, config: SynthConfig, seed: int) -> list[Job]:
    """Jobs without an answer; the rows of an instruction that is still to be written count with one
    of usual length.
    """
    accepted = journal.accepted()
    jobs = [job for slot in slots if (job := instruction_job(slot))]
    written = plan_rows(slots, journal, config, seed)
    jobs += [row.job for row in written.jobs]
    unwritten = [slot for slot in slots if not slot.task.instruction and slot.key not in accepted]
    jobs += [
        row.job
        for slot in unwritten
        for row in row_jobs(slot, "x" * INSTRUCTION_LENGTH.typical_chars, config, seed)
    ]
    return [job for job in jobs if job.key not in accepted]


def describe_summary(folder: Path) -> str:
    """What a finished run gave and what was lost on the way, in one line."""
    summary = json.loads((folder / SYNTH_SUMMARY_FILE).read_text(encoding="utf-8"))
    cost = "" if summary["cost"] is None else f", cost {summary['cost']:.4f}"
    return (
        f"{summary['rows']:,} rows; {summary['requests']:,} requests, "
        f"{summary['input_tokens']:,} tokens in,"
        f" {summary['output_tokens']:,} out{cost}; dropped as duplicates: "
        f"{summary['duplicate_rows']:,} rows,"
        f" {summary['duplicate_instructions']:,} instructions; refused answers: "
        f"{describe_reasons(summary['refused'])};"
        f" jobs given up: {describe_reasons(summary['failed'])}"
    )


def describe_reasons(refused: dict[str, int]) -> str:
    """Reasons with their counts, the most frequent first."""
    return (
        ", ".join(
            f"{reason} ({count})"
            for reason, count in sorted(refused.items(), key=lambda item: -item[1])
        )
        or "none"
    )


def _has_price(config: SynthConfig) -> bool:
    return bool(config.price_per_million_input_tokens or config.price_per_million_output_tokens)


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
