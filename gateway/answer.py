"""What a node answers, whether it is real or simulated."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Self


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class NodeAnswer:
    """The beginning of a node's answer; `chunks` raises UpstreamError or UpstreamTimeoutError."""

    status: int
    headers: list[tuple[bytes, bytes]]
    chunks: AsyncIterator[bytes]
    is_stream: bool
    close: Callable[[], None] = _nothing
    """Closes the connection unless the answer was read to its end; vLLM then drops the request."""
    is_whole: bool = False
    """Whether `chunks` is one chunk, which is there already."""


class Whole:
    """A body that came together with the headers."""

    def __init__(self, body: bytes) -> None:
        self._left = body

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        body, self._left = self._left, b""
        if not body:
            raise StopAsyncIteration
        return body
