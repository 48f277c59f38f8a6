"""A local endpoint, chat and embeddings, that answers as a script says: well, late, wrongly, or not
at all.

The good answer to a prompt is a function of the prompt alone, so that an interrupted run and an
undisturbed one can be compared. Everything the server sees is kept for the tests to look at.
"""

# ruff: noqa: RUF001  the texts are Chinese

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

MODEL = "chatter"
_SENTENCES = {
    "English": (
        "In the year {n} the keeper of the harbour wrote down how the weather changed and what "
        "it did to the ships."
    ),
    "French": (
        "En l'an {n} le gardien du port a noté dans un cahier comment le temps change et ce que "
        "cela fait aux navires."
    ),
    "Polish": (
        "W roku {n} strażnik portu zapisał, jak zmieniła się pogoda i że dla statków nie było to "
        "bez znaczenia."
    ),
    "Chinese (simplified)": "第{n}年，港口的看守人记下了天气的变化，"
    "以及这些变化给过往船只带来的影响和麻烦。",
}
_RUSSIAN = (
    "Смотритель гавани записал, как менялась погода и что это значило для кораблей в тот год."
)


@dataclass(frozen=True)
class Request:
    """One request as the server saw it."""

    body: dict[str, Any]
    headers: dict[str, str]
    path: str
    number: int  # of all requests, from 0
    attempt: int  # of this prompt, from 0

    @property
    def prompt(self) -> str:
        """The user's message, different for every job; of a request for vectors its texts."""
        return prompt_of(self.body)

    @property
    def texts(self) -> list[str]:
        return list(self.body["input"])

    @property
    def is_instruction(self) -> bool:
        return '{"instruction": "..."}' in self.body["messages"][-1]["content"]


def prompt_of(body: dict[str, Any]) -> str:
    return json.dumps(body["messages"] if "messages" in body else body["input"], ensure_ascii=False)


def hash_vectors(texts: list[str], dim: int) -> np.ndarray:
    """(n, dim) unit vectors, each a function of its text alone."""
    seeds = [int(hashlib.sha256(text.encode()).hexdigest()[:12], 16) for text in texts]
    vectors = np.stack([np.random.default_rng(seed).normal(size=dim) for seed in seeds]).astype(
        np.float32
    )
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


Script = Callable[[Request], str]


@dataclass
class ChatServer:
    """The server's address, its script, and what it has seen."""

    url: str = ""
    script: Script = lambda request: "good"
    embed: Callable[[list[str], int], np.ndarray] = hash_vectors
    dim: int = 16  # of vectors, where the request does not ask for another
    requests: list[Request] = field(default_factory=list)
    max_at_once: int = 0
    at_once: int = 0
    release: threading.Event = field(default_factory=threading.Event)  # ends every hanging answer
    lock: threading.Lock = field(default_factory=threading.Lock)

    def prompts(self) -> Counter[str]:
        """How often each prompt was asked."""
        return Counter(request.prompt for request in self.requests)


@contextmanager
def chat_server(script: Script | None = None) -> Iterator[ChatServer]:
    """A running server on a free port."""
    seen = ChatServer()
    if script is not None:
        seen.script = script
    handler = type("Handler", (_Handler,), {"seen": seen})
    server = _Server(("127.0.0.1", 0), handler)
    seen.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    )
    thread.start()
    try:
        yield seen
    finally:
        seen.release.set()
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    seen: ChatServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        seen = self.seen
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with seen.lock:
            prompt = prompt_of(body)
            request = Request(
                body,
                {k.lower(): v for k, v in self.headers.items()},
                self.path,
                len(seen.requests),
                seen.prompts()[prompt],
            )
            seen.requests.append(request)
            seen.at_once += 1
            seen.max_at_once = max(seen.max_at_once, seen.at_once)
        try:
            self._behave(seen.script(request), request)
        except OSError:
            self.close_connection = True
        finally:
            with seen.lock:
                seen.at_once -= 1

    def _behave(self, behaviour: str, request: Request) -> None:
        """``NAME`` or ``NAME:ARGUMENT``: a status, a way of breaking off, or an answer of
        ``contents``.
        """
        name, _, argument = behaviour.partition(":")
        if name.isdigit():
            error = (
                argument
                if argument.startswith("{")
                else json.dumps({"error": {"message": argument or "no", "type": "x"}})
            )
            self._send(int(name), error, {})
        elif name == "to":  # STATUS:URL, a redirect
            status, _, url = argument.partition(":")
            self._send(int(status), "", {"Location": url})
        elif name == "wait":  # 429 with Retry-After
            self._send(429, '{"error": {"message": "slow down"}}', {"Retry-After": argument})
        elif name == "slow":
            self.seen.release.wait(float(argument))
            self._send(200, self._good(request), {})
        elif name == "hang":
            self.seen.release.wait(10)
            self.close_connection = True
        elif name == "dribble":  # a byte now and then: no read ever times out
            self._head(200, {"Content-Length": "100000"})
            while not self.seen.release.wait(0.03):
                self.wfile.write(b" ")
        elif name == "drop":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif name == "half":
            content = self._good(request).encode()
            self._head(200, {"Content-Length": str(len(content))})
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif name == "endless":
            self._head(200, {"Content-Length": str(10**12)})
            while not self.seen.release.is_set():
                self.wfile.write(b"garbage " * 8192)
        elif name == "raw":
            self._send(200, argument, {})
        elif name == "usage":
            self._send(200, completion(good_content(request.body), usage=json.loads(argument)), {})
        elif name == "cut":
            self._send(200, completion(good_content(request.body)[:40], finish_reason="length"), {})
        elif "input" in request.body:
            self._send(200, embeddings_of(name, argument, request, self.seen), {})
        else:
            self._send(200, completion(content_of(name, request)), {})

    def _good(self, request: Request) -> str:
        if "input" in request.body:
            return embeddings_of("good", "", request, self.seen)
        return completion(good_content(request.body))

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, status: int, text: str, headers: dict[str, str]) -> None:
        content = text.encode()
        self._head(status, {**headers, "Content-Length": str(len(content))})
        self.wfile.write(content)


def completion(content: Any, usage: Any = None, finish_reason: str = "stop") -> str:
    """A chat completion as OpenAI writes it."""
    choice = {
        "index": 0,
        "finish_reason": finish_reason,
        "message": {"role": "assistant", "content": content},
    }
    usage = (
        {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        if usage is None
        else usage
    )
    return json.dumps(
        {
            "id": "c",
            "object": "chat.completion",
            "model": MODEL,
            "choices": [choice],
            "usage": usage,
        }
    )


def embeddings_of(name: str, argument: str, request: Request, seen: ChatServer) -> str:
    """The good answer to a request for vectors, damaged in the way that ``name`` says; ``argument``
    is a row's number.
    """
    texts, row = request.texts, int(argument or 0)
    vectors = seen.embed(
        texts, int(argument) if name == "dim" else request.body.get("dimensions", seen.dim)
    )
    if name == "long":
        vectors = vectors * np.float32(3)
    values: list[Any] = [
        base64.b64encode(v.astype("<f4").tobytes()).decode()
        if request.body["encoding_format"] == "base64" and name != "floats"
        else [float(x) for x in v]
        for v in vectors
    ]
    broken = {
        "null": None,
        "text": "!!",
        "short64": "AAAA",
        "nested": [[0.5, 0.5]],
        "words": ["a", "b"],
        "empty": [],
        "nan": [float("nan")] * seen.dim,
        "hole": [0.5] * (seen.dim - 1) + [None],
        "inf": [1e39] * seen.dim,
        "zero": [0.0] * seen.dim,
        "huge": [10**400] * seen.dim,
    }
    if name in broken:
        values[row] = broken[name]
    rows: list[dict[str, Any]] = [
        {"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(values)
    ]
    if name == "shuffled":
        rows = rows[1::2] + rows[::2][::-1]
    elif name == "unnumbered":
        rows = [{"embedding": r["embedding"]} for r in rows]
    elif name == "fewer":
        rows = rows[:-1]
    elif name == "more":
        rows.append(rows[0] | {"index": len(rows)})
    elif name == "twice":
        rows[-1]["index"] = 0
    elif name == "oddindex":
        rows[-1]["index"] = [len(rows) - 1]
    return json.dumps(
        {
            "object": "list",
            "data": rows,
            "model": MODEL,
            "usage": {"prompt_tokens": 1, "total_tokens": 1},
        }
    )


def content_of(name: str, request: Request) -> Any:
    """The good answer, damaged in the way that ``name`` says."""
    good = good_content(request.body)
    row = json.loads(good)
    side = "instruction" if request.is_instruction else "positive"
    damaged = {
        "good": lambda: good,
        "fenced": lambda: f"Here you are:\n```json\n{good}\n```\nEnjoy!",
        "thinking": lambda: f"<think>\nI could say {{}}.\n</think>\n{good}",
        "broken": lambda: good[:-3],
        "prose": lambda: "I am sorry, I cannot do that.",
        "list": lambda: f"[{good}]",
        "nothing": lambda: None,
        "missing": lambda: json.dumps({k: v for k, v in row.items() if k != side}),
        "number": lambda: json.dumps(row | {side: 7}),
        "empty": lambda: json.dumps(row | {side: " \u3000\n"}),
        "russian": lambda: json.dumps(row | {side: _RUSSIAN * 4}),
        "tiny": lambda: json.dumps(row | {side: "."}),
        "huge": lambda: json.dumps(row | {side: str(row[side]) * 500}),
        "same": lambda: json.dumps(
            row if request.is_instruction else row | {"negatives": [f" {row['positive'].upper()} "]}
        ),
        "few": lambda: json.dumps(row if request.is_instruction else row | {"negatives": []}),
        "twin": lambda: good if request.is_instruction else good_content(request.body, number=1),
        "instruction-twin": lambda: (
            good_content(request.body, number=1) if request.is_instruction else good
        ),
    }
    return damaged[name]()


def good_content(body: dict[str, Any], number: int | None = None) -> str:
    """What an honest chat model could say to a prompt; texts differ with ``number``, by default the
    prompt's hash.
    """
    messages = json.dumps(body["messages"])
    number = (
        int(hashlib.sha256(messages.encode()).hexdigest()[:9], 16) if number is None else number
    )
    prompt = body["messages"][-1]["content"]
    if '{"instruction": "..."}' in prompt:
        return json.dumps(
            {
                "instruction": (
                    f"Given a note of the harbour in the year {number}, find the report that "
                    f"explains it"
                )
            }
        )
    wants = {
        key: (kind, language)
        for key, kind, language in re.findall(
            r'^"(\w+)": (.*?), in (English|French|Polish|Chinese \(simplified\))', prompt, re.M
        )
    }
    row: dict[str, Any] = {
        key: _write(*wants[key], f"{number}{i}") for i, key in enumerate(("query", "positive"), 1)
    }
    count = re.search(r'"negatives": exactly (\d+)', prompt)
    if count:
        row["negatives"] = [
            _write(*wants["negatives"], f"{number}{i}") for i in range(3, 3 + int(count[1]))
        ]
    return json.dumps(row, ensure_ascii=False)


def _write(kind: str, language: str, number: str) -> str:
    sentence = _SENTENCES[language].format(n=number)
    if "label" in kind:
        return f"label {number}"
    return sentence if "a text of" not in kind else " ".join([sentence] * 6)
