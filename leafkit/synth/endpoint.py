"""One chat endpoint: its address and key, one request at a time, and what each way of failing means."""

from __future__ import annotations

import asyncio
import email.utils
import json
import os
import time
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import urlsplit, urlunsplit

from leafkit.config import SynthConfig
from leafkit.errors import LeafkitError, MissingExtra, UsageError
from leafkit.synth.answers import RefusedAnswer
from leafkit.synth.prompts import Messages

OPENAI_URL = "https://api.openai.com/v1"
MAX_ANSWER_BYTES = 4_000_000  # an endless answer ends here
MAX_WAIT_S = 600.0  # the longest that a Retry-After is obeyed
MAX_PLAUSIBLE_TOKENS = 10_000_000  # of one request; what a server reports beyond is not believed
_RETRIED_STATUSES = frozenset({408, 409, 429})  # and everything from 500
_REMEDIES = {
    401: "check the key in the environment variable {env}",
    403: "check that the key in the environment variable {env} may use this model",
    404: "check synth.base_url (it usually ends in /v1) and synth.model",
    429: "the account has no credit left; mend that, then the same command continues",
}


class TransientError(Exception):
    """A request failed in a way that may pass; ``wait_s`` is what the server asked to wait, None where it did not."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Address:
    """Where requests go: ``url`` as it is used, ``shown`` without what may be secret in it, ``key`` never shown."""

    url: str
    shown: str
    key: str

    def hide(self, text: str) -> str:
        """``text`` on one line, short, without the key and the URL's password."""
        for secret in (self.key, urlsplit(self.url).password or "", self.url):
            if len(secret) > 4:  # "none", or a password so short that it is part of other words
                text = text.replace(secret, "***")
        return " ".join(text.split())[:300]


@dataclass(frozen=True, slots=True)
class Reply:
    """Text of an answer, and the tokens it took where the endpoint says so plausibly."""

    content: str
    is_cut: bool
    input_tokens: int | None
    output_tokens: int | None


def shown_url(url: str) -> str:
    """A URL without user, password, query and fragment: fit for messages and files."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


def base_url_of(config: SynthConfig) -> str:
    """The endpoint's URL: the recipe's, else the environment's, else OpenAI's own.

    Raises:
        UsageError: it is no http address.
    """
    url = config.base_url or os.environ.get("OPENAI_BASE_URL", "").strip() or OPENAI_URL
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:  # it is not shown: where it is malformed, so is the place of its password
        raise UsageError("synth.base_url (or OPENAI_BASE_URL) is no http address", "give one like http://localhost:8000/v1")
    return url


def read_address(config: SynthConfig) -> Address:
    """URL and key of the endpoint; nothing is sent.

    Raises:
        UsageError: no model is named, the URL is no http address, or OpenAI's own endpoint lacks a key.
    """
    if not config.model:
        raise UsageError("synth.model is missing", "name the chat model as the endpoint knows it: synth.model=...")
    url = base_url_of(config)
    key = os.environ.get(config.api_key_env, "").strip()
    if not key and urlsplit(url).hostname == urlsplit(OPENAI_URL).hostname:
        raise UsageError(
            f"{shown_url(url)} needs a key, and the environment variable {config.api_key_env} is not set",
            f"export {config.api_key_env}=..., or name another variable with synth.api_key_env",
        )
    if not (key.isascii() and key.isprintable()):
        raise UsageError(f"the environment variable {config.api_key_env} holds no key", "a key is one line of ASCII characters")
    return Address(url, shown_url(url), key or "none")


class Endpoint:
    """A chat endpoint and what was learnt about it: whether it takes response_format, and how it calls the output limit."""

    def __init__(self, address: Address, config: SynthConfig) -> None:
        """Prepare the client; nothing is sent.

        Raises:
            MissingExtra: the openai package is not installed.
        """
        try:
            import openai
        except ImportError as err:
            raise MissingExtra("openai", "synth", "leafkit synth") from err
        self._openai = openai
        self._address, self._config = address, config
        self._client = openai.AsyncOpenAI(
            base_url=address.url, api_key=address.key, timeout=config.timeout_s, max_retries=0
        )  # retries are ours: the client's would hide what happened
        self._json_mode, self._limit_name = True, "max_tokens"

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def ask(self, messages: Messages) -> Reply:
        """One answer to one prompt.

        Raises:
            TransientError: rate limit, server error, timeout or broken connection: worth another try.
            RefusedAnswer: an answer came, but it is no chat completion: worth another try too.
            LeafkitError: the endpoint refuses this run: key, model or request.
        """
        while True:
            sent = (self._json_mode, self._limit_name)  # other requests may learn something while this one is out
            try:
                async with asyncio.timeout(self._config.timeout_s):  # the client's own bounds each read, not the whole
                    return _read_completion(await self._send(messages, *sent))
            except self._openai.APIStatusError as err:
                if err.status_code not in {400, 422} or not self._adapt(err, *sent):
                    self._refuse(err)
            except (TimeoutError, self._openai.APITimeoutError):
                raise TransientError("timeout") from None
            except self._openai.APIConnectionError:
                raise TransientError("connection lost") from None
            except Exception as err:
                if not type(err).__module__.startswith("httpx"):  # httpx under openai 1 and 2, httpx2 under 3
                    raise
                raise TransientError("connection lost") from None

    async def _send(self, messages: Messages, json_mode: bool, limit_name: str) -> bytes:
        options: dict[str, Any] = {"messages": messages, limit_name: self._config.max_output_tokens}
        if json_mode:
            options["response_format"] = {"type": "json_object"}
        content = bytearray()
        async with self._client.chat.completions.with_streaming_response.create(
            model=self._config.model, temperature=self._config.temperature, **options
        ) as response:
            async for chunk in response.iter_bytes():
                content += chunk
                if len(content) > MAX_ANSWER_BYTES:
                    raise RefusedAnswer("endless answer")
        return bytes(content)

    def _adapt(self, err: Any, json_mode: bool, limit_name: str) -> bool:
        """Learn from a refused parameter; whether the request, sent with these, is worth sending again without."""
        if limit_name == "max_tokens" and "max_completion_tokens" in str(err.message):
            self._limit_name = "max_completion_tokens"
            return True
        if json_mode:
            self._json_mode = False
        return json_mode

    def _refuse(self, err: Any) -> NoReturn:
        status, message = err.status_code, self._address.hide(str(err.message))
        no_credit = status == 429 and err.code == "insufficient_quota"
        if status >= 500 or (status in _RETRIED_STATUSES and not no_credit):
            raise TransientError(f"status {status}", _retry_after(err.response.headers.get("retry-after"))) from None
        remedy = _REMEDIES.get(status, "change what the endpoint does not take; its own words are above")
        raise LeafkitError(
            f"{self._address.shown} refuses model {self._config.model!r} with status {status}: {message}",
            remedy.format(env=self._config.api_key_env),
        ) from None


def _retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, as a number or a date; None where it says nothing usable."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(seconds, 0.0), MAX_WAIT_S) if seconds == seconds else None


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
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_PLAUSIBLE_TOKENS
    return value if is_count and isinstance(value, int) else None
