"""Keys of buckets: temporary ones, wrong ones, and what their stores say of them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from gpulaunch.models.requests import LaunchRequest
from shared.domain.provider import LaunchRefusedError
from shared.model_sources.files import SourceFiles
from shared.model_sources.reasons import explain
from shared.model_sources.web import Web
from shared.settings import Settings

MASTER_KEY = "key-of-the-tests-0123456789-abcdef"

TEMPORARY = {"AWS_ACCESS_KEY_ID": "ASIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "s" * 40}
PAGE = (
    '<ListBucketResult><Contents><Key>m/config.json</Key><ETag>"5d41402abc4b2a76b9719d911017c592"</ETag><Size>2</Size>'
    '</Contents><Contents><Key>m/large.safetensors</Key><ETag>"5d41402abc4b2a76b9719d911017c592-3"</ETag>'
    "<Size>9</Size></Contents></ListBucketResult>"
)


class Now:
    def now(self) -> datetime:
        return datetime(2026, 1, 31, 9, tzinfo=UTC)


class S3:
    def __init__(self, status: int = 200, text: str = PAGE) -> None:
        self.seen: list[httpx.Request] = []
        self._status, self._text = status, text

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        return httpx.Response(self._status, text=self._text)

    def files(self, given: Mapping[str, str], source: str = "s3://bucket/m") -> list[tuple[str, str, str | None]]:
        settings = Settings.model_validate({"GPULAUNCH_MASTER_KEY": MASTER_KEY, **given})
        made = SourceFiles(settings, Now(), Web(httpx.MockTransport(self), sleep=lambda _: None))
        listing = made.list_files(LaunchRequest(model_name="o/m", gpu="A10", model_source=source))
        return [(one.path, one.url, one.checksum and one.checksum.digest) for one in listing.files]


@pytest.mark.parametrize(
    ("given", "source"),
    [
        ({**TEMPORARY, "AWS_SESSION_TOKEN": "token-of-sso"}, "s3://bucket/m"),
        (
            {
                "R2_ENDPOINT": "https://r2.example",
                "R2_ACCESS_KEY_ID": "key",
                "R2_SECRET_ACCESS_KEY": "s" * 40,
                "R2_SESSION_TOKEN": "token-of-sso",
            },
            "r2://bucket/m",
        ),
    ],
)
def test_a_session_token_should_be_signed_into_listings_and_addresses(given: dict[str, str], source: str) -> None:
    store = S3()
    files = store.files(given, source)
    sent = store.seen[0].headers
    assert sent["x-amz-security-token"] == "token-of-sso"
    assert "x-amz-security-token" in sent["authorization"]
    for _, url, _ in files:
        assert parse_qs(urlsplit(url).query)["X-Amz-Security-Token"] == ["token-of-sso"]


def test_without_a_session_token_none_should_be_sent() -> None:
    store = S3()
    files = store.files({"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "s" * 40})
    assert "x-amz-security-token" not in store.seen[0].headers
    assert "Security-Token" not in files[0][1]


def test_a_temporary_key_without_its_token_should_be_refused_unasked() -> None:
    store = S3()
    with pytest.raises(LaunchRefusedError, match="temporary one; set AWS_SESSION_TOKEN as well"):
        store.files(TEMPORARY)
    assert not store.seen


@pytest.mark.parametrize(
    ("status", "code", "why"),
    [
        (400, "ExpiredToken", "the temporary credentials have expired"),
        (403, "InvalidAccessKeyId", "the temporary access key; it may have expired"),
        (403, "SignatureDoesNotMatch", "the secret key does not belong to the access key"),
        (403, "AccessDenied", "the access key may not read it"),
        (403, "RequestTimeTooSkewed", "this machine's clock is wrong"),
        (301, "PermanentRedirect", "another region; set AWS_REGION"),
        (404, "NoSuchBucket", "there is no such bucket"),
        (418, "SomethingNew", "the store answered 418 SomethingNew"),
    ],
)
def test_a_refusal_should_be_explained_by_the_stores_own_code(status: int, code: str, why: str) -> None:
    store = S3(status, f"<Error><Code>{code}</Code><Message>x</Message></Error>")
    with pytest.raises(LaunchRefusedError, match=why):
        store.files({**TEMPORARY, "AWS_SESSION_TOKEN": "token-of-sso"})


def test_an_answer_without_a_code_should_be_told_by_its_status() -> None:
    assert explain(403, "") == "the store answered 403"


def test_a_checksum_should_be_taken_from_what_was_uploaded_in_one_piece() -> None:
    found = S3().files({"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "s" * 40})
    assert [digest for _, _, digest in found] == ["5d41402abc4b2a76b9719d911017c592", None]
