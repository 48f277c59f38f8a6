"""Ask for everything that is planned: some requests at a time, with retries, every accepted answer
into the journal.
"""

from __future__ import annotations

import asyncio
import datetime
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from leafkit.config import SynthConfig
from leafkit.core.console import Bar, progress_bar
from leafkit.core.errors import LeafkitError
from leafkit.core.openai_client import TransientError, backoff
from leafkit.core.process.stop_signals import cancel_on_stop
from leafkit.synth.answers import RefusedAnswer, normalize
from leafkit.synth.chat_endpoint import Endpoint
from leafkit.synth.journal import Entry, Journal, count_entries
from leafkit.synth.plan import Job, RowJob, Slot, estimate_tokens, instruction_job, price, row_jobs

OUTAGE_JOBS = (
    10  # jobs in a row that got no answer at all, each after all its retries: the endpoint is gone
)


@dataclass(slots=True)
class Outcome:
    """What the journal's answers amount to.

    Attributes:
        instructions: of each slot that has one, by the slot's index, without repeated ones.
        jobs: the rows' jobs, in the plan's order.
        duplicate_instructions: slots dropped because an earlier one has the same instruction.
    """

    instructions: dict[int, str]
    jobs: list[RowJob]
    duplicate_instructions: int


def generate(
    slots: Sequence[Slot], endpoint: Endpoint, journal: Journal, config: SynthConfig, *, seed: int
) -> Outcome:
    """Instructions first, all of them, then rows; answers that the journal has are not asked for
    again.

    Raises:
        LeafkitError: the endpoint refuses the run or is gone, or synth.max_cost is reached; the
            journal keeps every answer.
    """

    async def run() -> Outcome:
        runner = _Runner(endpoint, journal, config)
        with cancel_on_stop():
            try:
                await runner.ask_all(
                    [job for slot in slots if (job := instruction_job(slot))], "synth: instructions"
                )
                outcome = plan_rows(slots, journal, config, seed)
                await runner.ask_all([row.job for row in outcome.jobs], "synth: rows")
                return outcome
            finally:
                await endpoint.close()

    return asyncio.run(run())


def plan_rows(slots: Sequence[Slot], journal: Journal, config: SynthConfig, seed: int) -> Outcome:
    """Row jobs of every slot whose instruction is there and not an earlier slot's; the order is the
    plan's.
    """
    accepted = journal.accepted()
    instructions: dict[int, str] = {}
    jobs: list[RowJob] = []
    seen: set[str] = set()
    duplicates = 0
    for slot in slots:
        text = slot.task.instruction
        if not text:
            entry = accepted.get(slot.key)
            if entry is None or entry.answer is None:
                continue
            text = str(entry.answer["instruction"])
            if normalize(text) in seen:
                duplicates += 1
                continue
            seen.add(normalize(text))
        instructions[slot.index] = text
        jobs += row_jobs(slot, text, config, seed)
    return Outcome(instructions, jobs, duplicates)


class _Runner:
    """Asks jobs through one endpoint, ``max_concurrency`` at a time."""

    def __init__(self, endpoint: Endpoint, journal: Journal, config: SynthConfig) -> None:
        self._endpoint, self._journal, self._config = endpoint, journal, config
        counts = count_entries(journal.entries)
        self._spent = price(counts["input_tokens"], counts["output_tokens"], config)
        self._silent_jobs = 0  # in a row without any answer
        self._num_failed = 0

    async def ask_all(self, jobs: list[Job], title: str) -> None:
        done = self._journal.accepted()
        pending = deque(job for job in jobs if job.key not in done)
        if not pending:
            return
        with progress_bar(title, len(pending), "jobs") as bar:
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(self._config.endpoint.max_concurrency, len(pending))):
                        group.create_task(self._work(pending, bar))
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None  # the first one ended the others

    async def _work(self, pending: deque[Job], bar: Bar) -> None:
        while pending:
            self._check_budget()
            entry, was_answered = await self._ask(pending.popleft())
            self._journal.append(entry)
            self._spent += price(entry.input_tokens, entry.output_tokens, self._config)
            self._num_failed += entry.answer is None
            self._silent_jobs = 0 if was_answered else self._silent_jobs + 1
            if self._silent_jobs >= OUTAGE_JOBS:
                raise LeafkitError(
                    f"the endpoint gave no answer to {self._silent_jobs} jobs in a row (last: "
                    f"{entry.failed}), each tried"
                    f" {self._config.endpoint.max_retries + 1} times",
                    "see that it runs and is not overloaded (synth.endpoint.max_concurrency, "
                    "synth.endpoint.timeout_s); every answer so far is"
                    " kept, the same command continues",
                )
            bar.advance(note=f"{self._num_failed} failed" if self._num_failed else "")

    def _check_budget(self) -> None:
        limit = self._config.max_cost
        if limit and self._spent >= limit:
            raise LeafkitError(
                f"synth.max_cost={limit} is reached: {self._spent:.4f} spent by the endpoint's "
                f"own count",
                "raise synth.max_cost; every answer so far is kept, the same command continues",
            )

    async def _ask(self, job: Job) -> tuple[Entry, bool]:
        """What became of a job, and whether the endpoint gave any answer to it."""
        refused: Counter[str] = Counter()
        tokens: Counter[str] = Counter()
        for attempt in range(self._config.endpoint.max_retries + 1):
            try:
                reply = await self._endpoint.ask(job.messages)
                if reply.input_tokens is None or reply.output_tokens is None:
                    tokens["unreported"] += 1
                asked = sum(estimate_tokens(m["content"]) for m in job.messages)
                tokens["input_tokens"] += (
                    asked if reply.input_tokens is None else reply.input_tokens
                )
                answered = estimate_tokens(reply.content)
                tokens["output_tokens"] += (
                    answered if reply.output_tokens is None else reply.output_tokens
                )
                answer = _read(job, reply.content, reply.is_cut)
                return _entry(job, answer, "", refused, tokens=tokens), True
            except RefusedAnswer as err:
                reason = str(err)
                tokens["answers"] += 1
            except TransientError as err:
                reason = str(err)
                if attempt < self._config.endpoint.max_retries:
                    wait_s = (
                        backoff(attempt, self._config.endpoint.backoff_s)
                        if err.wait_s is None
                        else err.wait_s
                    )
                    await asyncio.sleep(wait_s)
            refused[reason] += 1
        return _entry(job, None, reason, refused, tokens=tokens), tokens["answers"] > 0


def _read(job: Job, content: str, is_cut: bool) -> Mapping[str, object]:
    try:
        return job.read(content)
    except RefusedAnswer as err:
        raise RefusedAnswer("cut at synth.max_output_tokens" if is_cut else str(err)) from None


def _entry(
    job: Job,
    answer: Mapping[str, object] | None,
    failed: str,
    refused: Counter[str],
    *,
    tokens: Counter[str],
) -> Entry:
    return Entry(
        key=job.key,
        answer=answer,
        failed=failed,
        requests=sum(refused.values()) + (answer is not None),
        refused=dict(refused),
        input_tokens=tokens["input_tokens"],
        output_tokens=tokens["output_tokens"],
        unreported=tokens["unreported"],
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
