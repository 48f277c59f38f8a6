"""One process that answers: an HTTP server over a service, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from leafkit.core.errors import LeafkitError, MissingExtra
from leafkit.server.listen import cannot_listen
from leafkit.server.printable_log import PrintableFilter
from leafkit.server.service import Service

if TYPE_CHECKING:
    import uvicorn

DRAIN_S = 30  # that open requests get after a stop
_STARTS_WITHIN_S = 30
# an idle connection is kept: longer than clients keep one, so that none writes into a closing one
_KEEP_ALIVE_S = 75


def check_packages() -> None:
    """Refuse to serve where the packages that it takes are not installed.

    Raises:
        MissingExtra: one is not.
    """
    for package in ("starlette", "uvicorn", "orjson"):
        try:
            __import__(package)
        except ImportError as err:
            raise MissingExtra(package, "serve", "leafkit serve") from err


class HttpServer:
    """An HTTP server over a service.

    Args:
        service: what answers.
        taken: the socket; this closes it in the end.
    """

    def __init__(self, service: Service, taken: socket.socket) -> None:
        self._service, self._taken = service, taken
        self._on_ready: Callable[[], None] = lambda: None
        self._server = _make_server(service, lambda: self._on_ready())
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Answer until ``stop`` was called and every open request has its answer.

        Args:
            on_ready: called once it listens.

        Raises:
            LeafkitError: another process listens on the port.
        """
        self._on_ready = on_ready
        host, port = self._taken.getsockname()[:2]
        try:
            # not uvloop's loop: it does not tell that another process listens on the port
            asyncio.run(self._server.serve(sockets=[self._taken]))
        except OSError as err:
            if self._server.started:
                raise
            raise cannot_listen(host, port, err) from err
        finally:
            self._service.close()
            self._taken.close()

    def _run_quietly(self) -> None:
        try:
            self.run()
        except BaseException as err:
            self._failure = err

    def start(self) -> None:
        """Answer in a thread.

        Raises:
            LeafkitError: it does not come to that.
        """
        self._thread = threading.Thread(
            target=self._run_quietly, name="leafkit server", daemon=True
        )
        self._thread.start()
        waited = threading.Event()
        for _ in range(100 * _STARTS_WITHIN_S):
            if self._server.started:
                return
            if not self._thread.is_alive():
                break
            waited.wait(0.01)
        raise self._failure or LeafkitError("the server did not start", "see the log")

    @property
    def is_alive(self) -> bool:
        """Whether its thread answers."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def has_answered_all(self) -> bool:
        """Whether no request was given up."""
        return self._service.num_given_up == 0

    def stop(self) -> None:
        """Take no more requests and answer those that are open; a second call ends them."""
        self._server.force_exit = self._server.should_exit
        self.drain()

    def drain(self) -> None:
        """Take no more requests and answer those that are open, however often it is called."""
        self._server.should_exit = self._service.is_stopping = True

    def join(self) -> None:
        """Wait for the thread to end."""
        if self._thread is not None:
            self._thread.join()


def _make_server(service: Service, on_ready: Callable[[], None]) -> uvicorn.Server:
    import uvicorn

    from leafkit.server.app import make_app

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Generator[None, None, None]:
            """Leave signals to who started this: uvicorn would raise them again."""
            yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            """Listen, and tell it."""
            await super().startup(sockets=sockets)
            on_ready()

    uvicorn_log = logging.getLogger("uvicorn.error")
    if not any(isinstance(one, PrintableFilter) for one in uvicorn_log.filters):
        uvicorn_log.addFilter(PrintableFilter())
    config = uvicorn.Config(
        make_app(service),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN_S,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )
    return Server(config)
