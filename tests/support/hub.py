"""A Hub on loopback that speaks the endpoints which pushing and pulling a model use."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_secret"


class Hub:
    """Repositories by name; of each its commits, newest last, as id and files."""

    def __init__(self) -> None:
        self.repositories: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.private: set[str] = set()
        self.tags: dict[tuple[str, str], str] = {}
        self.large: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.address = ""

    def commit(self, name: str, changed: dict[str, bytes]) -> str:
        commits = self.repositories[name]
        files = {**(commits[-1][1] if commits else {}), **changed}
        identity = hashlib.sha1(f"{name} {len(commits)}".encode()).hexdigest()
        commits.append((identity, files))
        return identity

    def find(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commits = self.repositories[name]
        wanted = self.tags.get((name, revision), revision)
        found = [c for c in commits if c[0] == wanted or revision == "main"]
        return found[-1] if found else None


@contextmanager
def running() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        self.hub.asked.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0]
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/(.+)", path):
            name, kind, revision = match.groups()
            found = self._found(name, revision)
            if found and kind == "tree":
                self._json([_entry(*item) for item in found[1].items()])
            elif found:
                siblings = [{"rfilename": file} for file in found[1]]
                self._json({"id": name, "sha": found[0], "siblings": siblings, "tags": []})
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            name, revision, file = match.groups()
            found = self._found(name, revision)
            if found and file in found[1]:
                content = found[1][file]
                tag = hashlib.sha1(content).hexdigest()
                self._answer(200, content, {"ETag": f'"{tag}"', "X-Repo-Commit": found[0]})
            elif found:
                self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        else:
            self._answer(404)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.hub.asked.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        path = self.path.partition("?")[0]
        if path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif not self._may_write():
            self._answer(401, json.dumps({"error": "Invalid username or password."}).encode())
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/.+", path):
            files = json.loads(body)["files"]
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in files
            ]
            self._json({"files": modes})
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.hub.address}/lfs/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            self._json({"transfer": "basic", "objects": objects})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/.+", path):
            self._commit(match[1], [json.loads(line) for line in body.splitlines()])
        else:
            self._answer(404)

    def do_PUT(self) -> None:
        size = self.headers["Content-Length"]
        content = self.rfile.read(int(size)) if size else self._chunks()
        identity = self.path.rpartition("/")[2]
        assert hashlib.sha256(content).hexdigest() == identity
        self.hub.large[identity] = content
        self._answer(200)

    def _chunks(self) -> bytes:
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        address = {"url": f"{self.hub.address}/{name}"}
        if name in self.hub.repositories:
            self._json({**address, "error": "You already created this model repo"}, 409)
            return
        self.hub.repositories[name] = []
        if asked.get("visibility") == "private" or asked.get("private"):
            self.hub.private.add(name)
        self._json(address)

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        files = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
        identity = self.hub.commit(name, files)
        address = f"{self.hub.address}/{name}/commit/{identity}"
        self._json({"commitUrl": address, "commitOid": identity, "success": True})

    def _found(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit, if there is one for who asks; else it is answered that there is none."""
        hidden = name in self.hub.private and not self._may_write()
        if name not in self.hub.repositories or hidden:
            self._answer(401, b"{}", {"X-Error-Code": "RepoNotFound"})
            return None
        found = self.hub.find(name, revision)
        if found is None:
            self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        return found

    def _may_write(self) -> bool:
        return self.headers["Authorization"] == f"Bearer {TOKEN}"

    def _json(self, value: Any, status: int = 200) -> None:
        self._answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(
        self, status: int, content: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _entry(path: str, content: bytes) -> dict[str, Any]:
    identity = hashlib.sha1(content).hexdigest()
    return {"type": "file", "path": path, "size": len(content), "oid": identity}
