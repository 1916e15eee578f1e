"""A model hub on this machine: enough of its protocol for the real client to list, download, resume and be told off.

    with LocalHub({"models/owner/name": (commit, {"config.json": b"..."})}) as hub: ...
    hub.faults.append(Fault("resolve", status=503))     the next GET or HEAD whose path holds that word; each is used up once
    hub.asked                                           method and path of every request

Newest commit of a model: /api/models/ID. Listing: /api/{models,datasets}/ID/tree/REVISION.
Files: /[datasets/]ID/resolve/REVISION/PATH with ETag, X-Repo-Commit and Range;
large ones (by their ending) are redirected to another host, as the hub's are to its CDN. /plain/NAME serves any file.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin", ".parquet")


@dataclass
class Fault:
    """word: in the path. status: answered instead. cut: bytes of the body after which the connection ends."""

    word: str
    status: int = 0
    cut: int = 0
    method: str = "GET"
    code: str = ""  # X-Error-Code


class LocalHub:
    def __init__(
        self, repositories: Mapping[str, tuple[str, Mapping[str, bytes]]], plain: Mapping[str, bytes] | None = None
    ) -> None:
        self.repositories, self.plain = repositories, plain or {}
        self.faults: list[Fault] = []
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                hub.answer(self)

            do_HEAD = do_GET

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> LocalHub:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(request.path).path)
        self.asked.append(f"{request.command} {path}")
        fault = next((f for f in self.faults if f.word in path and f.method == request.command), None)
        if fault:
            self.faults.remove(fault)
        if fault and fault.status:
            return self.send(request, fault.status, b"{}", {"X-Error-Code": fault.code} if fault.code else {})
        self.send(request, *self.route(path), cut=fault.cut if fault else 0)

    def route(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        if match := re.fullmatch(r"/(?:plain|cdn)/(.+)", path):
            body = self.plain.get(match[1]) or self._content(match[1])
            return (200, body, {}) if body is not None else (404, b"", {})
        if match := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)/tree/([^/]+)", path):
            repository = self.repositories.get(f"{match[1]}/{match[2]}")
            if repository is None:
                return 401, b"{}", {"X-Error-Code": "RepoNotFound"}
            if match[3] != repository[0]:
                return 404, b"{}", {"X-Error-Code": "RevisionNotFound"}
            return 200, json.dumps([self._entry(name, body) for name, body in repository[1].items()]).encode(), {}
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/main)?", path):
            commit, _ = self.repositories.get(f"models/{match[1]}", ("", {}))
            missing = (401, b"{}", {"X-Error-Code": "RepoNotFound"})
            return (200, json.dumps({"id": match[1], "sha": commit}).encode(), {}) if commit else missing
        if match := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            key = f"{'datasets' if match[1] else 'models'}/{match[2]}"
            commit, files = self.repositories.get(key, ("", {}))
            if commit != match[3]:
                return 404, b"", {"X-Error-Code": "RevisionNotFound" if commit else "RepoNotFound"}
            body = files.get(match[4])
            if body is None:
                return 404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}
            tag = f'"{hashlib.sha256(body).hexdigest()}"'
            headers = {"X-Repo-Commit": commit, "ETag": tag}
            if not match[4].endswith(LARGE):
                return 200, body, headers
            location = f"{self.url.replace('127.0.0.1', 'localhost')}/cdn/{key}/{match[4]}"
            return 302, b"", headers | {"X-Linked-Size": str(len(body)), "X-Linked-ETag": tag, "Location": location}
        return 404, b"", {}

    def _content(self, path: str) -> bytes | None:
        for key, (_, files) in self.repositories.items():
            if path.startswith(f"{key}/"):
                return files.get(path.removeprefix(f"{key}/"))
        return None

    @staticmethod
    def _entry(name: str, body: bytes) -> dict[str, Any]:
        entry = {"type": "file", "oid": hashlib.sha1(body).hexdigest(), "size": len(body), "path": name}
        large = {"lfs": {"oid": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 1}}
        return entry | (large if name.endswith(LARGE) else {})

    @staticmethod
    def send(request: BaseHTTPRequestHandler, status: int, body: bytes, headers: Mapping[str, str], cut: int = 0) -> None:
        byte_range = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range") or "")
        if byte_range and status == 200:
            start, end = int(byte_range[1]), int(byte_range[2] or len(body) - 1) + 1
            if start >= len(body):
                status, body = 416, b""
            else:
                status, headers = 206, {**headers, "Content-Range": f"bytes {start}-{end - 1}/{len(body)}"}
                body = body[start:end]
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(body[:cut] if cut else body)
        if cut:
            request.close_connection = True
            request.wfile.flush()
            request.connection.close()


def served(hub: LocalHub, monkeypatch: Any, cache: Any) -> Iterator[None]:
    """Have the hub's client, already imported, ask `hub` and cache in `cache`."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    yield
