"""What every OpenAI-compatible endpoint needs: its address and key, one request, and what each way
of failing means.
"""

from __future__ import annotations

import asyncio
import email.utils
import os
import random
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol
from urllib.parse import urlsplit, urlunsplit

from leafkit.core.errors import LeafkitError, MissingExtra, UsageError
from leafkit.core.hosts import check_host, host_of, is_loopback

OPENAI_URL = "https://api.openai.com/v1"
MAX_WAIT_S = 600.0  # the longest that a Retry-After is obeyed
MAX_BACKOFF_S = 60.0  # the longest wait that is our own choice
_RETRIED_STATUSES = frozenset({408, 409, 429})  # and everything from 500
_HINTS = {
    401: "check the key in the environment variable {env}",
    403: "check that the key in the environment variable {env} may use this model",
    404: "check {section}.base_url (it usually ends in /v1) and {model_key}",
    429: "the account has no credit left; add some, then the same command continues",
}
_NO_KEY = "none"  # what the openai package sends where there is none; it insists on one
_JITTER = random.Random()  # waits decide about no result


class TransientError(Exception):
    """A request failed in a way that may pass; ``wait_s`` is what the server asked to wait, None
    where it did not.
    """

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class EndlessAnswer(Exception):
    """An answer was longer than any good one can be."""


class Refusal(LeafkitError):
    """The endpoint does not take a request: the key, the model, or what it asks; ``status`` and its
    own ``words`` say why.
    """

    def __init__(self, message: str, hint: str, status: int, words: str) -> None:
        super().__init__(message, hint)
        self.status, self.words = status, words


class Redirected(LeafkitError):
    """The endpoint sends a request on to another host."""


class EndpointSettings(Protocol):
    """What a recipe's section says about where an endpoint is."""

    @property
    def base_url(self) -> str:
        """Of the endpoint; empty takes $OPENAI_BASE_URL, else OpenAI's own."""

    @property
    def api_key_env(self) -> str:
        """Environment variable that holds the key."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where requests go: ``url`` as it is used, ``shown`` without what may be secret in it, ``key``
    never shown.

    ``section`` and ``key_env`` are the recipe's section and the environment variable they come
    from, for remedies.
    """

    url: str
    shown: str
    key: str
    section: str
    key_env: str

    @property
    def has_key(self) -> bool:
        """Whether a key goes with the requests."""
        return self.key != _NO_KEY

    def hide(self, text: str) -> str:
        """``text`` on one line, short, without the key and the URL's password."""
        for secret in (self.key, urlsplit(self.url).password or "", self.url):
            if len(secret) > 4:  # "none", or a password so short that it is part of other words
                text = text.replace(secret, "***")
        return " ".join(text.split())[:300]


def shown_url(url: str) -> str:
    """A URL without user, password, query and fragment: fit for messages and files."""
    parts = urlsplit(url)
    return urlunsplit(
        (parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", "")
    )


def base_url_of(config: EndpointSettings, section: str) -> str:
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
        raise UsageError(
            f"{section}.base_url (or OPENAI_BASE_URL) is no http address",
            "give one like http://localhost:8000/v1",
        )
    return url


def check_consent(
    config: EndpointSettings,
    allowed: Collection[str],
    section: str,
    *,
    who: str = "the recipe",
    file: str = "a recipe file",
) -> None:
    """Refuse an endpoint that nobody but a file named; the user named OpenAI's own by naming none,
    and that of OPENAI_BASE_URL.

    Args:
        config: how the file says the endpoint is reached.
        allowed: hosts that the user of the file lets it ask.
        section: of the file.
        who: wants it asked, for the message.
        file: in words, likewise.

    Raises:
        UsageError: the file names another host, which is not this machine.
    """
    if config.base_url:
        named = {host_of(url) for url in (OPENAI_URL, os.environ.get("OPENAI_BASE_URL", ""))}
        place = f"{section}.base_url stands in {file}"
        check_host(config.base_url, named | set(allowed), who=who, where=place)


def read_address(config: EndpointSettings, section: str) -> Address:
    """URL and key of the endpoint that a recipe's section names; nothing is sent.

    Raises:
        UsageError: the URL is no http address, OpenAI's own endpoint lacks a key, or a key would
            travel over plain http to another machine.
    """
    url = base_url_of(config, section)
    key = os.environ.get(config.api_key_env, "").strip()
    if not key and urlsplit(url).hostname == urlsplit(OPENAI_URL).hostname:
        raise UsageError(
            f"{shown_url(url)} needs a key, and the environment variable {config.api_key_env} is "
            f"not set",
            f"export {config.api_key_env}=..., or name another variable with {section}.api_key_env",
        )
    if not (key.isascii() and key.isprintable()):
        raise UsageError(
            f"the environment variable {config.api_key_env} holds no key",
            "a key is one line of ASCII characters",
        )
    host = host_of(url)
    if key and urlsplit(url).scheme == "http" and not is_loopback(host):
        raise UsageError(
            f"the key in {config.api_key_env} would travel to {host} over plain http, where "
            f"anybody on the way can read it",
            f"give an https address, or a tunnel to this machine (http://127.0.0.1:PORT); where "
            f"the endpoint takes no key, name a variable that is not set: "
            f"{section}.api_key_env=NO_API_KEY",
        )
    return Address(url, shown_url(url), key or _NO_KEY, section, config.api_key_env)


class Client:
    """Sends requests to one model of one endpoint.

    Args:
        address: of the endpoint.
        model: as the endpoint knows it.
        model_key: key of the recipe that names the model, for remedies.
        timeout_s: of a whole request, in seconds.
        why: what needs the openai package, for the message where it is missing.

    Attributes:
        openai: the openai package's client, which makes the requests that ``receive`` takes.
        shown: the address, fit for messages.

    Raises:
        MissingExtra: the openai package is not installed.
    """

    def __init__(
        self, address: Address, model: str, model_key: str, timeout_s: float, *, why: str
    ) -> None:
        try:
            import openai
        except ImportError as err:
            raise MissingExtra("openai", "synth", why) from err
        self._package, self.shown = openai, address.shown
        self._address, self._model, self._model_key, self._timeout_s = (
            address,
            model,
            model_key,
            timeout_s,
        )
        # retries are ours: the client's would hide what happened
        self.openai = openai.AsyncOpenAI(
            base_url=address.url,
            api_key=address.key,
            timeout=timeout_s,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(
                event_hooks={"request": [self._stay_at_host]}
            ),
        )

    async def _stay_at_host(self, request: Any) -> None:
        """Called before each request, those that follow a redirect included."""
        here, there = self.openai.base_url, request.url
        if (there.scheme, there.host, there.port) != (here.scheme, here.host, here.port):
            raise Redirected(
                f"{self.shown} sends requests on to {shown_url(str(request.url))}, which is not "
                f"followed: texts and keys stay with the host that was named",
                f"if you trust the other host, give it as {self._address.section}.base_url",
            )

    async def close(self) -> None:
        """Close the connections."""
        await self.openai.close()

    async def receive(self, request: Any, max_bytes: int) -> bytes:
        """The body of the answer to a request of ``openai``'s ``with_streaming_response``.

        Raises:
            TransientError: rate limit, server error, timeout or broken connection: worth another
                try.
            EndlessAnswer: more than ``max_bytes`` came.
            Refusal: the endpoint refuses the request.
            Redirected: it sends the request on to another host.
        """
        content = bytearray()
        try:
            # the client's own bounds each read alone
            async with (
                asyncio.timeout(self._timeout_s),
                request as response,
            ):
                async for chunk in response.iter_bytes():
                    content += chunk
                    if len(content) > max_bytes:
                        raise EndlessAnswer
        except self._package.APIStatusError as err:
            self._refuse(err)
        except (TimeoutError, self._package.APITimeoutError):
            raise TransientError("timeout") from None
        except self._package.APIConnectionError as err:
            if isinstance(err.__cause__, Redirected):
                raise err.__cause__ from None
            raise TransientError("connection lost") from None
        except Exception as err:
            # httpx under openai 1 and 2, httpx2 under 3
            if not type(err).__module__.startswith("httpx"):
                raise
            raise TransientError("connection lost") from None
        return bytes(content)

    def _refuse(self, err: Any) -> NoReturn:
        status, words = err.status_code, str(err.message)
        no_credit = status == 429 and err.code == "insufficient_quota"
        if status >= 500 or (status in _RETRIED_STATUSES and not no_credit):
            raise TransientError(
                f"status {status}", retry_after(err.response.headers.get("retry-after"))
            ) from None
        hint = _HINTS.get(status, "change what the endpoint does not take; its own words are above")
        address = self._address
        raise Refusal(
            f"{address.shown} refuses model {self._model!r} with status {status}: "
            f"{address.hide(words)}",
            hint.format(env=address.key_env, section=address.section, model_key=self._model_key),
            status,
            words,
        ) from None


def retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, as a number or a date; None where it says nothing
    usable.
    """
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


def backoff(attempt: int, first_s: float) -> float:
    """Seconds to wait after an attempt (0, 1, ...) that failed; half is drawn, so that clients do
    not return together.
    """
    return min(first_s * 2.0**attempt, MAX_BACKOFF_S) * (0.5 + 0.5 * _JITTER.random())
