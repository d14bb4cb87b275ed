"""Signatures against Amazon's published examples and against botocore."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from pydantic import SecretStr

from shared.model_sources.sigv4 import Signer, encode_path

KEY_ID, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SIGNER = Signer(KEY_ID, SecretStr(SECRET), "us-east-1")
PUBLISHED = datetime(2013, 5, 24, tzinfo=UTC)


def test_presigned_get_of_amazons_documentation() -> None:
    url = SIGNER.presign("https://examplebucket.s3.amazonaws.com/test.txt", 86400, PUBLISHED)
    query = parse_qs(urlsplit(url).query)
    assert query["X-Amz-Credential"] == [f"{KEY_ID}/20130524/us-east-1/s3/aws4_request"]
    assert query["X-Amz-Signature"] == ["aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"]


def test_listing_of_amazons_documentation() -> None:
    headers = SIGNER.headers("https://examplebucket.s3.amazonaws.com", {"max-keys": "2", "prefix": "J"}, PUBLISHED)
    assert headers["Authorization"] == (
        f"AWS4-HMAC-SHA256 Credential={KEY_ID}/20130524/us-east-1/s3/aws4_request,"
        "SignedHeaders=host;x-amz-content-sha256;x-amz-date,"
        "Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    )


@pytest.mark.parametrize("key", ["model.safetensors", "a b/ü+%25(1)~'*!.bin", "x=1&y/ß@:,;$"])
def test_presigned_keys_agree_with_botocore(key: str) -> None:
    ours = SIGNER.presign(f"http://127.0.0.1:9000/bucket/{encode_path(key)}", 600, datetime(2026, 1, 31, 9, tzinfo=UTC))
    query = {name: values[0] for name, values in parse_qs(urlsplit(ours).query).items()}
    auth: Any = S3SigV4QueryAuth(Credentials(KEY_ID, SECRET), "s3", "us-east-1", expires=600)
    request: Any = AWSRequest("GET", ours.partition("?")[0], params=None)
    request.context["timestamp"] = query["X-Amz-Date"]
    auth._modify_request_before_signing(request)
    string = auth.string_to_sign(request, auth.canonical_request(request))
    assert query["X-Amz-Signature"] == auth.signature(string, request)


def test_the_secret_is_never_shown() -> None:
    assert SECRET not in repr(SIGNER)
