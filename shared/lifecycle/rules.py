"""Every rule that ends an instance or gives up its node, each with its reason; pure.

| reason | when | what follows |
|---|---|---|
| `user_request` | a user asks for it, in any phase | terminated |
| `job_completed` | its job has ended, whatever the exit code | terminated |
| `deadline` | its lifetime is over | terminated; failed if it was never ready |
| `budget` | its own budget is used up, or a month's (`shared/billing/budget.py`) that ends running ones | as deadline |
| `idle` | ready, and no request runs or waits for as long as it may | terminated |
| `unhealthy` | ready, and that many probes in a row had no good answer | recovers on the next offer |
| `registration_timeout` and other time-outs | a phase on the way up took longer than it may | the next offer |
| `evicted`, `node_lost` | the machine was stopped, announces it or is gone | the next offer |
| `no_offers_left` | a node was given up and every planned offer had its turn: no successor | failed |
| `too_many_attempts`, `too_many_recoveries` | it was tried, or lost, as often as it may be | failed |
| `poison_message` | a step of it failed again and again | failed |

The first five are asked for in this order at every step and look (`verdict`), save a user's wish, which comes from
outside. How long and how often things may take stands in `shared/lifecycle/timeouts.py`.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from gpulaunch.models.instances import Phase, Reason
from gpulaunch.models.times import seconds_between
from shared.domain.costs import cost_so_far
from shared.domain.instance import Failure, InstanceRecord

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


def termination_reason(record: InstanceRecord, now: datetime) -> Failure | None:
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


def user_asked() -> Failure:
    """A user wants it gone."""
    return Failure(reason=Reason.USER_REQUEST, message="A user asked for the end of the instance.")


def unhealthy(failures: int, most: int, message: str) -> Failure | None:
    """Why a ready node is given up after that many probes in a row without a good answer; None: it may be a hiccup."""
    if failures < most:
        return None
    text = f"The endpoint did not answer {failures} probes in a row: {message}"
    return Failure(reason=Reason.UNHEALTHY, message=text)


_TIMEOUTS = {
    Phase.PROVISIONING: Reason.PROVISIONING_TIMEOUT,
    Phase.INSTALLING: Reason.INSTALL_TIMEOUT,
    Phase.LOADING_MODEL: Reason.MODEL_TIMEOUT,
    Phase.STARTING_SERVER: Reason.SERVER_TIMEOUT,
    Phase.REGISTERING: Reason.REGISTRATION_TIMEOUT,
}


def overdue(record: InstanceRecord, now: datetime, allowed: Mapping[Phase, float]) -> Failure | None:
    """Why a node on its way up is given up: its phase took longer than `allowed`, in seconds; None: it may go on."""
    reason = _TIMEOUTS.get(record.phase)
    if reason is None or record.attempt is None:
        return None
    seconds = allowed[record.phase]
    if seconds_between(max(record.phase_since, record.attempt.started_at), now) < seconds:
        return None
    return Failure(reason=reason, message=f"{record.phase.value} took more than {seconds / 60:.0f} minutes.")


def no_successor(record: InstanceRecord, most_attempts: int) -> Failure | None:
    """Why no further attempt follows those made; None: the next offer has its turn."""
    last = record.attempts[-1].failure if record.attempts else None
    because = f" The last one failed: {last.message}" if last else ""
    if record.tried_in_round >= len(record.offers):
        message = f"All {len(record.offers)} planned offers were tried.{because}"
        return Failure(reason=Reason.NO_OFFERS_LEFT, message=message)
    if len(record.attempts) >= most_attempts:
        message = f"{most_attempts} attempts were made, which is the limit.{because}"
        return Failure(reason=Reason.TOO_MANY_ATTEMPTS, message=message)
    return None


def lost_too_often(record: InstanceRecord, most_recoveries: int, failure: Failure) -> Failure | None:
    """Why a ready instance whose node was lost does not recover from it; None: it does."""
    if record.recoveries < most_recoveries:
        return None
    message = f"The node was lost {record.recoveries + 1} times. The last time: {failure.message}"
    return Failure(reason=Reason.TOO_MANY_RECOVERIES, message=message)


def next_deadline(record: InstanceRecord, now: datetime) -> datetime:
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
