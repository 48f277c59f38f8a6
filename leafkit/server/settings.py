"""What a server can be told, and the limits that it keeps.

The command ``leafkit serve`` takes every setting by its name; docs/serve.md lists them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypedDict

from leafkit.config import INDEX_KINDS
from leafkit.core.errors import UsageError
from leafkit.core.hosts import is_host

TEACHER_STATES = ("lazy", "eager", "off")
_SMALLEST = {"workers": 1, "max_inputs": 1, "max_body_bytes": 1, "max_requests": 2, "max_hits": 1}
_SMALLEST["batch_tokens"] = 1
_MOST_WORKERS = 256
_LARGEST_KEY_FILE = 65_536


class Settings(TypedDict, total=False):
    """The names and types of ``ServerSettings``, for the functions that take them by name."""

    name: str
    api_key: str
    api_key_env: str
    api_key_file: str
    teacher: str
    index: str
    allow_hosts: Sequence[str]
    student_documents: bool
    promise: float | None
    unverified: bool
    workers: int
    max_inputs: int
    max_body_bytes: int
    max_requests: int
    max_hits: int
    batch_tokens: int


@dataclass(frozen=True)
class ServerSettings:
    """How a server presents itself and what it takes.

    Attributes:
        name: of the model, in requests and answers.
        api_key: that requests carry as a bearer token; "" asks for none.
        api_key_env: environment variable that holds the key.
        api_key_file: file that holds the key.
        teacher: lazy loads it at the first request that needs it, eager before the server answers,
            off never.
        index: faiss index of a pair that is opened from its folder; "" takes flat, or what the pair
            has.
        allow_hosts: where a teacher that is an endpoint may be asked, beside this machine, OpenAI's
            own and the host of OPENAI_BASE_URL: that it stands in the pair's files does not do.
        student_documents: embed all documents with the student too before the server answers, for
            searches of mode=student; takes the memory of one more matrix.
        promise: share of the teacher's nDCG@10 that a router keeps, as leafkit ladder calibrated
            it: queries climb from the cheapest rung to the teacher. None asks the student alone.
        unverified: serve a promise that the queries that verify refute, or that was calibrated on
            what the student has seen in training; answers say so.
        workers: processes that answer on the one port. Each holds the models.
        max_inputs: texts per request.
        max_body_bytes: size of a request's body.
        max_requests: in flight at once, of all workers together; of these half may wait for the
            teacher. More are told to come again later.
        max_hits: documents per search.
        batch_tokens: of several requests that the teacher embeds together.
    """

    name: str = "leafkit"
    api_key: str = field(default="", repr=False)
    api_key_env: str = ""
    api_key_file: str = ""
    teacher: str = "lazy"
    index: str = ""
    allow_hosts: Sequence[str] = ()
    student_documents: bool = False
    promise: float | None = None
    unverified: bool = False
    workers: int = 1
    max_inputs: int = 32  # this and the next two: what TEI starts with
    max_body_bytes: int = 2_000_000
    max_requests: int = 512
    max_hits: int = 1000
    batch_tokens: int = 16_384  # TEI's too

    @property
    def requests_per_worker(self) -> int:
        """Requests that one process has in flight."""
        return max(2, self.max_requests // self.workers)


def check_settings(settings: ServerSettings) -> ServerSettings:
    """The settings with the key that a file or the environment holds.

    Raises:
        UsageError: one is of another type or out of range, or a key cannot be read.
    """
    if not isinstance(settings.name, str) or not re.fullmatch(
        r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}", settings.name
    ):
        raise UsageError(
            f"name={settings.name!r} is no name of a model",
            "letters, digits, dots, dashes and slashes; roles are put behind it with a colon",
        )
    if settings.teacher not in TEACHER_STATES:
        raise UsageError(
            f"teacher={settings.teacher!r} says nothing", f"one of {', '.join(TEACHER_STATES)}"
        )
    if settings.index and settings.index not in INDEX_KINDS:
        raise UsageError(
            f"index={settings.index!r}: no such kind", f"one of {', '.join(INDEX_KINDS)}"
        )
    _check_hosts(settings.allow_hosts)
    for key in ("student_documents", "unverified"):
        if not isinstance(getattr(settings, key), bool):
            raise UsageError(
                f"{key}={getattr(settings, key)!r} is neither true nor false", "leave it out"
            )
    _check_promise(settings)
    for key, smallest in _SMALLEST.items():
        value = getattr(settings, key)
        if type(value) is not int or value < smallest:
            raise UsageError(
                f"{key}={value!r} is not a whole number from {smallest}", "leave it out"
            )
    if settings.workers > min(_MOST_WORKERS, settings.max_requests // 2):
        raise UsageError(
            f"workers={settings.workers}: each needs two of max_requests={settings.max_requests}, "
            f"and there are {_MOST_WORKERS} at most",
            "as many workers as the machine has cores are enough",
        )
    return replace(settings, api_key=_read_key(settings), api_key_env="", api_key_file="")


def _check_hosts(hosts: Sequence[str]) -> None:
    """Refuse what is no list of hosts.

    Raises:
        UsageError: it is none.
    """
    is_list = isinstance(hosts, Sequence) and not isinstance(hosts, str)
    if not is_list or not all(isinstance(host, str) and is_host(host) for host in hosts):
        raise UsageError(
            f"allow_hosts={hosts!r} is no list of hosts",
            "api.example.org, without http:// and port; several with commas between them",
        )


def _check_promise(settings: ServerSettings) -> None:
    """Refuse a promise that is no share, or that nothing could hold.

    Raises:
        UsageError: it is one.
    """
    promise = settings.promise
    if promise is None:
        if settings.unverified:
            raise UsageError(
                "unverified=true is about a promise, and none is asked for", "promise=.99 as well"
            )
        return
    # compared so that NaN is refused
    if type(promise) not in (int, float) or not 0 < promise < 1:
        raise UsageError(
            f"promise={promise!r} is no share of the teacher's nDCG@10 between 0 and 1",
            "promise=.99; leave it out to ask the student alone",
        )
    if settings.teacher == "off":
        raise UsageError(
            f"promise={promise:g} and teacher=off: what no rung below is sure of, the teacher "
            "answers",
            "teacher=lazy or teacher=eager",
        )


def _read_key(settings: ServerSettings) -> str:
    given = [k for k in ("api_key", "api_key_env", "api_key_file") if getattr(settings, k)]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} each name the API key", "give one of them")
    key, where = settings.api_key, "the API key"
    if settings.api_key_env:
        key = os.environ.get(settings.api_key_env, "").strip()
        where = f"api_key_env={settings.api_key_env}: that environment variable"
        if not key:
            raise UsageError(f"{where} is empty or not set", f"export {settings.api_key_env}=...")
    elif settings.api_key_file:
        where = f"api_key_file={settings.api_key_file}: that file"
        key = _read_key_file(Path(settings.api_key_file), where)
    if key and not re.fullmatch(r"[\x21-\x7e]+", key):
        raise UsageError(f"{where} holds a space or a character beyond ASCII", "choose another key")
    return key


def _read_key_file(path: Path, where: str) -> str:
    hint = "the key alone stands in it, on one line"
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST_KEY_FILE + 1)
        found = content.decode("ascii").strip()
    except OSError as err:
        raise UsageError(f"{where} cannot be read: {err.strerror or err}", hint) from err
    except UnicodeDecodeError:
        raise UsageError(f"{where} holds a character beyond ASCII", hint) from None
    if not found:
        raise UsageError(f"{where} is empty", hint)
    if len(content) > _LARGEST_KEY_FILE:
        raise UsageError(f"{where} has more than {_LARGEST_KEY_FILE:,} bytes", hint)
    return found
