"""Prompts of single texts: a model's template with another instruction than its usual one."""

from __future__ import annotations

from collections.abc import Sequence

from leafkit.core.console import log, warn
from leafkit.data.prompts import find_prompt, make_prompt
from leafkit.data.records import Query
from leafkit.embedders.protocol import Embedder

PROMPTED = "prompted"  # the role of a text that has its prompt before it already
EXAMPLES = "examples"  # among a model's templates: few-shot examples of its query prompt


def has_template(model: Embedder) -> bool:
    """Whether the model's query prompt has a place for an instruction."""
    return "{instruction}" in _templates(model).get("query", "")


def prompt_with(model: Embedder, instruction: str) -> str:
    """The model's query prompt with this instruction; its usual one where there is no instruction,
    or no place for one in its template.
    """
    if not instruction or not has_template(model):
        return model.prompt("query")
    templates = _templates(model)
    return templates.get(EXAMPLES, "") + make_prompt(templates["query"], instruction)


def has_own_prompt(model: Embedder, query: Query) -> bool:
    """Whether the query's own instruction gives it another prompt than the model's usual one."""
    return prompt_with(model, query.instruction) != model.prompt("query")


def place_prompts(
    model: Embedder, texts: Sequence[str], prompts: Sequence[str], roles: Sequence[str]
) -> tuple[list[str], str]:
    """Texts and the role to embed them in, so that each gets its prompt.

    Args:
        model: that embeds them.
        texts: (n,) without prompts.
        prompts: (n,) of each.
        roles: of these the first is taken whose prompt all texts have; where there is none, the
            prompts are put before the texts and the role is ``PROMPTED``.
    """
    needed = set(prompts)
    for role in roles:
        if needed <= {model.prompt(role)}:
            return list(texts), role
    return [prompt + text for prompt, text in zip(prompts, texts, strict=True)], PROMPTED


def prompted_queries(
    model: Embedder, queries: Sequence[Query], what: str = ""
) -> tuple[list[str], str]:
    """The texts of queries and the role to embed them in, so that each is asked under its own
    instruction where it has one and the model's prompt has a place for it.

    Args:
        model: that embeds them.
        queries: with their instructions.
        what: the model and the queries, to say which instructions it has no place for.
    """
    told = sum(bool(query.instruction) for query in queries)
    if told and what and not has_template(model):
        log(
            f"  {what}: {told:,} have an instruction of their own, for which this model's prompt "
            f"has no place: it stays as it is",
            style="dim",
        )
    if what:
        warn_of_prompts(model, [query.text for query in queries], what)
    prompts = [prompt_with(model, query.instruction) for query in queries]
    return place_prompts(model, [query.text for query in queries], prompts, ("query",))


def warn_of_prompts(model: Embedder, queries: Sequence[str], what: str) -> None:
    """Say where queries hold a prompt already, before which the model's own is put."""
    held = [text for text in queries if find_prompt(text) is not None]
    if held and model.prompt("query"):
        warn(
            f"{what}: {len(held):,} of {len(queries):,} hold a prompt already, the first is "
            f"{held[0][:60]!r}; the model's own comes before it: take it out of the queries"
        )


def _templates(model: Embedder) -> dict[str, str]:
    return {} if model.encoder is None else model.encoder.spec.templates
