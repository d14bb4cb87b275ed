"""What a node answers, whether it is real or simulated."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass


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
