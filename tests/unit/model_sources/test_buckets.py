"""Versions and checksums of files in buckets, against an in-process S3 server."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import boto3
import httpx
import pytest
from moto.backends import get_backend
from moto.server import ThreadedMotoServer

from gpulaunch.models.requests import LaunchRequest
from shared.agent.node.files import Checksum
from shared.domain.node import ModelFile
from shared.model_sources import buckets
from shared.model_sources.base import parse_source
from shared.model_sources.files import SourceFiles
from shared.model_sources.web import Web
from tests.unit.model_sources.test_files import Now, r2, request, settings

PART = 5 * 2**20
"""S3's smallest."""
LAUNCHED = datetime(2026, 1, 31, 9, tzinfo=UTC)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def s3(endpoint: str) -> Any:
    access = {"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key": "s" * 40}
    return cast("Any", boto3).client("s3", endpoint_url=endpoint, region_name="us-east-1", **access)


def made(s3: Any, name: str, *, versions: bool) -> str:
    s3.create_bucket(Bucket=name)
    if versions:
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def stored(bucket: str, key: str, *minutes: int) -> None:
    """Date the versions of a key, oldest first, by minutes after the launch."""
    kept: Any = cast("Any", get_backend("s3"))["123456789012"]["aws"].buckets[bucket].keys
    for version, after in zip(kept.getlist(key), minutes, strict=True):
        version.last_modified = (LAUNCHED + timedelta(minutes=after)).replace(tzinfo=None)


def files_by(endpoint: str, answer: Callable[[httpx.Request], httpx.Response]) -> SourceFiles:
    access = {"R2_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "R2_SECRET_ACCESS_KEY": "s" * 40}
    return SourceFiles(settings(R2_ENDPOINT=endpoint, **access), Now(), Web(httpx.MockTransport(answer)))


def content(file: ModelFile) -> bytes:
    answer = httpx.get(file.url)
    assert answer.status_code == 200, answer.text
    return answer.content


def uploaded_in_parts(s3: Any, bucket: str, key: str, body: bytes) -> None:
    in_parts(s3, bucket, key, [body[start : start + PART] for start in range(0, len(body), PART)])


def in_parts(s3: Any, bucket: str, key: str, bodies: list[bytes]) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    where = {"Bucket": bucket, "Key": key, "UploadId": upload}
    tags = [s3.upload_part(**where, PartNumber=one, Body=body)["ETag"] for one, body in enumerate(bodies, 1)]
    parts = [{"PartNumber": one, "ETag": tag} for one, tag in enumerate(tags, 1)]
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})


def test_a_recovery_should_fetch_the_versions_of_the_launch(endpoint: str, s3: Any) -> None:
    bucket = made(s3, "kept", versions=True)
    for body in (b"old", b"launched", b"overwritten"):
        s3.put_object(Bucket=bucket, Key="m/model.safetensors", Body=body)
    stored(bucket, "m/model.safetensors", -60, -5, 5)
    s3.put_object(Bucket=bucket, Key="m/config.json", Body=b"{}")
    stored(bucket, "m/config.json", -5)
    s3.delete_object(Bucket=bucket, Key="m/config.json")
    stored(bucket, "m/config.json", -5, 5)
    s3.put_object(Bucket=bucket, Key="m/gone.json", Body=b"{}")
    s3.delete_object(Bucket=bucket, Key="m/gone.json")
    stored(bucket, "m/gone.json", -60, -50)
    s3.put_object(Bucket=bucket, Key="m/new.json", Body=b"{}")
    stored(bucket, "m/new.json", 5)
    files = r2(endpoint)
    now = files.list_files(request("r2://kept/m")).files
    assert {file.path: content(file) for file in now} == {"model.safetensors": b"overwritten", "new.json": b"{}"}
    then = files.list_files(request("r2://kept/m"), LAUNCHED).files
    assert {file.path: content(file) for file in then} == {"model.safetensors": b"launched", "config.json": b"{}"}
    assert {file.path: file.size for file in then} == {"model.safetensors": 8, "config.json": 2}


def test_versions_should_be_read_to_their_end(endpoint: str, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = made(s3, "many", versions=True)
    for number in range(3):
        for body in (b"then", b"later"):
            s3.put_object(Bucket=bucket, Key=f"m/{number}", Body=body)
        stored(bucket, f"m/{number}", -5, 5)
    asked: list[str] = []
    real = httpx.HTTPTransport()

    def answer(sent: httpx.Request) -> httpx.Response:
        asked.append(str(sent.url))
        return real.handle_request(sent)

    monkeypatch.setattr(buckets, "PAGE", 2)
    then = files_by(endpoint, answer).list_files(request("r2://many/m"), LAUNCHED).files
    assert [content(file) for file in then] == [b"then"] * 3
    assert len([url for url in asked if "versions=" in url]) > 1


def test_the_current_version_should_need_no_right_to_older_ones(endpoint: str, s3: Any) -> None:
    bucket = made(s3, "current", versions=True)
    s3.put_object(Bucket=bucket, Key="m/config.json", Body=b"{}")
    listing = r2(endpoint).list_files(request("r2://current/m"))
    assert listing.newest is not None
    (file,) = r2(endpoint).list_files(request("r2://current/m"), listing.newest).files
    assert "versionId" not in file.url
    assert content(file) == b"{}"


def test_a_folder_may_have_blanks_in_its_name(endpoint: str, s3: Any) -> None:
    bucket = made(s3, "blanks", versions=False)
    s3.put_object(Bucket=bucket, Key="My Models/llama 3/config.json", Body=b"{}")
    (file,) = r2(endpoint).list_files(request("r2://blanks/My Models/llama 3")).files
    assert (file.path, content(file)) == ("config.json", b"{}")


def test_generations_of_google_should_not_be_taken_for_versions() -> None:
    """A version that is not the current one, without S3's id, would be asked for at the current one's address."""
    earlier = "<Size>3</Size><Generation>1</Generation><IsLatest>false</IsLatest>"
    current = "<Size>2</Size><Generation>2</Generation><IsLatest>true</IsLatest>"

    def answer(sent: httpx.Request) -> httpx.Response:
        if "versions=" in str(sent.url):
            listed = "".join(f"<Version><Key>m/config.json</Key>{one}</Version>" for one in (earlier, current))
            return httpx.Response(200, text=f"<ListBucketResult>{listed}</ListBucketResult>")
        one = "<Contents><Key>m/config.json</Key><Size>2</Size></Contents>"
        return httpx.Response(200, text=f"<ListBucketResult>{one}</ListBucketResult>")

    (file,) = files_by("https://storage.googleapis.com", answer).list_files(request("r2://google/m"), LAUNCHED).files
    assert (file.path, file.size) == ("config.json", 2)


def test_a_bucket_without_versions_should_be_read_as_it_is(endpoint: str, s3: Any) -> None:
    bucket = made(s3, "unversioned", versions=False)
    s3.put_object(Bucket=bucket, Key="m/config.json", Body=b"[]")
    stored(bucket, "m/config.json", 5)
    (file,) = r2(endpoint).list_files(request("r2://unversioned/m"), LAUNCHED).files
    assert content(file) == b"[]"


@pytest.mark.parametrize("status", [400, 403, 404, 405])
def test_a_store_that_lists_no_versions_should_be_read_as_it_is(endpoint: str, s3: Any, status: int) -> None:
    made(s3, f"denied-{status}", versions=True)
    s3.put_object(Bucket=f"denied-{status}", Key="m/config.json", Body=b"{}")
    real = httpx.HTTPTransport()

    def answer(sent: httpx.Request) -> httpx.Response:
        if "versions=" in str(sent.url):
            return httpx.Response(status, text="<Error><Code>AccessDenied</Code></Error>")
        return real.handle_request(sent)

    files = files_by(endpoint, answer)
    assert len(files.list_files(request(f"r2://denied-{status}/m"), LAUNCHED).files) == 1


@pytest.mark.parametrize("size", [PART + 1, 2 * PART, 2 * PART + 7])
def test_a_file_uploaded_in_parts_should_be_checked_by_them(endpoint: str, s3: Any, tmp_path: Path, size: int) -> None:
    bucket = f"parts-{size}"
    made(s3, bucket, versions=False)
    body = hashlib.shake_128(str(size).encode()).digest(size)
    uploaded_in_parts(s3, bucket, "m/model.safetensors", body)
    (file,) = r2(endpoint).list_files(request(f"r2://{bucket}/m")).files
    assert file.checksum is None
    assert file.parts is not None
    assert file.parts.part_bytes == PART
    checksum = Checksum.of(file.model_dump(mode="json"))
    assert checksum is not None
    path = tmp_path / "model"
    path.write_bytes(body)
    assert checksum.matches(path)
    for damaged in (body[:-1] + bytes([body[-1] ^ 1]), bytes([body[0] ^ 1]) + body[1:], body[PART:] + body[:PART]):
        path.write_bytes(damaged)
        assert not checksum.matches(path) or damaged == body


def test_a_file_in_one_piece_should_be_checked_as_before(endpoint: str, s3: Any) -> None:
    made(s3, "one-piece", versions=False)
    s3.put_object(Bucket="one-piece", Key="m/config.json", Body=b"{}")
    (file,) = r2(endpoint).list_files(request("r2://one-piece/m")).files
    assert (file.parts, file.checksum and file.checksum.digest) == (None, hashlib.md5(b"{}").hexdigest())  # noqa: S324


def test_parts_of_unknown_size_should_be_no_reason_to_refuse_a_file(endpoint: str, s3: Any) -> None:
    """Their sizes may differ, and a store may ignore the question."""
    made(s3, "odd-parts", versions=False)
    in_parts(s3, "odd-parts", "m/x", [b"a" * (3 * PART), b"b" * PART, b"c"])
    (file,) = r2(endpoint).list_files(request("r2://odd-parts/m")).files
    assert (file.checksum, file.parts) == (None, None)


def test_an_inspection_should_ask_for_no_file_by_itself(endpoint: str, s3: Any) -> None:
    made(s3, "inspected", versions=False)
    uploaded_in_parts(s3, "inspected", "m/model.safetensors", b"x" * (PART + 1))
    sent = LaunchRequest(model_name="org/m", gpu="A10", model_source="r2://inspected/m")
    (file,) = r2(endpoint).listing(parse_source(sent), []).files
    assert file.parts is None
