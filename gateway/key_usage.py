"""What gateways learn of each other: what keys use, in a row for each key and month, and what is under way on nodes."""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.data.tables import TableClient, UpdateMode
from pydantic import ValidationError

from gateway.balance import Balancer
from gateway.key_limits import KeyLimits
from gateway.report import CALL_SECONDS, properties_of
from gateway.snapshot import document_of
from gpulaunch.deadlines import within
from gpulaunch.models.gateways import GATEWAY_AREA, GatewayReport
from gpulaunch.models.key_usage import USAGE_AREA, GatewayUse, KeyUsage, Use, month_of, summed

log = logging.getLogger("gpulaunch.gateway")

EVERY_SECONDS = 5.0
"""Between two readings; within it, gateways together may let through more than a key's limit."""
LIVE = timedelta(seconds=30)
"""How old the report of a gateway may be that still has its share of the limits; it is renewed every ten seconds."""
ENDED = timedelta(hours=2)
"""After so long without a write, a gateway's part is added to that of ended ones."""


@dataclass(frozen=True)
class UsageRow:
    usage: KeyUsage
    etag: str


class UsageRows(Protocol):
    """The rows of a workspace. All may raise AzureError."""

    def read(self, month: str) -> Sequence[UsageRow]: ...
    def write(self, month: str, before: UsageRow | None, usage: KeyUsage) -> bool:
        """Write a row if it is still as `before`; whether it was."""
        ...

    def reports(self) -> Sequence[GatewayReport]: ...


@dataclass
class KeyUsages:
    """Keeps the rows of keys and a gateway's limits up to date with each other, and tells it what others do."""

    limits: KeyLimits
    gateway_id: str
    rows: UsageRows
    balancer: Balancer

    async def keep(self) -> None:
        """Do so until this is cancelled. While the table cannot be reached, the gateway counts on its own."""
        failing = False
        while True:
            try:
                await self.turn()
            except (AzureError, TimeoutError) as error:
                if not failing:
                    why = error if isinstance(error, AzureError) else f"no answer within {CALL_SECONDS:.0f} s"
                    log.warning("what keys use cannot be shared with other gateways: %s", why)
                failing = True
            else:
                failing = False
            await asyncio.sleep(EVERY_SECONDS)

    async def turn(self) -> None:
        """Read what others used, and write what was used here.

        Raises:
            AzureError, TimeoutError: The table cannot be reached; nothing is lost, and the next turn makes up for it.
        """
        month = month_of(self.limits.now())
        unwritten = self.limits.unwritten()
        for one in sorted({month, *(other for other, _ in unwritten)}):
            found = await asyncio.to_thread(within, CALL_SECONDS, lambda month=one: self.rows.read(month))
            await self._write(one, {row.usage.key_id: row for row in found}, unwritten)
            if one == month:
                reports = await asyncio.to_thread(within, CALL_SECONDS, self.rows.reports)
                others = self._live(reports)
                self.limits.learn(month, self._others(found), 1 + len(others))
                under_way: Counter[str] = Counter()
                for other in others:
                    under_way.update(other.in_flight)
                self.balancer.learn(under_way, 1 + len(others))

    async def end(self) -> None:
        """Write what is not written yet."""
        try:
            await self.turn()
        except (AzureError, TimeoutError) as error:
            log.warning("what keys used last cannot be written, and is not counted: %s", error)

    async def _write(self, month: str, found: Mapping[str, UsageRow], unwritten: Mapping[tuple[str, str], Use]) -> None:
        for (other, key_id), given in unwritten.items():
            if other != month:
                continue
            before, part = found.get(key_id), given
            is_known = before is not None and self.gateway_id in before.usage.gateways
            if not is_known:
                part = self.limits.folded(month, key_id)
            usage = self._usage(key_id, before, part)
            if await asyncio.to_thread(within, CALL_SECONDS, lambda b=before, u=usage: self.rows.write(month, b, u)):
                self.limits.wrote(month, key_id, part)

    def _usage(self, key_id: str, before: UsageRow | None, part: Use) -> KeyUsage:
        now = self.limits.now()
        usage = KeyUsage(key_id=key_id) if before is None else before.usage
        others = {name: one for name, one in usage.gateways.items() if name != self.gateway_id}
        ended = [one for one in others.values() if now - one.at > ENDED]
        live = {name: one for name, one in others.items() if now - one.at <= ENDED}
        mine = GatewayUse(requests=part.requests, tokens=part.tokens, at=now)
        return usage.model_copy(
            update={"ended": summed([usage.ended, *ended]), "gateways": {**live, self.gateway_id: mine}}
        )

    def _others(self, found: Sequence[UsageRow]) -> dict[str, Use]:
        return {
            row.usage.key_id: summed(
                [row.usage.ended, *(one for name, one in row.usage.gateways.items() if name != self.gateway_id)]
            )
            for row in found
        }

    def _live(self, reports: Sequence[GatewayReport]) -> list[GatewayReport]:
        """Of the other gateways that are there."""
        now: datetime = self.limits.now()
        return [one for one in reports if one.gateway_id != self.gateway_id and now - one.at <= LIVE]


class TableUsageRows:
    """The rows in the table of gateways' reports."""

    def __init__(self, table: TableClient, workspace: str) -> None:
        self._table: Any = table  # the SDK types half of its methods
        self._workspace = workspace

    def read(self, month: str) -> Sequence[UsageRow]:
        found: list[UsageRow] = []
        for one in self._query(f"{USAGE_AREA}|{month}|"):
            with suppress(ValidationError):  # a bad row costs its own key's limits alone, and is not written over
                found.append(UsageRow(KeyUsage.model_validate_json(document_of(one)), one.metadata["etag"]))
        return found

    def write(self, month: str, before: UsageRow | None, usage: KeyUsage) -> bool:
        keys = {"PartitionKey": self._workspace, "RowKey": f"{USAGE_AREA}|{month}|{usage.key_id}"}
        row = {**keys, **properties_of(usage.model_dump_json())}
        try:
            if before is None:
                self._table.create_entity(row)
            else:
                unchanged = {"etag": before.etag, "match_condition": MatchConditions.IfNotModified}
                self._table.update_entity(row, mode=UpdateMode.REPLACE, **unchanged)
        except (ResourceExistsError, ResourceModifiedError, ResourceNotFoundError):
            return False
        return True

    def reports(self) -> Sequence[GatewayReport]:
        found: list[GatewayReport] = []
        for one in self._query(f"{GATEWAY_AREA}|"):
            with suppress(ValidationError):
                found.append(GatewayReport.model_validate_json(document_of(one)))
        return found

    def _query(self, first: str) -> list[Any]:
        query = "PartitionKey eq @partition and RowKey ge @first and RowKey lt @last"
        last = f"{first[:-1]}}}"  # } follows |
        parameters = {"partition": self._workspace, "first": first, "last": last}
        return list(self._table.query_entities(query, parameters=parameters))
