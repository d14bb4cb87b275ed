"""Thousands of nodes on one machine: any address of 127.0.0.0/8 answers as vLLM would, after 20 ms.

`python -m bench.nodes PORT`. A program of its own, as small as can be, so that it takes little of the two cores.
"""

import asyncio
import sys

LATENCY_SECONDS = 0.02
_BUCKETS = "".join(
    f'vllm:e2e_request_latency_seconds_bucket{{engine="0",le="{number}",model_name="meta-llama/Llama-3.1-8B"}} 0.0\n'
    for number in range(400)
)
METRICS = (
    _BUCKETS
    + 'vllm:num_requests_running{engine="0",model_name="meta-llama/Llama-3.1-8B"} 0.0\n'
    + 'vllm:num_requests_waiting{engine="0",model_name="meta-llama/Llama-3.1-8B"} 0.0\n'
    + 'vllm:request_success_total{engine="0",finished_reason="stop",model_name="meta-llama/Llama-3.1-8B"} 0.0\n'
).encode()
"""About 40 KiB, as vLLM's are with one model."""


def _answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body) + body


_HEALTH, _METRICS = _answer(b""), _answer(METRICS)


class Node(asyncio.Protocol):
    """One connection; requests have no body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to answer."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a TCP server makes no other
        self._transport = transport
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answer every whole request after the latency."""
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            answer = _METRICS if head.startswith(b"GET /metrics") else _HEALTH
            asyncio.get_running_loop().call_later(LATENCY_SECONDS, self._transport.write, answer)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Node, "0.0.0.0", port, backlog=4096)  # noqa: S104 - all of 127/8
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
