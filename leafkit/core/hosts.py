"""Which hosts may be talked to: those that the user named, not those that a file did."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from urllib.parse import urlsplit

from leafkit.core.errors import UsageError


def host_of(url: str) -> str:
    """The host of an address, in small letters; "" where it has none.

    >>> host_of("https://API.example.org:8000/v1"), host_of("http://[::1]:80"), host_of("nonsense")
    ('api.example.org', '::1', '')
    """
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def is_host(name: str) -> bool:
    """Whether a text is a host's name, or an address of IPv4 or IPv6, and nothing more.

    >>> [is_host(name) for name in ("api.example.org", "::1", "http://api.example.org", "a:80")]
    [True, True, False, False]
    """
    return bool(re.fullmatch(r"[A-Za-z0-9_.-]+|[0-9A-Fa-f:.]+", name))


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, whatever a name server says.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "localhost.evil.org")]
    [True, True, True, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_host(url: str, allowed: Collection[str], *, who: str, where: str) -> None:
    """Refuse an address that nobody but a file named.

    Args:
        url: of an endpoint, from the file.
        allowed: hosts that the user named.
        who: the file's owner, for the message.
        where: the address stands, likewise.

    Raises:
        UsageError: its host is neither this machine nor among ``allowed``.
    """
    host = host_of(url)
    # what is no address at all is refused where it is used
    if not host or is_loopback(host) or host in {name.lower().strip("[]") for name in allowed}:
        return
    raise UsageError(
        f"{who} wants to send texts, and a key where there is one, to {host}: {where}",
        f"if you trust that host, add allow_hosts={host} to the command",
    )
