"""What ASP.NET's server, the host and its worker make of requests and responses; seen on the genuine host."""

import pytest

from devhost import wire


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/", "/"),
        (b"/a%20b/%C3%A9", "/a b/é"),
        (b"/a%2Fb/%2f", "/a%2Fb/%2f"),
        (b"/%252F/%25zz", "/%2F/%zz"),
        (b"/%FF/%c3/%C3%A9%fe", "/%FF/%C3/é%FE"),
        (b"/a%0ab", "/a\nb"),
        (b"/a/./b/../c", "/a/c"),
        (b"/a/%2e%2E/c", "/c"),
        (b"/../../a", "/a"),
        (b"/a/b/..", "/a/"),
        (b"/a/.", "/a/"),
        (b"/..", "/"),
        (b"/a//b/", "/a//b/"),
        (b"/a/...", "/a/..."),
    ],
)
def test_a_path_should_be_decoded_once_and_dot_segments_resolved(target: bytes, path: str) -> None:
    assert wire.path_of(target) == path


@pytest.mark.parametrize("target", [b"/a%00b", b"http://x/a", b"*", b""])
def test_what_is_not_a_path_should_be_refused(target: bytes) -> None:
    with pytest.raises(ValueError, match="not a path"):
        wire.path_of(target)


@pytest.mark.parametrize(
    ("path", "query", "url"),
    [
        ("/a b/é", "", "http://x/a%20b/%C3%A9"),
        ("/a%2Fb", "q=%2F&é", "http://x/a%2Fb?q=%2F&é"),
        ("/%zz/100%", "", "http://x/%25zz/100%25"),
        ("/a\nb", "", "http://x/a%0Ab"),
        ("/-._~!$&'()*+,;=:@", "", "http://x/-._~!$&'()*+,;=:@"),
        ('/"<>[]^`{|}\\', "", "http://x/%22%3C%3E%5B%5D%5E%60%7B%7C%7D%5C"),
    ],
)
def test_a_url_should_be_encoded_anew(path: str, query: str, url: str) -> None:
    assert wire.url_of("x", path, query) == url


@pytest.mark.parametrize(
    ("raw", "query"),
    [
        ("A=1&a=2", {"A": "1,2"}),
        ("a=1&a=&a=2", {"a": "1,2"}),
        ("&&", {}),
        ("a&b=&=c", {"": "c"}),
        ("a=b+c%2Bd=e", {"a": "b c+d=e"}),
        ("a=%2F%FF%C3%A9", {"a": "/%FFé"}),
        ("a;b=1", {"a;b": "1"}),
    ],
)
def test_a_query_should_have_each_name_once_and_no_empty_value(raw: str, query: dict[str, str]) -> None:
    assert wire.query_of(raw) == query


def test_headers_should_be_joined_without_regard_to_case_and_empty_ones_stay() -> None:
    raw = [(b"X-A", b"1"), (b"x-a", b""), (b"X-a", b"2"), (b"Empty", b""), (b"name", "é".encode())]
    assert wire.headers_of(raw) == {"x-a": "1,2", "empty": "", "name": "é"}


HOST = (b"host", b"x")


@pytest.mark.parametrize(
    ("more", "refused"),
    [
        ([(b"x", b"1")] * 99, None),
        ([(b"x", b"1")] * 100, 431),
        ([(b"x", b"1" * 32_754)], None),
        ([(b"x", b"1" * 32_755)], 431),
        ([(b"x", "é".encode())], None),
        ([(b"x", b"\xff")], 400),
    ],
)
def test_too_many_or_too_large_headers_should_be_refused(more: list[tuple[bytes, bytes]], refused: int | None) -> None:
    assert wire.refusal(100, [HOST, *more]) == refused


@pytest.mark.parametrize(
    ("host", "refused"),
    [
        (b"", None), (b"localhost:7071", None), (b"[::1]:80", None), (b"a_b.c~d", None), (b"(x)", None),
        (b":80", 400), (b"x:", 400), (b"x:8a", 400), (b"a b", 400), (b"a/b", 400), (b"a@b", 400), (b"[::1", 400),
        (b"x,y", 400), (b"x\"", 400), ("é".encode(), 400),
    ],
)  # fmt: skip
def test_a_malformed_host_should_be_refused(host: bytes, refused: int | None) -> None:
    assert wire.refusal(100, [(b"host", host)]) == refused


def test_a_long_request_line_should_be_refused() -> None:
    assert [wire.refusal(length, [HOST]) for length in (8192, 8193)] == [None, 414]


def test_a_cookie_should_be_put_together_anew() -> None:
    cookie = '__Host-gl="a b"; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=3599'
    assert wire.sendable({"Set-Cookie": cookie, "X": "1"}) == [
        (b"X", b"1"),
        (b"Set-Cookie", b"__Host-gl=a%20b; max-age=3599; domain=; path=/; secure; samesite=strict; httponly"),
    ]
    assert wire.sendable({"set-cookie": "a=b"}) == [(b"Set-Cookie", b"a=b; domain=; path=")]


@pytest.mark.parametrize("value", ["é", "a\nb", "\x00", "\ud800"])
def test_a_header_that_is_not_printable_ascii_should_not_be_sendable(value: str) -> None:
    with pytest.raises(ValueError, match="not printable ASCII: X"):
        wire.sendable({"X": value})
