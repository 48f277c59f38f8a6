"""A server that plays OpenSearch: the requests that ``leafkit.stores.opensearch`` makes, answered
from memory with the shapes of OpenSearch's REST API. It is not OpenSearch: its search is exact, and
it knows no settings.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Played:
    """What the server has: indices by name, each with its mapping and its documents."""

    url: str = ""
    indices: dict[str, dict[str, Any]] = field(default_factory=dict)
    authorizations: set[str] = field(default_factory=set)
    refuses: int = 0  # status of every answer, where it is not 0
    bulk_error: dict[str, Any] | None = None
    num_bulk: int = 0
    largest_bulk: int = 0  # bytes


@contextmanager
def opensearch_server() -> Iterator[Played]:
    """A running server, on a free port of this machine."""
    played = Played()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Nothing is printed."""

        def _answer(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size).decode()
            played.authorizations.add(self.headers.get("Authorization") or "")
            status, told = (
                (played.refuses, {"error": "refused"})
                if played.refuses
                else _reply(played, self.command, self.path.partition("?")[0], body)
            )
            content = b"" if self.command == "HEAD" else json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_HEAD = _answer

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    played.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield played
    finally:
        server.shutdown()
        server.server_close()


def _reply(played: Played, method: str, path: str, body: str) -> tuple[int, Any]:
    parts = path.strip("/").split("/")
    if parts == ["_bulk"]:
        return _bulk(played, body)
    index = played.indices.get(parts[0])
    if len(parts) == 1 and method == "PUT":
        if index is not None:
            return 400, {"error": {"type": "resource_already_exists_exception"}, "status": 400}
        played.indices[parts[0]] = json.loads(body) | {"documents": {}}
        return 200, {"acknowledged": True}
    if index is None:
        return 404, {"error": {"type": "index_not_found_exception"}, "status": 404}
    documents = index["documents"]
    what = parts[1] if len(parts) > 1 else ""
    if what == "_mapping":
        return 200, {parts[0]: {"mappings": index.get("mappings", {})}}
    if what == "_mget":
        ids = json.loads(body)["ids"]
        return 200, {
            "docs": [
                {"_id": i, "found": i in documents, "_source": documents.get(i, {})} for i in ids
            ]
        }
    if what == "_count":
        return 200, {"count": len(documents)}
    if what == "_search":
        return 200, _search(documents, json.loads(body))
    return 200, {}


def _bulk(played: Played, body: str) -> tuple[int, Any]:
    lines = [json.loads(line) for line in body.splitlines()]
    played.num_bulk += 1
    played.largest_bulk = max(played.largest_bulk, len(body.encode()))
    items = []
    for action, source in zip(lines[::2], lines[1::2], strict=True):
        about = action["index"]
        result = {"_id": about["_id"], "status": 201}
        if played.bulk_error:
            result |= {"status": 400, "error": played.bulk_error}
        else:
            played.indices[about["_index"]]["documents"][about["_id"]] = source
        items.append({"index": result})
    return 200, {"errors": bool(played.bulk_error), "items": items}


def _search(documents: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    query = body["query"]["knn"]["embedding"]["vector"]

    def score(source: dict[str, Any]) -> float:
        x = sum(a * b for a, b in zip(query, source["embedding"], strict=True))
        return 1 + x if x > 0 else 1 / (1 - x)

    hits = sorted(
        ({"_id": i, "_score": score(source), "_source": source} for i, source in documents.items()),
        key=lambda hit: -float(hit["_score"]),
    )
    return {"hits": {"hits": hits[: body["size"]]}}
