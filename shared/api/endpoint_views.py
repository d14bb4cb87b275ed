"""Endpoints as callers see them."""

from collections.abc import Mapping
from datetime import datetime

from gpulaunch.models.endpoints import (
    EndpointEventView,
    EndpointStatus,
    EndpointView,
    GenerationView,
    KeyList,
    KeyView,
    NewKey,
    ReplicaView,
)
from gpulaunch.models.instances import Phase
from gpulaunch.models.key_usage import KeyUsage, Use
from gpulaunch.models.responses import ReasonView
from gpulaunch.models.routes import EndpointKey
from shared.api.views import as_of, shown_request
from shared.domain.costs import cost_so_far
from shared.domain.endpoint import EndpointRecord, Generation, Slot, SlotState
from shared.domain.instance import InstanceRecord

_STATES = {SlotState.DRAINING: "draining", SlotState.RELEASING: "terminating"}


def endpoint_view(
    endpoint: EndpointRecord, instances: Mapping[str, InstanceRecord], now: datetime, gateway_url: str | None
) -> EndpointView:
    """`instances` has the records of the slots' instances, as far as they exist and can be read."""
    members = [_replica(slot, instances.get(slot.instance_id), now) for slot in endpoint.slots]
    ready = sum(one.state == "serving" for one in members)
    bounds = endpoint.scaling
    status = _status(endpoint, ready, is_replacing=_is_replacing(endpoint, instances))
    return EndpointView(
        name=endpoint.name,
        status=status,
        message=_message(endpoint, status, ready),
        created_at=endpoint.created_at,
        updated_at=endpoint.updated_at,
        address=None if gateway_url is None else f"{gateway_url}/v1",
        replicas=endpoint.replicas,
        min_replicas=None if bounds is None else bounds.min_replicas,
        max_replicas=None if bounds is None else bounds.max_replicas,
        scaling=None if bounds is None else bounds.preset,
        target_concurrency=None if bounds is None else bounds.target_concurrency,
        start_seconds=endpoint.start_seconds,
        ready_replicas=ready,
        drain_seconds=endpoint.drain_seconds,
        paused=endpoint.paused,
        generation=endpoint.wanted.number,
        revision=endpoint.revision,
        launch=shown_request(endpoint.wanted.template),
        generations=[_generation(one) for one in endpoint.generations],
        members=members,
        cost_usd=round(sum(one.cost_usd for one in members), 4),
        retry_at=endpoint.retry_at,
        events=[EndpointEventView(at=one.at, message=one.message) for one in endpoint.events],
    )


def key_list(endpoint: EndpointRecord, usage: Mapping[str, KeyUsage]) -> KeyList:
    """`usage` has what keys have used this month, by their ids."""
    return KeyList(keys=[_key(one, usage.get(one.key_id)) for one in endpoint.keys])


def _key(key: EndpointKey, usage: KeyUsage | None) -> KeyView:
    total = Use() if usage is None else usage.total
    used = {"requests_this_month": total.requests, "tokens_this_month": total.tokens}
    return KeyView.model_validate({**dict(key), **used})


def new_key(made: EndpointKey, key: str) -> NewKey:
    return NewKey.model_validate({**dict(made), "key": key})


def _replica(slot: Slot, record: InstanceRecord | None, now: datetime) -> ReplicaView:
    attempt = None if record is None else record.attempt
    state = "serving" if record is not None and record.phase is Phase.READY else "starting"
    return ReplicaView.model_validate(
        {
            "instance_id": slot.instance_id,
            "slot": slot.number,
            "generation": slot.generation,
            "state": _STATES.get(slot.state, state),
            "since": slot.since,
            "phase": None if record is None else record.phase,
            "offer": None if attempt is None else attempt.offer,
            "deadline_at": None if record is None else record.deadline_at,
            "cost_usd": 0.0 if record is None else round(cost_so_far(record, as_of(record, now)), 4),
        }
    )


def _generation(generation: Generation) -> GenerationView:
    stopped = generation.stopped
    return GenerationView(
        number=generation.number,
        created_at=generation.created_at,
        launch=shown_request(generation.template),
        proven_at=generation.proven_at,
        stopped=None if stopped is None else ReasonView(reason=stopped.reason, message=stopped.message),
    )


def _is_replacing(endpoint: EndpointRecord, instances: Mapping[str, InstanceRecord]) -> bool:
    """Whether a replica that once served is being replaced, or has gone without a successor yet."""
    found = [instances.get(slot.instance_id) for slot in endpoint.slots if slot.state is SlotState.ACTIVE]
    return any(
        one is not None
        and one.phase is not Phase.READY
        and any(attempt.ready_at is not None for attempt in one.attempts)
        for one in found
    )


def _status(endpoint: EndpointRecord, ready: int, *, is_replacing: bool) -> EndpointStatus:
    if endpoint.deleting:
        return "deleting"
    if endpoint.paused:
        return "paused"
    if endpoint.wanted.stopped is not None:
        return "stopped"
    active = [one for one in endpoint.slots if one.state is SlotState.ACTIVE]
    if ready < endpoint.replicas:
        return "degraded" if endpoint.failures or is_replacing else "starting"
    current = all(one.generation == endpoint.wanted.number for one in active)
    return "ready" if current and len(active) == len(endpoint.slots) else "rolling"


def _message(endpoint: EndpointRecord, status: EndpointStatus, ready: int) -> str:
    stopped = endpoint.wanted.stopped
    match status:
        case "stopped" if stopped is not None:
            others = f" {ready} of an earlier generation serve on." if ready else ""
            what = f"Generation {endpoint.wanted.number} cannot start: {stopped.message} ({stopped.reason.value})."
            return f"{what}{others} Change `launch`, or resume to try again."
        case "paused":
            return "Resume it to start replicas again."
        case "deleting":
            return "Its replicas finish their requests, and are terminated."
        case "degraded" | "starting":
            return endpoint.failure
        case "ready" if endpoint.scaling is not None and not endpoint.replicas:
            seconds = f"{endpoint.start_seconds:.0f} s"
            return f"No request has come lately. A replica takes about {seconds} to start, and requests wait for it."
        case _:
            return ""
