"""The stand-in's in-process side: a transport that takes the place of the network beneath the storage clients."""

import concurrent.futures
import io
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, Self
from unittest.mock import patch
from urllib.parse import parse_qsl, unquote, urlsplit

from azure.core.pipeline.transport import HttpTransport
from azure.core.rest import HttpRequest, HttpResponse
from azure.core.rest._http_response_impl import (  # pyright: ignore[reportPrivateUsage] - there is no public one
    HttpResponseImpl,
)
from azure.core.utils import CaseInsensitiveDict

from tests.standins.storage.shapes import Call, Reply

ACCOUNT: Final = "standin"
CONNECTION: Final = (
    f"DefaultEndpointsProtocol=https;AccountName={ACCOUNT};AccountKey=c3RhbmRpbg==;EndpointSuffix=core.windows.net"
)


class WireTransport(HttpTransport[HttpRequest, HttpResponse]):
    """Hands each request to `answer`, in the caller's thread; `sleep` is what the clients wait with."""

    def __init__(self, answer: Callable[[Call], Reply], sleep: Callable[[float], object]) -> None:
        self._answer = answer
        self._sleep = sleep

    def open(self) -> None: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def sleep(self, duration: float) -> None:
        self._sleep(duration)

    def send(self, request: HttpRequest, **_: Any) -> HttpResponse:
        split = urlsplit(request.url)
        call = replace(
            _call(request, split.path),
            service=split.netloc.split(".")[1],
            query=dict(parse_qsl(split.query, keep_blank_values=True)),
            operations=tuple(_call(one, urlsplit(str(one.url)).path) for one in _unpacked(request)),
        )
        return response(request, self._answer(call))


@contextmanager
def unpacked_batches() -> Generator[None]:
    """Leave out the packing of transactions into MIME messages and back, which takes four times as long as the rest.

    The transport gets a transaction's requests as they are then. The clients sleep whatever transport they have, so
    they are made to ask ours; everything else of the SDK is at work as ever.
    """

    def wait(wrapper: Any, duration: float) -> None:
        wrapper._transport.sleep(duration)

    def leave(_: HttpRequest, content_index: int = 0) -> int:
        return content_index

    with (
        patch.object(HttpRequest, "_prepare_multipart_body", leave),
        patch("azure.data.tables._base_client.TransportWrapper.sleep", wait),
        patch("azure.storage.queue._shared.base_client.TransportWrapper.sleep", wait, create=True),
        # The SDK prepares a transaction's requests in threads, one call at a time.
        patch.object(concurrent.futures, "ThreadPoolExecutor", _AtOnce),
    ):
        yield


class _AtOnce:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def map(self, act: Callable[[Any], Any], over: Iterable[Any]) -> Iterable[Any]:
        return [act(one) for one in over]


class _Answer(HttpResponseImpl):
    """An answer; of one to a transaction that was not packed, the parts are known."""

    unpacked: Sequence[HttpResponse] | None = None

    def parts(self) -> Iterator[Any]:
        return super().parts() if self.unpacked is None else iter(self.unpacked)


def _unpacked(request: Any) -> Sequence[Any]:
    """The requests of a transaction that was not packed."""
    info = request.multipart_mixed_info
    return info[0][0].multipart_mixed_info[0] if info and not request.content else ()


def _call(request: HttpRequest, path: str) -> Call:
    body: Any = request.content
    return Call(
        method=request.method,
        path=unquote(path).lstrip("/"),
        headers={name.casefold(): value for name, value in request.headers.items()},
        body=body.encode() if isinstance(body, str) else bytes(body or b""),
    )


def response(request: HttpRequest, reply: Reply) -> HttpResponse:
    """An answer in the SDK's own form."""
    headers = {**reply.headers, **({"Content-Type": reply.content_type} if reply.content_type else {})}

    def chunks(**_: object) -> Any:
        return iter([reply.body])

    made = _Answer(
        request=request,
        internal_response=io.BytesIO(),
        status_code=reply.status,
        reason="",
        content_type=reply.content_type,
        headers=CaseInsensitiveDict(headers),
        stream_download_generator=chunks,
        block_size=None,
    )
    made.read()
    if reply.parts:
        made.unpacked = [response(of, part) for of, part in zip(_unpacked(request), reply.parts, strict=False)]
    return made
