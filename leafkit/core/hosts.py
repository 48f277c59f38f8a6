"""Which hosts a run may talk to: those that its user named, not those that a recipe did."""

from __future__ import annotations

import ipaddress
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


def check_host(url: str, allowed: Collection[str], section: str) -> None:
    """Refuse an address that nobody but the recipe named.

    Args:
        url: of an endpoint, from a recipe.
        allowed: hosts that the user named.
        section: of the recipe, for the message.

    Raises:
        UsageError: its host is neither this machine nor among ``allowed``.
    """
    host = host_of(url)
    # what is no address at all is refused where it is used
    if not host or is_loopback(host) or host in {name.lower().strip("[]") for name in allowed}:
        return
    raise UsageError(
        f"the recipe wants to send texts, and a key where there is one, to {host}: "
        f"{section}.base_url stands in a recipe file",
        f"if you trust that host, add allow_hosts={host} to the command",
    )
