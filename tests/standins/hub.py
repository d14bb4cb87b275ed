"""The Hugging Face Hub's HTTP protocol, as far as models are listed and fetched: what an HF_ENDPOINT leads to.

Listings with and without sizes, the tree, HEAD and GET of files with their commit and ETag, ranges; small files stand
behind a relative redirect to the Hub's own cache, large ones behind a signed one to another origin that takes no token;
errors with the Hub's codes. `huggingface_hub` itself downloads from it (tests/e2e/azure), as the agent does.
"""

from __future__ import annotations

import hashlib
import json
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.standins.http import HttpServer, Request, Response

LARGE = (".safetensors", ".bin", ".pth", ".gguf")
"""Kept in large file storage whatever their size, as the Hub's .gitattributes say."""
_SIGNATURE = "Signature=signed-by-the-stand-in"


@dataclass(frozen=True)
class Repository:
    """A model's files, all of one commit."""

    files: Mapping[str, bytes]
    gated: bool = False
    revisions: Mapping[str, Repository] = field(default_factory=dict[str, "Repository"])
    """Other branches and tags than main, by name."""
    parameters: Mapping[str, int] = field(default_factory=dict[str, int])
    """What the Hub has read of the files' headers."""

    def at(self, revision: str | None) -> Repository | None:
        if revision in (None, "main", self.commit):
            return self
        known = {**self.revisions, **{one.commit: one for one in self.revisions.values()}}
        return known.get(revision or "")

    @classmethod
    def of_folder(cls, folder: Path, *names: str, gated: bool = False) -> Repository:
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
    renamed: dict[str, str] = field(default_factory=dict[str, str])
    """Former names of repositories."""
    calls: list[str] = field(default_factory=list[str])
    """Method and path of each request of the Hub."""
    fetched: list[tuple[str, str | None]] = field(default_factory=list[tuple[str, str | None]])
    """Path and Authorization of each request of the storage behind it."""

    @property
    def endpoint(self) -> str:
        """What stands in place of https://huggingface.co."""
        return self._http.url

    def __enter__(self) -> HubServer:
        self._http = HttpServer(self._answer).__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.__exit__()

    @property
    def storage(self) -> str:
        """The same machine by another name: another origin for whoever compares them."""
        return f"http://localhost:{self._http.port}/storage"

    def _answer(self, request: Request) -> Response:
        path = request.path
        try:
            if path.startswith("/storage/"):
                return self._stored(request, path.removeprefix("/storage/"))
            self.calls.append(f"{request.method} {request.target}")
            for old, new in self.renamed.items():
                if f"/{old}/" in f"{path}/":
                    return Response(307, headers={"Location": request.target.replace(old, new, 1)})
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
                repository = self._allowed(request, found[1], found[2], listing=True)
                return self._listing(repository, found[1], request.query)
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
                return self._tree(self._allowed(request, found[1], found[2]))
            if found := re.fullmatch(r"/api/resolve-cache/models/([^/]+/[^/]+)/([0-9a-f]{40})/(.+)", path):
                repository = self._allowed(request, found[1], found[2])
                body = repository.files[found[3]]
                headers = {"ETag": f'"{_blob_id(body)}"', "X-Repo-Commit": repository.commit}
                return _ranged(request, body, headers)
            if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                return self._resolved(self._allowed(request, found[1], found[2]), found[1], found[3])
        except _RefusedError as refused:
            return refused.response
        return _RefusedError(404, "", "Sorry, we can't find the page you are looking for.").response

    def _listing(self, repository: Repository, model: str, query: str) -> Response:
        sizes = "blobs=true" in query.lower()
        siblings = [
            {"rfilename": name, **(_blob(name, body, "blobId", "sha256") if sizes else {})}
            for name, body in sorted(repository.files.items())
        ]
        said: dict[str, Any] = {
            "_id": repository.commit[:24],
            "id": model,
            "modelId": model,
            "sha": repository.commit,
            "private": False,
            "gated": "manual" if repository.gated else False,
            "tags": [],
            "siblings": siblings,
        }
        if repository.parameters:
            said["safetensors"] = {
                "parameters": dict(repository.parameters),
                "total": sum(repository.parameters.values()),
            }
        return _json(said)

    def _tree(self, repository: Repository) -> Response:
        files = sorted(repository.files.items())
        return _json([{"type": "file", "path": name, **_blob(name, body, "oid", "oid")} for name, body in files])

    def _resolved(self, repository: Repository, model: str, name: str) -> Response:
        body = repository.files.get(name)
        if body is None:
            raise _RefusedError(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": repository.commit})
        headers = {"X-Repo-Commit": repository.commit, "Accept-Ranges": "bytes"}
        if not _is_large(name):
            target = f"/api/resolve-cache/models/{model}/{repository.commit}/{urllib.parse.quote(name)}"
            return Response(307, headers={**headers, "ETag": f'"{_blob_id(body)}"', "Location": target})
        digest = hashlib.sha256(body).hexdigest()
        signed = f"commit={repository.commit}&Expires=4102444800&{_SIGNATURE}"
        location = f"{self.storage}/{model}/{urllib.parse.quote(name)}?{signed}"
        linked = {"X-Linked-Size": str(len(body)), "X-Linked-ETag": f'"{digest}"', "Location": location}
        return Response(302, headers=headers | linked)

    def _stored(self, request: Request, path: str) -> Response:
        authorization = request.headers.get("Authorization")
        self.fetched.append((path, authorization))
        if authorization is not None:
            # As S3 does: two ways of proving oneself are one too many.
            raise _RefusedError(400, "", "Only one auth mechanism allowed")
        if not request.query.endswith(_SIGNATURE):
            raise _RefusedError(403, "", "Access denied")
        organisation, model, name = path.split("/", 2)
        repository = self.repositories[f"{organisation}/{model}"]
        commit = urllib.parse.parse_qs(request.query)["commit"][0]
        body = (repository.at(commit) or repository).files[name]
        return _ranged(request, body, {"ETag": f'"{hashlib.sha256(body).hexdigest()}"'})

    def _allowed(self, request: Request, model: str, revision: str | None, *, listing: bool = False) -> Repository:
        """The repository, if the caller may read it; listings of gated ones are open to everyone."""
        repository = self.repositories.get(model)
        shown = request.headers.get("Authorization")
        if repository is None:
            # Without a token the Hub does not say whether a repository is private or missing.
            raise _RefusedError(401 if shown is None else 404, "RepoNotFound", "Repository not found")
        if repository.gated and not listing and shown != f"Bearer {self.token}":
            status = 401 if shown is None else 403
            raise _RefusedError(status, "GatedRepo", f"Access to model {model} is restricted.")
        found = repository.at(revision)
        if found is None:
            raise _RefusedError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found


class _RefusedError(Exception):
    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        coded = {"X-Error-Code": code} if code else {}
        said = json.dumps({"error": message}).encode()
        self.response = Response(status, said, {"X-Error-Message": message, **coded, **(headers or {})})


def _json(said: object) -> Response:
    return Response(200, json.dumps(said).encode(), {"Content-Type": "application/json; charset=utf-8"})


def _ranged(request: Request, body: bytes, headers: Mapping[str, str]) -> Response:
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
    headers = {"Accept-Ranges": "bytes", **headers}
    if asked is None:
        return Response(200, body, headers)
    first, last = int(asked[1]), min(int(asked[2] or len(body)), len(body) - 1)
    if first >= len(body):
        return Response(416, headers={**headers, "Content-Range": f"bytes */{len(body)}"})
    return Response(206, body[first : last + 1], {**headers, "Content-Range": f"bytes {first}-{last}/{len(body)}"})


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
