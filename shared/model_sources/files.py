"""List and read a model's files wherever they are: the Hub, buckets, public containers of Azure Blob storage."""

import base64
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from gpulaunch.models.requests import LaunchRequest
from shared.clock import Clock
from shared.domain.node import FileChecksum, ModelFile
from shared.domain.references import Reference
from shared.model_sources.base import (
    BlobSource,
    BucketSource,
    HubSource,
    ModelListing,
    Source,
    file_size,
    is_safe_path,
    parse_source,
    refused,
)
from shared.model_sources.buckets import Bucket, ListedFile, ListingPage
from shared.model_sources.hub import Hub
from shared.model_sources.reasons import explain, explain_container, store_code
from shared.model_sources.sigv4 import canonical_query, encode_path
from shared.model_sources.web import Web, parse_xml
from shared.model_sources.weights import is_weight
from shared.settings import Settings

MOST_FILES = 5000
"""A model has fewer files; the assignment must stay small enough to send."""
MOST_PAGES = 100
"""Pages of one listing; stores return a thousand entries per page, and an endless listing is given up."""
LONGEST_LISTING = 120.0
"""Seconds for a whole listing: a normal one takes a few, and a queue function has ten minutes."""


class _Store(Protocol):
    def page(self, web: Web, token: str | None) -> ListingPage: ...

    def checked(self, web: Web, entries: Sequence[ListedFile]) -> Sequence[ListedFile]:
        """Return the entries with the checksums that the store tells one by one only."""
        ...

    def url(self, entry: ListedFile) -> str:
        """Where a node downloads a file."""
        ...


class SourceFiles:
    """Lists and reads a model's files wherever they are; implements `ModelFiles`."""

    def __init__(self, settings: Settings, clock: Clock, web: Web | None = None) -> None:
        self._settings, self._clock, self._web = settings, clock, web or Web()

    def list_files(self, request: LaunchRequest, until: datetime | None = None) -> ModelListing:
        """See ModelFiles. URLs of buckets are valid for `SIGNED_SECONDS`."""
        source = parse_source(request)
        if isinstance(source, HubSource):
            return self.listing(source, request.vllm_args)
        return _files(source, self._store(source, until), self._web.within(LONGEST_LISTING), checked=True)

    def listing(self, source: Source, args: list[str], *, whole_model: bool = True) -> ModelListing:
        """The files as they are now, checksums of parts left out; not `whole_model`: there need not be weights."""
        web = self._web.within(LONGEST_LISTING)
        if isinstance(source, HubSource):
            return self._hub(web).listing(source, args, whole_model=whole_model)
        return _files(source, self._store(source), web)

    def beside(self, reference: Reference, name: str, revision: str) -> tuple[HubSource, ModelListing]:
        """The files of what an argument names beside the model; of a tokenizer those without weights.

        Raises:
            LaunchRefusedError: It is not there, or may not be read.
            ProviderUnavailableError: No answer now.
        """
        source = HubSource(name, revision)
        listing = self.listing(source, [], whole_model=reference.kind == "draft")
        if reference.kind == "tokenizer":
            listing = replace(listing, files=[file for file in listing.files if not is_weight(file.path)])
        return source, listing

    def read(self, source: Source, file: ModelFile, first: int | None = None, last: int | None = None) -> bytes:
        """The content of a file of a listing, or its bytes from `first` to `last`.

        Raises:
            LaunchRefusedError: It cannot be read.
            ProviderUnavailableError: No answer now.
        """
        headers = {} if first is None else {"Range": f"bytes={first}-{last}"}
        if isinstance(source, HubSource):
            return self._hub(self._web).read(source, file, headers).content
        public_only = isinstance(source, BlobSource) and not self._settings.development
        answer = self._web.get(file.url, headers, source.name, public_only=public_only)
        if answer.status_code not in (200, 206):
            code = answer.headers.get("x-ms-error-code") or store_code(answer.content)
            raise refused(f"{source.name}: {file.path} cannot be read: {explain(answer.status_code, code)}")
        return answer.content

    def _hub(self, web: Web) -> Hub:
        return Hub(self._settings.hub_endpoint, self._settings.hub_token, web)

    def _store(self, source: BucketSource | BlobSource, until: datetime | None = None) -> "_Store":
        if isinstance(source, BucketSource):
            return Bucket(source, self._settings, self._clock, until)
        return _Container(source, anywhere=self._settings.development)


def _files(source: BucketSource | BlobSource, store: _Store, web: Web, *, checked: bool = False) -> ModelListing:
    found: dict[str, ListedFile] = {}
    skipped: list[str] = []
    token: str | None = None
    for _ in range(MOST_PAGES):
        page = store.page(web, token)
        for entry in page.entries:
            path = entry.name.removeprefix(source.prefix)
            if not is_safe_path(path):
                # Nothing in a folder can have this name, so vLLM does not look for it either.
                skipped.append(entry.name)
                continue
            found[path] = entry
        if len(found) > MOST_FILES:
            raise refused(f"{source.name} has more than {MOST_FILES} files")
        token = page.following
        if not token:
            break
    else:
        raise refused(f"{source.name}: the listing does not end")
    if not found and skipped:
        raise refused(f"{source.name}: the name {skipped[0]!r} is not a valid path")
    if not found:
        raise refused(f"there are no files in {source.name}")
    entries = list(found.values())
    files = [
        ModelFile(
            path=path,
            url=store.url(entry),
            size=file_size(entry.size, source.name),
            checksum=entry.checksum,
            parts=entry.parts,
        )
        for path, entry in zip(found, store.checked(web, entries) if checked else entries, strict=True)
    ]
    times = [entry.stored for entry in entries if entry.stored is not None]
    return ModelListing(files, newest=max(times, default=None), skipped=skipped)


class _Container:
    """A container that allows anonymous listing; private ones are not supported."""

    def __init__(self, source: BlobSource, *, anywhere: bool) -> None:
        self._source = source
        self._anywhere = anywhere
        """Also allow local hosts; for development only."""
        self._address = f"https://{source.host}/{encode_path(source.container)}"

    def page(self, web: Web, token: str | None) -> ListingPage:
        name = self._source.name
        query = {"restype": "container", "comp": "list", "prefix": self._source.prefix}
        if token is not None:
            query["marker"] = token
        # Anonymous requests without a version get answers in the format of 2009.
        headers = {"x-ms-version": "2021-12-02"}
        answer = web.get(f"{self._address}?{canonical_query(query)}", headers, name, public_only=not self._anywhere)
        if answer.status_code != 200:
            code = answer.headers.get("x-ms-error-code") or store_code(answer.content)
            raise refused(f"{name}: {explain_container(answer.status_code, code)}")
        root = parse_xml(answer.content, name)
        if root.tag != "EnumerationResults":
            raise refused(f"{name} is not a container in Azure Blob Storage")
        entries = [
            ListedFile(
                name=blob.findtext("Name") or "",
                size=blob.findtext("Properties/Content-Length"),
                checksum=_content_md5(blob.findtext("Properties/Content-MD5")),
            )
            for blob in root.iter("Blob")
            if blob.findtext("Properties/ResourceType") != "directory"
        ]
        return ListingPage([entry for entry in entries if not entry.name.endswith("/")], root.findtext("NextMarker"))

    def checked(self, web: Web, entries: Sequence[ListedFile]) -> Sequence[ListedFile]:  # noqa: ARG002 - the listing has them all
        return entries

    def url(self, entry: ListedFile) -> str:
        return f"{self._address}/{encode_path(entry.name)}"


def _content_md5(text: str | None) -> FileChecksum | None:
    """Azure's MD5 of a blob, in base64; blobs uploaded in blocks have it only if their client gave it."""
    try:
        digest = base64.b64decode(text or "", validate=True)
    except ValueError:
        return None
    return FileChecksum(algorithm="md5", digest=digest.hex()) if len(digest) == 16 else None
