"""Folders in S3-compatible buckets: R2, S3 and others with their protocol."""

from shared.clock import Clock
from shared.domain.node import ModelFile
from shared.model_sources.base import (
    LONGEST_LISTING,
    MOST_FILES,
    MOST_PAGES,
    BucketSource,
    file_size,
    is_safe_path,
    refused,
)
from shared.model_sources.sigv4 import Signer, canonical_query, encode_path
from shared.model_sources.web import Web, parse_xml
from shared.settings import Settings

SIGNED_SECONDS = 6 * 3600
"""How long a signed URL is valid: installing vLLM takes minutes and a 400 GB model on a slow link (20 MB/s) five and a
half hours, with a request per range. Six hours cover that even if the node cannot get new ones."""
PAGE = 1000
"""Entries per page, S3's maximum."""


class Buckets:
    """Lists folders and signs URLs. URLs are path-style, which every S3-compatible store supports."""

    def __init__(self, settings: Settings, web: Web, clock: Clock) -> None:
        self._settings, self._web, self._clock = settings, web, clock

    def list_files(self, source: BucketSource) -> list[ModelFile]:
        """Return the folder's files with URLs that are valid for `SIGNED_SECONDS`.

        Raises LaunchRefusedError (settings missing, refused by the store, nothing there) and ProviderUnavailableError.
        """
        endpoint, signer = self._access(source)
        bucket = f"{endpoint}/{encode_path(source.bucket)}"
        files: list[ModelFile] = []
        query = {"list-type": "2", "prefix": source.prefix, "max-keys": str(PAGE)}
        web = self._web.within(LONGEST_LISTING)
        for _ in range(MOST_PAGES):
            now = self._clock.now()
            headers = signer.headers(bucket, query, now)
            answer = web.get(f"{bucket}?{canonical_query(query)}", headers, source.name)
            root = parse_xml(answer.content, source.name)
            if answer.status_code != 200:
                raise refused(
                    f"{source.name}: the store answered {answer.status_code} {root.findtext('Code') or ''}".rstrip()
                )
            for entry in root.iter("Contents"):
                key = entry.findtext("Key") or ""
                path = key.removeprefix(source.prefix)
                if key.endswith("/"):
                    continue
                if not is_safe_path(path):
                    raise refused(f"{source.name}: the key {key!r} is not a valid path")
                url = signer.presign(f"{bucket}/{encode_path(key)}", SIGNED_SECONDS, now)
                files.append(ModelFile(path=path, url=url, size=file_size(entry.findtext("Size"), source.name)))
            if len(files) > MOST_FILES:
                raise refused(f"{source.name} has more than {MOST_FILES} files")
            token = root.findtext("NextContinuationToken")
            if root.findtext("IsTruncated") != "true" or not token:
                break
            query["continuation-token"] = token
        else:
            raise refused(f"{source.name}: the listing does not end")
        if not files:
            raise refused(f"there are no files in {source.name}")
        return files

    def _access(self, source: BucketSource) -> tuple[str, Signer]:
        settings = self._settings
        if source.store == "r2":
            needed = {
                "R2_ENDPOINT": settings.r2_endpoint,
                "R2_ACCESS_KEY_ID": settings.r2_access_key_id,
                "R2_SECRET_ACCESS_KEY": settings.r2_secret_access_key,
            }
            endpoint, key_id, secret, region = (
                settings.r2_endpoint,
                settings.r2_access_key_id,
                settings.r2_secret_access_key,
                "auto",
            )
        else:
            needed = {
                "AWS_ACCESS_KEY_ID": settings.s3_access_key_id,
                "AWS_SECRET_ACCESS_KEY": settings.s3_secret_access_key,
            }
            region = settings.s3_region
            endpoint = settings.s3_endpoint or f"https://s3.{region}.amazonaws.com"
            key_id, secret = settings.s3_access_key_id, settings.s3_secret_access_key
        missing = [name for name, value in needed.items() if value is None]
        if endpoint is None or key_id is None or secret is None:
            raise refused(f"{source.name} cannot be read: set {', '.join(missing)}")
        return endpoint, Signer(key_id.get_secret_value(), secret, region)
