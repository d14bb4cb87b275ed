"""Made-up records to fill the pages."""

from datetime import UTC, datetime, timedelta

from ulid import ULID

from gpulaunch.models.instances import EventType, Phase, Reason
from shared.billing.ledger import cost_entry, machine
from shared.domain.instance import AttemptState, Event, Failure, Health, InstanceRecord
from shared.storage.base import Booking
from shared.storage.connect import table_client
from shared.storage.tables import TableInstanceStore
from tests.browser.running import App
from tests.functional.world import settings
from tests.twins.factories import make_attempt, make_event, make_offer, make_record

MODELS = ("meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen2.5-7B-Instruct", "mistralai/Mistral-7B-Instruct-v0.3")
ON_DEMAND = 3.2
"""USD per hour of these records' machine."""


def store_of(app: App) -> TableInstanceStore:
    given = settings(AzureWebJobsStorage=app.storage)
    return TableInstanceStore(table_client(given), given.workspace)


def fill(store: TableInstanceStore, count: int, *, ended: bool, days: float) -> list[str]:
    """Write `count` records, ready or ended, spread over the last `days`; return their ids, oldest first."""
    now = datetime.now(UTC)
    made: list[str] = []
    for number in range(count):
        begun = now - timedelta(days=days * (count - number) / count) - timedelta(minutes=10)
        record, events = record_of(number, begun, ended=ended)
        entry = cost_entry(record, record.attempts[0], now, {machine(record.attempts[0].offer): ON_DEMAND})
        store.create(record, events, None, Booking(costs=(entry,) if ended else ()))
        made.append(record.instance_id)
    return made


def record_of(number: int, begun: datetime, *, ended: bool) -> tuple[InstanceRecord, list[Event]]:
    """Return a record and events of realistic size."""
    instance_id = f"inst-{ULID.from_timestamp(begun.timestamp())}"
    until = begun + timedelta(hours=1 + number * 7 % 9)
    up, offer = begun + timedelta(seconds=32), make_offer(region=("eastus", "westus3", "eastus2")[number % 3])
    attempt = make_attempt(
        instance_id,
        offer=offer,
        started_at=begun,
        state=AttemptState.GONE if ended else AttemptState.SUBMITTED,
        node_up_at=up,
        ready_at=begun + timedelta(seconds=82),
        gone_at=until if ended else None,
        address="10.0.0.4",
        port=8000,
    )
    phases = [Phase.VALIDATING, Phase.PROVISIONING, Phase.INSTALLING, Phase.LOADING_MODEL, Phase.READY]
    before = [Phase.QUEUED, *phases]
    events = [make_event(0, at=begun)] + [
        make_event(
            place,
            at=begun + timedelta(seconds=place * 15),
            type=EventType.PHASE,
            phase=phase,
            duration_seconds=15.0,
            data={"from": before[place - 1].value, "to": phase.value},
        )
        for place, phase in enumerate(phases, 1)
    ]
    record = make_record(
        instance_id=instance_id,
        created_at=begun,
        deadline_at=begun + timedelta(days=30),
        # Nothing is due for a month: the running app leaves these records alone.
        due_at=None if ended else begun + timedelta(days=30),
        phase=Phase.TERMINATED if ended else Phase.READY,
        phase_since=until if ended else begun + timedelta(seconds=82),
        attempts=[attempt],
        health=None if ended else Health(since=begun, running_requests=number % 5, waiting_requests=0),
        ending=Failure(reason=Reason.IDLE, message="No running or waiting request for 30 minutes.") if ended else None,
        ended_at=until if ended else None,
        ends_as="terminated" if ended else None,
        event_count=len(events),
        log_tail=[f"INFO line {line} of the server's log, as long as such lines are" for line in range(40)],
    )
    model = record.request.model_copy(update={"model_name": MODELS[number % 3], "labels": {"team": "search"}})
    return record.model_copy(update={"request": model}), events
