"""The asynchronous client: the methods of `GpuLaunch` with await."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import date
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel
from tenacity import AsyncRetrying

from gpulaunch import operations
from gpulaunch.client import exchange
from gpulaunch.client.errors import AccessError, ClientError, NotFoundError
from gpulaunch.client.exchange import Call, Role
from gpulaunch.client.watcher import Watcher, is_ready, new_lines
from gpulaunch.models import responses
from gpulaunch.models.instances import Phase
from gpulaunch.models.queries import CatalogQuery, CostsBy, CostsQuery, EventQuery, InstanceQuery, QuotaQuery
from gpulaunch.models.requests import DEFAULT_PROVIDER, LaunchRequest, ProviderName
from gpulaunch.models.responses import EventView, InstanceView
from gpulaunch.operations import Operation

M = TypeVar("M", bound=BaseModel)
Launch = LaunchRequest | Mapping[str, Any]
OnChange = Callable[[InstanceView], None]


class AsyncGpuLaunch:
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
        self._http = httpx.AsyncClient(base_url=address, headers=headers, timeout=timeout, transport=transport)
        self._retrying = AsyncRetrying(sleep=sleep, **exchange.policy(on_retry))
        self._sleep, self._clock = sleep, clock

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def launch(
        self, request: Launch | None = None, /, *, idempotency_key: str | None = None, **fields: Any
    ) -> responses.LaunchAnswer:
        call = exchange.launch_call(fields if request is None else request, idempotency_key)
        return exchange.parsed(await self._send(call), responses.LaunchAnswer)

    async def get(self, instance_id: str) -> InstanceView:
        return await self._call(operations.SHOW, InstanceView, instance_id)

    async def list(
        self,
        *,
        phase: Phase | None = None,
        provider: ProviderName | None = None,
        label: str | None = None,
        live: bool | None = None,
    ) -> AsyncIterator[InstanceView]:
        query = InstanceQuery.text(phase=phase, provider=provider, label=label, live=live, page_size=exchange.PAGE)
        while True:
            page = await self._call(operations.LIST, responses.InstanceList, query=query)
            for view in page.instances:
                yield view
            if page.next_token is None:
                return
            query["continuation_token"] = page.next_token

    async def events(self, instance_id: str, after: int = -1) -> responses.EventList:
        return await self._call(operations.EVENTS, responses.EventList, instance_id, EventQuery.text(after=after))

    async def follow_events(self, instance_id: str, after: int = -1) -> AsyncIterator[EventView]:
        async for view in self._changes(instance_id):
            for event in (await self.events(instance_id, after)).events:
                after = event.sequence
                yield event
            if view.phase.ended:
                return

    async def logs(self, instance_id: str) -> responses.LogAnswer:
        return await self._call(operations.LOGS, responses.LogAnswer, instance_id)

    async def follow_logs(self, instance_id: str) -> AsyncIterator[str]:
        known: Sequence[str] = ()
        async for view in self._changes(instance_id):
            lines = (await self.logs(instance_id)).lines
            for line in new_lines(known, lines):
                yield line
            known = lines
            if view.phase.ended:
                return

    async def credentials(self, instance_id: str) -> responses.Credentials:
        return await self._call(operations.CREDENTIALS, responses.Credentials, instance_id)

    async def terminate(self, instance_id: str) -> InstanceView:
        return await self._call(operations.END, InstanceView, instance_id)

    async def catalog(
        self, provider: ProviderName = DEFAULT_PROVIDER, *, region: str | None = None, gpu: str | None = None
    ) -> responses.CatalogAnswer:
        return await self._call(
            operations.CATALOG,
            responses.CatalogAnswer,
            query=CatalogQuery.text(provider=provider, region=region, gpu=gpu),
        )

    async def costs(
        self,
        first_day: date | None = None,
        last_day: date | None = None,
        *,
        by: CostsBy = "day",
        label: str | None = None,
    ) -> responses.CostsAnswer:
        query = CostsQuery.text(first_day=first_day, last_day=last_day, by=by, label=label)
        return await self._call(operations.COSTS, responses.CostsAnswer, query=query)

    async def quota(self, regions: Sequence[str] = ()) -> responses.QuotaAnswer:
        return await self._call(
            operations.QUOTA, responses.QuotaAnswer, query=QuotaQuery.text(region=",".join(regions) or None)
        )

    async def config(self) -> responses.ConfigAnswer:
        return await self._call(operations.CONFIG, responses.ConfigAnswer)

    async def health(self) -> responses.HealthAnswer:
        return await self._call(operations.HEALTH, responses.HealthAnswer)

    async def role(self) -> Role:
        try:
            await self._send(exchange.WHO_AM_I)
        except (NotFoundError, AccessError) as error:
            return exchange.role_of(error)
        return "admin"

    async def wait_until_ready(
        self, instance_id: str, timeout: float | None = None, on_change: OnChange | None = None
    ) -> InstanceView:
        return await self._wait(instance_id, is_ready, timeout, on_change)

    async def wait_until_ended(
        self, instance_id: str, timeout: float | None = None, on_change: OnChange | None = None
    ) -> InstanceView:
        return await self._wait(instance_id, lambda view: view.phase.ended, timeout, on_change)

    async def _wait(
        self,
        instance_id: str,
        reached: Callable[[InstanceView], bool],
        timeout: float | None,
        on_change: OnChange | None,
    ) -> InstanceView:
        async for view in self._changes(instance_id, timeout):
            if on_change is not None:
                on_change(view)
            if reached(view):
                return view
        raise AssertionError("the changes of an instance go on until the wait is over")

    async def _changes(self, instance_id: str, timeout: float | None = None) -> AsyncIterator[InstanceView]:
        watcher = Watcher(instance_id, timeout, self._clock)
        while True:
            if pause := watcher.pause():
                await self._sleep(pause)
            try:
                response = await self._send(watcher.call)
            except ClientError as error:
                watcher.tolerate(error)
            else:
                if view := watcher.change(response):
                    yield view

    async def _call(
        self, operation: Operation, model: type[M], instance_id: str = "", query: Mapping[str, str] | None = None
    ) -> M:
        return exchange.parsed(
            await self._send(Call(operation=operation, instance_id=instance_id, query=query or {})), model
        )

    async def _send(self, call: Call) -> httpx.Response:
        return await self._retrying(self._exchange, call)

    async def _exchange(self, call: Call) -> httpx.Response:
        try:
            response = await self._http.send(call.request(self._http))
        except httpx.RequestError as error:
            raise exchange.no_answer(error) from error
        return call.accept(response)
