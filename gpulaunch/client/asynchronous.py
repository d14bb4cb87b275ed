"""The asynchronous client: `synchronous` with await; what both do stands in `flows` and `exchange`."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import date
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, cast

import httpx
from tenacity import AsyncRetrying

from gpulaunch.client import exchange, flows
from gpulaunch.client.errors import ClientError
from gpulaunch.client.exchange import Call
from gpulaunch.client.flows import CostsBy, Emit, Flow, Pause, Stream
from gpulaunch.models.instances import Phase
from gpulaunch.models.requests import LaunchRequest, ProviderName
from gpulaunch.models.responses import (
    CatalogAnswer,
    ConfigAnswer,
    CostsAnswer,
    Credentials,
    EventList,
    EventView,
    HealthAnswer,
    InstanceView,
    LaunchAnswer,
    LogAnswer,
    QuotaAnswer,
)

T = TypeVar("T")


class AsyncGpuLaunch:
    """Talks to one gpulaunch; parameters and methods are those of `GpuLaunch`, which says more about each."""

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
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def launch(
        self,
        request: LaunchRequest | Mapping[str, Any] | None = None,
        /,
        *,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> LaunchAnswer:
        """Launch: a LaunchRequest, or its fields as a mapping or by name, which the app checks.

        However often the request has to be sent, it launches once; with an `idempotency_key` of your own, over several
        calls too.
        """
        return await self._run(flows.launch(fields if request is None else request, idempotency_key))

    async def get(self, instance_id: str) -> InstanceView:
        """One instance."""
        return await self._run(flows.get(instance_id))

    def list(
        self,
        *,
        phase: Phase | None = None,
        provider: ProviderName | None = None,
        label: str | None = None,
        live: bool | None = None,
    ) -> AsyncIterator[InstanceView]:
        """Instances, newest first; pages are fetched as they are needed. `label` is `key` or `key=value`."""
        return self._stream(flows.listing(phase=phase, provider=provider, label=label, live=live))

    async def events(self, instance_id: str, after: int = -1) -> EventList:
        """The timeline after the event of that sequence, and the ledger of attempts."""
        return await self._run(flows.events(instance_id, after))

    def follow_events(self, instance_id: str, after: int = -1) -> AsyncIterator[EventView]:
        """Events as they happen, until nothing is left of the instance."""
        return self._stream(flows.follow_events(instance_id, after, self._clock))

    async def logs(self, instance_id: str) -> LogAnswer:
        """The last log lines of the node."""
        return await self._run(flows.logs(instance_id))

    def follow_logs(self, instance_id: str) -> AsyncIterator[str]:
        """Log lines as the node reports them, until nothing is left of the instance."""
        return self._stream(flows.follow_logs(instance_id, self._clock))

    async def credentials(self, instance_id: str) -> Credentials:
        """Address and key of a ready endpoint; ConflictError when it is not ready."""
        return await self._run(flows.credentials(instance_id))

    async def end(self, instance_id: str) -> InstanceView:
        """Begin to end an instance, in any phase; repeated calls are harmless."""
        return await self._run(flows.end(instance_id))

    async def catalog(
        self, provider: ProviderName = "azure", *, region: str | None = None, gpu: str | None = None
    ) -> CatalogAnswer:
        """What can be launched on a provider, and for how much."""
        return await self._run(flows.catalog(provider, region, gpu))

    async def costs(
        self,
        first_day: date | None = None,
        last_day: date | None = None,
        *,
        by: CostsBy = "day",
        label: str | None = None,
    ) -> CostsAnswer:
        """What was spent from one day to another, both included, UTC; without days, this month until today.

        With `by="label"` a `label`'s key sums up by its values.
        """
        return await self._run(flows.costs(first_day, last_day, by, label))

    async def quota(self, regions: Sequence[str] = ()) -> QuotaAnswer:
        """The quota on Azure and what live instances hold of it; without regions, of those that these are in."""
        return await self._run(flows.quota(regions))

    async def config(self) -> ConfigAnswer:
        """The settings that matter to users."""
        return await self._run(flows.config())

    async def health(self) -> HealthAnswer:
        """Whether the control plane works; needs no token."""
        return await self._run(flows.health())

    async def role(self) -> Literal["admin", "read"]:
        """What the token may do. AccessError when it is not known."""
        return await self._run(flows.role())

    async def wait_until_ready(
        self,
        instance_id: str,
        timeout: float | None = None,
        on_change: Callable[[InstanceView], None] | None = None,
    ) -> InstanceView:
        """Wait until the instance serves; without a `timeout` (seconds) its deadline is the end of it.

        Raises EndedError with the reason when it ends instead, NotInTimeError when the time is over. `on_change` gets
        the instance at first and after every change.
        """
        return await self._run(flows.wait_for(instance_id, "ready", timeout, on_change, self._clock))

    async def wait_until_gone(
        self,
        instance_id: str,
        timeout: float | None = None,
        on_change: Callable[[InstanceView], None] | None = None,
    ) -> InstanceView:
        """Wait until nothing is left of the instance; NotInTimeError when `timeout` seconds are over."""
        return await self._run(flows.wait_for(instance_id, "gone", timeout, on_change, self._clock))

    async def _run(self, flow: Flow[T]) -> T:
        [result] = [value async for value in self._stream(flows.single(flow))]
        return result

    async def _stream(self, stream: Stream[T]) -> AsyncIterator[T]:
        try:
            step = next(stream)
            while True:
                if isinstance(step, Emit):
                    yield step.value
                    step = next(stream)
                elif isinstance(step, Pause):
                    await self._sleep(step.seconds)
                    step = next(stream)
                else:
                    try:
                        response = cast("httpx.Response", await self._retrying(self._exchange, step))
                    except ClientError as error:
                        step = stream.throw(error)
                    else:
                        step = stream.send(response)
        except StopIteration:
            return

    async def _exchange(self, call: Call) -> httpx.Response:
        try:
            response = await self._http.send(call.request(self._http))
        except httpx.RequestError as error:
            raise exchange.no_answer(error) from error
        return call.accept(response)
