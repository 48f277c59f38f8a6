"""How an OpenAI-compatible endpoint is reached."""

from __future__ import annotations

from dataclasses import dataclass

from leafkit.config.fields import number, text


@dataclass(frozen=True)
class EndpointConfig:
    """Address, key and patience; for embeddings and for chat models."""

    base_url: str = text(
        "",
        "Of the endpoint, http://localhost:8000/v1 say; empty takes $OPENAI_BASE_URL, else "
        "OpenAI's own.",
    )
    api_key_env: str = text(
        "OPENAI_API_KEY",
        "Environment variable that holds the key; a recipe never does. Its name ends in _API_KEY "
        "or _TOKEN: a recipe cannot send other variables away.",
    )
    max_concurrency: int = number(4, "Requests in flight.", above=0, high=1024)
    max_retries: int = number(
        5,
        "Per request, with exponential backoff, for statuses 429 and 5xx, timeouts and answers "
        "that cannot be read.",
        low=0,
        high=100,
    )
    backoff_s: float = number(
        1.0,
        "Wait before the first retry; doubles, unless the server says how long.",
        unit="s",
        above=0,
        high=3600,
    )
    timeout_s: float = number(60.0, "Of one request.", unit="s", above=0, high=86_400)
