"""Valid objects for tests; every field can be given."""

from datetime import datetime, timedelta
from typing import Any

from ulid import ULID

from gpulaunch.models.instances import EventType, Phase
from gpulaunch.models.offers import Offer
from gpulaunch.models.requests import LaunchRequest
from shared.domain.instance import Attempt, AttemptState, Event, InstanceRecord, instance_of
from shared.domain.money import CostEntry
from shared.domain.request import StoredRequest
from shared.storage.base import IdempotencyEntry, Unreadable
from tests.twins.clock import START

DEPLOYMENT = "thisdeployment22"
"""The identity of the deployment under test."""
OTHER_DEPLOYMENT = "otherdeployment7"


def make_instance_id(number: int = 1) -> str:
    """A valid instance id; a higher number is a newer instance, by a second."""
    milliseconds = int(START.timestamp() * 1000) + number * 1000
    return f"inst-{ULID.from_bytes(milliseconds.to_bytes(6, 'big') + number.to_bytes(10, 'big'))}"


def make_request(**given: Any) -> LaunchRequest:
    """The example of the documentation: an A10 on Azure, spot."""
    fields: dict[str, Any] = {
        "model_name": "meta-llama/Llama-3.1-8B-Instruct",
        "provider": "azure",
        "region": "eastus",
        "use_spot": True,
    }
    if "gpu" not in given:
        fields["instance_type"] = "Standard_NV36ads_A10_v5"
    return LaunchRequest.model_validate(fields | given)


def make_offer(**given: Any) -> Offer:
    """The offer that `make_request` asks for."""
    fields: dict[str, Any] = {
        "provider": "azure",
        "region": "eastus",
        "instance_type": "Standard_NV36ads_A10_v5",
        "gpu": "A10",
        "gpu_count": 1,
        "gpu_memory_gib": 24.0,
        "vcpus": 36.0,
        "memory_gib": 440.0,
        "use_spot": True,
        "price_per_hour": 0.64,
    }
    return Offer.model_validate(fields | given)


def make_attempt(instance_id: str | None = None, **given: Any) -> Attempt:
    """A first attempt of an instance (by default the first one), being submitted since the start of the clock."""
    number = given.get("number", 1)
    started_at: datetime = given.get("started_at", START)
    ulid = (instance_id or make_instance_id()).removeprefix("inst-").lower()
    fields: dict[str, Any] = {
        "number": number,
        "offer": make_offer(),
        "cluster_name": f"gl-{ulid}-{number:02d}",
        "started_at": started_at,
        "submit_lease_until": started_at + timedelta(seconds=150),
    }
    return Attempt.model_validate(fields | given)


def make_record(**given: Any) -> InstanceRecord:
    """An instance that was accepted at the start of the clock and is queued."""
    created_at: datetime = given.get("created_at", START)
    fields: dict[str, Any] = {
        "instance_id": make_instance_id(),
        "request": make_request(),
        "mode": "simulation",
        "mode_reason": "asked for",
        "phase": Phase.QUEUED,
        "phase_since": created_at,
        "created_at": created_at,
        "updated_at": created_at,
        "deadline_at": created_at + timedelta(hours=12),
        "due_at": created_at + timedelta(seconds=60),
        "offers": [make_offer(), make_offer(use_spot=False, price_per_hour=3.2)],
        "estimated_hourly_usd": 0.64,
        "worst_case_usd": 38.4,
    }
    fields |= given
    if not isinstance(fields["request"], StoredRequest):
        fields["request"] = StoredRequest.of(fields["request"])
    return InstanceRecord.model_validate(fields)


def make_unreadable(**given: Any) -> Unreadable:
    """A live row that no version can read."""
    fields: dict[str, Any] = {"instance_id": make_instance_id(), "why": "it is damaged", "etag": "1", "ended": False}
    fields |= dict.fromkeys(("phase", "mode", "provider", "reservation")) | {"clusters": ()}
    return Unreadable(**fields | given)


def make_ended(cluster_name: str, **given: Any) -> InstanceRecord:
    """A terminated instance whose only attempt had this cluster, of which the record says that nothing is left."""
    instance_id = instance_of(cluster_name)
    attempt = make_attempt(instance_id, number=int(cluster_name[-2:]), state=AttemptState.GONE, gone_at=START)
    fields: dict[str, Any] = {"phase": Phase.TERMINATED, "ended_at": START, "due_at": None, "attempts": [attempt]}
    return make_record(instance_id=instance_id, **fields | given)


def make_event(sequence: int = 0, **given: Any) -> Event:
    fields: dict[str, Any] = {
        "sequence": sequence,
        "at": START + timedelta(seconds=sequence),
        "type": EventType.ACCEPTED if sequence == 0 else EventType.PHASE,
        "phase": Phase.QUEUED,
        "message": f"event {sequence}",
    }
    return Event.model_validate(fields | given)


def make_idempotency(**given: Any) -> IdempotencyEntry:
    """The entry of one key, answered for the first instance."""
    fields: dict[str, Any] = {
        "key_hash": "a" * 64,
        "body_hash": "b" * 64,
        "instance_id": make_instance_id(),
        "answer": '{"instance_id": "…"}',
        "created_at": START,
    }
    return IdempotencyEntry.model_validate(fields | given)


def make_cost(**given: Any) -> CostEntry:
    """What the first instance's first attempt has cost: an hour on spot, ended at the start of the clock."""
    fields: dict[str, Any] = {
        "instance_id": make_instance_id(),
        "attempt": 1,
        "mode": "real",
        "provider": "azure",
        "region": "eastus",
        "instance_type": "Standard_NV36ads_A10_v5",
        "gpu": "A10",
        "gpu_count": 1,
        "use_spot": True,
        "model_name": "meta-llama/Llama-3.1-8B-Instruct",
        "labels": {},
        "up_at": START - timedelta(hours=1),
        "gone_at": START,
        "price_per_hour": 0.8,
        "planned_per_hour": 0.8,
        "on_demand_per_hour": 3.2,
    }
    return CostEntry.model_validate(fields | given)
