"""List a model's files in R2, S3 and others with their protocol, and in public containers of Azure Blob storage."""

import base64
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from shared.model_sources.hub import Hub
from shared.model_sources.reasons import explain, store_code
from shared.model_sources.sigv4 import Signer, canonical_query, encode_path
from shared.model_sources.web import Web, parse_xml
from shared.model_sources.weights import is_weight
from shared.settings import Settings

MOST_FILES = 5000
"""A model has fewer files; the assignment must stay small enough to send."""
MOST_PAGES = 100
"""Pages of one listing; stores return a thousand entries per page, and an endless listing is given up."""
LONGEST_LISTING = 120.0
"""Seconds for a whole listing: a normal one takes a few, and a queue function has ten minutes."""
SIGNED_SECONDS = 6 * 3600
"""How long a signed URL is valid: installing vLLM takes minutes and a 400 GB model on a slow link (20 MB/s) five and a
half hours, with a request per range. Six hours cover that even if the node cannot get new ones."""
PAGE = 1000
"""Entries per page, S3's maximum."""


@dataclass(frozen=True)
class _Entry:
    name: str
    size: str | None
    checksum: FileChecksum | None = None


@dataclass(frozen=True)
class _Page:
    entries: Sequence[_Entry]
    """Names and sizes as the store gives them, without its markers of folders."""
    following: str | None
    """What asks for the next page."""


class _Store(Protocol):
    def page(self, web: Web, token: str | None) -> _Page: ...

    def url(self, name: str) -> str:
        """Where a node downloads a file."""
        ...


class SourceFiles:
    """Lists and reads a model's files wherever they are; implements `ModelFiles`."""

    def __init__(self, settings: Settings, clock: Clock, web: Web | None = None) -> None:
        self._settings, self._clock, self._web = settings, clock, web or Web()

    def list_files(self, request: LaunchRequest) -> ModelListing:
        """See ModelFiles. URLs of buckets are valid for `SIGNED_SECONDS`."""
        return self.listing(parse_source(request), request.vllm_args)

    def listing(self, source: Source, args: list[str], *, whole_model: bool = True) -> ModelListing:
        """As `list_files`; not `whole_model`: there need not be weights."""
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

    def _store(self, source: BucketSource | BlobSource) -> "_Store":
        if isinstance(source, BucketSource):
            return _Bucket(source, self._settings, self._clock)
        return _Container(source, anywhere=self._settings.development)


def _files(source: BucketSource | BlobSource, store: _Store, web: Web) -> ModelListing:
    files: list[ModelFile] = []
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
            size = file_size(entry.size, source.name)
            files.append(ModelFile(path=path, url=store.url(entry.name), size=size, checksum=entry.checksum))
        if len(files) > MOST_FILES:
            raise refused(f"{source.name} has more than {MOST_FILES} files")
        token = page.following
        if not token:
            break
    else:
        raise refused(f"{source.name}: the listing does not end")
    if not files and skipped:
        raise refused(f"{source.name}: the name {skipped[0]!r} is not a valid path")
    if not files:
        raise refused(f"there are no files in {source.name}")
    return ModelListing(files, skipped=skipped)


class _Bucket:
    """URLs are path-style, which every S3-compatible store supports."""

    def __init__(self, source: BucketSource, settings: Settings, clock: Clock) -> None:
        if source.store == "r2":
            endpoint, region = settings.r2_endpoint, "auto"
            needed = {"R2_ENDPOINT": endpoint}
            key_id, secret, names = settings.r2_access_key_id, settings.r2_secret_access_key, "R2"
            token = settings.r2_session_token
        else:
            region, needed = settings.s3_region, {}
            endpoint = settings.s3_endpoint or f"https://s3.{region}.amazonaws.com"
            key_id, secret, names = settings.s3_access_key_id, settings.s3_secret_access_key, "AWS"
            token = settings.s3_session_token
        needed |= {f"{names}_ACCESS_KEY_ID": key_id, f"{names}_SECRET_ACCESS_KEY": secret}
        if endpoint is None or key_id is None or secret is None:
            missing = [name for name, value in needed.items() if value is None]
            raise refused(f"{source.name} cannot be read: set {', '.join(missing)}")
        self._source, self._clock = source, clock
        self._address = f"{endpoint}/{encode_path(source.bucket)}"
        if key_id.get_secret_value().startswith("ASIA") and token is None:
            # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-prefixes
            raise refused(
                f"{source.name} cannot be read: the key is a temporary one; set {names}_SESSION_TOKEN as well"
            )
        self._signer = Signer(key_id.get_secret_value(), secret, region, token)

    def page(self, web: Web, token: str | None) -> _Page:
        name = self._source.name
        query = {"list-type": "2", "prefix": self._source.prefix, "max-keys": str(PAGE)}
        if token is not None:
            query["continuation-token"] = token
        headers = self._signer.headers(self._address, query, self._clock.now())
        answer = web.get(f"{self._address}?{canonical_query(query)}", headers, name)
        if answer.status_code != 200:
            reason = explain(answer.status_code, store_code(answer.content), temporary=self._signer.token is not None)
            raise refused(f"{name}: {reason}")
        root = parse_xml(answer.content, name)
        found = [_stored(entry) for entry in root.iter("Contents")]
        more = root.findtext("IsTruncated") == "true"
        return _Page(
            [entry for entry in found if not entry.name.endswith("/")],
            root.findtext("NextContinuationToken") if more else None,
        )

    def url(self, name: str) -> str:
        return self._signer.presign(f"{self._address}/{encode_path(name)}", SIGNED_SECONDS, self._clock.now())


class _Container:
    """A container that allows anonymous listing; private ones are not supported."""

    def __init__(self, source: BlobSource, *, anywhere: bool) -> None:
        self._source = source
        self._anywhere = anywhere
        """Also allow local hosts; for development only."""
        self._address = f"https://{source.host}/{encode_path(source.container)}"

    def page(self, web: Web, token: str | None) -> _Page:
        name = self._source.name
        query = {"restype": "container", "comp": "list", "prefix": self._source.prefix}
        if token is not None:
            query["marker"] = token
        # Anonymous requests without a version get answers in the format of 2009.
        headers = {"x-ms-version": "2021-12-02"}
        answer = web.get(f"{self._address}?{canonical_query(query)}", headers, name, public_only=not self._anywhere)
        if answer.status_code != 200:
            hint = "; only containers that allow anonymous listing can be read"
            raise refused(f"{name}: the store answered {answer.status_code}{hint}")
        root = parse_xml(answer.content, name)
        if root.tag != "EnumerationResults":
            raise refused(f"{name} is not a container in Azure Blob Storage")
        entries = [
            _Entry(
                blob.findtext("Name") or "",
                blob.findtext("Properties/Content-Length"),
                _content_md5(blob.findtext("Properties/Content-MD5")),
            )
            for blob in root.iter("Blob")
            if blob.findtext("Properties/ResourceType") != "directory"
        ]
        return _Page([entry for entry in entries if not entry.name.endswith("/")], root.findtext("NextMarker"))

    def url(self, name: str) -> str:
        return f"{self._address}/{encode_path(name)}"


def _stored(entry: ET.Element) -> _Entry:
    """One object of an S3 listing.

    Its ETag is the MD5 of what was uploaded in one piece; a `-` in it tells of several pieces. The node still asks the
    store whether it is encrypted with a key of its own, since the ETag is not a hash then.
    """
    tag = (entry.findtext("ETag") or "").strip('"')
    md5 = FileChecksum(algorithm="md5", digest=tag.lower()) if re.fullmatch(r"[0-9a-fA-F]{32}", tag) else None
    return _Entry(entry.findtext("Key") or "", entry.findtext("Size"), md5)


def _content_md5(text: str | None) -> FileChecksum | None:
    """Azure's MD5 of a blob, in base64; blobs uploaded in blocks have it only if their client gave it."""
    try:
        digest = base64.b64decode(text or "", validate=True)
    except ValueError:
        return None
    return FileChecksum(algorithm="md5", digest=digest.hex()) if len(digest) == 16 else None
