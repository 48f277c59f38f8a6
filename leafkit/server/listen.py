"""The socket that a server listens on."""

from __future__ import annotations

import contextlib
import ipaddress
import socket

from leafkit.core.errors import LeafkitError, UsageError


def check_address(host: str, port: int, *, has_key: bool) -> None:
    """Refuse what is no port, and a host that others reach where no key is asked for.

    Raises:
        UsageError: it is one of the two.
    """
    if type(port) is not int or not 0 <= port <= 65535:
        raise UsageError(f"port={port!r} is no port", "one from 1 to 65535, or 0 for any free one")
    if not has_key and not is_loopback(host):
        raise UsageError(
            f"host={host} is reached from other machines, and no API key is asked for",
            "name the variable or the file that holds one: api_key_env=LEAFKIT_API_KEY or "
            "api_key_file=FILE (or api_key=... in Python), or serve on 127.0.0.1",
        )


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


def take_port(host: str, port: int) -> socket.socket:
    """A socket that is bound; taken before the models are loaded, so that a port in use is one
    error. It refuses connections until a server listens on it: whoever asks whether the server is
    up is told so at once, and does not wait for the models. Two servers that start together may
    both be bound; the later one's error comes when it listens.

    Raises:
        UsageError: the host is no address of this machine.
        LeafkitError: the port is taken.
    """
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
    except OSError as err:
        taken.close()
        raise cannot_listen(host, port, err) from err
    return taken


def cannot_listen(host: str, port: int, err: OSError) -> LeafkitError:
    """The error of an address that another process has."""
    return LeafkitError(
        f"cannot listen on {host}:{port}: {err.strerror or err}",
        f"choose another port: port={port + 1 if 0 < port < 65535 else 8080}, or port=0 for "
        "any free one",
    )


def url_of(taken: socket.socket) -> str:
    """Where a socket is reached."""
    address, port = taken.getsockname()[:2]
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
