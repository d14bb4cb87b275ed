"""Every rule that ends an instance or gives up its node, each with its reason. Pure.

| reason | when | what follows |
|---|---|---|
| `user_request` | a user requests it, in any phase | terminated |
| `job_completed` | its job has finished, with any exit code | terminated |
| `deadline` | its lifetime is over | terminated; failed if it was never ready |
| `budget` | its own budget is spent, or a month's (`shared/billing/budget.py`) with the action `end` | as deadline |
| `idle` | ready, without a running or waiting request for its idle time | terminated |
| `unhealthy` | ready, and several probes in a row failed | recovers on the next offer |
| `registration_timeout` and other timeouts | a phase took longer than allowed | the next offer |
| `evicted`, `node_lost` | the machine was stopped, is about to be, or no longer exists | the next offer |
| `no_offers_left` | an attempt failed, and every planned offer has been tried | failed |
| `too_many_attempts`, `too_many_recoveries` | the limit of offers in a round, or of recoveries, is reached | failed |
| `model_fetch_failed` | the model's source cannot be read, or is incomplete | failed |
| `does_not_fit` | no planned machine can hold the model | failed |
| `poison_message` | one of its steps kept failing | failed |

The first five are asked for in this order at every step, save a user's wish, which comes from outside, and `idle`,
which only a fresh probe can tell. How long and how often things may take stands in `shared/lifecycle/timeouts.py`.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal

from gpulaunch.models.instances import Phase, Reason
from gpulaunch.models.times import seconds_between
from shared.domain.costs import cost_so_far
from shared.domain.instance import Failure, InstanceRecord

_TERMINATES = frozenset({Reason.USER_REQUEST, Reason.JOB_COMPLETED, Reason.IDLE, Reason.DEADLINE, Reason.BUDGET})
"""Reasons that end an instance as intended; all others make it fail."""


CLOCKS_APART = timedelta(seconds=60)
"""How far the clocks of two workers may be apart: Azure keeps its own within a second, a laptop that wakes does not."""


def decision_time(record: InstanceRecord, now: datetime) -> datetime:
    """Return when a decision is made: not before the last one, which a worker whose clock is ahead may have made.

    A record from further ahead is not followed: it would reach its deadline early.
    """
    return max(now, min(record.updated_at, now + CLOCKS_APART))


def idle_at(record: InstanceRecord) -> datetime | None:
    """Return when a ready instance will have used up its idle time.

    None if it has no such limit, is busy, or does not answer, so that nothing is known. A node that runs a job, which
    ends the instance itself, is busy.
    """
    health = record.health
    if record.request.job is not None:
        return None
    if record.phase is not Phase.READY or record.request.idle_minutes is None or health is None:
        return None
    if health.state == "unhealthy":
        return None
    return None if health.idle_since is None else health.idle_since + timedelta(minutes=record.request.idle_minutes)


def budget_at(record: InstanceRecord, now: datetime) -> datetime | None:
    """Return when the budget will be spent at the present price; None without a budget or what costs money."""
    budget, attempt = record.request.budget_usd, record.attempt
    if budget is None or attempt is None or attempt.billed_from is None or attempt.gone_at is not None:
        return None
    price = attempt.offer.price_per_hour
    if price <= 0:
        return None
    return now + timedelta(hours=max(0.0, budget - cost_so_far(record, now)) / price)


def termination_reason(record: InstanceRecord, now: datetime) -> Failure | None:
    """Return why the instance ends whatever its node does at the moment, or None."""
    attempt = record.attempt
    if attempt is not None and attempt.job is not None:
        code = attempt.job.exit_code
        return Failure(reason=Reason.JOB_COMPLETED, message=f"The job exited with code {code}.")
    if now >= record.deadline_at:
        return Failure(reason=Reason.DEADLINE, message="The instance reached the end of its lifetime.")
    budget = record.request.budget_usd
    if budget is not None and cost_so_far(record, now) >= budget:
        return Failure(reason=Reason.BUDGET, message=f"The instance spent its budget of {budget:.2f} USD.")
    return None


def idle_for_so_long(record: InstanceRecord, now: datetime) -> Failure | None:
    """Return why an instance ends that a probe has just found idle, or None.

    Asked right after a good probe and never by time alone: since the last probe the node may have got work.
    """
    idle = idle_at(record)
    if idle is None or now < idle:
        return None
    minutes = record.request.idle_minutes
    return Failure(reason=Reason.IDLE, message=f"No running or waiting request for {minutes} minutes.")


def user_asked() -> Failure:
    return Failure(reason=Reason.USER_REQUEST, message="Terminated by a user.")


def unhealthy(failures: int, most: int, message: str) -> Failure | None:
    """Return why a ready node is given up after failed probes in a row, or None while it may be a hiccup."""
    if failures < most:
        return None
    text = f"The endpoint failed {failures} probes in a row: {message}"
    return Failure(reason=Reason.UNHEALTHY, message=text)


_TIMEOUTS = {
    Phase.PROVISIONING: Reason.PROVISIONING_TIMEOUT,
    Phase.INSTALLING: Reason.INSTALL_TIMEOUT,
    Phase.LOADING_MODEL: Reason.MODEL_TIMEOUT,
    Phase.STARTING_SERVER: Reason.SERVER_TIMEOUT,
    Phase.REGISTERING: Reason.REGISTRATION_TIMEOUT,
}


_SLOWEST = {Phase.LOADING_MODEL: 30e6, Phase.STARTING_SERVER: 150e6}
"""Bytes a second of a download, and of weights read from a disk, below which a node is given up: a third of what clouds
usually give. 650 GB (DeepSeek-R1) at 100 MB/s take 108 minutes, more than the limit that fits most models."""
_LARGEST_MODEL = 2_000_000_000_000
"""Bytes; a node that makes up a size gains no more than 19 hours."""


def overdue(record: InstanceRecord, now: datetime, allowed: Mapping[Phase, float]) -> Failure | None:
    """Return why a starting node is given up, if its phase took longer than `allowed` (seconds), or None."""
    reason = _TIMEOUTS.get(record.phase)
    if reason is None or record.attempt is None:
        return None
    seconds = max(allowed[record.phase], _needed(record))
    if seconds_between(max(record.phase_since, record.attempt.started_at), now) < seconds:
        return None
    return Failure(reason=reason, message=f"{record.phase.value} took more than {seconds / 60:.0f} minutes.")


def _needed(record: InstanceRecord) -> float:
    """Return the seconds that a phase may take for the size of the model: another machine would not be faster."""
    rate = _SLOWEST.get(record.phase)
    reported = record.attempt.total_bytes if record.attempt is not None else None
    found = record.model.total_bytes if record.model is not None else reported
    return 0.0 if rate is None or found is None else min(found, _LARGEST_MODEL) / rate


def no_successor(record: InstanceRecord, most_attempts: int) -> Failure | None:
    """Return why no further attempt follows, or None if there is another offer."""
    last = record.attempts[-1].failure if record.attempts else None
    because = f" The last one failed: {last.message}" if last else ""
    if record.tried_in_round >= len(record.offers):
        message = f"All {len(record.offers)} planned offers failed.{because}"
        return Failure(reason=Reason.NO_OFFERS_LEFT, message=message)
    if record.tried_in_round >= most_attempts:
        message = f"The limit of {most_attempts} offers in a round is reached.{because}"
        return Failure(reason=Reason.TOO_MANY_ATTEMPTS, message=message)
    return None


def lost_too_often(record: InstanceRecord, most_recoveries: int, failure: Failure) -> Failure | None:
    """Return why a ready instance does not recover from the loss of its node, or None if it does."""
    if record.recoveries < most_recoveries:
        return None
    times = sum(attempt.ready_at is not None for attempt in record.attempts)
    message = f"The node was lost {times} times. The last time: {failure.message}"
    return Failure(reason=Reason.TOO_MANY_RECOVERIES, message=message)


def next_deadline(record: InstanceRecord, now: datetime) -> datetime:
    """Return the earliest time at which the instance ends by time alone; its idle time is for the probes of a sweep."""
    moments = [record.deadline_at, budget_at(record, now)]
    return min(moment for moment in moments if moment is not None)


def final_phase(record: InstanceRecord, reason: Reason) -> Literal[Phase.TERMINATED, Phase.FAILED]:
    """Return `terminated` if the instance ends for `reason` as intended, else `failed`.

    A lifetime or budget that is over before the instance was ever ready is a failure: it never did its work.
    """
    if reason not in _TERMINATES:
        return Phase.FAILED
    ever_ready = any(attempt.ready_at is not None for attempt in record.attempts)
    if reason in (Reason.DEADLINE, Reason.BUDGET) and not ever_ready:
        return Phase.FAILED
    return Phase.TERMINATED
