"""A gateway's heartbeat: what it serves, and which version of its endpoints' routes it follows.

The control plane ends a draining replica only after each gateway has reported that it follows the version with which
the replica drains and has no request on it. So a gateway is known before it reads any route, and forgotten at its end.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.data.tables import TableClient, UpdateMode

from gateway.app import Gateway
from gateway.nudge import EVERY_SECONDS as NUDGE_SECONDS
from gateway.nudge import Nudge
from gpulaunch.deadlines import within
from gpulaunch.models.gateways import GATEWAY_AREA, EndpointReport, GatewayReport

log = logging.getLogger("gpulaunch.gateway")

CALL_SECONDS = 20.0
"""For a reading or a write with its repetition; a service that sends a byte now and then would keep it for ever."""
EVERY_SECONDS = 10.0
"""Between two reports that differ in figures alone; what a drain waits for is written with the next reading."""
_PROPERTY = 30_000
"""UTF-16 units in one property; the service allows 32,768."""


class ReportRow(Protocol):
    """The gateway's own row. Both may raise AzureError."""

    def write(self, report: GatewayReport) -> None: ...
    def remove(self) -> None: ...


def report_of(gateway: Gateway, gateway_id: str, now: datetime) -> GatewayReport:
    """What a gateway does at this moment."""
    counts, load = gateway.counts, gateway.load
    timed = {one.name: load.timed(one.endpoint_id) for one in gateway.snapshot.endpoints.values()}
    endpoints = [
        EndpointReport(
            endpoint_id=one.endpoint_id,
            version=one.version,
            held=gateway.room.held(one.name),
            running=gateway.running(one),
            running_mean=load.running_mean(one.endpoint_id),
            arrivals=load.arrivals(one.endpoint_id),
            timed=timed[one.name][0],
            service_seconds=timed[one.name][1],
            failovers=counts.failovers[one.name],
            broken_streams=counts.broken_streams[one.name],
            client_aborts=counts.client_aborts[one.name],
        )
        for one in gateway.snapshot.endpoints.values()
    ]
    return GatewayReport(gateway_id=gateway_id, at=now, endpoints=endpoints, in_flight=gateway.balancer.by_instance())


@dataclass
class Reports:
    """Writes a gateway's row when it is due. A write that fails is repeated with the next reading of the table."""

    gateway: Gateway
    gateway_id: str
    row: ReportRow
    nudge: Nudge | None = None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def __post_init__(self) -> None:
        self._written: tuple[float, object] | None = None
        self._failing = False
        self._writing: asyncio.Future[None] | None = None
        self._nudged: dict[str, float] = {}

    async def renew(self) -> bool:
        """Write the report if drains or requests wait for what has changed, or the last one is old.

        Returns whether one was ever written."""
        for one in self.gateway.snapshot.endpoints.values():
            self.gateway.load.sample(one.endpoint_id, self.gateway.running(one))
        report = report_of(self.gateway, self.gateway_id, self.now())
        at, awaited = self.gateway.clock(), _awaited(self.gateway, report)
        if self._written is None or self._written[1] != awaited or at - self._written[0] >= EVERY_SECONDS:
            await self._write(report, at, awaited)
        await self._ask()
        return self._written is not None

    async def _ask(self) -> None:
        """Ask the control plane for a step of each endpoint for which requests wait; else its sweep does."""
        if self.nudge is None:
            return
        at, waiting = self.gateway.clock(), _waiting(self.gateway)
        self._nudged = {name: then for name, then in self._nudged.items() if name in waiting}
        for name in waiting:
            if at - self._nudged.get(name, -math.inf) < NUDGE_SECONDS:
                continue
            self._nudged[name] = at
            try:
                await asyncio.to_thread(within, CALL_SECONDS, partial(self.nudge, name))
            except (AzureError, TimeoutError) as error:
                log.warning("the next step of %s is left to the control plane's sweep: %s", name, error)

    async def _write(self, report: GatewayReport, at: float, awaited: object) -> None:
        try:
            write = partial(self.row.write, report)
            self._writing = asyncio.ensure_future(asyncio.to_thread(within, CALL_SECONDS, write))
            await asyncio.shield(self._writing)
        except (AzureError, TimeoutError) as error:
            if not self._failing:
                why = error if isinstance(error, AzureError) else f"no answer within {CALL_SECONDS:.0f} s"
                log.warning("the gateway's report cannot be written; %s: %s", self._meanwhile, why)
            self._failing = True
        else:
            self._failing = False
            self._written = (at, awaited)

    @property
    def _meanwhile(self) -> str:
        if self._written is None:
            return "it serves nothing until it is, since no replica would wait for it"
        return "replicas drain for their whole time"

    async def end(self) -> None:
        """Remove the report: this gateway has nothing under way any more, and gets no further requests."""
        if self._writing is not None and not self._writing.done():
            await asyncio.wait({self._writing})  # a thread goes on although its caller was cancelled
        try:
            await asyncio.to_thread(within, CALL_SECONDS, self.row.remove)
        except (AzureError, TimeoutError) as error:
            log.warning("the gateway's report cannot be removed, so replicas drain longer for two hours: %s", error)


def _awaited(gateway: Gateway, report: GatewayReport) -> object:
    """What others wait for: which routes are followed, which nodes without new requests are still in use, and for which
    endpoints requests wait."""
    chosen = {
        node.instance_id for one in gateway.snapshot.endpoints.values() for node in one.nodes if not node.draining
    }
    return (
        [(one.endpoint_id, one.version) for one in report.endpoints],
        report.in_flight.keys() - chosen,
        _waiting(gateway),
    )


def _waiting(gateway: Gateway) -> list[str]:
    """The endpoints whose number of replicas follows the load, and for which requests wait."""
    scaled = [one for one in gateway.snapshot.endpoints.values() if one.scales]
    return [one.name for one in scaled if gateway.room.held(one.name)]


def row_of(workspace: str, report: GatewayReport) -> Mapping[str, Any]:
    """The row of a report, in the form of all rows of documents."""
    named = properties_of(report.model_dump_json())
    return {"PartitionKey": workspace, "RowKey": f"{GATEWAY_AREA}|{report.gateway_id}", **named}


def properties_of(document: str) -> Mapping[str, str]:
    """The properties of a row that hold a document, which may be too long for one."""
    parts = [document[start : start + _PROPERTY] for start in range(0, len(document), _PROPERTY)]
    return {"doc": document} if len(parts) == 1 else {f"doc{number}": part for number, part in enumerate(parts)}


class TableReportRow:
    """The row in the table of the workspace's records."""

    def __init__(self, table: TableClient, workspace: str, gateway_id: str) -> None:
        self._table: Any = table  # the SDK types half of its methods
        self._workspace = workspace
        self._gateway_id = gateway_id

    def write(self, report: GatewayReport) -> None:
        self._table.upsert_entity(row_of(self._workspace, report), mode=UpdateMode.REPLACE)

    def remove(self) -> None:
        with suppress(ResourceNotFoundError):  # it was forgotten, or never written
            self._table.delete_entity(self._workspace, f"{GATEWAY_AREA}|{self._gateway_id}")
