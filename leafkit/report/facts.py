"""Reading the report's data: what was measured, under which name, and the run's result in
sentences.

The HTML report, the comparison, the card and the console all read through here. Every function
bears missing parts: a run may have measured less than another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from leafkit.report.figures import (
    decimal,
    grouped,
    has_interval,
    is_number,
    percent,
    percent_interval,
    short_count,
    verdict_against_teacher,
)

METRICS = {
    "ndcg@10": "nDCG@10",
    "map": "MAP",
    "recall@10": "recall@10",
    "recall@100": "recall@100",
    "mrr@10": "MRR@10",
}
SYSTEMS = {
    "teacher": "teacher embeds queries and documents",
    "symmetric": "student embeds queries and documents",
    "asymmetric": "student embeds queries, teacher embeds documents",
    "reversed": "teacher embeds queries, student embeds documents",
    "baseline": "a stock encoder embeds both",
    "bm25": "words only, no vectors",
}
MODES = {"asymmetric": "embeds the queries alone", "symmetric": "embeds queries and documents"}
VERDICTS = ("inherited", "not inherited", "undecided")
TASK_METRICS = {"spearman": "Spearman", "v_measure": "V-measure", "accuracy": "accuracy"}
_DIAGNOSES = {
    "can be inherited": "can be inherited from",
    "with losses": "can be inherited from with losses",
    "cannot be inherited": "cannot be inherited from",
}

Data = Mapping[str, Any]


def collections(data: Data) -> list[Data]:
    """The measured collections, home first."""
    found = (data.get("bench") or {}).get("collections") or []
    return sorted(found, key=lambda c: c.get("kind") != "home")


def macro(data: Data) -> Data | None:
    """The mean over all collections, in the shape of a collection; None where the run has none."""
    found = (data.get("bench") or {}).get("macro")
    if not found or not found.get("rows"):
        return None
    number = found.get("num_collections")
    kind = (
        f"mean of {grouped(number)} collections" if is_number(number) else "mean of the collections"
    )
    return {"name": "all collections", **found, "kind": kind, "is_macro": True}


def measured(data: Data) -> list[Data]:
    """The collections, then the mean over them where there is one."""
    average = macro(data)
    return [*collections(data), *([average] if average else [])]


def rows_of(data: Data, part: str) -> list[Data]:
    """A list inside ``bench`` (latency, samples, tasks, indexes); empty where the run has none."""
    return list((data.get("bench") or {}).get(part) or [])


def inherit_rows(data: Data) -> list[Data]:
    """The settings of the inheritance check; empty where the run has none."""
    return list((data.get("inherit") or {}).get("rows") or [])


def score(row: Data, metric: str = "ndcg@10") -> Data | None:
    """A metric of a row where it is a number, with its interval if it has one."""
    cell = row.get(metric)
    return cell if isinstance(cell, Mapping) and is_number(cell.get("mean")) else None


def describe(collection: Data) -> str:
    """Name, kind and number of queries of a collection, in one phrase."""
    number = (
        "" if collection.get("is_macro") else f"{grouped(collection.get('num_queries'))} queries"
    )
    facts = [str(collection.get("kind") or ""), number]
    return f"{collection.get('name', '?')} ({', '.join(f for f in facts if f)})"


def system_name(row: Data) -> str:
    """What a row of the retrieval table is called."""
    system = str(row.get("system", "?"))
    return "BM25" if system == "bm25" else system


def difference_name(row: Data) -> str:
    """What a paired difference is called."""
    return str(row.get("label", "?")).replace("bm25", "BM25")


def metric_name(metric: object) -> str:
    """What a metric is called in print."""
    return METRICS.get(str(metric), TASK_METRICS.get(str(metric), str(metric)))


def contamination_line(collection: Data) -> str:
    """How many evaluation texts training has seen, in one line; what is not known is said.

    >>> contamination_line({"contamination": {"queries": {"total": 300, "exact": 0, "near": 2}}})
    'contamination: 0 of 300 queries exact, 2 near'
    """
    found = collection.get("contamination")
    if not isinstance(found, Mapping) or not found:
        return "contamination: not checked"
    if "unknown" in found:
        return f"contamination: unknown ({found['unknown']})"
    counts = [
        f"{grouped(part.get('exact'))} of {grouped(part.get('total'))} {what} exact, "
        f"{grouped(part.get('near'))} near"
        for what in ("queries", "documents")
        if (part := found.get(what))
    ]
    seen = (
        f" (against {grouped(found['training_texts'])} training texts)"
        if "training_texts" in found
        else ""
    )
    return f"contamination: {'; '.join(counts) or 'not counted'}{seen}"


def notes_on(collection: Data, brief: bool = False) -> list[str]:
    """What one has to know beside a collection's scores: contamination, and documents that were
    dropped.

    ``brief`` leaves out the remarks on how contamination was counted.
    """
    if collection.get("is_macro"):
        return [
            "every collection counts the same; intervals draw the collections, then the queries "
            "of each"
        ]
    dropped = collection.get("own_documents_dropped")
    own = (
        f"own documents dropped from the rankings: {grouped(dropped)}"
        if is_number(dropped) and dropped
        else ""
    )
    found = collection.get("contamination")
    remarks = (found.get("notes") if isinstance(found, Mapping) and not brief else None) or []
    return [contamination_line(collection), *map(str, remarks), *([own] if own else [])]


def encoder_latency(data: Data, role: str) -> list[Data]:
    """Latency rows of the ``teacher`` or the ``student``, which a row may also call by its name."""
    names = {role, (data.get(role) or {}).get("name", role)}
    return [row for row in rows_of(data, "latency") if row.get("encoder") in names]


def speed_up(data: Data) -> tuple[float, Data] | None:
    """Queries per second of the student over the teacher's, and the student's row.

    The two rows must have the same threads and dtype; None where no such two were measured.
    """
    for student in encoder_latency(data, "student"):
        for teacher in encoder_latency(data, "teacher"):
            same = all(student.get(key) == teacher.get(key) for key in ("threads", "dtype"))
            rates = student.get("queries_per_s"), teacher.get("queries_per_s")
            if same and is_number(rates[0]) and is_number(rates[1]) and rates[1] > 0:
                return student["queries_per_s"] / teacher["queries_per_s"], student
    return None


def parameter_share(data: Data) -> float | None:
    """Parameters of the student over the teacher's."""
    student, teacher = ((data.get(role) or {}).get("parameters") for role in ("student", "teacher"))
    return student / teacher if is_number(student) and is_number(teacher) and teacher else None


def verdict_sentences(data: Data, brief: bool = False) -> list[str]:
    """The run's result in words: what is kept on each collection, then size and speed.

    Where there is a mean over the collections, the ``brief`` result has the first collection and
    the mean alone.
    """
    sentences: list[str] = []
    average = macro(data)
    for collection in [*collections(data)[:1], average] if brief and average else measured(data):
        kept = collection.get("retention") or {}
        parts = [
            _kept_in_words(mode, kept[mode])
            for mode in MODES
            if is_number((kept.get(mode) or {}).get("mean"))
        ]
        if parts:
            subject = "it" if sentences else "the student"
            parts[0] = parts[0].replace(" where", " of the teacher's nDCG@10 where", 1)
            sentences.append(f"On {describe(collection)}, {subject} keeps {', and '.join(parts)}.")
    sentences.extend(_size_and_speed(data))
    return sentences


def _kept_in_words(mode: str, retention: Data) -> str:
    verdict = ", ".join(filter(None, (mode, verdict_against_teacher(retention))))
    return f"{percent_interval(retention)} where it {MODES[mode]} ({verdict})"


def _size_and_speed(data: Data) -> Iterator[str]:
    share, faster = parameter_share(data), speed_up(data)
    size = speed = ""
    if share is not None:
        counts = [short_count(data[role]["parameters"]) for role in ("student", "teacher")]
        size = f"has {counts[0]} parameters, {share:.0%} of the teacher's {counts[1]}"
    if faster is not None:
        ratio, row = faster
        setting = ", ".join(
            [f"{row['threads']} threads"] * ("threads" in row)
            + [str(row["dtype"])] * ("dtype" in row)
            + ["single queries"]
        )
        speed = f"embeds {ratio:.1f} times as many queries per second ({setting})"
    if size or speed:
        yield f"The student {', and '.join(filter(None, (size, speed)))}."


def opening_sentences(data: Data) -> list[str]:
    """What the run found, whatever it measured: retention, else inheritance, else the diagnosis."""
    found = verdict_sentences(data, brief=True)
    for sentence in (inherit_sentence(data), diagnosis_sentence(data)):
        if sentence and not found:
            found = [sentence]
    return found or ["This run measured no retrieval."]


def machine(data: Data) -> str:
    """The hardware in one phrase; "" where it is not recorded."""
    hardware = data.get("hardware") or {}
    cores = f"{hardware['cores']} cores" if "cores" in hardware else ""
    return ", ".join(
        str(part) for part in (hardware.get("cpu"), cores, hardware.get("accelerator")) if part
    )


def verdict_counts(data: Data) -> dict[str, int]:
    """Settings of the inheritance check per verdict, those that occur."""
    verdicts = [str(row.get("verdict")) for row in inherit_rows(data)]
    return {word: verdicts.count(word) for word in VERDICTS if word in verdicts}


def inherit_summary(data: Data) -> str:
    """The inheritance check in words, or "" where the run has none."""
    rows = inherit_rows(data)
    if not rows:
        return ""
    counts = ", ".join(f"{count} {word}" for word, count in verdict_counts(data).items())
    check = data["inherit"]
    outcome = "Passed" if check.get("passed") else "Not passed"
    strict = " Undecided settings fail too." if check.get("strict") else ""
    return f"{outcome}: of {len(rows)} settings, {counts}.{strict}"


def inherit_sentence(data: Data) -> str:
    """The same as a sentence of its own with the place of the measurement, or ""."""
    where = (data.get("inherit") or {}).get("collection", "?")
    return f"Inheritance on {where}: {inherit_summary(data)}" if inherit_rows(data) else ""


def scoring(row: Data) -> str:
    """How a setting of the inheritance check scores: plain, quantised queries, rescored.

    >>> scoring({"queries": "quantized", "rescoring": 4}), scoring({})
    ('quantised queries, rescored x4', 'plain')
    """
    times = row.get("rescoring")
    parts = ["quantised queries"] if row.get("queries") == "quantized" else []
    parts += [f"rescored x{times}"] if is_number(times) and times else []
    return ", ".join(parts) or "plain"


def diagnosis(data: Data) -> Data:
    """The examination of the teacher before training; empty where the run has none."""
    return data.get("diagnosis") or {}


def diagnosis_sentence(data: Data) -> str:
    """The verdict on the teacher in words, or ""."""
    found = diagnosis(data)
    if not found:
        return ""
    verdict = str(found.get("verdict", ""))
    place = f" of {found['collection']}" if found.get("collection") else ""
    texts = (
        f", judged on its vectors of {grouped(found['num_texts'])} texts{place}"
        if "num_texts" in found
        else ""
    )
    queries = f" and {grouped(found['num_queries'])} queries" if found.get("num_queries") else ""
    return (
        f"The teacher {found.get('teacher', '?')} "
        f"{_DIAGNOSES.get(verdict, verdict or 'was examined')}{texts}{queries}."
    )


def diagnosis_facts(data: Data) -> list[tuple[str, str]]:
    """The figures of the diagnosis that are no table, as terms with what was found."""
    found = diagnosis(data)
    anisotropy, binary = found.get("anisotropy") or {}, found.get("binary") or {}
    bounds = (
        f" [{decimal(anisotropy['low'])}, {decimal(anisotropy['high'])}]"
        if has_interval(anisotropy)
        else ""
    )
    signs = binary.get("sign_agreement_at") or {}
    facts = [
        ("dimensions", grouped(found.get("dim")), found.get("dim")),
        ("effective rank", decimal(found.get("effective_rank"), 1), found.get("effective_rank")),
        (
            "mean cosine of two texts",
            decimal(anisotropy.get("mean_cosine")) + bounds,
            anisotropy.get("mean_cosine"),
        ),
        *(
            (f"signs kept at cosine {cosine} to the teacher", percent(share), share)
            for cosine, share in signs.items()
        ),
        (
            "kept under one bit per dimension",
            percent_interval(binary.get("retention")),
            score(binary, "retention"),
        ),
    ]
    return [(term, text) for term, text, value in facts if value is not None]
