"""Provisioning: try one offer after another, writing each attempt before anything is created."""

from datetime import datetime, timedelta
from enum import StrEnum

from gpulaunch.models.instances import EventType, Phase, Reason
from gpulaunch.models.times import seconds_between
from shared.domain.instance import Attempt, AttemptState, Failure, InstanceRecord, cluster_name
from shared.lifecycle.observations import Released
from shared.lifecycle.rules import CLOCKS_APART, next_deadline, no_successor, termination_reason
from shared.lifecycle.termination import finish, not_gone, terminate
from shared.lifecycle.timeouts import Timeouts
from shared.lifecycle.transition import Decision, Transition


class Retry(StrEnum):
    NEXT_OFFER = "next_offer"
    SAME_OFFER = "same_offer"
    GIVE_UP = "give_up"


_GIVE_UP = frozenset(
    {
        # The same model, arguments and set-up would fail on any machine.
        Reason.INVALID_TASK,
        Reason.INSTALL_FAILED,
        Reason.MODEL_FETCH_FAILED,
        Reason.SERVER_FAILED,
    }
)
_SAME_OFFER = frozenset(
    {
        # Unrelated to the offer: a port in use by a neighbour, an API server that lost its requests.
        Reason.PORT_TAKEN,
        Reason.PROVIDER_UNAVAILABLE,
    }
)


def retry_after(reason: Reason) -> Retry:
    """Return what follows a failure: the next offer, unless another offer would not help."""
    if reason in _GIVE_UP:
        return Retry.GIVE_UP
    return Retry.SAME_OFFER if reason in _SAME_OFFER else Retry.NEXT_OFFER


def next_attempt(transition: Transition, timeouts: Timeouts) -> Decision:
    """Start an attempt on the next offer, or terminate the instance if there is none or its time is up."""
    record = transition.record
    ending = termination_reason(record, transition.now) or no_successor(record, timeouts.max_attempts)
    if ending is not None:
        return terminate(transition, ending)
    number = len(record.attempts) + 1
    offer = record.offers[record.next_offer % len(record.offers)]
    attempt = Attempt(
        number=number,
        offer=offer,
        cluster_name=cluster_name(record.instance_id, number),
        submit_lease_until=transition.now + timedelta(seconds=timeouts.submit_lease),
        started_at=transition.now,
        billed_from=transition.now,
        proves=True,
        tls=True,
    )
    transition.change(
        attempts=[*record.attempts, attempt],
        next_offer=(record.next_offer + 1) % len(record.offers),
        tried_in_round=record.tried_in_round + 1,
    )
    transition.event(
        EventType.ATTEMPT_STARTED,
        f"Attempt {number}: {offer.key} at {offer.price_per_hour:.4g} USD per hour.",
        data={
            "cluster_name": attempt.cluster_name,
            "region": offer.region,
            "instance_type": offer.instance_type,
            "gpu": f"{offer.gpu}:{offer.gpu_count}",
            "use_spot": offer.use_spot,
            "price_per_hour": offer.price_per_hour,
        },
    )
    return transition.claim_until(min(attempt.submit_lease_until, next_deadline(transition.record, transition.now)))


def claim_again(transition: Transition, timeouts: Timeouts) -> Decision:
    """Take over a submission whose step died or got no answer, after its lease expired."""
    until = transition.now + timedelta(seconds=timeouts.submit_lease)
    transition.change_attempt(submit_lease_until=until, submitted_again=True)
    return transition.claim_until(min(until, next_deadline(transition.record, transition.now)))


def in_time_to_submit(record: InstanceRecord, now: datetime, timeouts: Timeouts) -> bool:
    """Return whether a submission that starts now ends before its lease, whatever happens.

    The lease counts from the decision to submit; the write or a slow model store may have used it up since. Another
    worker's clock sees its end early.
    """
    return now + timedelta(seconds=timeouts.submit) + CLOCKS_APART <= record.attempts[-1].submit_lease_until


def submitted(transition: Transition, request_id: str | None) -> Decision:
    # From here on the absence of a node is meaningful again: no other step is submitting.
    transition.change_attempt(state=AttemptState.SUBMITTED, request_id=request_id, submit_lease_until=transition.now)
    # Poll in the same step: the provider may know when to expect the first change.
    return transition.requeue_after("advance")


def refused(transition: Transition, failure: Failure, timeouts: Timeouts) -> Decision:
    """Give up a refused attempt. The submission is over, so the next offer need not wait for its lease."""
    if not transition.record.attempts[-1].submitted_again:
        # None before it can have been accepted without an answer.
        transition.change_attempt(billed_from=None)
    transition.change_attempt(submit_lease_until=transition.now)
    return give_up_attempt(transition, failure, timeouts)


def fail_attempt(transition: Transition, failure: Failure) -> None:
    """Begin to release the latest attempt's node, whatever follows."""
    attempt = transition.record.attempts[-1]
    transition.change_attempt(state=AttemptState.RELEASING, failure=failure, release_since=transition.now)
    transition.event(
        EventType.ATTEMPT_FAILED,
        failure.message,
        reason=failure.reason,
        duration=seconds_between(attempt.started_at, transition.now),
        data={"region": attempt.offer.region, "offer": attempt.offer.key},
    )


def give_up_attempt(transition: Transition, failure: Failure, timeouts: Timeouts) -> Decision:
    fail_attempt(transition, failure)
    if retry_after(failure.reason) is Retry.SAME_OFFER and _tries_of_offer(transition.record) < timeouts.same_offer:
        index = transition.record.next_offer - 1
        transition.change(
            next_offer=index % len(transition.record.offers),
            tried_in_round=max(0, transition.record.tried_in_round - 1),
        )
    if retry_after(failure.reason) is Retry.GIVE_UP:
        return terminate(transition, failure)
    if transition.record.phase is not Phase.PROVISIONING:
        transition.move(Phase.PROVISIONING, "Trying the next offer.", failure.reason)
    return transition.requeue_after("advance")


def released(transition: Transition, found: Released, timeouts: Timeouts) -> Decision:
    attempt = transition.record.attempts[-1]
    bill_from_creation(transition, found.created_at)
    if found.listed:
        transition.change_attempt(listed=True)
    if not found.never_launched:
        transition.change_attempt(release_found=True)
    if not found.gone:
        return not_gone(transition, "", timeouts)
    if (found.asked_at or transition.now) < attempt.submit_lease_until:
        # A submission may have been in progress: absence proves nothing until its lease has expired.
        wait = seconds_between(transition.now, attempt.submit_lease_until)
        step = "teardown" if transition.record.phase is Phase.TERMINATING else "advance"
        return transition.requeue_after(step, wait)
    if found.never_launched and not attempt.release_found and found.created_at is None:
        transition.change_attempt(billed_from=None)
    transition.change_attempt(state=AttemptState.GONE, gone_at=transition.now, node_phase=None)
    transition.event(EventType.ATTEMPT_GONE, f"Node {attempt.cluster_name} deleted.")
    match transition.record.phase:
        case Phase.TERMINATING:
            return finish(transition)
        case Phase.RECOVERING:
            transition.move(Phase.PROVISIONING, "Provisioning a new node.")
            return next_attempt(transition, timeouts)
        case _:
            return next_attempt(transition, timeouts)


def bill_from_creation(transition: Transition, created_at: datetime | None) -> None:
    """Count the attempt's cost from its machine's creation once the cloud has said when that was; never from later.

    Of an attempt that was submitted again, the cloud may name the second machine alone: it counts from its start.
    """
    attempt = transition.record.attempts[-1]
    if attempt.submitted_again:
        return
    if created_at is not None and attempt.billed_from in (None, attempt.started_at):
        transition.change_attempt(billed_from=min(max(created_at, attempt.started_at), transition.now))


def _tries_of_offer(record: InstanceRecord) -> int:
    """Count the latest attempts in a row on one offer that failed for reasons unrelated to the offer."""
    tries = 0
    for attempt in reversed(record.attempts):
        again = attempt.failure is not None and retry_after(attempt.failure.reason) is Retry.SAME_OFFER
        if attempt.offer != record.attempts[-1].offer or not again:
            break
        tries += 1
    return tries
