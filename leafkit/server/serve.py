"""``leafkit.serve``: from a pair to a socket that answers, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import re
import signal
import socket
import threading
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from leafkit.core.console import log
from leafkit.core.errors import LeafkitError, MissingExtra, UsageError
from leafkit.server.printable_log import PrintableFilter
from leafkit.server.settings import ServedPair, ServerSettings

if TYPE_CHECKING:
    import uvicorn

_DRAIN_S = 30  # that open requests get after a stop
_STARTS_WITHIN_S = 30


class ServerHandle:
    """A server that runs in a thread of its own; a context manager that closes it.

    Attributes:
        url: where it answers, without a path.
    """

    def __init__(self, server: uvicorn.Server, taken: socket.socket, url: str) -> None:
        self.url = url
        self._server = server
        self._thread = threading.Thread(
            target=lambda: asyncio.run(server.serve(sockets=[taken])),
            name="leafkit server",
            daemon=True,
        )

    def _start(self) -> Self:
        self._thread.start()
        waited = threading.Event()
        for _ in range(100 * _STARTS_WITHIN_S):
            if self._server.started:
                return self
            if not self._thread.is_alive():
                break
            waited.wait(0.01)
        raise LeafkitError(f"the server on {self.url} did not start", "see the log")

    def close(self) -> None:
        """Take no more requests, answer those that are open, stop. A second call does nothing."""
        self._server.should_exit = True
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        err: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "answers" if self._thread.is_alive() else "is closed"
        return f"<leafkit server: {self.url} {state}>"


@overload
def serve(
    pair: ServedPair,
    port: int = ...,
    host: str = ...,
    *,
    block: Literal[True] = ...,
    api_key: str = ...,
    name: str = ...,
    max_inputs: int = ...,
    max_body_bytes: int = ...,
) -> None: ...


@overload
def serve(
    pair: ServedPair,
    port: int = ...,
    host: str = ...,
    *,
    block: Literal[False],
    api_key: str = ...,
    name: str = ...,
    max_inputs: int = ...,
    max_body_bytes: int = ...,
) -> ServerHandle: ...


def serve(
    pair: ServedPair,
    port: int = 8080,
    host: str = "127.0.0.1",
    *,
    block: bool = True,
    api_key: str = "",
    name: str = "leafkit",
    max_inputs: int = ServerSettings.max_inputs,
    max_body_bytes: int = ServerSettings.max_body_bytes,
) -> ServerHandle | None:
    """Answer for a pair over HTTP: OpenAI's /v1/embeddings, and /v1/search, /v1/models, /health.

    The model ``NAME`` or ``NAME:query`` is the student with the query's prompt, ``NAME:document``
    the teacher with the document's: a client of OpenAI's API that only knows a model's name gets
    the right prompt by it. SIGTERM and Ctrl-C let open requests finish.

    Args:
        pair: what answers; ``leafkit.load_pair`` and ``leafkit.distill`` make one.
        port: 0 takes any free one.
        host: address to listen on. Any but this machine's own needs ``api_key``.
        block: serve until the process is told to stop; False serves in a thread and returns.
        api_key: that requests must carry as a bearer token; "" asks for none.
        name: of the model.
        max_inputs: texts per request.
        max_body_bytes: size of a request's body.

    Returns:
        None after a stop; with ``block=False`` a handle with ``url`` and ``close()``.

    Raises:
        MissingExtra: starlette or uvicorn is not installed.
        UsageError: port, host, name, key or limit is not one, or a host that others reach is to
            be served without a key.
        LeafkitError: the port is taken.
    """
    server_class = _import_server()
    settings = _check(
        ServerSettings(name, api_key, max_inputs, max_body_bytes), port=port, host=host
    )
    taken = _take(host, port)
    try:
        server = server_class(pair, settings)
        url = _url(taken)
        log(f"serving {name} on {url} (POST /v1/embeddings, /v1/search)")
        if not block:
            return ServerHandle(server, taken, url)._start()
        with _stopped_by_signals(server):
            asyncio.run(server.serve(sockets=[taken]))
        log("stopped; every open request was answered")
    finally:
        if block:
            taken.close()
    return None


def _check(settings: ServerSettings, *, port: int, host: str) -> ServerSettings:
    if type(port) is not int or not 0 <= port <= 65535:
        raise UsageError(f"port={port!r} is no port", "one from 1 to 65535, or 0 for any free one")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}", settings.name):
        raise UsageError(
            f"name={settings.name!r} is no name of a model",
            "letters, digits, dots, dashes and slashes; roles are put behind it with a colon",
        )
    if settings.api_key and not re.fullmatch(r"[\x21-\x7e]+", settings.api_key):
        raise UsageError("the API key holds a space or a character beyond ASCII", "choose another")
    for key in ("max_inputs", "max_body_bytes"):
        value = getattr(settings, key)
        if type(value) is not int or value < 1:
            raise UsageError(f"{key}={value!r} is not a positive whole number", "leave it out")
    if not settings.api_key and not is_loopback(host):
        raise UsageError(
            f"host={host} is reached from other machines, and no API key is asked for",
            "name the variable that holds one: api_key_env=LEAFKIT_API_KEY (api_key=... in "
            "Python), or serve on 127.0.0.1",
        )
    return settings


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _take(host: str, port: int) -> socket.socket:
    """A socket that listens; taken before the server starts, so that a port in use is one error."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as err:
        raise UsageError(
            f"host={host!r} is no address of this machine: {err}", "127.0.0.1"
        ) from err
    taken = socket.socket(family, kind, protocol)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
        taken.listen(128)
    except OSError as err:
        taken.close()
        raise LeafkitError(
            f"cannot listen on {host}:{port}: {err.strerror or err}",
            f"choose another port: port={port + 1 if 0 < port < 65535 else 8080}, or port=0 for "
            "any free one",
        ) from err
    return taken


def _url(taken: socket.socket) -> str:
    address, port = taken.getsockname()[:2]
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


@contextlib.contextmanager
def _stopped_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """SIGTERM and SIGINT let open requests finish; a second one ends them."""

    def stop(number: int, frame: Any) -> None:
        server.force_exit = server.should_exit
        server.should_exit = True

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _import_server() -> Any:
    """A function from pair and settings to a server, where its packages are installed.

    Raises:
        MissingExtra: one is not.
    """
    for package in ("starlette", "uvicorn"):
        try:
            __import__(package)
        except ImportError as err:
            raise MissingExtra(package, "serve", "leafkit serve") from err
    import uvicorn

    from leafkit.server.app import make_app

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Generator[None, None, None]:
            """Leave signals to ``_stopped_by_signals``: uvicorn would raise them again."""
            yield

    def make(pair: ServedPair, settings: ServerSettings) -> uvicorn.Server:
        uvicorn_log = logging.getLogger("uvicorn.error")
        if not any(isinstance(one, PrintableFilter) for one in uvicorn_log.filters):
            uvicorn_log.addFilter(PrintableFilter())
        config = uvicorn.Config(
            make_app(pair, settings),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_DRAIN_S,
        )
        return Server(config)

    return make
