"""Transactions on the wire: a batch of one change set, a part for each operation, and the answer of the same form."""

from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import unquote, urlsplit

from tests.standins.storage.shapes import Call, RefusedError, Reply

_LINE: Final = b"\r\n"
_REASONS: Final = {200: "OK", 201: "Created", 204: "No Content"}


def operations(call: Call) -> list[Call]:
    """The requests of a batch, in order."""
    batch = _boundary(call.headers.get("content-type", ""))
    for head, body in _parts(call.body, batch):
        changes = _boundary(head.get("content-type", ""))
        return [_operation(inner) for _, inner in _parts(body, changes)]
    raise RefusedError(400, "InvalidInput", "a batch without a change set")


def answer(replies: Sequence[Reply]) -> Reply:
    """The answer to a batch: those to all of its requests, or to the one that failed."""
    parts = [_rendered(reply) for reply in replies]
    changes = b"".join(b"--changesetresponse\r\n" + part + _LINE for part in parts) + b"--changesetresponse--\r\n"
    head = b"--batchresponse\r\nContent-Type: multipart/mixed; boundary=changesetresponse\r\n\r\n"
    return Reply(
        status=202,
        body=head + changes + b"--batchresponse--\r\n",
        content_type="multipart/mixed; boundary=batchresponse",
    )


def _rendered(reply: Reply) -> bytes:
    headers = {**reply.headers, **({"Content-Type": reply.content_type} if reply.content_type else {})}
    lines = [
        "Content-Type: application/http",
        "Content-Transfer-Encoding: binary",
        "",
        f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, 'Refused')}",
        *(f"{name}: {value}" for name, value in headers.items()),
        "",
    ]
    return "\r\n".join(lines).encode() + _LINE + reply.body


def _operation(content: bytes) -> Call:
    head, _, body = content.partition(_LINE * 2)
    request, *lines = head.decode().split("\r\n")
    method, address, _ = request.split(" ")
    path = unquote(urlsplit(address).path).lstrip("/")
    return Call(method=method, path=path, headers=_headers(lines), body=body.rstrip(_LINE))


def _parts(content: bytes, boundary: str) -> Iterator[tuple[dict[str, str], bytes]]:
    for part in content.split(b"--" + boundary.encode())[1:-1]:
        head, _, body = part.removeprefix(_LINE).partition(_LINE * 2)
        yield _headers(head.decode().split("\r\n")), body.removesuffix(_LINE)


def _headers(lines: Sequence[str]) -> dict[str, str]:
    pairs = [line.partition(":") for line in lines if line]
    return {name.strip().casefold(): value.strip() for name, _, value in pairs}


def _boundary(content_type: str) -> str:
    _, found, boundary = content_type.partition("boundary=")
    if not found:
        raise RefusedError(400, "InvalidInput", f"not a batch: {content_type}")
    return boundary.strip('"')
