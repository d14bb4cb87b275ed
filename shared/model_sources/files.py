"""List a model's files in R2, S3 and others with their protocol, and in public containers of Azure Blob storage."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gpulaunch.models.requests import LaunchRequest
from shared.clock import Clock
from shared.domain.node import ModelFile
from shared.model_sources.base import (
    BlobSource,
    BucketSource,
    HubSource,
    ModelListing,
    file_size,
    is_safe_path,
    parse_source,
    refused,
)
from shared.model_sources.sigv4 import Signer, canonical_query, encode_path
from shared.model_sources.web import Web, parse_xml
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
class _Page:
    entries: Sequence[tuple[str, str | None]]
    """Names and sizes as the store gives them, without its markers of folders."""
    following: str | None
    """What asks for the next page."""


class _Store(Protocol):
    def page(self, web: Web, token: str | None) -> _Page: ...

    def url(self, name: str) -> str:
        """Where a node downloads a file."""
        ...


class SourceFiles:
    """Lists a model's files wherever they are; implements `ModelFiles`."""

    def __init__(self, settings: Settings, clock: Clock, web: Web | None = None) -> None:
        self._settings, self._clock, self._web = settings, clock, web or Web()

    def list_files(self, request: LaunchRequest) -> ModelListing:
        """See ModelFiles. URLs of buckets are valid for `SIGNED_SECONDS`."""
        source = parse_source(request)
        if isinstance(source, HubSource):
            return ModelListing([], source.model)
        if isinstance(source, BucketSource):
            store = _Bucket(source, self._settings, self._clock)
        else:
            store = _Container(source, anywhere=self._settings.development)
        return ModelListing(_files(source, store, self._web.within(LONGEST_LISTING)))


def _files(source: BucketSource | BlobSource, store: _Store, web: Web) -> list[ModelFile]:
    files: list[ModelFile] = []
    token: str | None = None
    for _ in range(MOST_PAGES):
        page = store.page(web, token)
        for name, size in page.entries:
            path = name.removeprefix(source.prefix)
            if not is_safe_path(path):
                raise refused(f"{source.name}: the name {name!r} is not a valid path")
            files.append(ModelFile(path=path, url=store.url(name), size=file_size(size, source.name)))
        if len(files) > MOST_FILES:
            raise refused(f"{source.name} has more than {MOST_FILES} files")
        token = page.following
        if not token:
            break
    else:
        raise refused(f"{source.name}: the listing does not end")
    if not files:
        raise refused(f"there are no files in {source.name}")
    return files


class _Bucket:
    """URLs are path-style, which every S3-compatible store supports."""

    def __init__(self, source: BucketSource, settings: Settings, clock: Clock) -> None:
        if source.store == "r2":
            endpoint, region = settings.r2_endpoint, "auto"
            needed = {"R2_ENDPOINT": endpoint}
            key_id, secret, names = settings.r2_access_key_id, settings.r2_secret_access_key, "R2"
        else:
            region, needed = settings.s3_region, {}
            endpoint = settings.s3_endpoint or f"https://s3.{region}.amazonaws.com"
            key_id, secret, names = settings.s3_access_key_id, settings.s3_secret_access_key, "AWS"
        needed |= {f"{names}_ACCESS_KEY_ID": key_id, f"{names}_SECRET_ACCESS_KEY": secret}
        if endpoint is None or key_id is None or secret is None:
            missing = [name for name, value in needed.items() if value is None]
            raise refused(f"{source.name} cannot be read: set {', '.join(missing)}")
        self._source, self._clock = source, clock
        self._address = f"{endpoint}/{encode_path(source.bucket)}"
        self._signer = Signer(key_id.get_secret_value(), secret, region)

    def page(self, web: Web, token: str | None) -> _Page:
        name = self._source.name
        query = {"list-type": "2", "prefix": self._source.prefix, "max-keys": str(PAGE)}
        if token is not None:
            query["continuation-token"] = token
        headers = self._signer.headers(self._address, query, self._clock.now())
        answer = web.get(f"{self._address}?{canonical_query(query)}", headers, name)
        root = parse_xml(answer.content, name)
        if answer.status_code != 200:
            raise refused(f"{name}: the store answered {answer.status_code} {root.findtext('Code') or ''}".rstrip())
        found = [(entry.findtext("Key") or "", entry.findtext("Size")) for entry in root.iter("Contents")]
        more = root.findtext("IsTruncated") == "true"
        return _Page(
            [(key, size) for key, size in found if not key.endswith("/")],
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
            (blob.findtext("Name") or "", blob.findtext("Properties/Content-Length"))
            for blob in root.iter("Blob")
            if blob.findtext("Properties/ResourceType") != "directory"
        ]
        return _Page([(name, size) for name, size in entries if not name.endswith("/")], root.findtext("NextMarker"))

    def url(self, name: str) -> str:
        return f"{self._address}/{encode_path(name)}"
