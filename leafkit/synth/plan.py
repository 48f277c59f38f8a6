"""The jobs of a run: which persona writes which instruction, which rows follow, and what all of it
may cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from leafkit.config import SynthConfig
from leafkit.synth.answers import read_instruction, read_row
from leafkit.synth.chat_prompts import (
    HAN_SHARE,
    INSTRUCTION_LENGTH,
    TASK_TYPES,
    Length,
    Messages,
    TaskType,
    instruction_messages,
    row_messages,
)
from leafkit.synth.language import count_han
from leafkit.synth.personas import Persona, group_by_language

CHARS_PER_TOKEN = (
    3.5  # the rule of the estimate: a token per Chinese character, or per 3.5 other characters
)
_JSON_TOKENS = 20  # braces and keys of an answer
_ROW_STRIDE = 97  # rows of a task with a fixed instruction take personas this far apart


@dataclass(frozen=True, slots=True)
class Slot:
    """One task of the run: its type, its language and its persona. Slot i is the same however many
    slots there are.
    """

    index: int
    task: TaskType
    language: str
    position: int  # of the persona among those of its language
    personas: list[Persona]

    @property
    def persona(self) -> Persona:
        """Who writes the instruction."""
        return self.personas[self.position % len(self.personas)]

    @property
    def key(self) -> str:
        """Name of the slot, and of the job that writes its instruction."""
        return f"{self.task.name}:{self.language}:{self.persona.id}:{self.index}"


@dataclass(frozen=True, slots=True)
class Job:
    """One prompt, and the reader that accepts or refuses its answer."""

    key: str
    messages: Messages
    read: Callable[[str], Mapping[str, object]]
    output_chars: int  # of a usual answer, for the estimate
    output_han: int  # of them Chinese


@dataclass(frozen=True, slots=True)
class RowJob:
    """The job of one row, and what its provenance says."""

    slot: Slot
    persona: Persona
    languages: tuple[str, str]
    job: Job


@dataclass(frozen=True, slots=True)
class Estimate:
    """Size of a run before it starts; ``most_output_tokens`` has every answer at its limit."""

    requests: int
    input_tokens: int
    output_tokens: int
    most_output_tokens: int


def plan_slots(config: SynthConfig, personas: Sequence[Persona], seed: int) -> list[Slot]:
    """num_instructions slots, dealt over task types first, then languages; personas in an order
    drawn by the seed.

    Raises:
        UsageError: a language has no persona.
    """
    groups = group_by_language(personas, config.languages, seed)
    num_tasks, num_languages = len(config.tasks), len(config.languages)
    slots = []
    for index in range(config.num_instructions):
        language = config.languages[index // num_tasks % num_languages]
        position = index // (num_tasks * num_languages) * num_tasks + index % num_tasks
        slots.append(
            Slot(
                index,
                TASK_TYPES[config.tasks[index % num_tasks]],
                language,
                position,
                groups[language],
            )
        )
    return slots


def instruction_job(slot: Slot) -> Job | None:
    """The job that writes a slot's instruction; None where the task's instruction is fixed."""
    if slot.task.instruction:
        return None
    messages = instruction_messages(slot.task, slot.persona.persona)
    return Job(slot.key, messages, read_instruction, INSTRUCTION_LENGTH.typical_chars, 0)


def row_jobs(slot: Slot, instruction: str, config: SynthConfig, seed: int) -> list[RowJob]:
    """The jobs that write a slot's rows.

    Where the instruction was written by a persona the prompt has none; where it is fixed, each row
    has one of its own.
    """
    jobs = []
    for number in range(config.rows_per_instruction):
        languages = (slot.language, _other_language(slot, config, number))
        persona, system = slot.persona, ""
        if slot.task.instruction:
            persona = slot.personas[(slot.position + _ROW_STRIDE * number) % len(slot.personas)]
            system = persona.persona
        messages = row_messages(
            slot.task,
            instruction,
            languages,
            config.num_negatives,
            key=f"{seed}:{slot.key}",
            number=number,
            persona=system,
        )

        def read(
            content: str, slot: Slot = slot, languages: tuple[str, str] = languages
        ) -> Mapping[str, object]:
            return read_row(content, slot.task, languages, config.num_negatives)

        sides = [
            (slot.task.query, languages[0]),
            *[(slot.task.document, languages[1])] * (1 + config.num_negatives),
        ]
        chars = [_usual_chars(length, language) for length, language in sides]
        han = sum(n for n, (_, language) in zip(chars, sides, strict=True) if language == "zh")
        jobs.append(
            RowJob(
                slot,
                persona,
                languages,
                Job(f"{slot.key}:{number}", messages, read, sum(chars), han),
            )
        )
    return jobs


def estimate(jobs: Sequence[Job], config: SynthConfig) -> Estimate:
    """Requests and tokens of some jobs if every first answer is accepted."""
    usual = sum(
        min(
            config.max_output_tokens, _count_tokens(job.output_chars, job.output_han) + _JSON_TOKENS
        )
        for job in jobs
    )
    return Estimate(
        requests=len(jobs),
        input_tokens=sum(estimate_tokens(m["content"]) for job in jobs for m in job.messages),
        output_tokens=usual,
        most_output_tokens=len(jobs) * config.max_output_tokens,
    )


def estimate_tokens(text: str) -> int:
    """Tokens of a text by the rule above."""
    return _count_tokens(len(text), count_han(text))


def price(input_tokens: int, output_tokens: int, config: SynthConfig) -> float:
    """What some tokens cost at the recipe's prices; 0 where it names none."""
    return (
        input_tokens * config.price_per_million_input_tokens
        + output_tokens * config.price_per_million_output_tokens
    ) / 1e6


def _count_tokens(num_chars: int, num_han: int) -> int:
    return num_han + math.ceil((num_chars - num_han) / CHARS_PER_TOKEN)


def _usual_chars(length: Length, language: str) -> int:
    return int(length.typical_chars * (HAN_SHARE if language == "zh" else 1))


def _other_language(slot: Slot, config: SynthConfig, number: int) -> str:
    """Language of a row's documents: the query's, or for bitext one of the others in turn."""
    if slot.task.name != "bitext":
        return slot.language
    others = [language for language in config.languages if language != slot.language]
    return others[(slot.position + number) % len(others)]
