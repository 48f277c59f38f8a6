"""Prompts: what stands before a text. Instruction and text stay apart until here.

A prompt is a constant prefix, so that a server can put it before any query; templates end with
{query}.
"""

from __future__ import annotations

from collections.abc import Sequence

from leafkit.config import LABEL_TASKS
from leafkit.core.errors import UsageError

KALM_TEMPLATE = (
    "Instruct: {instruction} \n Query: {query}"  # V1 and V2: a space on both sides of the newline
)
GEMMA_TEMPLATE = "Instruct: {instruction}\nQuery: {query}"  # KaLM-Embedding-Gemma3-12B

# In these both texts are of one kind: sentence pairs, translations, and examples of one class.
SYMMETRIC_TASKS = ("sts", "pair_classification", "bitext", *LABEL_TASKS)


def fill_prompt(template: str, instruction: str, examples: str = "") -> str:
    """The prefix of a template: few-shot examples, then everything before {query}, with the
    instruction in its place.

    >>> fill_prompt(KALM_TEMPLATE, "Find the answer")
    'Instruct: Find the answer \\n Query: '

    Args:
        template: ends with {query}; may hold {instruction}.
        instruction: of the task.
        examples: see ``render_examples``.
    """
    return examples + template.removesuffix("{query}").replace("{instruction}", instruction)


def render_examples(template: str, instruction: str, examples: Sequence[tuple[str, str]]) -> str:
    """Few-shot examples as they stand in the prompt (LG-ANNA, arXiv 2506.07438, section 3).

    >>> render_examples("Query: {query}\\nResponse: {document}\\n\\n", "", [("q", "d")])
    'Query: q\\nResponse: d\\n\\n'

    Args:
        template: of one example; may hold {instruction}, holds {query} and {document}.
        instruction: of the task.
        examples: (query, document) pairs.
    """
    # Texts go in last and at once, so that braces inside a text are no places to fill.
    head = template.replace("{instruction}", instruction)
    return "".join(_fill(head, query, document) for query, document in examples)


def _fill(template: str, query: str, document: str) -> str:
    return document.join(part.replace("{query}", query) for part in template.split("{document}"))


def is_symmetric(task: str, prompt_on: str) -> bool:
    """Whether the prompt stands before the documents too; ``prompt_on`` is query, both or auto (by
    the task).
    """
    return prompt_on == "both" or (prompt_on == "auto" and task in SYMMETRIC_TASKS)


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
