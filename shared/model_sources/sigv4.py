"""AWS Signature Version 4 for S3: signed headers for listing, presigned URLs for downloads.

The one algorithm that both need is small and fixed since 2012; botocore, which has it too, is a hundred megabytes.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from urllib.parse import quote, urlsplit

from pydantic import SecretStr

_ALGORITHM = "AWS4-HMAC-SHA256"
_EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Signer:
    """Signs GET and HEAD requests to S3-compatible stores of one region with one key."""

    key_id: str
    secret: SecretStr
    region: str
    """`auto` for R2."""
    token: SecretStr | None = None
    """The session token of temporary credentials."""

    def headers(self, url: str, query: Mapping[str, str], now: datetime, method: str = "GET") -> dict[str, str]:
        """Return headers for `GET url?query`, valid for about 15 minutes around `now`; `url` itself has no query."""
        stamp = _stamp(now)
        sent = {"x-amz-content-sha256": _EMPTY, "x-amz-date": stamp}
        if self.token is not None:
            sent["x-amz-security-token"] = self.token.get_secret_value()
        signed = {"host": urlsplit(url).netloc, **sent}
        signature = self._sign(method, url, query, signed, _EMPTY, stamp)
        credential = f"{self.key_id}/{self._scope(stamp)}"
        names = ";".join(sorted(signed))
        return {
            **sent,
            "Authorization": f"{_ALGORITHM} Credential={credential},SignedHeaders={names},Signature={signature}",
        }

    def presign(self, url: str, seconds: int, now: datetime, given: Mapping[str, str] = MappingProxyType({})) -> str:
        """Return a URL that allows anyone to GET `url?given` for `seconds` (at most 604800) from `now`."""
        stamp = _stamp(now)
        query = {
            **given,
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{self.key_id}/{self._scope(stamp)}",
            "X-Amz-Date": stamp,
            "X-Amz-Expires": str(seconds),
            "X-Amz-SignedHeaders": "host",
        }
        if self.token is not None:
            query["X-Amz-Security-Token"] = self.token.get_secret_value()
        signature = self._sign("GET", url, query, {"host": urlsplit(url).netloc}, "UNSIGNED-PAYLOAD", stamp)
        return f"{url}?{canonical_query(query)}&X-Amz-Signature={signature}"

    def _scope(self, stamp: str) -> str:
        return f"{stamp[:8]}/{self.region}/s3/aws4_request"

    def _sign(
        self, method: str, url: str, query: Mapping[str, str], headers: Mapping[str, str], payload: str, stamp: str
    ) -> str:
        named = sorted(headers)
        canonical = "\n".join(
            [
                method,
                urlsplit(url).path or "/",
                canonical_query(query),
                *(f"{name}:{headers[name]}" for name in named),
                "",
                ";".join(named),
                payload,
            ]
        )
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"{_ALGORITHM}\n{stamp}\n{self._scope(stamp)}\n{digest}"
        key = f"AWS4{self.secret.get_secret_value()}".encode()
        for part in (stamp[:8], self.region, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def encode_path(path: str) -> str:
    """Percent-encode a key for a URL: every byte except unreserved characters and slashes."""
    return quote(path, safe="/-_.~")


def canonical_query(query: Mapping[str, str]) -> str:
    """Encode a query as signed and sent: sorted, everything except unreserved characters escaped."""
    return "&".join(f"{quote(name, safe='-_.~')}={quote(query[name], safe='-_.~')}" for name in sorted(query))


def _stamp(now: datetime) -> str:
    return now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
