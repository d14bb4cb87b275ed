"""The synchronous client."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import httpx
from tenacity import Retrying

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


class GpuLaunch:
    """Talks to one gpulaunch. Every method raises ClientError, see `gpulaunch.client.errors`.

    Parameters
    ----------
    url
        The app's address, such as `https://my-app.azurewebsites.net`.
    token
        One of its admin or read tokens; None where it asks for none.
    timeout
        Seconds that one request may take.
    on_retry
        Told when a request is about to be sent again: why, and in how many seconds.
    transport, sleep, clock
        For tests: another way to the app, and another time in seconds.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: httpx.Timeout = exchange.TIMEOUT,
        on_retry: Callable[[Exception, float], None] | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        address, headers = exchange.checked(url, token)
        self._http = httpx.Client(base_url=address, headers=headers, timeout=timeout, transport=transport)
        self._retrying = Retrying(sleep=sleep, **exchange.policy(on_retry))
        self._sleep, self._clock = sleep, clock

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def launch(
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
        return self._run(flows.launch(fields if request is None else request, idempotency_key))

    def get(self, instance_id: str) -> InstanceView:
        """One instance."""
        return self._run(flows.get(instance_id))

    def list(
        self,
        *,
        phase: Phase | None = None,
        provider: ProviderName | None = None,
        label: str | None = None,
        live: bool | None = None,
    ) -> Iterator[InstanceView]:
        """Instances, newest first; pages are fetched as they are needed. `label` is `key` or `key=value`."""
        return self._stream(flows.listing(phase=phase, provider=provider, label=label, live=live))

    def events(self, instance_id: str, after: int = -1) -> EventList:
        """The timeline after the event of that sequence, and the ledger of attempts."""
        return self._run(flows.events(instance_id, after))

    def follow_events(self, instance_id: str, after: int = -1) -> Iterator[EventView]:
        """Events as they happen, until nothing is left of the instance."""
        return self._stream(flows.follow_events(instance_id, after, self._clock))

    def logs(self, instance_id: str) -> LogAnswer:
        """The last log lines of the node."""
        return self._run(flows.logs(instance_id))

    def follow_logs(self, instance_id: str) -> Iterator[str]:
        """Log lines as the node reports them, until nothing is left of the instance."""
        return self._stream(flows.follow_logs(instance_id, self._clock))

    def credentials(self, instance_id: str) -> Credentials:
        """Address and key of a ready endpoint; ConflictError when it is not ready."""
        return self._run(flows.credentials(instance_id))

    def end(self, instance_id: str) -> InstanceView:
        """Begin to end an instance, in any phase; repeated calls are harmless."""
        return self._run(flows.end(instance_id))

    def catalog(
        self, provider: ProviderName = "azure", *, region: str | None = None, gpu: str | None = None
    ) -> CatalogAnswer:
        """What can be launched on a provider, and for how much."""
        return self._run(flows.catalog(provider, region, gpu))

    def costs(
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
        return self._run(flows.costs(first_day, last_day, by, label))

    def quota(self, regions: Sequence[str] = ()) -> QuotaAnswer:
        """The quota on Azure and what live instances hold of it; without regions, of those that these are in."""
        return self._run(flows.quota(regions))

    def config(self) -> ConfigAnswer:
        """The settings that matter to users."""
        return self._run(flows.config())

    def health(self) -> HealthAnswer:
        """Whether the control plane works; needs no token."""
        return self._run(flows.health())

    def role(self) -> Literal["admin", "read"]:
        """What the token may do. AccessError when it is not known."""
        return self._run(flows.role())

    def wait_until_ready(
        self,
        instance_id: str,
        timeout: float | None = None,
        on_change: Callable[[InstanceView], None] | None = None,
    ) -> InstanceView:
        """Wait until the instance serves; without a `timeout` (seconds) its deadline is the end of it.

        Raises EndedError with the reason when it ends instead, NotInTimeError when the time is over. `on_change` gets
        the instance at first and after every change.
        """
        return self._run(flows.wait_for(instance_id, "ready", timeout, on_change, self._clock))

    def wait_until_gone(
        self,
        instance_id: str,
        timeout: float | None = None,
        on_change: Callable[[InstanceView], None] | None = None,
    ) -> InstanceView:
        """Wait until nothing is left of the instance; NotInTimeError when `timeout` seconds are over."""
        return self._run(flows.wait_for(instance_id, "gone", timeout, on_change, self._clock))

    def _run(self, flow: Flow[T]) -> T:
        (result,) = self._stream(flows.single(flow))
        return result

    def _stream(self, stream: Stream[T]) -> Iterator[T]:
        try:
            step = next(stream)
            while True:
                if isinstance(step, Emit):
                    yield step.value
                    step = next(stream)
                elif isinstance(step, Pause):
                    self._sleep(step.seconds)
                    step = next(stream)
                else:
                    try:
                        response = self._retrying(self._exchange, step)
                    except ClientError as error:
                        step = stream.throw(error)
                    else:
                        step = stream.send(response)
        except StopIteration:
            return

    def _exchange(self, call: Call) -> httpx.Response:
        try:
            response = self._http.send(call.request(self._http))
        except httpx.RequestError as error:
            raise exchange.no_answer(error) from error
        return call.accept(response)
