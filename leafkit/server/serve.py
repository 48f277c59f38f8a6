"""``leafkit.serve``: from a pair to a socket that answers, until it is told to stop."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self, Unpack, overload

from leafkit.core.console import log, warn
from leafkit.core.errors import UsageError
from leafkit.pipeline.ladder.router import open_router
from leafkit.pipeline.load_pair import load_pair
from leafkit.pipeline.pair import Pair
from leafkit.results.ladder import UNDECIDED, VERIFIED
from leafkit.server.listen import check_address, take_port, url_of
from leafkit.server.process import HttpServer, check_packages
from leafkit.server.service import Service, embed_documents
from leafkit.server.settings import ServerSettings, Settings, check_settings
from leafkit.server.workers import WorkerProcesses


class _Running(Protocol):
    """One process's server or several processes'."""

    @property
    def is_alive(self) -> bool: ...
    @property
    def has_answered_all(self) -> bool: ...
    def run(self, on_ready: Callable[[], None]) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def join(self) -> None: ...


class ServerHandle:
    """A server that runs beside the caller; a context manager that closes it.

    Attributes:
        url: where it answers, without a path.
    """

    def __init__(self, server: _Running, url: str) -> None:
        self.url = url
        self._server = server
        self._is_closed = False

    def close(self) -> None:
        """Take no more requests, answer those that are open, stop. A second call does nothing."""
        if not self._is_closed:
            self._is_closed = True
            self._server.stop()
        self._server.join()

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
        state = "answers" if self._server.is_alive else "is closed"
        return f"<leafkit server: {self.url} {state}>"


@overload
def serve(
    pair: Pair | str | Path,
    port: int = ...,
    host: str = ...,
    *,
    block: Literal[True] = ...,
    **settings: Unpack[Settings],
) -> None: ...


@overload
def serve(
    pair: Pair | str | Path,
    port: int = ...,
    host: str = ...,
    *,
    block: Literal[False],
    **settings: Unpack[Settings],
) -> ServerHandle: ...


def serve(
    pair: Pair | str | Path,
    port: int = 8080,
    host: str = "127.0.0.1",
    *,
    block: bool = True,
    **settings: Unpack[Settings],
) -> ServerHandle | None:
    """Answer for a pair over HTTP: OpenAI's /v1/embeddings, /v1/search, TEI's /embed.

    The model ``NAME`` or ``NAME:query`` is the student with the query's prompt, ``NAME:document``
    the teacher with the document's: a client of OpenAI's API that only knows a model's name gets
    the right prompt by it. SIGTERM and Ctrl-C let open requests finish.

    Args:
        pair: what answers; ``leafkit.load_pair`` and ``leafkit.distill`` make one. A folder is
            loaded; several workers need one.
        port: 0 takes any free one.
        host: address to listen on. Any but this machine's own needs a key.
        block: serve until the process is told to stop; False serves beside the caller and returns.
        settings: see ``leafkit.server.settings.ServerSettings``; name, api_key, teacher, workers
            and limits.

    Returns:
        None after a stop; with ``block=False`` a handle with ``url`` and ``close()``.

    Raises:
        MissingExtra: starlette or uvicorn is not installed.
        UsageError: port, host or a setting is not one, or a host that others reach is to be served
            without a key.
        LeafkitError: the port is taken, the folder holds no finished pair, the teacher that was to
            be loaded is not available, or no worker can start.
    """
    check_packages()
    checked = check_settings(ServerSettings(**settings))
    check_address(host, port, has_key=bool(checked.api_key))
    _check_folder(pair, checked)
    taken = take_port(host, port)
    try:
        server = _make(pair, checked, taken)
    except BaseException:
        taken.close()
        raise
    url = url_of(taken)

    def tell_ready() -> None:
        log(f"serving {checked.name} on {url} (POST /v1/embeddings, /v1/search, /embed)")

    if not block:
        server.start()
        tell_ready()
        return ServerHandle(server, url)
    with _stopped_by_signals(server):
        server.run(tell_ready)
    if server.has_answered_all:
        log("stopped; every open request was answered")
    else:
        warn("stopped without waiting for every open request")
    return None


def _check_folder(pair: Pair | str | Path, settings: ServerSettings) -> None:
    """Refuse settings that need a folder where a pair was given."""
    if not isinstance(pair, Pair):
        return
    if settings.workers > 1:
        raise UsageError(
            f"workers={settings.workers}: each worker loads the pair itself, so that a folder is "
            "needed",
            "pair.save(FOLDER), then leafkit.serve(FOLDER, workers=...)",
        )
    if settings.promise is not None:
        raise UsageError(
            f"promise={settings.promise:g}: the ladder lies in the folder of a recipe, and a pair "
            "was given",
            "leafkit.serve(FOLDER, promise=...)",
        )
    if settings.allow_hosts:
        raise UsageError(
            f"allow_hosts={','.join(settings.allow_hosts)}: the pair that was given opens its "
            "teacher itself",
            "leafkit.load_pair(FOLDER, allow_hosts=[...]), or give serve the folder",
        )
    if settings.index:
        raise UsageError(
            f"index={settings.index}: the pair that was given has its index already",
            "leafkit.load_pair(FOLDER, index=...), or give serve the folder",
        )


def _make(pair: Pair | str | Path, settings: ServerSettings, taken: socket.socket) -> _Running:
    """The server; where workers hold the models, this process keeps none of them."""
    opened = (
        pair
        if isinstance(pair, Pair)
        else load_pair(
            pair, index=settings.index or "flat", allow_hosts=tuple(settings.allow_hosts)
        )
    )
    student = embed_documents(opened) if settings.student_documents else None
    router = None
    if settings.promise is not None:
        assert not isinstance(pair, Pair)
        router = open_router(
            Path(pair), opened, settings.promise, is_unverified=settings.unverified
        )
        if router.verification not in (VERIFIED, UNDECIDED):
            warn(f"promise={settings.promise:g} does not hold as it stands: {router.verification}")
    if settings.workers > 1:
        assert not isinstance(pair, Pair)
        space = opened.space.teacher
        return WorkerProcesses(Path(pair), settings, taken, space=space, student=student)
    service = Service(opened, settings, student_documents=student, router=router)
    service.prepare()
    return HttpServer(service, taken)


@contextlib.contextmanager
def _stopped_by_signals(server: _Running) -> Iterator[None]:
    """SIGTERM and SIGINT let open requests finish; a second one ends them."""

    def stop(number: int, frame: Any) -> None:
        server.stop()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
