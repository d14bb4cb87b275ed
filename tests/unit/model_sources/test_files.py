"""Listings of buckets and containers, against an in-process S3 server and recorded answers of Azure."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

from gpulaunch.models.requests import LaunchRequest
from shared.domain.provider import LaunchRefusedError, ProviderUnavailableError
from shared.model_sources import buckets
from shared.model_sources.addresses import is_public
from shared.model_sources.files import SourceFiles
from shared.model_sources.web import Web, parse_xml
from shared.settings import Settings

BLOBS = """\ufeff<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="https://acc.blob.core.windows.net/"
 ContainerName="models"><Prefix>llama/</Prefix><Blobs><Blob><Name>llama/config.json</Name><Properties>
<Content-Length>7</Content-Length><ResourceType>file</ResourceType></Properties></Blob><Blob><Name>llama/sub</Name>
<Properties><Content-Length>0</Content-Length><ResourceType>directory</ResourceType></Properties></Blob></Blobs>
<NextMarker>more</NextMarker></EnumerationResults>"""
LAST = """<EnumerationResults><Blobs><Blob><Name>llama/a b.bin</Name><Properties><Content-Length>9</Content-Length>
</Properties></Blob></Blobs><NextMarker/></EnumerationResults>"""


class Now:
    def now(self) -> datetime:
        return datetime.now(UTC)


def request(source: str) -> LaunchRequest:
    return LaunchRequest(model_name="org/name", gpu="A10", model_source=source)


def settings(**values: Any) -> Settings:
    return Settings.model_validate({"GPULAUNCH_MASTER_KEY": "key-of-the-tests-0123456789-abcdef", **values})


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def bucket(endpoint: str) -> Any:
    access = {"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key": "s" * 40}
    client = cast("Any", boto3).client("s3", endpoint_url=endpoint, region_name="us-east-1", **access)
    client.create_bucket(Bucket="models")
    client.put_object(Bucket="models", Key="tiny/", Body=b"")
    client.put_object(Bucket="models", Key="tiny/config.json", Body=b"{}")
    client.put_object(Bucket="models", Key="tiny/weights/ü +(1).safetensors", Body=b"12345")
    client.put_object(Bucket="models", Key="tiny-other/config.json", Body=b"no")
    client.put_object(Bucket="models", Key="bad/../config.json", Body=b"no")
    for number in range(5):
        client.put_object(Bucket="models", Key=f"many/{number:04}", Body=b"")
    return client


def r2(endpoint: str, **more: Any) -> SourceFiles:
    access = {"R2_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "R2_SECRET_ACCESS_KEY": "s" * 40}
    return SourceFiles(settings(R2_ENDPOINT=endpoint, **access, **more), Now())


@pytest.mark.usefixtures("bucket")
def test_a_folder_of_a_bucket_is_listed_and_its_addresses_work(endpoint: str) -> None:
    files = r2(endpoint).list_files(request("r2://models/tiny")).files
    assert {file.path: file.size for file in files} == {"config.json": 2, "weights/ü +(1).safetensors": 5}
    for file in files:
        answer = httpx.get(file.url, headers={"Range": "bytes=1-1"})
        assert answer.status_code == 206
        assert answer.headers["Content-Range"] == f"bytes 1-1/{file.size}"
        query = parse_qs(urlsplit(file.url).query)
        assert query["X-Amz-Expires"] == ["21600"]
        assert "/auto/s3/" in query["X-Amz-Credential"][0]


@pytest.mark.usefixtures("bucket")
def test_a_name_that_no_file_can_have_should_not_stop_the_others(endpoint: str, bucket: Any) -> None:
    for name in ("config.json", "../outside", "a//b", "b\\c", "\u00a0odd\u3000name.txt", "x" * 300):
        bucket.put_object(Bucket="models", Key=f"odd/{name}", Body=b"{}")
    listing = r2(endpoint).list_files(request("r2://models/odd"))
    assert sorted(file.path for file in listing.files) == ["config.json", "\u00a0odd\u3000name.txt"]
    assert len(listing.skipped) == 4


@pytest.mark.usefixtures("bucket")
def test_long_listings_are_read_to_their_end(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "PAGE", 2)
    access = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "s" * 40}
    files = SourceFiles(settings(AWS_ENDPOINT_URL_S3=endpoint, **access), Now())
    assert len(files.list_files(request("s3://models/many")).files) == 5


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("r2://models/nothing", "no files in r2://models/nothing"),
        ("r2://no-such-bucket/x", "404 NoSuchBucket: there is no such bucket"),
        ("r2://models/bad", "is not a valid path"),
        ("s3://models/tiny", "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_what_can_not_be_read_is_refused_with_the_reason(endpoint: str, source: str, why: str) -> None:
    with pytest.raises(LaunchRefusedError, match=why):
        r2(endpoint).list_files(request(source))


def test_s3_without_an_endpoint_is_amazons_of_the_region() -> None:
    seen: list[httpx.Request] = []

    def answer(sent: httpx.Request) -> httpx.Response:
        seen.append(sent)
        return httpx.Response(403, text="<Error><Code>SignatureDoesNotMatch</Code></Error>")

    values = {"AWS_ACCESS_KEY_ID": "a" * 20, "AWS_SECRET_ACCESS_KEY": "s" * 40, "AWS_REGION": "eu-west-1"}
    files = SourceFiles(settings(**values), Now(), Web(httpx.MockTransport(answer)))
    with pytest.raises(LaunchRefusedError, match="403 SignatureDoesNotMatch"):
        files.list_files(request("s3://models/x"))
    assert str(seen[0].url).startswith("https://s3.eu-west-1.amazonaws.com/models?")


class Azure:
    """Answers as Blob storage does, and counts."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.seen: list[httpx.Request] = []
        self.slept: list[float] = []

    def __call__(self, sent: httpx.Request) -> httpx.Response:
        self.seen.append(sent)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def files(self, addresses: Sequence[str] = ("20.60.1.2",), **values: Any) -> SourceFiles:
        def lookup(host: str, port: int) -> Sequence[str]:
            if not addresses:
                raise OSError
            return addresses

        return SourceFiles(settings(**values), Now(), Web(httpx.MockTransport(self), lookup, self.slept.append))


BLOB_SOURCE = "https://acc.blob.core.windows.net/models/llama"


def test_a_folder_of_a_container_is_listed_page_by_page_at_the_address_that_was_checked() -> None:
    azure = Azure(httpx.Response(200, text=BLOBS), httpx.Response(200, text=LAST))
    files = azure.files().list_files(request(BLOB_SOURCE)).files
    assert [(file.path, file.size) for file in files] == [("config.json", 7), ("a b.bin", 9)]
    assert files[1].url == "https://acc.blob.core.windows.net/models/llama/a%20b.bin"
    first, second = azure.seen
    assert first.url.host == "20.60.1.2"
    assert first.headers["Host"] == "acc.blob.core.windows.net"
    assert first.extensions["sni_hostname"] == "acc.blob.core.windows.net"
    assert dict(first.url.params) == {"restype": "container", "comp": "list", "prefix": "llama/"}
    assert second.url.params["marker"] == "more"


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.169.254", "10.1.2.3", "::1", "::ffff:10.0.0.1", "fe80::1%eth0"]
)
def test_hosts_that_are_not_public_are_refused_before_anything_is_sent(address: str) -> None:
    azure = Azure()
    with pytest.raises(LaunchRefusedError, match="is not a public address"):
        azure.files(["20.60.1.2", address]).list_files(request(BLOB_SOURCE))
    assert not azure.seen


def test_on_a_developers_machine_they_are_not() -> None:
    azure = Azure(httpx.Response(200, text=LAST))
    files = azure.files(["127.0.0.1"], AZURE_FUNCTIONS_ENVIRONMENT="Development")
    assert len(files.list_files(request("https://localhost:8443/models/llama")).files) == 1


def test_an_unknown_host_is_refused() -> None:
    with pytest.raises(LaunchRefusedError, match="does not exist"):
        Azure().files([]).list_files(request(BLOB_SOURCE))


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (httpx.Response(404, text="<Error/>"), "answered 404"),
        (httpx.Response(302, headers={"Location": "http://169.254.169.254/"}), "answered 302"),
        (httpx.Response(200, text="<html></html>"), "is not a container"),
        (httpx.Response(200, text="hello"), "did not answer with a listing"),
        (httpx.Response(200, text='<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>'), "DTD"),
        (httpx.Response(200, content=b"\xff\xfe<\x00"), "did not answer with a listing"),
        (httpx.Response(200, text=LAST.replace("a b.bin", "../x")), "is not a valid path"),
    ],
)
def test_other_answers_are_refused(answer: httpx.Response, why: str) -> None:
    azure = Azure(answer)
    with pytest.raises(LaunchRefusedError, match=why):
        azure.files().list_files(request(BLOB_SOURCE))
    assert len(azure.seen) == 1


@pytest.mark.parametrize(
    ("status", "code", "why"),
    [
        (404, "ContainerNotFound", "404 ContainerNotFound: the account has no such container$"),
        (409, "PublicAccessNotPermitted", "the account allows no anonymous access"),
        (403, "AuthorizationFailure", "the account's firewall does not let the control plane in"),
        (404, "ResourceNotFound", "or it does not allow anonymous listing"),
        (400, "SomethingNew", "400 SomethingNew: only containers that allow anonymous listing can be read"),
    ],
)
def test_a_refused_container_is_explained_by_the_stores_own_code(status: int, code: str, why: str) -> None:
    for answer in (
        httpx.Response(status, headers={"x-ms-error-code": code}),
        httpx.Response(status, text=f"<Error><Code>{code}</Code></Error>"),
    ):
        with pytest.raises(LaunchRefusedError, match=why):
            Azure(answer).files().list_files(request(BLOB_SOURCE))


@pytest.mark.parametrize(("status", "code"), [(400, "RequestTimeout"), (409, "OperationAborted")])
def test_a_passing_refusal_is_tried_again_whatever_its_status(status: int, code: str) -> None:
    azure = Azure(httpx.Response(status, text=f"<Error><Code>{code}</Code></Error>"), httpx.Response(200, text=LAST))
    assert len(azure.files().list_files(request(BLOB_SOURCE)).files) == 1
    assert azure.slept == [1.0]


def test_a_busy_store_is_asked_again_and_then_told_to_be_unavailable() -> None:
    azure = Azure(httpx.Response(503), httpx.ConnectTimeout("x"), httpx.Response(200, text=LAST))
    assert len(azure.files().list_files(request(BLOB_SOURCE)).files) == 1
    assert azure.slept == [1.0, 2.0]
    with pytest.raises(ProviderUnavailableError, match="answered 503"):
        Azure(*[httpx.Response(503)] * 3).files().list_files(request(BLOB_SOURCE))


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2603:1030::1", True),
        ("192.168.0.1", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),  # noqa: S104 - an address to be refused
        ("224.0.0.1", False),
        ("168.63.129.16", False),
        ("fd00::1", False),
        ("2002:0a00:0001::", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::808:808", True),
    ],
)
def test_what_is_public(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_a_namespace_does_not_matter() -> None:
    assert parse_xml(b'<a xmlns="http://s3"><b>1</b></a>', "x").findtext("b") == "1"
