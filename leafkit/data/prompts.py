"""Prompts: what stands before a text. Instruction and text stay apart until here.

A prompt is a constant prefix, so that a server can put it before any query; templates end with
{query}. ``make_prompt`` is the one function that makes it, for training, mining, soft labels,
benchmarks, mteb and serving alike.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from leafkit.config import LABEL_TASKS
from leafkit.core.errors import UsageError

KALM_TEMPLATE = (
    "Instruct: {instruction} \n Query: {query}"  # V1 and V2: a space on both sides of the newline
)
GEMMA_TEMPLATE = "Instruct: {instruction}\nQuery: {query}"  # KaLM-Embedding-Gemma3-12B

# In these both texts are of one kind: sentence pairs, translations, and examples of one class.
SYMMETRIC_TASKS = ("sts", "pair_classification", "bitext", *LABEL_TASKS)

_INSTRUCTED = re.compile(  # as E5-mistral, KaLM and Qwen3 write it, whatever the spaces
    r"\s*Instruct(?:ion)?:\s*(?P<instruction>.*?)\s*\n\s*Query:\s*(?P<text>\S.*)", re.DOTALL
)
_LEAST_LETTERS = 3  # of a template's own words on either side, to know them again in a text


@dataclass(frozen=True, slots=True)
class Example:
    """A few-shot example; ``instruction`` is its own, "" takes that of the prompt it stands in."""

    query: str
    document: str
    instruction: str = ""


def make_prompt(
    template: str,
    instruction: str,
    examples: Sequence[Example] = (),
    example_template: str = "",
) -> str:
    """Few-shot examples (LG-ANNA, arXiv 2506.07438, section 3), then everything of the template
    before {query}, with the instruction in its place.

    >>> make_prompt(KALM_TEMPLATE, "Find the answer")
    'Instruct: Find the answer \\n Query: '
    >>> make_prompt("> {query}", "", [Example("q", "d")], "{query}\\n{document}\\n\\n")
    'q\\nd\\n\\n> '

    Args:
        template: ends with {query}; may hold {instruction}.
        instruction: of the task.
        examples: shown before it, in order.
        example_template: of one example; may hold {instruction}, holds {query} and {document}.
    """
    shown = [_show(example_template, instruction, example) for example in examples]
    return "".join(shown) + template.removesuffix("{query}").replace("{instruction}", instruction)


def _show(template: str, instruction: str, example: Example) -> str:
    # Texts go in last and at once, so that braces inside a text are no places to fill.
    head = template.replace("{instruction}", example.instruction or instruction)
    return example.document.join(
        part.replace("{query}", example.query) for part in head.split("{document}")
    )


def find_prompt(text: str, template: str = "") -> tuple[str, str] | None:
    """Instruction and text where a prompt stands before the text already; None where none does.

    Known are the form of E5-mistral, KaLM and Qwen3, whatever its spaces, and the given template's
    where it has words of its own on both sides of its {instruction}.

    >>> find_prompt("Instruct: Find the answer\\nQuery: why is the sky blue")
    ('Find the answer', 'why is the sky blue')

    Args:
        text: a query or a document.
        template: ends with {query}.
    """
    match = _INSTRUCTED.match(text)
    if match is None and template and (pattern := _pattern_of(template)) is not None:
        match = pattern.match(text)
    return None if match is None else (match["instruction"].strip(), match["text"].strip())


def without_prompt(text: str) -> str:
    """The text without the prompt that stands before it, where one does."""
    found = find_prompt(text)
    return text if found is None else found[1]


@cache
def _pattern_of(template: str) -> re.Pattern[str] | None:
    head, place, tail = template.removesuffix("{query}").partition("{instruction}")
    if not place or min(len(re.findall(r"\w", part)) for part in (head, tail)) < _LEAST_LETTERS:
        return None
    before, after = (r"\s*".join(map(re.escape, part.split())) for part in (head, tail))
    return re.compile(rf"\s*{before}\s*(?P<instruction>.*?)\s*{after}\s*(?P<text>\S.*)", re.DOTALL)


def is_symmetric(task: str, prompt_on: str, *, has_label_names: bool = False) -> bool:
    """Whether the prompt stands before the documents too.

    Args:
        task: of the rows.
        prompt_on: query, both, or auto: by the task.
        has_label_names: the documents of a label task are names of labels, not texts of one.
    """
    of_one_kind = task in SYMMETRIC_TASKS and not has_label_names
    return prompt_on == "both" or (prompt_on == "auto" and of_one_kind)


def takes_in_batch_negatives(task: str, in_batch: str) -> bool:
    """Whether other rows' documents are negatives; not for labels, where another row's text may be
    of the same class.
    """
    return in_batch == "use" or (in_batch == "auto" and task not in LABEL_TASKS)


def check_room(key: str, prompt_tokens: int, max_tokens: int, least: int = 8) -> None:
    """Refuse a prompt that leaves no room for the query.

    Raises:
        UsageError: less than ``least`` tokens are left.
    """
    if prompt_tokens + least > max_tokens:
        raise UsageError(
            f"{key}: the prompt takes {prompt_tokens} of the {max_tokens} tokens a query may have",
            "raise data.max_query_tokens, or take fewer examples or a shorter instruction",
        )
