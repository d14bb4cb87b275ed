"""The Hugging Face Hub's HTTP protocol, as far as models are listed and fetched: what an HF_ENDPOINT leads to.

Listings with and without sizes, the tree, HEAD and GET of files with their commit and ETag, ranges; small files stand
behind a relative redirect to the Hub's own cache, large ones behind a signed one to another origin that takes no token;
errors with the Hub's codes. `huggingface_hub` itself downloads from it (tests/e2e/azure), as the agent does.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

LARGE = (".safetensors", ".bin", ".pth", ".gguf")
"""Kept in large file storage whatever their size, as the Hub's .gitattributes say."""
_SIGNATURE = "Signature=signed-by-the-stand-in"


@dataclass(frozen=True)
class Repository:
    """A model's files, all of one commit."""

    files: Mapping[str, bytes]
    gated: bool = False

    @classmethod
    def of_folder(cls, folder: Path, *names: str, gated: bool = False) -> Repository:
        """The named files of a folder."""
        return cls({name: (folder / name).read_bytes() for name in names}, gated)

    @cached_property
    def commit(self) -> str:
        """40 digits, as git's."""
        digest = hashlib.sha1(usedforsecurity=False)
        for name, body in sorted(self.files.items()):
            digest.update(name.encode() + b"\0" + body)
        return digest.hexdigest()


@dataclass
class HubServer:
    """The Hub on a free port of this machine, within `with`."""

    repositories: dict[str, Repository]
    token: str | None = None
    """What opens gated repositories."""
    calls: list[str] = field(default_factory=list[str])
    """Method and path of each request of the Hub."""
    fetched: list[tuple[str, str | None]] = field(default_factory=list[tuple[str, str | None]])
    """Path and Authorization of each request of the storage behind it."""

    @property
    def endpoint(self) -> str:
        """What stands in place of https://huggingface.co."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> HubServer:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hub = self
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def storage(self) -> str:
        """The same machine by another name: another origin for whoever compares them."""
        return f"http://localhost:{self._server.server_port}/storage"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    hub: HubServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no error here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> HubServer:
        return cast("_Server", self.server).hub

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        path = urllib.parse.unquote(path)
        if path.startswith("/storage/"):
            return self._stored(path.removeprefix("/storage/"), query)
        self.hub.calls.append(f"{self.command} {self.path}")
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            return self._listing(found[1], found[2], query)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            return self._tree(found[1], found[2])
        if found := re.fullmatch(r"/api/resolve-cache/models/([^/]+/[^/]+)/([0-9a-f]{40})/(.+)", path):
            return self._cached(found[1], found[3])
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._resolved(found[1], found[2], found[3])
        return self._refuse(404, "", "Sorry, we can't find the page you are looking for.")

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def _listing(self, model: str, revision: str | None, query: str) -> None:
        repository = self._allowed(model, revision)
        if repository is None:
            return None
        sizes = "blobs=true" in query.lower()
        siblings = [
            {"rfilename": name, **(_blob(name, body, "blobId", "sha256") if sizes else {})}
            for name, body in sorted(repository.files.items())
        ]
        said = {
            "_id": repository.commit[:24],
            "id": model,
            "modelId": model,
            "sha": repository.commit,
            "private": False,
            "gated": "manual" if repository.gated else False,
            "tags": [],
            "siblings": siblings,
        }
        return self._send(200, json.dumps(said).encode(), {"Content-Type": "application/json; charset=utf-8"})

    def _tree(self, model: str, revision: str) -> None:
        repository = self._allowed(model, revision)
        if repository is not None:
            entries = [
                {"type": "file", "path": name, **_blob(name, body, "oid", "oid")}
                for name, body in sorted(repository.files.items())
            ]
            self._send(200, json.dumps(entries).encode(), {"Content-Type": "application/json; charset=utf-8"})

    def _resolved(self, model: str, revision: str, name: str) -> None:
        repository = self._allowed(model, revision)
        if repository is None:
            return None
        body = repository.files.get(name)
        if body is None:
            return self._refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": repository.commit})
        headers = {"X-Repo-Commit": repository.commit, "Accept-Ranges": "bytes"}
        if not _is_large(name):
            target = f"/api/resolve-cache/models/{model}/{repository.commit}/{urllib.parse.quote(name)}"
            return self._send(307, b"", {**headers, "ETag": f'"{_blob_id(body)}"', "Location": target})
        digest = hashlib.sha256(body).hexdigest()
        location = f"{self.hub.storage}/{model}/{urllib.parse.quote(name)}?Expires=4102444800&{_SIGNATURE}"
        linked = {"X-Linked-Size": str(len(body)), "X-Linked-ETag": f'"{digest}"', "Location": location}
        return self._send(302, b"", headers | linked)

    def _cached(self, model: str, name: str) -> None:
        repository = self._allowed(model, None)
        if repository is not None:
            body = repository.files[name]
            self._send_range(body, {"ETag": f'"{_blob_id(body)}"', "X-Repo-Commit": repository.commit})

    def _stored(self, path: str, query: str) -> None:
        authorization = self.headers.get("Authorization")
        self.hub.fetched.append((path, authorization))
        if authorization is not None:
            # As S3 does: two ways of proving oneself are one too many.
            return self._refuse(400, "", "Only one auth mechanism allowed")
        if not query.endswith(_SIGNATURE):
            return self._refuse(403, "", "Access denied")
        organisation, model, name = path.split("/", 2)
        body = self.hub.repositories[f"{organisation}/{model}"].files[name]
        return self._send_range(body, {"ETag": f'"{hashlib.sha256(body).hexdigest()}"'})

    def _allowed(self, model: str, revision: str | None) -> Repository | None:
        """The repository; None: the caller was refused."""
        repository = self.hub.repositories.get(model)
        shown = self.headers.get("Authorization")
        if repository is None:
            # Without a token the Hub does not say whether a repository is private or missing.
            status = 401 if shown is None else 404
            self._refuse(status, "RepoNotFound", "Repository not found")
            return None
        if repository.gated and shown != f"Bearer {self.hub.token}":
            self._refuse(401 if shown is None else 403, "GatedRepo", f"Access to model {model} is restricted.")
            return None
        if revision not in (None, "main", repository.commit):
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repository

    def _send_range(self, body: bytes, headers: Mapping[str, str]) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        headers = {"Accept-Ranges": "bytes", **headers}
        if asked is None:
            return self._send(200, body, headers)
        first, last = int(asked[1]), min(int(asked[2] or len(body)), len(body) - 1)
        if first >= len(body):
            return self._send(416, b"", {**headers, "Content-Range": f"bytes */{len(body)}"})
        said = f"bytes {first}-{last}/{len(body)}"
        return self._send(206, body[first : last + 1], {**headers, "Content-Range": said})

    def _refuse(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        coded = {"X-Error-Code": code} if code else {}
        said = json.dumps({"error": message}).encode()
        self._send(status, said, {"X-Error-Message": message, **coded, **(headers or {})})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _is_large(name: str) -> bool:
    return name.endswith(LARGE)


def _blob(name: str, body: bytes, id_name: str, hash_name: str) -> dict[str, Any]:
    """Size and names of a file's content, as listings give them."""
    said: dict[str, Any] = {"size": len(body), id_name: _blob_id(body)}
    if _is_large(name):
        said["lfs"] = {hash_name: hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 132}
    return said


def _blob_id(body: bytes) -> str:
    """Git's name of a file's content, which the Hub gives as its ETag."""
    return hashlib.sha1(f"blob {len(body)}\0".encode() + body, usedforsecurity=False).hexdigest()
