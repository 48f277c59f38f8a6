"""One chat endpoint: a prompt at a time, with what was learnt about the endpoint on the way."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from leafkit.config import SynthConfig
from leafkit.core import openai_client
from leafkit.core.errors import UsageError
from leafkit.core.openai_client import Address, Client, EndlessAnswer, Refusal
from leafkit.synth.answers import RefusedAnswer
from leafkit.synth.chat_prompts import Messages

MAX_ANSWER_BYTES = 4_000_000  # an endless answer ends here
MAX_PLAUSIBLE_TOKENS = 10_000_000  # of one request; what a server reports beyond is not believed
SECTION = "synth.endpoint"  # of the recipe


@dataclass(frozen=True, slots=True)
class Reply:
    """Text of an answer, and the tokens it took where the endpoint says so plausibly."""

    content: str
    is_cut: bool
    input_tokens: int | None
    output_tokens: int | None


def base_url_of(config: SynthConfig) -> str:
    """The endpoint's URL; see ``leafkit.core.openai_client.base_url_of``."""
    return openai_client.base_url_of(config.endpoint, SECTION)


def read_address(config: SynthConfig) -> Address:
    """URL and key of the endpoint; nothing is sent.

    Raises:
        UsageError: no model is named, the URL is no http address, or OpenAI's own endpoint lacks a
            key.
    """
    if not config.model:
        raise UsageError(
            "synth.model is missing",
            "name the chat model as the endpoint knows it: synth.model=...",
        )
    return openai_client.read_address(config.endpoint, SECTION)


class Endpoint:
    """A chat endpoint and what was learnt about it: whether it takes response_format, and how it
    calls the output limit.
    """

    def __init__(self, address: Address, config: SynthConfig) -> None:
        """Prepare the client; nothing is sent.

        Raises:
            MissingExtra: the openai package is not installed.
        """
        self._config = config
        self._client = Client(
            address, config.model, "synth.model", config.endpoint.timeout_s, why="leafkit synth"
        )
        self._json_mode, self._limit_name = True, "max_tokens"

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def ask(self, messages: Messages) -> Reply:
        """One answer to one prompt.

        Raises:
            TransientError: rate limit, server error, timeout or broken connection: worth another
                try.
            RefusedAnswer: an answer came, but it is no chat completion: worth another try too.
            LeafkitError: the endpoint refuses this run: key, model or request.
        """
        while True:
            # other requests may learn something while this one is out
            sent = (
                self._json_mode,
                self._limit_name,
            )
            try:
                return _read_completion(await self._send(messages, *sent))
            except EndlessAnswer:
                raise RefusedAnswer("endless answer") from None
            except Refusal as err:
                if err.status not in {400, 422} or not self._adapt(err, *sent):
                    raise

    async def _send(self, messages: Messages, json_mode: bool, limit_name: str) -> bytes:
        options: dict[str, Any] = {"messages": messages, limit_name: self._config.max_output_tokens}
        if json_mode:
            options["response_format"] = {"type": "json_object"}
        request = self._client.openai.chat.completions.with_streaming_response.create(
            model=self._config.model, temperature=self._config.temperature, **options
        )
        return await self._client.receive(request, MAX_ANSWER_BYTES)

    def _adapt(self, err: Refusal, json_mode: bool, limit_name: str) -> bool:
        """Learn from a refused parameter; whether the request, sent with these, is worth sending
        again without.
        """
        if limit_name == "max_tokens" and "max_completion_tokens" in err.words:
            self._limit_name = "max_completion_tokens"
            return True
        if json_mode:
            self._json_mode = False
        return json_mode


def _read_completion(content: bytes) -> Reply:
    try:
        body = json.loads(content)
        choice = body["choices"][0]
        text = choice["message"]["content"]
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        raise RefusedAnswer("no chat completion") from None
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Reply(
        content=text if isinstance(text, str) else "",
        is_cut=choice.get("finish_reason") == "length",
        input_tokens=_plausible(usage.get("prompt_tokens")),
        output_tokens=_plausible(usage.get("completion_tokens")),
    )


def _plausible(value: object) -> int | None:
    is_count = (
        isinstance(value, int)
        and not isinstance(value, bool)
        and 0 <= value <= MAX_PLAUSIBLE_TOKENS
    )
    return value if is_count and isinstance(value, int) else None
