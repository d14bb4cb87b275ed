"""Clients that ask one server as fast as it answers, each a request after the other."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp

from bench.processes import BenchError

WAIT_SECONDS = 300.0
"""For one answer: a peer was seen to take more than a minute at 32 clients, on a machine with much else to do."""


@dataclass(frozen=True)
class Load:
    """What some clients saw in one stretch of time."""

    seconds: list[float]
    """Of every answer, in no order."""
    per_second: float
    """Answers, until the last one came."""


@dataclass(frozen=True)
class Call:
    """One request."""

    url: str
    body: object
    headers: Mapping[str, str]


def drive(make: Callable[[], Call], clients: int, seconds: float, accepted: int) -> Load:
    """Ask for some seconds with that many clients; requests under way then are waited for.

    Raises BenchError when an answer has another status than `accepted`.
    """
    return asyncio.run(_drive(make, clients, seconds, accepted))


async def _drive(make: Callable[[], Call], clients: int, seconds: float, accepted: int) -> Load:
    spent: list[float] = []
    connector = aiohttp.TCPConnector(limit=clients)
    timeout = aiohttp.ClientTimeout(total=WAIT_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        began = time.perf_counter()

        async def client() -> None:
            while time.perf_counter() - began < seconds:
                call = make()
                asked = time.perf_counter()
                async with session.post(call.url, json=call.body, headers=call.headers) as answer:
                    text = await answer.text()
                if answer.status != accepted:
                    raise BenchError(f"{call.url} answered {answer.status}: {text[:300]}")
                spent.append(time.perf_counter() - asked)

        await asyncio.gather(*(client() for _ in range(clients)))
        return Load(spent, len(spent) / (time.perf_counter() - began))
