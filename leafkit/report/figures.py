"""Reading the report's data and putting its numbers into words; the HTML report, the card and the console all use it.

Every function here bears missing parts: a run may have measured less than another.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MISSING = "n/a"
METRICS = {"ndcg@10": "nDCG@10", "recall@100": "recall@100", "mrr@10": "MRR@10"}
SYSTEMS = {
    "teacher": "teacher embeds queries and documents",
    "symmetric": "student embeds queries and documents",
    "asymmetric": "student embeds queries, teacher embeds documents",
    "baseline": "a stock encoder embeds both",
    "bm25": "words only, no vectors",
}
MODES = {"asymmetric": "embeds the queries alone", "symmetric": "embeds queries and documents"}
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def clean(value: object) -> str:
    """Text that can be written as UTF-8 and as XML: lone surrogates become "?", control characters go."""
    text = str(value).encode("utf-8", "replace").decode("utf-8")
    return "".join(c for c in text if (c >= " " and c not in "\x7f\ufffe\uffff") or c in "\t\n\r")


def is_number(value: object) -> bool:
    """Whether ``value`` is a finite number; JSON carries undefined figures as null or NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def decimal(value: object, digits: int = 3) -> str:
    """A number with fixed digits, or "n/a"."""
    return f"{value:.{digits}f}" if is_number(value) else MISSING


def percent(value: object) -> str:
    """A share as a percentage with one digit.

    >>> percent(0.985)
    '98.5%'
    """
    return f"{value:.1%}" if is_number(value) else MISSING


def grouped(value: object) -> str:
    """A count with thousands separators, or "n/a"."""
    return f"{value:,}" if is_number(value) else MISSING


def short_count(value: Any) -> str:
    """A large count in three significant digits.

    >>> short_count(59281920), short_count(7.1e7), short_count(640)
    ('59.3M', '71.0M', '640')
    """
    if not is_number(value):
        return MISSING
    for size, unit in _UNITS:
        if value >= size:
            scaled = value / size
            return f"{scaled:.{max(0, 2 - int(math.log10(scaled)))}f}{unit}"
    return f"{value:.0f}"


def duration(seconds: Any) -> str:
    """Seconds for people.

    >>> duration(14.2), duration(332), duration(7384)
    ('14.2 s', '5 min 32 s', '2 h 3 min')
    """
    if not is_number(seconds):
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def has_interval(cell: Any) -> bool:
    """Whether ``cell`` holds finite ``low`` and ``high``."""
    return isinstance(cell, Mapping) and is_number(cell.get("low")) and is_number(cell.get("high"))


def interval(cell: Any) -> str:
    """A score with its 95% interval.

    >>> interval({"mean": 0.5731, "low": 0.551, "high": 0.596})
    '0.573 [0.551, 0.596]'
    """
    if not isinstance(cell, Mapping) or not is_number(cell.get("mean")):
        return MISSING
    return decimal(cell["mean"]) + (f" [{decimal(cell['low'])}, {decimal(cell['high'])}]" if has_interval(cell) else "")


def signed_interval(cell: Any, value: str = "mean") -> str:
    """A difference with its 95% interval, all three with their sign; ``value`` names the key of the estimate.

    >>> signed_interval({"mean": -0.004, "low": -0.01, "high": 0.002})
    '-0.004 [-0.010, +0.002]'
    """
    if not isinstance(cell, Mapping) or not is_number(cell.get(value)):
        return MISSING
    return _signed(cell[value]) + (f" [{_signed(cell['low'])}, {_signed(cell['high'])}]" if has_interval(cell) else "")


def percent_interval(cell: Any) -> str:
    """A share with its 95% interval, in percent.

    >>> percent_interval({"mean": 0.985, "low": 0.97, "high": 1.0})
    '98.5% [97.0, 100.0]'
    """
    if not isinstance(cell, Mapping) or not is_number(cell.get("mean")):
        return MISSING
    return percent(cell["mean"]) + (f" [{cell['low']:.1%}, {cell['high']:.1%}]".replace("%", "") if has_interval(cell) else "")


def _signed(value: float) -> str:
    text = f"{value:+.3f}"
    return "0.000" if float(text) == 0 else text


def noise_verdict(cell: Any) -> str:
    """What a difference's 95% interval allows one to say: within noise, higher or lower."""
    if not has_interval(cell):
        return "no interval"
    if cell["low"] > 0:
        return "higher"
    return "lower" if cell["high"] < 0 else "within noise"


def verdict_against_teacher(retention: Any) -> str:
    """The same for a share of the teacher's score, which is 1 where nothing is lost."""
    if not has_interval(retention):
        return ""
    if retention["low"] > 1:
        return "above the teacher"
    return "below the teacher" if retention["high"] < 1 else "within noise of the teacher"


def collections(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The measured collections, home first."""
    found = (data.get("bench") or {}).get("collections") or []
    return sorted(found, key=lambda c: c.get("kind") != "home")


def rows_of(data: Mapping[str, Any], part: str) -> list[Mapping[str, Any]]:
    """A list inside ``bench`` (latency, samples); empty where the run has none."""
    return list((data.get("bench") or {}).get(part) or [])


def inherit_rows(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The settings of the inheritance check; empty where the run has none."""
    return list((data.get("inherit") or {}).get("rows") or [])


def describe(collection: Mapping[str, Any]) -> str:
    """Name, kind and number of queries of a collection, in one phrase."""
    facts = [str(collection.get("kind") or ""), f"{grouped(collection.get('num_queries'))} queries"]
    return f"{collection.get('name', '?')} ({', '.join(f for f in facts if f)})"


def system_name(row: Mapping[str, Any]) -> str:
    """What a row of the retrieval table is called."""
    system = str(row.get("system", "?"))
    return "BM25" if system == "bm25" else system


def difference_name(row: Mapping[str, Any]) -> str:
    """What a paired difference is called."""
    return str(row.get("label", "?")).replace("bm25", "BM25")


def encoder_latency(data: Mapping[str, Any], role: str) -> list[Mapping[str, Any]]:
    """Latency rows of the ``teacher`` or the ``student``, which a row may also call by its name."""
    names = {role, (data.get(role) or {}).get("name")}
    return [row for row in rows_of(data, "latency") if row.get("encoder") in names]


def speed_up(data: Mapping[str, Any]) -> tuple[float, Mapping[str, Any]] | None:
    """Queries per second of the student over the teacher's, and the student's row.

    The two rows must have the same threads and dtype; None where no such two were measured.
    """
    for student in encoder_latency(data, "student"):
        for teacher in encoder_latency(data, "teacher"):
            same = all(student.get(key) == teacher.get(key) for key in ("threads", "dtype"))
            rates = student.get("queries_per_s"), teacher.get("queries_per_s")
            if same and is_number(rates[0]) and is_number(rates[1]) and rates[1] > 0:  # type: ignore[operator]
                return student["queries_per_s"] / teacher["queries_per_s"], student
    return None


def parameter_share(data: Mapping[str, Any]) -> float | None:
    """Parameters of the student over the teacher's."""
    student, teacher = ((data.get(role) or {}).get("parameters") for role in ("student", "teacher"))
    return student / teacher if is_number(student) and is_number(teacher) and teacher else None


def verdict_sentences(data: Mapping[str, Any]) -> list[str]:
    """The run's result in words: what is kept on each collection, then size and speed."""
    sentences: list[str] = []
    for collection in collections(data):
        kept = collection.get("retention") or {}
        parts = [_kept_in_words(mode, kept[mode]) for mode in MODES if is_number((kept.get(mode) or {}).get("mean"))]
        if parts:
            subject = "it" if sentences else "the student"
            parts[0] = parts[0].replace(" where", " of the teacher's nDCG@10 where", 1)
            sentences.append(f"On {describe(collection)}, {subject} keeps {', and '.join(parts)}.")
    sentences.extend(_size_and_speed(data))
    return sentences


def _kept_in_words(mode: str, retention: Mapping[str, Any]) -> str:
    verdict = ", ".join(filter(None, (mode, verdict_against_teacher(retention))))
    return f"{percent_interval(retention)} where it {MODES[mode]} ({verdict})"


def _size_and_speed(data: Mapping[str, Any]) -> Iterator[str]:
    share, faster = parameter_share(data), speed_up(data)
    size = speed = ""
    if share is not None:
        counts = [short_count(data[role]["parameters"]) for role in ("student", "teacher")]
        size = f"has {counts[0]} parameters, {share:.0%} of the teacher's {counts[1]}"
    if faster is not None:
        ratio, row = faster
        setting = ", ".join(
            [f"{row['threads']} threads"] * ("threads" in row) + [str(row["dtype"])] * ("dtype" in row) + ["single queries"]
        )
        speed = f"embeds {ratio:.1f} times as many queries per second ({setting})"
    if size or speed:
        yield f"The student {', and '.join(filter(None, (size, speed)))}."


def machine(data: Mapping[str, Any]) -> str:
    """The hardware in one phrase; "" where it is not recorded."""
    hardware = data.get("hardware") or {}
    cores = f"{hardware['cores']} cores" if "cores" in hardware else ""
    return ", ".join(str(part) for part in (hardware.get("cpu"), cores, hardware.get("accelerator")) if part)


def inherit_summary(data: Mapping[str, Any]) -> str:
    """The inheritance check in words, or "" where the run has none."""
    rows = inherit_rows(data)
    if not rows:
        return ""
    verdicts = [str(row.get("verdict")) for row in rows]
    counts = [f"{verdicts.count(word)} {word}" for word in ("inherited", "not inherited", "undecided") if word in verdicts]
    outcome = "Passed" if data["inherit"].get("passed") else "Not passed"
    return f"{outcome}: of {len(rows)} settings, {', '.join(counts)}."


def flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Leaves of nested mappings as the ``key=value`` pairs that the command line takes."""
    if isinstance(value, Mapping) and value:
        for key, child in value.items():
            yield from flatten(child, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, str) and value.isprintable():
        yield prefix, value
    else:
        yield prefix, json.dumps(value, ensure_ascii=False, default=str)


def values_of(rows: Sequence[Mapping[str, Any]], key: str) -> list[Any]:
    """Distinct values of ``key`` over the rows, in order of appearance."""
    return list(dict.fromkeys(row[key] for row in rows if key in row))
