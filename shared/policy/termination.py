"""The rules that end an instance which nobody asked to end."""

from datetime import datetime, timedelta

from shared.models.records import Failure, InstanceRecord, Phase, Reason
from shared.policy.costs import cost_so_far

_TERMINATES = frozenset({Reason.USER_REQUEST, Reason.JOB_COMPLETED, Reason.IDLE, Reason.DEADLINE, Reason.BUDGET})
"""Reasons that end an instance as it was meant to end; all others end it as failed."""


def idle_at(record: InstanceRecord) -> datetime | None:
    """When a ready instance will have been idle for as long as its request allows.

    None: no such rule, busy, or not answering at the moment, so that nothing is known.
    """
    health = record.health
    if record.phase is not Phase.READY or record.request.idle_minutes is None or health is None:
        return None
    if health.state == "unhealthy":
        return None
    return None if health.idle_since is None else health.idle_since + timedelta(minutes=record.request.idle_minutes)


def budget_at(record: InstanceRecord, now: datetime) -> datetime | None:
    """When the instance will have used up its budget at the present price; None: no budget, or nothing runs."""
    budget, attempt = record.request.budget_usd, record.attempt
    if budget is None or attempt is None or attempt.node_up_at is None or attempt.gone_at is not None:
        return None
    price = attempt.offer.price_per_hour
    if price <= 0:
        return None
    return now + timedelta(hours=max(0.0, budget - cost_so_far(record, now)) / price)


def verdict(record: InstanceRecord, now: datetime) -> Failure | None:
    """Why the instance has to end now; None: it may go on."""
    attempt = record.attempt
    if attempt is not None and attempt.job is not None:
        code = attempt.job.exit_code
        return Failure(reason=Reason.JOB_COMPLETED, message=f"The job ended with exit code {code}.")
    if now >= record.deadline_at:
        return Failure(reason=Reason.DEADLINE, message="The instance reached the end of its lifetime.")
    budget = record.request.budget_usd
    if budget is not None and cost_so_far(record, now) >= budget:
        return Failure(reason=Reason.BUDGET, message=f"The instance used up its budget of {budget:.2f} USD.")
    idle = idle_at(record)
    if idle is not None and now >= idle:
        minutes = record.request.idle_minutes
        return Failure(reason=Reason.IDLE, message=f"No running or waiting request for {minutes} minutes.")
    return None


def next_check(record: InstanceRecord, now: datetime) -> datetime:
    """When a rule may end the instance at the earliest, as things stand."""
    moments = [record.deadline_at, idle_at(record), budget_at(record, now)]
    return min(moment for moment in moments if moment is not None)


def final_phase(record: InstanceRecord, reason: Reason) -> Phase:
    """How an instance that ends for `reason` ends: `terminated` as meant, or `failed`.

    A lifetime or budget used up before the instance was ever ready is a failure: it never did its work.
    """
    if reason not in _TERMINATES:
        return Phase.FAILED
    ever_ready = any(attempt.ready_at is not None for attempt in record.attempts)
    if reason in (Reason.DEADLINE, Reason.BUDGET) and not ever_ready:
        return Phase.FAILED
    return Phase.TERMINATED
