"""How a run was made, in words: on what machine, in what time, from which texts."""

from __future__ import annotations

from collections.abc import Mapping

from leafkit.report.format import decimal, duration, grouped
from leafkit.results import Machine, RunReport


def version(report: RunReport) -> str:
    """Of leafkit, which wrote the report."""
    return report.versions.get("leafkit", "")


def measured(report: RunReport) -> str:
    """When and on what hardware the benchmark was measured, which may have been an earlier run."""
    date = (report.measured_at or report.created)[:10]
    return ", ".join(filter(None, (date, machine(report.measured_on or report.machine))))


def machine(found: Machine) -> str:
    """The hardware in one phrase; "" where it is not recorded."""
    cores = f"{found.cores} cores" if found.cores else ""
    return ", ".join(filter(None, (found.cpu, cores, found.accelerator)))


def steps_note(report: RunReport) -> str:
    """Whose times the steps have, where this run did not make all of them; else ""."""
    kept = [step for step in report.steps if step.status == "up to date"]
    if not kept:
        return ""
    spent = [step.spent_s for step in report.steps if step.spent_s is not None]
    here = (
        f" This run itself took {duration(sum(spent))}." if len(spent) == len(report.steps) else ""
    )
    return f"A step that is up to date has the time of the run that made it.{here}"


def is_static(report: RunReport) -> bool:
    """Whether the student is a table of token vectors."""
    student = report.recipe.get("student")
    return isinstance(student, Mapping) and student.get("kind") == "static"


def start_in_words(report: RunReport) -> str:
    """What the student was before training, and what its cosine was measured on; "" for nothing."""
    found = report.spectrum
    if found is None:
        return ""
    how = "with the table of its start" if is_static(report) else "with the closed-form last layer"
    if found.num_held_out is None:
        return f"{how}, measured on {grouped(found.num_texts)} texts"
    if not found.num_held_out:
        return f"{how}, on the {grouped(found.num_texts)} texts that it was fitted to"
    return f"{how}, on {grouped(found.num_held_out)} texts that it was not fitted to"


def training_in_words(report: RunReport) -> str:
    """The student's loss and where it is from; "" where the recipe is not known."""
    if not report.recipe:
        return ""
    if is_static(report):
        return (
            "A table of one vector per token, trained on 1 minus the cosine between the mean of a "
            "text's token vectors and the teacher's vector of it, on documents and then on queries."
        )
    return (
        "The squared distance between the two models' vectors of a text was minimised (LEAF, "
        "arXiv 2509.12539), after the last layer was set in closed form."
    )


def trained_on(report: RunReport, model: str) -> list[str]:
    """The texts that a model was trained on, a phrase each."""
    return [
        f"{text.name}: {grouped(text.number)}" if text.number is not None else text.name
        for text in report.training
        if text.model == model
    ]


def origin(report: RunReport) -> list[tuple[str, str]]:
    """What the run was made with: code, hardware and versions, as terms with their content."""
    found = report.machine
    sizes = (
        f"{decimal(size, 1)} GiB" if size else ""
        for size in (found.memory_gib, found.peak_memory_gib)
    )
    memory, peak = sizes
    facts = [
        ("created", report.created.replace("T", " ")),
        ("commit", report.commit),
        ("CPU", found.cpu),
        ("cores", str(found.cores or "")),
        ("threads", str(found.threads)),
        ("memory", memory),
        ("peak memory", peak),
        ("device", found.device),
        ("accelerator", found.accelerator),
        ("precision", found.precision),
        *sorted(report.versions.items()),
    ]
    return [(term, fact) for term, fact in facts if fact]
