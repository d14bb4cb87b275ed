"""The asynchronous client."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Self

import httpx

from gpulaunch.client import exchange
from gpulaunch.client.calls import Calls
from gpulaunch.client.connecting import past_proxies, trusts_environment


class AsyncGpuLaunch(Calls):
    """`GpuLaunch` with await; its documentation holds here, too."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: httpx.Timeout = exchange.TIMEOUT,
        on_retry: Callable[[Exception, float], None] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        address, headers = exchange.checked(url, token)
        http = httpx.AsyncClient(
            base_url=address,
            headers=headers,
            timeout=timeout,
            transport=transport,
            mounts=past_proxies(address),
            trust_env=trusts_environment(address),
        )
        super().__init__(http, sleep, clock, on_retry)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
