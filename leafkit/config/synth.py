"""Synthetic training rows."""

from __future__ import annotations

from dataclasses import dataclass

from leafkit.config.endpoint import EndpointConfig
from leafkit.config.fields import number, section, text, texts

SYNTH_LANGUAGES = ("en", "zh", "fr", "pl")
SYNTH_TASKS = ("short_long", "long_short", "short_short", "long_long", "sts", "bitext")


def _chat_endpoint() -> EndpointConfig:
    return EndpointConfig(max_concurrency=8)


@dataclass(frozen=True)
class SynthConfig:
    """Persona-based synthetic rows from a chat model behind an OpenAI-compatible endpoint."""

    endpoint: EndpointConfig = section(_chat_endpoint, "Any OpenAI-compatible chat endpoint.")
    model: str = text("", "Name the endpoint knows the chat model by.")
    personas: str = text("builtin", 'builtin, or jsonl:PATH of {"persona", "language", "id"?}.')
    languages: list[str] = texts(
        list(SYNTH_LANGUAGES), "Of personas and rows.", choices=SYNTH_LANGUAGES, least_items=1
    )
    tasks: list[str] = texts(list(SYNTH_TASKS), "Task types.", choices=SYNTH_TASKS, least_items=1)
    num_instructions: int = number(
        100,
        "Tasks, dealt over the types, then the languages; sts and bitext have a fixed instruction.",
        above=0,
        high=10_000_000,
    )
    rows_per_instruction: int = number(4, "Rows to write for each.", above=0, high=10_000)
    num_negatives: int = number(1, "Hard negatives per row.", low=0, high=100)
    temperature: float = number(1.0, "Of the chat model.", above=0, high=100)
    max_output_tokens: int = number(1024, "Of one answer.", unit="tokens", above=0, high=1_000_000)
    price_per_million_input_tokens: float = number(
        0.0, "For the estimate shown before anything is sent.", unit="currency", low=0, high=1e9
    )
    price_per_million_output_tokens: float = number(
        0.0, "For the estimate shown before anything is sent.", unit="currency", low=0, high=1e9
    )
    max_cost: float = number(
        0.0,
        "Does not start above this estimate, stops where as much is spent; 0 is no limit.",
        unit="currency",
        low=0,
        high=1e12,
    )
