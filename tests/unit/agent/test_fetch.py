"""Fetching a model over a scripted transport."""

import errno
import hashlib
import ssl
import threading
import time
import urllib.error
from collections.abc import Mapping
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shared.agent.node import errors, fetch
from shared.agent.node.errors import FatalError
from shared.agent.node.fetch import Fetcher, Remote
from shared.agent.node.log import Log
from shared.agent.node.state import State
from shared.agent.node.transport import Http, environment_proxies, retry_after
from tests.unit.agent.fakes import Answer, Answers, FakeClock, FakeHttp, always


def fetching(folder: Path, answer: Answers) -> tuple[Fetcher, FakeHttp, FakeClock]:
    clock, transport = FakeClock(), FakeHttp(answer)
    made = Fetcher(folder=folder, transport=transport, clock=clock, state=State(Log()), stop=threading.Event())
    return made, transport, clock


def part(body: bytes, headers: Mapping[str, str], **more: str) -> Answer:
    first, last = (int(end) for end in headers["Range"].removeprefix("bytes=").split("-"))
    last = min(last, len(body) - 1)
    return Answer(206, body[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(body)}", **more})


def ranges_of(body: bytes) -> Answers:
    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        return part(body, headers)

    return answer


FILE = {"path": "m.bin", "url": "https://s/m.bin?sig=1", "size": 10}


def test_a_connection_that_ends_early_goes_on_where_it_ended(tmp_path: Path) -> None:
    body, tries = b"0123456789", iter([4, 3, 10])

    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        whole = part(body, headers)
        return Answer(206, whole.getvalue()[: next(tries)], whole.headers)

    fetcher, transport, _ = fetching(tmp_path, answer)
    fetcher.fetch([FILE])
    assert (tmp_path / "m.bin").read_bytes() == body
    assert [headers["Range"] for _, _, headers in transport.seen] == ["bytes=0-9", "bytes=4-9", "bytes=7-9"]


def test_one_request_asks_for_several_ranges_and_fewer_towards_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "RANGE", 2)
    monkeypatch.setattr(fetch, "STRETCH", 3)
    monkeypatch.setattr(fetch, "CONNECTIONS", 1)
    body = b"0123456789"
    fetcher, transport, _ = fetching(tmp_path, ranges_of(body))
    other = {"path": "n.bin", "url": "https://s/n.bin?sig=1", "size": 10}
    fetcher.fetch([FILE, other])
    assert (tmp_path / "m.bin").read_bytes() == (tmp_path / "n.bin").read_bytes() == body
    asked = [(url[10:15], headers["Range"].removeprefix("bytes=")) for _, url, headers in transport.seen]
    assert asked == [("m.bin", "0-5"), ("m.bin", "6-9"), ("n.bin", "0-5"), ("n.bin", "6-9")]
    monkeypatch.setattr(fetch, "CONNECTIONS", 5)
    fetcher, transport, _ = fetching(tmp_path / "b", ranges_of(body))
    fetcher.fetch([FILE])
    assert len(transport.seen) == 5, "no connection takes what others could"


def test_of_a_request_that_broke_only_what_is_missing_is_fetched_again_even_by_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "RANGE", 4)
    monkeypatch.setattr(fetch, "CONNECTIONS", 1)
    monkeypatch.setattr(errors, "TRIES", 1)
    body = b"0123456789"

    def broken(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        whole = part(body, headers)
        return Answer(206, whole.getvalue()[:6], whole.headers)

    fetcher, _, _ = fetching(tmp_path, broken)
    with pytest.raises(FatalError, match="ended early"):
        fetcher.fetch([FILE])
    fetcher, transport, _ = fetching(tmp_path, ranges_of(body))
    fetcher.fetch([FILE])
    assert [headers["Range"] for _, _, headers in transport.seen] == ["bytes=4-9"]
    assert (tmp_path / "m.bin").read_bytes() == body


def test_a_store_that_never_answers_is_given_up_with_growing_pauses(tmp_path: Path) -> None:
    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        raise ConnectionRefusedError("refused")

    fetcher, transport, clock = fetching(tmp_path, answer)
    with pytest.raises(FatalError, match=r"m\.bin: ConnectionRefusedError: refused, after 8 tries"):
        fetcher.fetch([FILE])
    assert len(transport.seen) == 8
    assert all(min(60, 2.0**number) / 2 <= pause <= min(60, 2.0**number) for number, pause in enumerate(clock.waited))


def test_a_store_says_how_long_to_wait(tmp_path: Path) -> None:
    answers = [Answer(429, headers={"Retry-After": "42"})]

    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        return answers.pop() if answers else part(b"0123456789", headers)

    fetcher, _, clock = fetching(tmp_path, answer)
    fetcher.fetch([FILE])
    assert clock.waited == [42]


def test_whatever_breaks_a_fetch_fails_it(tmp_path: Path) -> None:
    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        raise RecursionError("a fault that was not thought of")

    fetcher, transport, _ = fetching(tmp_path, answer)
    with pytest.raises(FatalError, match=r"m\.bin: RecursionError: a fault"):
        fetcher.fetch([FILE])
    assert len(transport.seen) <= fetch.CONNECTIONS, "what no second try can mend is not tried again"


@pytest.mark.parametrize(
    ("status", "headers", "why"),
    [
        (206, {"Content-Range": "bytes 0-9/\xb2"}, "ended early"),
        (200, {"Content-Length": "\xb2"}, "ended early"),
        (302, {"Location": "https://[bad"}, "not an address"),
        (302, {"Location": "file:///etc/passwd"}, "refused a redirect"),
        (302, {"Location": "ftp://s/m.bin"}, "refused a redirect"),
        (429, {"Retry-After": "\xb2"}, "answered 429"),
        (403, {"X-Error-Code": "GatedRepo"}, "answered 403 GatedRepo"),
    ],
)
def test_an_answer_without_sense_fails_a_fetch(tmp_path: Path, status: int, headers: dict[str, str], why: str) -> None:
    fetcher, _, _ = fetching(tmp_path, always(lambda: Answer(status, b"", headers)))
    with pytest.raises(FatalError, match=why):
        fetcher.fetch([FILE])
    assert not (tmp_path / "m.bin").exists()


def test_the_agents_own_client_opens_the_web_only(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    for url in ((tmp_path / "secret").as_uri(), "ftp://127.0.0.1/x", "data:,x"):
        with pytest.raises(OSError):
            Http().open("GET", url, {})


def test_every_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert environment_proxies() == {}
    monkeypatch.setenv("ALL_PROXY", "http://p:3128")
    assert environment_proxies() == {"http": "http://p:3128", "https": "http://p:3128"}
    monkeypatch.setenv("https_proxy", "http://q:3128")
    assert environment_proxies() == {"http": "http://p:3128", "https": "http://q:3128"}


@pytest.mark.parametrize("name", ["all_proxy", "HTTPS_PROXY"])
def test_a_proxy_that_cannot_be_used_fails_a_fetch_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "socks5h://me:secret@127.0.0.1:9")
    clock = FakeClock()
    made = Fetcher(folder=tmp_path, transport=Http(), clock=clock, state=State(Log()), stop=threading.Event())
    with pytest.raises(FatalError, match="names a SOCKS proxy for s, which the agent cannot use") as caught:
        made.fetch([FILE])
    assert (clock.waited, "secret" in str(caught.value)) == ([], False)
    monkeypatch.setenv("NO_PROXY", "s")
    with pytest.raises(OSError, match=r"^(?!.*SOCKS)"):
        Http().open("GET", "https://s/m.bin", {}, timeout=0.2)


def test_a_certificate_that_is_not_trusted_fails_a_fetch_at_once(tmp_path: Path) -> None:
    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        raise urllib.error.URLError(ssl.SSLCertVerificationError("unable to get local issuer certificate"))

    fetcher, _, clock = fetching(tmp_path, answer)
    with pytest.raises(FatalError, match="unable to get local issuer certificate"):
        fetcher.fetch([FILE])
    assert clock.waited == []


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "42"}, 42),
        ({"Retry-After": "\xb2"}, 0),
        ({"RateLimit": '"api";r=0;t=280', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'}, 280),
        ({"RateLimit": "limit=100, remaining=0, reset=50"}, 50),
        ({"RateLimit-Reset": "17"}, 17),
        ({"X-RateLimit-Reset": "30"}, 30),
        ({"x-ms-retry-after-ms": "1500"}, 1.5),
        ({"Retry-After": "5", "RateLimit": '"api";r=0;t=60'}, 60),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"Retry-After": "9" * 12}, 300),
        ({"RateLimit": "nonsense"}, 0),
        ({}, 0),
    ],
)
def test_every_way_in_which_servers_ask_for_patience_is_understood(headers: dict[str, str], seconds: float) -> None:
    assert retry_after(headers, 300) == seconds


def test_a_date_and_a_moment_are_waits_as_well() -> None:
    moment = time.time() + 100
    assert 90 < retry_after({"Retry-After": formatdate(moment, usegmt=True)}) <= 100
    assert 90 < retry_after({"X-RateLimit-Reset": str(int(moment))}) <= 100


@pytest.mark.parametrize("hint", [{"RateLimit": '"resolvers";r=0;t=280'}, {}])
def test_a_used_up_window_is_waited_for_by_all_connections(tmp_path: Path, hint: dict[str, str]) -> None:
    body, clock = b"0123456789", FakeClock()

    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        return part(body, headers) if clock.at >= 280 else Answer(429, headers=hint)

    transport = FakeHttp(answer)
    Fetcher(tmp_path, transport, clock, State(Log()), threading.Event()).fetch([FILE])
    assert (tmp_path / "m.bin").read_bytes() == body
    assert len(transport.seen) == 2 if hint else len(transport.seen) < 15


def test_a_server_that_stays_busy_is_given_up_in_the_end(tmp_path: Path) -> None:
    fetcher, _, clock = fetching(tmp_path, always(lambda: Answer(503)))
    with pytest.raises(FatalError, match="answered 503"):
        fetcher.fetch([FILE])
    assert 660 <= clock.at < 800


def checked(body: bytes, algorithm: str = "sha256") -> dict[str, Any]:
    return {**FILE, "checksum": {"algorithm": algorithm, "digest": hashlib.new(algorithm, body).hexdigest()}}


def test_a_file_is_what_its_source_says_by_its_checksum(tmp_path: Path) -> None:
    body = b"0123456789"
    for algorithm in ("sha256", "md5", "sha1"):
        fetcher, _, _ = fetching(tmp_path / algorithm, ranges_of(body))
        fetcher.fetch([checked(body, algorithm)])
        assert (tmp_path / algorithm / "m.bin").read_bytes() == body
    git = hashlib.sha1(b"blob 10\0" + body, usedforsecurity=False).hexdigest()
    fetcher, _, _ = fetching(tmp_path / "git", ranges_of(body))
    fetcher.fetch([{**FILE, "checksum": {"algorithm": "git", "digest": git}}])
    assert (tmp_path / "git" / "m.bin").exists()


def test_a_damaged_file_is_fetched_once_more_and_then_refused(tmp_path: Path) -> None:
    body, sent = b"0123456789", iter([b"012345678X", b"0123456789"])

    def once(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        return part(next(sent), headers)

    fetcher, transport, _ = fetching(tmp_path, once)
    fetcher.fetch([checked(body)])
    assert (tmp_path / "m.bin").read_bytes() == body
    assert len(transport.seen) == 2
    fetcher, _, _ = fetching(tmp_path / "b", ranges_of(b"012345678X"))
    with pytest.raises(FatalError, match=r"m\.bin: the content is not what the source has"):
        fetcher.fetch([checked(body)])
    assert not (tmp_path / "b" / "m.bin").exists()


@pytest.mark.parametrize("kept", [{"x-amz-server-side-encryption": "aws:kms"}, {}])
def test_an_etag_is_no_checksum_of_what_is_encrypted_with_a_customers_key(tmp_path: Path, kept: dict[str, str]) -> None:
    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        return part(b"0123456789", headers, **kept)

    fetcher, _, _ = fetching(tmp_path, answer)
    if kept:
        fetcher.fetch([checked(b"something else", "md5")])
    else:
        with pytest.raises(FatalError, match="is not what the source has"):
            fetcher.fetch([checked(b"something else", "md5")])


def test_expired_credentials_are_a_reason_for_fresh_addresses(tmp_path: Path) -> None:
    body, fresh = b"0123456789", "https://s/m.bin?sig=2"

    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        expired = b"<Error><Code>ExpiredToken</Code></Error>"
        return part(body, headers) if url == fresh else Answer(400, expired)

    clock, transport = FakeClock(), FakeHttp(answer)
    refreshed = Fetcher(tmp_path, transport, clock, State(Log()), threading.Event(), refresh=lambda: {"m.bin": fresh})
    refreshed.fetch([FILE])
    assert (tmp_path / "m.bin").read_bytes() == body
    fetcher, _, _ = fetching(tmp_path / "b", answer)
    with pytest.raises(FatalError, match="the store answered 400 ExpiredToken"):
        fetcher.fetch([FILE])


@pytest.mark.parametrize(("status", "code"), [(400, "RequestTimeout"), (409, "OperationAborted")])
def test_what_may_pass_is_tried_again_by_its_code(tmp_path: Path, status: int, code: str) -> None:
    refusals = iter([f"<Error><Code>{code}</Code></Error>".encode()] * 3)

    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        refused = next(refusals, None)
        return part(b"0123456789", headers) if refused is None else Answer(status, refused)

    fetcher, _, clock = fetching(tmp_path, answer)
    fetcher.fetch([FILE])
    assert (tmp_path / "m.bin").is_file()
    assert len(clock.waited) == 3


def test_files_of_the_model_may_have_the_names_of_our_own(tmp_path: Path) -> None:
    body = b"0123456789"
    names = ["m.bin", "m.bin.part", "m.bin.part.json", "m.bin.part.json.new", "\u00a0a\u3000b.bin"]
    fetcher, _, _ = fetching(tmp_path, ranges_of(body))
    fetcher.fetch([{**FILE, "path": name} for name in names])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert all((tmp_path / name).read_bytes() == body for name in names)


def test_a_full_disk_is_reported_with_the_bytes_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def usage(path: Path) -> SimpleNamespace:
        return SimpleNamespace(free=9)

    monkeypatch.setattr(fetch.shutil, "disk_usage", usage)
    fetcher, transport, _ = fetching(tmp_path, always(lambda: Answer(500)))
    with pytest.raises(FatalError, match="disk full: the model needs 10 more bytes, 9 are free"):
        fetcher.fetch([FILE])
    assert not transport.seen


def test_a_disk_that_fills_up_is_reported_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def note(remote: Remote) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Remote, "note", note)
    fetcher, _, _ = fetching(tmp_path, always(lambda: part(b"0123456789", {"Range": "bytes=0-9"})))
    with pytest.raises(FatalError, match="disk full: the model needs"):
        fetcher.fetch([FILE])


def test_a_file_that_changes_on_its_way_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "RANGE", 4)
    monkeypatch.setattr(fetch, "STRETCH", 1)
    monkeypatch.setattr(fetch, "CONNECTIONS", 1)
    tags = iter(['"1"', '"1"', '"2"'])

    def changing(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        return part(b"0123456789", headers, ETag=next(tags))

    fetcher, _, _ = fetching(tmp_path, changing)
    with pytest.raises(FatalError, match=r"m\.bin changed while it was fetched"):
        fetcher.fetch([FILE])
    assert not (tmp_path / "m.bin").exists()
    assert not list(tmp_path.with_name(f"{tmp_path.name}.parts").glob("*.json"))


def test_a_store_without_ranges_serves_small_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetcher, _, _ = fetching(tmp_path, always(lambda: Answer(200, b"0123456789", {"Content-Length": "10"})))
    fetcher.fetch([FILE])
    assert (tmp_path / "m.bin").read_bytes() == b"0123456789"
    monkeypatch.setattr(fetch, "RANGE", 4)
    fetcher, _, _ = fetching(tmp_path / "b", always(lambda: Answer(200, b"0123456789", {"Content-Length": "10"})))
    with pytest.raises(FatalError, match="does not answer range requests"):
        fetcher.fetch([FILE])


def test_redirects_drop_the_token_on_other_hosts_and_never_leave_https(tmp_path: Path) -> None:
    targets = {"https://s/m.bin?sig=1": "/elsewhere", "https://s/elsewhere": "https://cdn/x"}

    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        return Answer(302, headers={"Location": targets[url]}) if url in targets else part(b"0123456789", headers)

    fetcher, transport, _ = fetching(tmp_path, answer)
    fetcher.fetch([FILE], {"Authorization": "Bearer t"})
    assert ["Authorization" in headers for _, _, headers in transport.seen] == [True, True, False]
    targets["https://s/elsewhere"] = "http://cdn/x"
    fetcher, _, _ = fetching(tmp_path / "b", answer)
    with pytest.raises(FatalError, match="refused a redirect"):
        fetcher.fetch([FILE])
