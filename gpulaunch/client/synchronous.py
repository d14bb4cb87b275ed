"""The synchronous client."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel
from tenacity import Retrying

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


class GpuLaunch:
    """A client of one gpulaunch app. Every method raises ClientError; see `gpulaunch.client.errors`.

    Args:
        url: The app's address, such as `https://my-app.azurewebsites.net`.
        token: One of its admin or read tokens; None if it asks for none.
        timeout: Seconds that one request may take.
        on_retry: Called before a request is sent again, with the reason and the seconds until then.
        transport, sleep, clock: For tests: another way to the app, and another time in seconds.

    Raises:
        AddressError: the address or the token is invalid.
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

    def __exit__(self, *_: object) -> None:
        self.close()

    def launch(
        self, request: Launch | None = None, /, *, idempotency_key: str | None = None, **fields: Any
    ) -> responses.LaunchAnswer:
        """Launch a LaunchRequest, or its fields as a mapping or by name; the app validates them.

        However often the request has to be sent, it launches once. An `idempotency_key` makes that hold across calls
        and processes.
        """
        call = exchange.launch_call(fields if request is None else request, idempotency_key)
        return exchange.parsed(self._send(call), responses.LaunchAnswer)

    def get(self, instance_id: str) -> InstanceView:
        """Get one instance."""
        return self._call(operations.SHOW, InstanceView, instance_id)

    def list(
        self,
        *,
        phase: Phase | None = None,
        provider: ProviderName | None = None,
        label: str | None = None,
        live: bool | None = None,
    ) -> Iterator[InstanceView]:
        """List instances, newest first, fetching pages as they are needed. `label` is `key` or `key=value`."""
        query = InstanceQuery.text(phase=phase, provider=provider, label=label, live=live, page_size=exchange.PAGE)
        while True:
            page = self._call(operations.LIST, responses.InstanceList, query=query)
            yield from page.instances
            if page.next_token is None:
                return
            query["continuation_token"] = page.next_token

    def events(self, instance_id: str, after: int = -1) -> responses.EventList:
        """Get the events after the one with that sequence, and the ledger of attempts."""
        return self._call(operations.EVENTS, responses.EventList, instance_id, EventQuery.text(after=after))

    def follow_events(self, instance_id: str, after: int = -1) -> Iterator[EventView]:
        """Yield events as they happen, until the instance has ended."""
        for view in self._changes(instance_id):
            for event in self.events(instance_id, after).events:
                after = event.sequence
                yield event
            if view.phase.ended:
                return

    def logs(self, instance_id: str) -> responses.LogAnswer:
        """Get the last log lines of the node."""
        return self._call(operations.LOGS, responses.LogAnswer, instance_id)

    def follow_logs(self, instance_id: str) -> Iterator[str]:
        """Yield log lines as the node reports them, until the instance has ended."""
        known: Sequence[str] = ()
        for view in self._changes(instance_id):
            lines = self.logs(instance_id).lines
            yield from new_lines(known, lines)
            known = lines
            if view.phase.ended:
                return

    def credentials(self, instance_id: str) -> responses.Credentials:
        """Get the address and the key of a ready endpoint; ConflictError if it is not ready."""
        return self._call(operations.CREDENTIALS, responses.Credentials, instance_id)

    def terminate(self, instance_id: str) -> InstanceView:
        """Begin to terminate an instance, in any phase; repeated calls are harmless."""
        return self._call(operations.END, InstanceView, instance_id)

    def catalog(
        self, provider: ProviderName = DEFAULT_PROVIDER, *, region: str | None = None, gpu: str | None = None
    ) -> responses.CatalogAnswer:
        """List what can be launched on a provider, with prices."""
        return self._call(
            operations.CATALOG,
            responses.CatalogAnswer,
            query=CatalogQuery.text(provider=provider, region=region, gpu=gpu),
        )

    def costs(
        self,
        first_day: date | None = None,
        last_day: date | None = None,
        *,
        by: CostsBy = "day",
        label: str | None = None,
    ) -> responses.CostsAnswer:
        """Sum up costs over days, both included, UTC; by default this month until today.

        With `by="label"`, `label` is a key, and the costs are grouped by its values.
        """
        query = CostsQuery.text(first_day=first_day, last_day=last_day, by=by, label=label)
        return self._call(operations.COSTS, responses.CostsAnswer, query=query)

    def quota(self, regions: Sequence[str] = ()) -> responses.QuotaAnswer:
        """Get the quota on Azure, and how much of it live instances hold; by default in their regions."""
        return self._call(
            operations.QUOTA, responses.QuotaAnswer, query=QuotaQuery.text(region=",".join(regions) or None)
        )

    def config(self) -> responses.ConfigAnswer:
        """Get the app's settings that matter to users."""
        return self._call(operations.CONFIG, responses.ConfigAnswer)

    def health(self) -> responses.HealthAnswer:
        """Get the app's health, ok or degraded; needs no token."""
        return self._call(operations.HEALTH, responses.HealthAnswer)

    def role(self) -> Role:
        """Find out what the token may do; AccessError if it is unknown."""
        try:
            self._send(exchange.WHO_AM_I)
        except (NotFoundError, AccessError) as error:
            return exchange.role_of(error)
        return "admin"

    def wait_until_ready(
        self, instance_id: str, timeout: float | None = None, on_change: OnChange | None = None
    ) -> InstanceView:
        """Wait until the instance serves. Without a `timeout` (seconds), its own deadline ends the wait.

        `on_change` gets the instance at first and after every change.

        Raises:
            EndedError: it is terminating or has ended instead; the message says why.
            WaitTimeoutError: the timeout is over.
        """
        return self._wait(instance_id, is_ready, timeout, on_change)

    def wait_until_ended(
        self, instance_id: str, timeout: float | None = None, on_change: OnChange | None = None
    ) -> InstanceView:
        """Wait until the instance is terminated or failed: until its nodes are deleted.

        Raises:
            WaitTimeoutError: `timeout` (seconds) is over.
        """
        return self._wait(instance_id, lambda view: view.phase.ended, timeout, on_change)

    def _wait(
        self,
        instance_id: str,
        reached: Callable[[InstanceView], bool],
        timeout: float | None,
        on_change: OnChange | None,
    ) -> InstanceView:
        for view in self._changes(instance_id, timeout):
            if on_change is not None:
                on_change(view)
            if reached(view):
                return view
        raise AssertionError("the changes of an instance go on until the wait is over")

    def _changes(self, instance_id: str, timeout: float | None = None) -> Iterator[InstanceView]:
        watcher = Watcher(instance_id, timeout, self._clock)
        while True:
            if pause := watcher.pause():
                self._sleep(pause)
            try:
                response = self._send(watcher.call)
            except ClientError as error:
                watcher.tolerate(error)
            else:
                if view := watcher.change(response):
                    yield view

    def _call(
        self, operation: Operation, model: type[M], instance_id: str = "", query: Mapping[str, str] | None = None
    ) -> M:
        return exchange.parsed(self._send(Call(operation=operation, instance_id=instance_id, query=query or {})), model)

    def _send(self, call: Call) -> httpx.Response:
        return self._retrying(self._exchange, call)

    def _exchange(self, call: Call) -> httpx.Response:
        try:
            response = self._http.send(call.request(self._http))
        except httpx.RequestError as error:
            raise exchange.no_answer(error) from error
        return call.accept(response)
