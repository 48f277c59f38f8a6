"""The journal: every answer that was paid for, one JSON line each, on disk before the next step
depends on it.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from leafkit.core.artifact import write_durably
from leafkit.core.checkpoint_layout import SYNTH_JOURNAL_FILE
from leafkit.core.errors import LeafkitError, explain_write_errors


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of one job.

    Attributes:
        key: of the job.
        answer: what was accepted; None where every attempt failed.
        failed: why the last attempt failed; "" where one was accepted.
        requests: sent for this job.
        refused: attempts that failed, by reason.
        input_tokens: of all its requests.
        output_tokens: likewise.
        unreported: answers whose tokens the endpoint did not report, or not as a plausible number;
            they are estimated.
        created: UTC time, ISO 8601.
    """

    key: str
    answer: Mapping[str, Any] | None
    failed: str = ""
    requests: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    input_tokens: int = 0
    output_tokens: int = 0
    unreported: int = 0
    created: str = ""


class Journal:
    """An append-only file of entries whose first line says which configuration they belong to."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        """Open the journal in ``folder``, or begin one. A last line cut short by a crash is
        dropped.

        Raises:
            LeafkitError: the journal there belongs to other settings, is damaged, or cannot be
                written.
        """
        self.path = folder / SYNTH_JOURNAL_FILE
        self.entries: list[Entry] = []
        with explain_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if not self.path.exists():
                write_durably(self.path, _line({"identity": identity}))
            self._read(identity)
            self._stream = self.path.open("ab")

    def _read(self, identity: dict[str, Any]) -> None:
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        lines = content[:whole].splitlines()
        try:
            found = json.loads(lines[0])["identity"]
            self.entries = [Entry(**json.loads(line)) for line in lines[1:]]
        except (ValueError, TypeError, KeyError, IndexError) as err:
            raise LeafkitError(
                f"{self.path} is damaged: {err}",
                f"delete {self.path.parent}; its answers are lost and asked for again",
            ) from err
        if found != identity:
            changed = sorted(
                k for k in found.keys() | identity.keys() if found.get(k) != identity.get(k)
            )
            raise LeafkitError(
                f"{self.path} holds {len(self.entries)} answers of an interrupted run with other "
                f"settings:"
                f" {', '.join(changed)} changed",
                f"set them back to finish that run, or delete {self.path.parent} and lose its "
                f"answers",
            )
        if whole < len(content):
            with self.path.open("r+b") as stream:
                stream.truncate(whole)

    def accepted(self) -> dict[str, Entry]:
        """Entries with an answer, by the job's key."""
        return {entry.key: entry for entry in self.entries if entry.answer is not None}

    def append(self, entry: Entry) -> None:
        """Write one entry and make it survive a power cut.

        Raises:
            LeafkitError: disk full or permission denied; what was written before is intact.
        """
        with explain_write_errors(self.path):
            self._stream.write(_line(asdict(entry)))
            self._stream.flush()
            os.fsync(self._stream.fileno())
        self.entries.append(entry)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


class JournalCounts(TypedDict):
    """What some entries amount to; ``failed`` and ``refused`` are by reason."""

    requests: int
    accepted: int
    failed: dict[str, int]
    refused: dict[str, int]
    input_tokens: int
    output_tokens: int
    answers_without_usage: int


def count_entries(entries: Iterable[Entry]) -> JournalCounts:
    """Requests, accepted answers, failures by reason and tokens of some entries; a job that failed
    and was asked again counts as what became of it last.
    """
    entries = list(entries)
    last = {entry.key: entry for entry in entries}.values()
    refused: Counter[str] = Counter()
    for entry in entries:
        refused.update(entry.refused)
    return {
        "requests": sum(e.requests for e in entries),
        "accepted": sum(e.answer is not None for e in last),
        "failed": dict(Counter(e.failed for e in last if e.answer is None)),
        "refused": dict(refused),
        "input_tokens": sum(e.input_tokens for e in entries),
        "output_tokens": sum(e.output_tokens for e in entries),
        "answers_without_usage": sum(e.unreported for e in entries),
    }


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
