"""An endpoint's number of replicas follows its load. Pure: (endpoint, replicas, gateways' reports, now) -> endpoint."""

from datetime import datetime

from gpulaunch.models.decisions import ScalingDecision
from gpulaunch.models.vllm_arguments import target_requests
from shared.autoscaling.figures import Figures, figures_of
from shared.autoscaling.observed import MISSING, Gateways, Replica, Replicas
from shared.autoscaling.replicas import serves
from shared.autoscaling.scaler import Capacity, Scaled, scale
from shared.domain.endpoint import EndpointRecord, Slot, SlotState

LATEST_START = 0.3
"""Weight of the latest start in the expected one: three starts make most of it."""


def rescaled(
    endpoint: EndpointRecord, replicas: Replicas, gateways: Gateways, now: datetime
) -> tuple[EndpointRecord, ScalingDecision | None]:
    """The endpoint with as many replicas as its load calls for, and the decision if their number has changed.

    The same object if nothing changes. `replicas` has the instance of every slot.
    """
    endpoint = _timed(endpoint, replicas, now)
    bounds = endpoint.scaling
    if bounds is None or endpoint.is_off:
        return endpoint, None
    figures, capacity = _seen(endpoint, replicas, gateways, now)
    decision = scale(bounds, endpoint.scaler, figures, capacity, endpoint.replicas, now)
    changed = endpoint
    if decision.state != endpoint.scaler:
        changed = changed.model_copy(update={"scaler": decision.state})
    if decision.replicas == endpoint.replicas:
        return changed, None
    made = _decision(endpoint, decision, figures, capacity, now)
    text = f"Scaled from {endpoint.replicas} to {decision.replicas}: {decision.reason}."
    return changed.model_copy(update={"replicas": decision.replicas}).noted(now, text), made


def explained(endpoint: EndpointRecord, replicas: Replicas, gateways: Gateways, now: datetime) -> str:
    """Why the endpoint would have as many replicas as a decision would give it now; empty if people decide."""
    if endpoint.scaling is None:
        return ""
    figures, capacity = _seen(endpoint, replicas, gateways, now)
    return scale(endpoint.scaling, endpoint.scaler, figures, capacity, endpoint.replicas, now).reason


def _seen(endpoint: EndpointRecord, replicas: Replicas, gateways: Gateways, now: datetime) -> tuple[Figures, Capacity]:
    active = [(one, replicas.get(one.instance_id, MISSING)) for one in endpoint.slots if one.state is SlotState.ACTIVE]
    serving = [replica for slot, replica in active if serves(slot, replica)]
    figures = figures_of(endpoint.endpoint_id, gateways, now, probed=sum(one.load for one in serving))
    capacity = Capacity(
        ready=len(serving),
        start_ages=[_age(slot, replica, now) for slot, replica in active if not serves(slot, replica)],
        start_seconds=endpoint.start_seconds,
        concurrency=concurrency_of(endpoint),
    )
    return figures, capacity


def concurrency_of(endpoint: EndpointRecord) -> float:
    """Requests that a replica of the endpoint is to work on at once."""
    asked = None if endpoint.scaling is None else endpoint.scaling.target_concurrency
    return float(target_requests(endpoint.wanted.template.vllm_args, asked))


def _timed(endpoint: EndpointRecord, replicas: Replicas, now: datetime) -> EndpointRecord:
    """The endpoint with the time that its latest starts took."""
    slots, expected = list(endpoint.slots), endpoint.start_seconds
    for index, slot in enumerate(slots):
        if slot.served_at is None and replicas.get(slot.instance_id, MISSING).ready:
            slots[index] = slot.model_copy(update={"served_at": now})
            expected += LATEST_START * ((now - slot.allotted_at).total_seconds() - expected)
    if slots == endpoint.slots:
        return endpoint
    return endpoint.with_slots(slots).model_copy(update={"start_seconds": round(expected, 1)})


def _age(slot: Slot, replica: Replica, now: datetime) -> float:
    return (now - (replica.lost_at or slot.allotted_at)).total_seconds()


def _decision(
    endpoint: EndpointRecord, decision: Scaled, figures: Figures, capacity: Capacity, now: datetime
) -> ScalingDecision:
    return ScalingDecision(
        at=now,
        before=endpoint.replicas,
        replicas=decision.replicas,
        reason=decision.reason,
        ready=capacity.ready,
        starting=len(capacity.start_ages),
        running=round(figures.running_mean, 2),
        held=figures.held,
        arrivals=dict(figures.arrivals),
        service_seconds=decision.state.service_seconds,
        start_seconds=capacity.start_seconds,
        concurrency=capacity.concurrency,
    )
