"""Model sources that point inwards, or at servers that lie: refused, with one of the two errors that steps know."""

import itertools
import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gpulaunch.models.requests import LaunchRequest
from shared.domain.provider import LaunchRefusedError, ProviderUnavailableError
from shared.model_sources.files import SourceFiles
from shared.model_sources.web import Web, resolve
from shared.settings import Settings
from tests.functional.world import SEED, World

KEY = "key-of-the-tests-0123456789-abcdef"

REFUSALS = (LaunchRefusedError, ProviderUnavailableError)
PAGE = "<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>"
BLOB = "<Blob><Name>a{n}</Name><Properties><Content-Length>{size}</Content-Length></Properties></Blob>"


class Now:
    def now(self) -> datetime:
        return datetime(2026, 1, 31, 9, tzinfo=UTC)


class Store:
    """A server that does what the test says, at whatever address; it counts who came to it."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self.answer, self.seen = answer, list[httpx.Request]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        return self.answer(request)

    def files(self, *addresses: str, **given: str) -> SourceFiles:
        def lookup(host: str, port: int) -> Sequence[str]:
            return addresses or resolve(host, port)

        values = {"GPULAUNCH_MASTER_KEY": KEY, "R2_ENDPOINT": "https://r2.example", **given}
        keys = {"R2_ACCESS_KEY_ID": "a" * 20, "R2_SECRET_ACCESS_KEY": "s" * 40}
        web = Web(httpx.MockTransport(self), lookup, lambda _: None)
        return SourceFiles(Settings.model_validate(values | keys), Now(), web)


def request(source: str) -> LaunchRequest:
    return LaunchRequest(model_name="org/name", gpu="A10", model_source=source)


@contextmanager
def refusal() -> Generator[None]:
    with pytest.raises(REFUSALS):
        yield


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.169.254:80",
        "127.0.0.1:7071",
        "localhost",
        "localhost.",
        "0",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "127.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.100.100.200",
        "168.63.129.16",
        "0.0.0.0",  # noqa: S104 - an address to be refused
    ],
)
def test_inward_addresses_in_any_spelling_should_be_refused_before_anything_is_sent(host: str) -> None:
    store = Store(lambda _: httpx.Response(200, text=PAGE.format(blobs=BLOB.format(n=1, size=1), marker="")))
    with refusal():
        store.files().list_files(request(f"https://{host}/container/x"))
    assert store.seen == []


@pytest.mark.parametrize(
    "addresses",
    [
        ["169.254.169.254"],
        ["8.8.8.8", "127.0.0.1"],
        ["8.8.8.8", "fd00:ec2::254"],
        ["::ffff:169.254.169.254"],
        ["64:ff9b::a9fe:a9fe"],
        ["::"],
        ["fe80::1%eth0"],
        [],
    ],
)
def test_names_that_lead_inwards_should_be_refused_before_anything_is_sent(addresses: list[str]) -> None:
    store = Store(lambda _: httpx.Response(200))
    found = store.files(*addresses) if addresses else store.files("127.0.0.1")
    with refusal():
        found.list_files(request("https://innocent.example/container/x"))
    assert store.seen == []


def test_a_public_name_should_be_asked_at_the_address_that_was_checked() -> None:
    """So a name that leads elsewhere at the second look (DNS rebinding) leads nowhere."""
    store = Store(lambda _: httpx.Response(200, text=PAGE.format(blobs=BLOB.format(n=1, size=1), marker="")))
    assert store.files("8.8.8.8").list_files(request("https://good.example/container/x")).files
    assert {sent.url.host for sent in store.seen} == {"8.8.8.8"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("source", ["https://good.example/container/x", "r2://bucket/x"])
def test_redirects_inwards_should_not_be_followed(source: str, status: int) -> None:
    inwards = {"Location": "http://169.254.169.254/metadata/identity"}
    store = Store(lambda _: httpx.Response(status, headers=inwards))
    with refusal():
        store.files("8.8.8.8").list_files(request(source))
    assert len(store.seen) == 1


@pytest.mark.parametrize(
    "source",
    [
        "https://a[b/c/d",
        "https://a]/c",
        "https://host:99999/c/d",
        "https://host:port/c/d",
        "https://host:-1/c/d",
        "https://a..b/c/d",
        "https://" + "a" * 64 + ".example/c",
        "https://xn--/c/d",
        "https://a%2f.example/c/d",
        "https://a\u2100b.example/c/d",
        "https://ａ.example/c/d",  # noqa: RUF001 - on purpose
    ],
)
def test_addresses_that_are_none_should_be_refused(source: str) -> None:
    store = Store(lambda _: httpx.Response(500))
    with pytest.raises((ValidationError, *REFUSALS)):
        store.files().list_files(request(source))
    assert store.seen == []


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
@given(
    scheme=st.sampled_from(["https://", "r2://", "s3://", "hf://"]),
    rest=st.text(st.sampled_from("aZ09.-_:/%[]@~+,;=()é\u2024"), min_size=1, max_size=60),
)
def test_any_source_should_be_listed_or_refused(scheme: str, rest: str) -> None:
    store = Store(lambda _: httpx.Response(404, text="<Error/>"))
    try:
        listing = store.files("8.8.8.8").list_files(request(f"{scheme}{rest}"))
    except (ValidationError, *REFUSALS):
        return
    assert listing.hub_model is not None


@pytest.mark.parametrize("source", ["https://good.example/c", "r2://bucket"])
@pytest.mark.parametrize("size", ["-1", "x", "1e9", "9" * 5000, "١"])  # noqa: RUF001 - digits of another script
def test_sizes_that_are_none_should_be_refused(source: str, size: str) -> None:
    text = PAGE.format(blobs=BLOB.format(n=1, size=size), marker="")
    s3 = f"<ListBucketResult><Contents><Key>a</Key><Size>{size}</Size></Contents></ListBucketResult>"
    store = Store(lambda _: httpx.Response(200, text=s3 if source.startswith("r2") else text))
    with pytest.raises(LaunchRefusedError, match="size"):
        store.files("8.8.8.8").list_files(request(source))


@pytest.mark.parametrize("blobs", ["", BLOB.format(n=1, size=1)])
@pytest.mark.parametrize("source", ["https://good.example/c", "r2://bucket"])
def test_a_listing_without_an_end_should_be_given_up(source: str, blobs: str) -> None:
    numbers = itertools.count()

    def answer(_: httpx.Request) -> httpx.Response:
        number = next(numbers)
        entry = "<Contents><Key>a</Key><Size>1</Size></Contents>" if blobs else ""
        truncated = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{number}</NextContinuationToken>"
        s3 = f"<ListBucketResult>{entry}{truncated}</ListBucketResult>"
        return httpx.Response(200, text=s3 if source.startswith("r2") else PAGE.format(blobs=blobs, marker=number))

    store = Store(answer)
    with pytest.raises(LaunchRefusedError):
        store.files("8.8.8.8").list_files(request(source))
    assert len(store.seen) < 200


def test_a_store_that_drips_should_be_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, the whole never would."""
    seconds = itertools.count(0, 10)
    monkeypatch.setattr("shared.model_sources.web.time.monotonic", lambda: float(next(seconds)))

    class Drip(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            for _ in range(10_000):
                yield b" "

    store = Store(lambda _: httpx.Response(200, stream=Drip()))
    with pytest.raises(ProviderUnavailableError, match="slow"):
        store.files("8.8.8.8").list_files(request("https://good.example/c"))


def test_spellings_of_this_machine_should_be_known_to_the_resolver() -> None:
    """What the refusals above rest on: the resolver understands the spellings that a client would."""
    assert resolve("127.1", 443) == ["127.0.0.1"]
    assert socket.inet_aton("0x7f000001") == socket.inet_aton("127.0.0.1")


@pytest.mark.parametrize(
    "source", ["https://169.254.169.254/latest/meta-data", "s3://b/../../x", "https://localhost/c/m"]
)
def test_a_launch_of_such_a_source_should_be_refused_beside_its_field_and_cost_nothing(source: str) -> None:
    world = World()
    refused = world.call("POST", "/api/instances/launch", SEED | {"model_source": source})
    assert (refused.status, refused.json["errors"][0]["field"]) == (422, "model_source")
    assert world.store.calls.count("create") == 0
    assert world.call("POST", "/api/instances/launch", SEED | {"model_source": "s3://b/x"}).status == 202


SEEN = (*range(0x80, 0xA0), 0xAD, 0x61C, *range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x2070), 0xFEFF)


@pytest.mark.parametrize("code", SEEN, ids=hex)
def test_no_text_of_a_request_should_hold_what_is_not_shown_as_it_is(code: int) -> None:
    text = f"a{chr(code)}b"
    for field in ({"vllm_args": [text]}, {"job": {"command": [text]}}, {"model_source": f"s3://bucket/{text}"}):
        with pytest.raises(ValidationError):
            LaunchRequest.model_validate({"model_name": "org/name", "gpu": "A10", **field})
