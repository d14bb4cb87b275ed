"""The methods of both clients, written once. Nothing but `_pause` and `_exchange` touches the world."""

import re
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from datetime import date
from typing import Any, TypedDict, TypeVar, Unpack
from urllib.parse import quote

import httpx
from pydantic import BaseModel
from tenacity import AsyncRetrying

from gpulaunch import operations
from gpulaunch.client import exchange
from gpulaunch.client.connecting import exchanged
from gpulaunch.client.endpoint_calls import EndpointCalls
from gpulaunch.client.errors import (
    AccessError,
    ClientError,
    EndedError,
    NotFoundError,
    WaitTimeoutError,
    error_of,
    is_problem,
)
from gpulaunch.models import plans, reports, responses
from gpulaunch.models.garbage import Adoption, AdoptionAnswer, GarbageAnswer
from gpulaunch.models.instances import Phase
from gpulaunch.models.queries import CatalogQuery, CostsBy, CostsQuery, EventQuery, InstanceQuery, QuotaQuery
from gpulaunch.models.requests import DEFAULT_PROVIDER, LaunchRequest, ProviderName
from gpulaunch.models.responses import EventView, InstanceView, UnreadableView
from gpulaunch.operations import Operation, Scope

M = TypeVar("M", bound=BaseModel)
OnChange = Callable[[InstanceView], None]

PAGE = 100
"""Instances per page of a list."""
FIRST_POLL, LAST_POLL = 1.0, 5.0
"""Seconds between two polls: the first after a change, half as long again each time; an unchanged one is a 304."""
OUTAGE = 300.0
"""Seconds for which a wait tolerates an app that does not answer: a deployment takes one or two minutes."""


class Filter(TypedDict, total=False):
    """Which instances to list. `label` is `key` or `key=value`."""

    phase: Phase | None
    provider: ProviderName | None
    label: str | None
    live: bool | None


class Calls(EndpointCalls):
    """Calls over either of httpx's clients. With the synchronous one, no method ever suspends."""

    def __init__(
        self,
        http: httpx.Client | httpx.AsyncClient,
        sleep: Callable[[float], Awaitable[None] | None],
        clock: Callable[[], float] = time.monotonic,
        on_retry: Callable[[Exception, float], None] | None = None,
    ) -> None:
        self._http = http
        self._sleep, self._clock = sleep, clock
        self._retrying = AsyncRetrying(sleep=self._pause, **exchange.policy(on_retry))

    async def close(self) -> None:
        if isinstance(self._http, httpx.AsyncClient):
            await self._http.aclose()
        else:
            self._http.close()

    async def launch(
        self,
        request: LaunchRequest | Mapping[str, Any] | None = None,
        /,
        *,
        idempotency_key: str | None = None,
        plan: str | None = None,
        **fields: Any,
    ) -> responses.LaunchAnswer:
        """Launch a LaunchRequest, or its fields as a mapping or by name; the app validates them.

        However often the request has to be sent, it launches once. An `idempotency_key` makes that hold across calls
        and processes. With the `plan` of a PlanAnswer it is launched as planned or not at all: ConflictError.
        """
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        if plan is not None:
            headers["If-Match"] = f'"{plan}"'
        response = await self._send(operations.LAUNCH, headers=headers, body=exchange.launch_body(request, fields))
        return exchange.parsed(response, responses.LaunchAnswer)

    async def plan(
        self, request: LaunchRequest | Mapping[str, Any] | None = None, /, **fields: Any
    ) -> plans.PlanAnswer:
        """Show what a launch would do and cost; takes what `launch` takes, and launches nothing."""
        return exchange.parsed(
            await self._send(operations.PLAN, body=exchange.launch_body(request, fields)), plans.PlanAnswer
        )

    async def get(self, instance_id: str) -> InstanceView:
        """Get one instance."""
        return await self._call(operations.SHOW, InstanceView, instance_id)

    async def list(self, **wanted: Unpack[Filter]) -> AsyncGenerator[InstanceView, None]:
        """List instances, newest first, fetching pages as they are needed. `label` is `key` or `key=value`."""
        async for page in self.pages(**wanted):
            for view in page.instances:
                yield view

    async def pages(self, **wanted: Unpack[Filter]) -> AsyncGenerator[responses.InstanceList, None]:
        """List instances page by page, with those that the app cannot read, which `list` leaves out."""
        query = InstanceQuery.text(**wanted, page_size=PAGE)
        while True:
            page = await self._call(operations.LIST, responses.InstanceList, query=query)
            yield page
            if page.next_token is None:
                return
            query["continuation_token"] = page.next_token

    async def events(self, instance_id: str, after: int = -1) -> responses.EventList:
        """Get the events after the one with that sequence, and the ledger of attempts."""
        return await self._call(operations.EVENTS, responses.EventList, instance_id, EventQuery.text(after=after))

    async def follow_events(self, instance_id: str, after: int = -1) -> AsyncGenerator[EventView, None]:
        """Yield events as they happen, until the instance has ended."""
        async for view in self._changes(instance_id):
            for event in (await self.events(view.instance_id, after)).events:
                after = event.sequence
                yield event
            if view.phase.ended:
                return

    async def logs(self, instance_id: str) -> responses.LogAnswer:
        """Get the last log lines of the node."""
        return await self._call(operations.LOGS, responses.LogAnswer, instance_id)

    async def follow_logs(self, instance_id: str) -> AsyncGenerator[str, None]:
        """Yield log lines as the node reports them, until the instance has ended."""
        known: Sequence[str] = ()
        async for view in self._changes(instance_id):
            lines = (await self.logs(view.instance_id)).lines
            for line in exchange.new_lines(known, lines):
                yield line
            known = lines
            if view.phase.ended:
                return

    async def credentials(self, instance_id: str) -> responses.Credentials:
        """Get the address and the key of a ready endpoint; ConflictError if it is not ready."""
        return await self._call(operations.CREDENTIALS, responses.Credentials, instance_id)

    async def terminate(self, instance_id: str) -> InstanceView | UnreadableView:
        """Begin to terminate an instance, in any phase; repeated calls are harmless.

        An UnreadableView is an instance whose stored record the app cannot read; its nodes are terminated as well.
        """
        response = await self._send(operations.TERMINATE, instance_id)
        return exchange.parsed(response, InstanceView, UnreadableView)

    async def catalog(
        self, provider: ProviderName = DEFAULT_PROVIDER, *, region: str | None = None, gpu: str | None = None
    ) -> reports.CatalogAnswer:
        """List what can be launched on a provider, with prices."""
        query = CatalogQuery.text(provider=provider, region=region, gpu=gpu)
        return await self._call(operations.CATALOG, reports.CatalogAnswer, query=query)

    async def costs(
        self,
        first_day: date | None = None,
        last_day: date | None = None,
        *,
        by: CostsBy = "day",
        label: str | None = None,
    ) -> reports.CostsAnswer:
        """Sum up costs over days, both included, UTC; by default this month until today.

        With `by="label"`, `label` is a key, and the costs are grouped by its values.
        """
        query = CostsQuery.text(first_day=first_day, last_day=last_day, by=by, label=label)
        return await self._call(operations.COSTS, reports.CostsAnswer, query=query)

    async def quota(self, regions: Sequence[str] = ()) -> reports.QuotaAnswer:
        """Get the quota on Azure, and how much of it live instances hold; by default in their regions."""
        query = QuotaQuery.text(region=",".join(regions) or None)
        return await self._call(operations.QUOTA, reports.QuotaAnswer, query=query)

    async def garbage(self) -> GarbageAnswer:
        """List nodes that may be garbage and wait for a confirmation, and nodes of other deployments."""
        return await self._call(operations.GARBAGE, GarbageAnswer)

    async def confirm_garbage(self, clusters: Sequence[str]) -> GarbageAnswer:
        """Let the app delete exactly these nodes, if they are still garbage in its next pass; safe to repeat."""
        response = await self._send(operations.CONFIRM_GARBAGE, body={"clusters": [*clusters]})
        return exchange.parsed(response, GarbageAnswer)

    async def adopt(
        self, clusters: Sequence[str], model_name: str = "adopted", max_lifetime_minutes: int | None = None
    ) -> AdoptionAnswer:
        """Make instances of nodes of this deployment whose records were lost; safe to repeat."""
        wanted = Adoption(clusters=[*clusters], model_name=model_name, max_lifetime_minutes=max_lifetime_minutes)
        response = await self._send(operations.ADOPT, body=wanted.model_dump())
        return exchange.parsed(response, AdoptionAnswer)

    async def confirm_deleted(self, clusters: Sequence[str]) -> GarbageAnswer:
        """Confirm that nodes of which SkyPilot lost its records no longer exist; safe to repeat."""
        response = await self._send(operations.CONFIRM_DELETED, body={"clusters": [*clusters]})
        return exchange.parsed(response, GarbageAnswer)

    async def config(self) -> reports.ConfigAnswer:
        """Get the app's settings that matter to users."""
        return await self._call(operations.CONFIG, reports.ConfigAnswer)

    async def health(self) -> reports.HealthAnswer:
        """Get the app's health, ok or degraded; needs no token."""
        return await self._call(operations.HEALTH, reports.HealthAnswer)

    async def role(self) -> Scope:
        """Find out what the token may do, READ or ADMIN; AccessError if it is unknown.

        Asks for credentials that cannot exist: the app refuses a reader (403) before it looks for the instance (404).
        """
        try:
            await self.credentials("inst-" + "0" * 26)
        except NotFoundError:
            return Scope.ADMIN
        except AccessError as error:
            if error.status != 403:
                raise
            return Scope.READ
        return Scope.ADMIN

    async def wait_until_ready(
        self, instance_id: str, timeout: float | None = None, on_change: OnChange | None = None
    ) -> InstanceView:
        """Wait until the instance serves. Without a `timeout` (seconds), its own deadline ends the wait.

        `on_change` gets the instance at first and after every change.

        Raises:
            EndedError: it is terminating or has ended instead; the message says why.
            WaitTimeoutError: the timeout is over.
        """
        return await self._wait(instance_id, _is_ready, timeout, on_change)

    async def wait_until_ended(
        self, instance_id: str, timeout: float | None = None, on_change: OnChange | None = None
    ) -> InstanceView:
        """Wait until the instance is terminated or failed: until its nodes are deleted.

        Raises:
            WaitTimeoutError: `timeout` (seconds) is over.
        """
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

    async def _changes(self, instance_id: str, timeout: float | None = None) -> AsyncGenerator[InstanceView, None]:
        """Yield the instance at first and after every change. Polls by ETag: an unchanged one costs the app one read.

        Raises:
            WaitTimeoutError: `timeout` seconds are over. The first poll is made in any case.
            ClientError: the first poll failed, the error is permanent, or the app was silent for an OUTAGE.
        """
        known: dict[str, str] = {}
        view, pause = None, FIRST_POLL
        began = answered_at = self._clock()
        while True:
            if view is not None:
                if timeout is not None and began + timeout <= self._clock():
                    raise WaitTimeoutError(view, timeout)
                await self._pause(pause if timeout is None else min(pause, began + timeout - self._clock()))
            try:
                response = await self._send(operations.SHOW, instance_id, headers=known)
            except ClientError as error:
                if view is None or not exchange.transient(error) or self._clock() - answered_at > OUTAGE:
                    raise
                response = None
            else:
                answered_at = self._clock()
            if response is None or response.status_code == 304:
                pause = min(pause * 1.5, LAST_POLL)
                continue
            view, pause = exchange.parsed(response, InstanceView), FIRST_POLL
            # A name costs the app more than an id, and means another instance once this one has ended.
            instance_id = view.instance_id
            known = {"If-None-Match": response.headers["ETag"]}
            yield view

    async def _call(
        self, operation: Operation, kind: type[M], instance_id: str = "", query: Mapping[str, str] | None = None
    ) -> M:
        return exchange.parsed(await self._send(operation, instance_id, query=query), kind)

    async def _send(
        self,
        operation: Operation,
        *targets: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> httpx.Response:
        """Send a request, unchanged each time: a launch carries the same Idempotency-Key.

        `targets` are the ids and names in the operation's path.
        """
        given = iter(targets)
        path = re.sub(r"\{\w+\}", lambda _: quote(next(given), safe=""), operation.path)
        request = self._http.build_request(operation.method, path, params=query, headers=headers, json=body)
        return await self._retrying(self._exchange, operation, request)

    async def _pause(self, seconds: float) -> None:
        waiting = self._sleep(seconds)
        if waiting is not None:
            await waiting

    async def _exchange(self, operation: Operation, request: httpx.Request) -> httpx.Response:
        response = await exchanged(self._http, request)
        if is_problem(response) or response.status_code not in operation.answers:
            raise error_of(response)
        return response


def _is_ready(view: InstanceView) -> bool:
    if view.phase.ended or view.phase is Phase.TERMINATING:
        raise EndedError(view)
    return view.phase is Phase.READY
