"""A hub over HTTP, as far as an upload and a download ask one: repositories in memory. Run as a
program it prints its address and keeps what it was given.

    python playing_hub.py TOKEN [spoil|refuse]

``spoil`` gives the bytes of every weight file back with one bit changed, ``refuse`` takes no
commit and says why.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

repositories: dict[str, dict[str, Any]] = {}
COMMIT = "c" * 40
REFUSAL = "Invalid metadata in README.md: license must be one of [apache-2.0, mit]"


class Handler(BaseHTTPRequestHandler):
    """Answers of the hub's API that huggingface_hub asks for."""

    token = ""
    spoils = False
    refuses = False
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """Nothing on standard error."""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Send an answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def say(self, value: object, status: int = 200) -> None:
        """Send JSON."""
        self.answer(status, json.dumps(value).encode(), Content_Type="application/json")

    def is_allowed(self) -> bool:
        """Whether the token is the right one; else the refusal is sent."""
        given = self.headers.get("Authorization", "")
        if given == f"Bearer {self.token}":
            return True
        self.say({"error": "no such right"}, 403 if given else 401)
        return False

    def do_POST(self) -> None:
        """Make a repository, prepare and take a commit."""
        length = int(self.headers.get("Content-Length") or 0)
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(length)
        if not self.is_allowed():
            return
        path = unquote(self.path)
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, [asked.get("organization"), asked["name"]]))
            # either word, by the client's version
            is_private = asked.get("private") or asked.get("visibility") == "private"
            repositories.setdefault(name, {"private": bool(is_private), "files": {}})
            self.say({"url": f"http://{self.headers['Host']}/{name}"})
        elif "/preupload/" in path:
            files = json.loads(body)["files"]
            self.say(
                {
                    "files": [
                        {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                        for f in files
                    ]
                }
            )
        elif "/commit/" in path and self.refuses:
            self.say({"error": REFUSAL}, 400)
        elif "/commit/" in path:
            name = path.removeprefix("/api/models/").partition("/commit/")[0]
            for line in filter(None, body.decode().split("\n")):
                told = json.loads(line)
                if told["key"] == "file":
                    value = told["value"]
                    repositories[name]["files"][value["path"]] = base64.b64decode(value["content"])
            url = f"http://{self.headers['Host']}/{name}/commit/{COMMIT}"
            self.say({"commitUrl": url, "commitOid": COMMIT, "success": True})
        else:
            self.say({"error": f"what is {path}?"}, 404)

    def do_HEAD(self) -> None:
        """About a file."""
        self.do_GET()

    def do_GET(self) -> None:
        """A repository, or a file of it."""
        if not self.is_allowed():
            return
        path = unquote(self.path.partition("?")[0])
        if path.startswith("/api/models/"):
            name = path.removeprefix("/api/models/").partition("/revision/")[0]
            if name not in repositories:
                self.say({"error": "not found"}, 404)
                return
            found = repositories[name]
            self.say({"id": name, "sha": COMMIT, "private": found["private"], "siblings": []})
            return
        name, _, rest = path.lstrip("/").partition("/resolve/")
        file = rest.partition("/")[2]
        content = repositories.get(name, {}).get("files", {}).get(file)
        if content is None:
            self.answer(404, X_Error_Code="EntryNotFound")
            return
        if self.spoils and file.endswith(".safetensors"):
            content = bytes([content[0] ^ 1]) + content[1:]
        self.answer(
            200,
            content,
            ETag=f'"{hashlib.sha1(content).hexdigest()}"',
            X_Repo_Commit=COMMIT,
            Content_Length=str(len(content)),
        )


if __name__ == "__main__":
    Handler.token = sys.argv[1]
    Handler.spoils = "spoil" in sys.argv[2:]
    Handler.refuses = "refuse" in sys.argv[2:]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"http://127.0.0.1:{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()
