"""How a run was made, in words: on what machine, in what time, from which texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leafkit.report.format import decimal, duration, grouped, percent, round_percent
from leafkit.results import Machine, RunReport, StudentChecks


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


# terms of the student's loss, for readers of a card
_TERMS = {
    "l2": "the squared distance between the two models' vectors of a text (LEAF, arXiv 2509.12539)",
    "cosine": "1 minus the cosine of the two models' vectors of a text",
    "score_kl": "the divergence of a query's scores over the teacher's document vectors from the "
    "teacher's own scores",
    "score_mse": "the squared difference of those scores",
    "ranking": "the order of those documents, weighed by what a swap costs in nDCG",
    "triplet": "the teacher's nearest document above the others",
    "margin_mse": "the squared difference of the scores' margins",
    "contrastive": "InfoNCE of judged queries against the teacher's document vectors",
    "in_batch": "the squared difference of the similarities within a batch",
    "mrl_prefix": "the squared distance at every Matryoshka dimension",
    "gor": "the similarity of unrelated texts",
}


def is_static(report: RunReport) -> bool:
    """Whether the student is a table of token vectors."""
    return _student_key(report, "kind") == "static"


def start_in_words(report: RunReport) -> str:
    """What the student was before training, and what its cosine was measured on; "" for nothing."""
    found = report.spectrum
    if found is None:
        return ""
    how = "with the table of its start" if is_static(report) else "with the closed-form last layer"
    if _student_key(report, "head") == "none":
        how = "as it came"
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
    start = "the last layer was set in closed form (ridge regression onto the teacher's vectors)"
    if _student_key(report, "head") == "none":
        start = "no map: the pooled hidden states of the start model, as it came, are the vectors"
    untrained = "Nothing"
    if report.checks is not None and report.checks.head_steps:
        untrained = "No other layer"
        start += (
            f" and moved {grouped(report.checks.head_steps)} steps towards the teacher's scores, "
            "on hidden states that stayed as they are"
        )
    beside = ""
    if _student_key(report, "head") == "two_layer":
        beside = ", with a second layer beside it that began at 0"
    table = ""
    if report.student is not None and report.student.token_table:
        table = "; a table of token vectors beside the transformer was solved with it"
    if report.student is not None and report.student.token_units:
        table += (
            f"; a layer over tokens of {grouped(report.student.token_units)} units stands before "
            "the mean, made of what the student's texts look like there"
        )
    was_enough = report.checks is not None and report.checks.is_enough_at_start
    has_no_time = _student_key(report, "minutes") == 0
    if was_enough or has_no_time or _student_key(report, "kind") == "instant":
        beside = beside if untrained != "Nothing" else ""  # one that nothing moved was left out
        return f"{untrained} was trained: {start}{beside}, and that is the student{table}."
    losses = _student_key(report, "losses")
    told_of = dict(losses) if isinstance(losses, Mapping) else {"l2": 1.0}
    weights: dict[str, Any] = {"begin": {}, "end": {}} | told_of
    terms = [
        f"{words} ({', '.join(told)})" if told else words
        for term, words in _TERMS.items()
        if (weight := float(weights.get(term, 0)))
        for told in [
            [f"{weight:g}"] * (weight != 1)
            + _span_in_words(weights["begin"].get(term, 0), weights["end"].get(term, 1))
        ]
    ]
    return f"Minimised was {_joined(terms)}, after {start}{beside}{table}."


def _span_in_words(begin: float, end: float) -> list[str]:
    """In which part of the training a term counts; nothing where it always does.

    >>> _span_in_words(0.25, 0.5), _span_in_words(0, 1)
    (['from 25% to 50% of the steps'], [])
    """
    if begin > 0 and end < 1:
        return [f"from {round_percent(begin)} to {round_percent(end)} of the steps"]
    late = [f"from {round_percent(begin)} of the steps on"] * (begin > 0)
    return late + [f"until {round_percent(end)} of the steps"] * (end < 1)


def checks_in_words(report: RunReport) -> str:
    """What held-out texts say of the student's start and end; "" where none were held out."""
    found = report.checks
    if found is None:
        return ""
    asked = f"On {grouped(found.num_texts)} {found.texts} that trained nothing"
    steps = f", then {grouped(found.head_steps)} steps on scores" if found.head_steps else ""
    how = f"closed-form start (ridge {found.ridge:g}, fitted to {found.fitted_to}{steps})"
    start = (
        f"{f'the {how}' if found.fitted_to else found.start_name} has cosine "
        f"{decimal(found.start_cosine)} to the teacher and finds {percent(found.start_overlap)} of "
        f"its ten nearest documents{_judged(found, found.start_ndcg)}"
    )
    if not found.num_batches:
        return f"{asked}, {start}; there was no training."
    if found.is_enough_at_start:
        return f"{asked}, {start}; that left nothing to train for, and is the student."
    ended = ""
    if found.ended_early:
        done, planned = grouped(found.num_done or 0), grouped(found.num_batches)
        ended = f" Training ended after {done} of {planned} batches."
    if not found.kept_after:
        return f"{asked}, {start}; training found no more, and the start was kept.{ended}"
    return (
        f"{asked}, {start}; the student kept, after {grouped(found.kept_after)} of "
        f"{grouped(found.num_batches)} batches, has {decimal(found.cosine)} and finds "
        f"{percent(found.overlap)}{_judged(found, found.ndcg)}.{ended}"
    )


def _judged(found: StudentChecks, ndcg: float | None) -> str:
    if ndcg is None:
        return ""
    return f", with nDCG@10 {decimal(ndcg)} on the {grouped(found.num_judged)} that are judged"


def _student_key(report: RunReport, key: str) -> object:
    student = report.recipe.get("student")
    return student.get(key) if isinstance(student, Mapping) else None


def _joined(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


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
