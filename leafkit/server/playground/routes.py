"""The page at ``/`` and its files, served from memory.

The page loads nothing from elsewhere and holds no data: what it shows it asks of /v1/models and
/v1/search, with the key that its visitor gives. It asks for none itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from leafkit.report.environment import search_stylesheet

HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; object-src 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",  # the next version of leafkit has another page
}
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_FILES = ("page.css", "page.js", "links.js", "icon.svg")


def playground_routes() -> list[Route]:
    """``/`` and ``/playground/FILE`` for the files that the page asks for; GET and HEAD."""
    return [
        Route("/", _answer("index.html"), methods=["GET"]),
        *(Route(f"/playground/{name}", _answer(name), methods=["GET"]) for name in _FILES),
    ]


def _answer(name: str) -> Callable[[Request], Awaitable[Response]]:
    content = (files(__package__) / "page" / name).read_text(encoding="utf-8")
    if name == "page.css":
        content = search_stylesheet() + content  # the report's theme, then the page's own rules
    headers = HEADERS | {"content-type": _TYPES[name.rpartition(".")[2]]}

    async def answer(request: Request) -> Response:
        return Response(content, headers=headers)

    return answer
