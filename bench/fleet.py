"""Rows of ready and of ended instances, written into the table as the app would have written them."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, cast

from azure.data.tables import TableClient

from gpulaunch.models.instances import Phase
from gpulaunch.models.offers import Offer
from shared.catalog.snapshot import snapshot
from shared.domain.instance import Attempt, AttemptState, Health, InstanceRecord
from shared.domain.request import StoredRequest
from shared.lifecycle.provision import cluster_name
from shared.storage import rows

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_BATCH = 100
"""Rows of one transaction; the service takes no more."""


def instance_id(number: int) -> str:
    """An id for each number; a higher one is newer."""
    digits = ""
    for _ in range(8):
        number, digit = divmod(number, 32)
        digits = _ALPHABET[digit] + digits
    return f"inst-01K000000000000000{digits}"


def address(number: int) -> str:
    """An address on the loopback for each node."""
    return f"127.{1 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}"


def ready(number: int, port: int, offers: list[Offer], now: datetime) -> InstanceRecord:
    """A healthy, idle instance whose node is at its own address."""
    began = now - timedelta(minutes=10)
    name = instance_id(number)
    attempt = Attempt(
        number=1,
        offer=offers[0],
        cluster_name=cluster_name(name, 1),
        state=AttemptState.SUBMITTED,
        submit_lease_until=began,
        started_at=began,
        request_id="a-request",
        address=address(number),
        port=port,
        node_up_at=began,
        ready_at=began,
    )
    request = {"model_name": "meta-llama/Llama-3.1-8B-Instruct", "provider": "azure", "region": "eastus", "gpu": "A10"}
    return InstanceRecord(
        instance_id=name,
        request=StoredRequest.model_validate(request),
        mode="real",
        mode_reason="SkyPilot's azure is enabled.",
        phase=Phase.READY,
        phase_since=began,
        created_at=began,
        updated_at=began,
        deadline_at=now + timedelta(hours=12),
        due_at=now + timedelta(hours=12),
        offers=offers,
        attempts=[attempt],
        event_count=9,
        health=Health(since=began, idle_since=began, running_requests=0.0, waiting_requests=0.0, finished_requests=0.0),
        estimated_hourly_usd=0.64,
        worst_case_usd=38.4,
    )


def ended(record: InstanceRecord) -> InstanceRecord:
    """The same instance after its end."""
    gone = record.attempts[0].model_copy(update={"state": AttemptState.GONE, "gone_at": record.updated_at})
    return record.model_copy(
        update={"phase": Phase.TERMINATED, "attempts": [gone], "ended_at": record.updated_at, "due_at": None}
    )


def fill(table: TableClient, workspace: str, numbers: Iterable[int], port: int, *, live: bool) -> None:
    """Write instances with these numbers."""
    now = datetime.now(UTC)
    offers = [offer for offer in snapshot().listing("azure").offers if offer.gpu == "A10"][:2]
    for batch in _batches(numbers):
        made = (ready(number, port, offers, now) for number in batch)
        records = [record if live else ended(record) for record in made]
        operations = [("create", rows.record_row(workspace, record, "0" * 16)) for record in records]
        cast(Any, table).submit_transaction(operations)


def _batches(numbers: Iterable[int]) -> Iterator[list[int]]:
    left = iter(numbers)
    while batch := list(islice(left, _BATCH)):
        yield batch
