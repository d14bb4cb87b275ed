"""List the files of a model in R2, S3 and others with their protocol."""

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import httpx

from shared.clock import Clock
from shared.domain.node import FileChecksum, PartsChecksum
from shared.domain.provider import ProviderUnavailableError
from shared.model_sources.base import BucketSource, refused
from shared.model_sources.reasons import explain, store_code
from shared.model_sources.sigv4 import Signer, canonical_query, encode_path
from shared.model_sources.web import Web, parse_xml
from shared.settings import Settings

SIGNED_SECONDS = 6 * 3600
"""How long a signed URL is valid: installing vLLM takes minutes and a 400 GB model on a slow link (20 MB/s) five and a
half hours, with a request per range. Six hours cover that even if the node cannot get new ones."""
PAGE = 1000
"""Entries per page, S3's maximum."""
_ASKED_AT_ONCE = 8
_LAST_RESORT = datetime.min.replace(tzinfo=UTC)
_ETAG = re.compile(r"[0-9a-fA-F]{32}(-[1-9][0-9]{0,4})?")


@dataclass(frozen=True, kw_only=True)
class ListedFile:
    """A file as a store lists it."""

    name: str
    size: str | None
    checksum: FileChecksum | None = None
    parts: PartsChecksum | None = None
    tag: str | None = None
    """The ETag of a file that was uploaded in parts."""
    stored: datetime | None = None
    """When, by the store's clock, to the second."""
    version: str | None = None
    """If it is not the current one."""


@dataclass(frozen=True)
class ListingPage:
    entries: Sequence[ListedFile]
    """Without the store's markers of folders."""
    following: str | None
    """What asks for the next page."""


class Bucket:
    """One folder of a bucket, as it is or, where the bucket keeps versions, as it was `until` a time.

    URLs are path-style, which every S3-compatible store supports.
    """

    def __init__(self, source: BucketSource, settings: Settings, clock: Clock, until: datetime | None = None) -> None:
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
        self._source, self._clock, self._until = source, clock, until
        self._versions_of: dict[str, tuple[datetime, ListedFile | None]] = {}
        self._address = f"{endpoint}/{encode_path(source.bucket)}"
        if key_id.get_secret_value().startswith("ASIA") and token is None:
            # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-prefixes
            raise refused(
                f"{source.name} cannot be read: the key is a temporary one; set {names}_SESSION_TOKEN as well"
            )
        self._signer = Signer(key_id.get_secret_value(), secret, region, token)

    def page(self, web: Web, token: str | None) -> ListingPage:
        if self._until is not None:
            page = self._versions(web, self._until, token)
            if page is not None:
                return page
            # Keys that may not list versions, and stores without them: R2 has none.
            self._until = None
        query = {"list-type": "2", "prefix": self._source.prefix, "max-keys": str(PAGE)}
        if token is not None:
            query["continuation-token"] = token
        answer = self._get(web, query)
        if answer.status_code != 200:
            reason = explain(answer.status_code, store_code(answer.content), temporary=self._signer.token is not None)
            raise refused(f"{self._source.name}: {reason}")
        root = parse_xml(answer.content, self._source.name)
        found = [_stored(entry) for entry in root.iter("Contents")]
        more = root.findtext("IsTruncated") == "true"
        return ListingPage(
            [entry for entry in found if not entry.name.endswith("/")],
            root.findtext("NextContinuationToken") if more else None,
        )

    def _versions(self, web: Web, until: datetime, token: str | None) -> ListingPage | None:
        """Read a page of all versions; the last returns the files as they were. None: the store has no such list.

        Of each key the newest version until then is taken, unless that is the mark of its deletion. A version without
        a name, `null`, is the only one of a bucket that keeps none; where there is no other, it is taken at any time.
        """
        markers: dict[str, str] = {} if token is None else json.loads(token)
        answer = self._get(web, {"versions": "", "prefix": self._source.prefix, "max-keys": str(PAGE), **markers})
        if answer.status_code != 200:
            if token is not None:
                raise ProviderUnavailableError(f"{self._source.name} cannot be listed now: {answer.status_code}")
            return None
        root = parse_xml(answer.content, self._source.name)
        if any(entry.find("Generation") is not None for entry in root):
            # Google's generations differ from S3's versions: other names in addresses, and deletions leave no marks.
            return None
        for version in root:
            if version.tag not in ("Version", "DeleteMarker"):
                continue
            entry = _stored(version)
            rank = entry.stored if entry.stored is not None and entry.stored <= until else None
            if rank is None and version.tag == "Version" and version.findtext("VersionId", "null") == "null":
                rank = _LAST_RESORT
            known = self._versions_of.get(entry.name)
            if rank is not None and (known is None or rank > known[0]):
                self._versions_of[entry.name] = rank, entry if version.tag == "Version" else None
        if root.findtext("IsTruncated") == "true":
            keys = {"key-marker": "NextKeyMarker", "version-id-marker": "NextVersionIdMarker"}
            return ListingPage([], json.dumps({name: root.findtext(tag) or "" for name, tag in keys.items()}))
        found = [entry for _, entry in self._versions_of.values() if entry is not None]
        return ListingPage([entry for entry in found if not entry.name.endswith("/")], None)

    def checked(self, web: Web, entries: Sequence[ListedFile]) -> Sequence[ListedFile]:
        """Return the entries; those that were uploaded in parts with the size of the parts, if the store tells it."""

        def asked(entry: ListedFile) -> ListedFile:
            count = int((entry.tag or "").rpartition("-")[2] or 0)
            if not count or not (entry.size or "").isdecimal():
                return entry
            address, query = self._place(entry)
            query["partNumber"] = "1"
            headers = self._signer.headers(address, query, self._clock.now(), "HEAD")
            try:
                answer = web.get(f"{address}?{canonical_query(query)}", headers, self._source.name, method="HEAD")
            except ProviderUnavailableError:
                return entry
            first = answer.headers.get("Content-Length", "")
            # Clients make all parts but the last of one size; a store that ignores the number answers for the whole.
            if answer.status_code not in (200, 206) or not first.isdecimal() or not int(first):
                return entry
            if -(-int(entry.size or 0) // int(first)) != count:
                return entry
            return replace(entry, parts=PartsChecksum(digest=(entry.tag or "").lower(), part_bytes=int(first)))

        with ThreadPoolExecutor(_ASKED_AT_ONCE, thread_name_prefix="parts") as pool:
            return list(pool.map(asked, entries))

    def url(self, entry: ListedFile) -> str:
        address, query = self._place(entry)
        return self._signer.presign(address, SIGNED_SECONDS, self._clock.now(), query)

    def _place(self, entry: ListedFile) -> tuple[str, dict[str, str]]:
        query = {} if entry.version is None else {"versionId": entry.version}
        return f"{self._address}/{encode_path(entry.name)}", query

    def _get(self, web: Web, query: Mapping[str, str]) -> httpx.Response:
        headers = self._signer.headers(self._address, query, self._clock.now())
        return web.get(f"{self._address}?{canonical_query(query)}", headers, self._source.name)


def _stored(entry: ET.Element) -> ListedFile:
    """One object of an S3 listing.

    Its ETag is the MD5 of what was uploaded in one piece; a `-` in it tells of several pieces. The node still asks the
    store whether it is encrypted with a key of its own, since the ETag is not a hash then.
    """
    tag = (entry.findtext("ETag") or "").strip('"')
    kind = _ETAG.fullmatch(tag)
    whole = kind is not None and kind[1] is None
    return ListedFile(
        name=entry.findtext("Key") or "",
        size=entry.findtext("Size"),
        checksum=FileChecksum(algorithm="md5", digest=tag.lower()) if whole else None,
        tag=tag if kind is not None and kind[1] is not None else None,
        stored=_time(entry.findtext("LastModified") or ""),
        version=entry.findtext("VersionId") if entry.findtext("IsLatest") == "false" else None,
    )


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).replace(microsecond=0)
