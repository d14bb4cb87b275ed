"""Termination: an instance ends only once the provider confirms that nothing is left."""

from datetime import datetime, timedelta

from gpulaunch.models.instances import EventType, Phase, Reason
from gpulaunch.models.times import seconds_between
from shared.domain.instance import RELEASE_ALERT, Attempt, AttemptState, Failure
from shared.lifecycle.observations import Poisoned
from shared.lifecycle.rules import final_phase, termination_reason
from shared.lifecycle.timeouts import Timeouts
from shared.lifecycle.transition import Decision, Transition, unchanged


def terminate(transition: Transition, failure: Failure) -> Decision:
    """Start to terminate the instance, from any live phase; without effect if it is terminating already."""
    record = transition.record
    if record.ended or record.phase is Phase.TERMINATING:
        return unchanged(transition.before)
    ends_as = final_phase(record, failure.reason)
    # An end must never fail for want of room: its failure's message comes on top of what the record holds.
    transition.log(record.log_tail)
    transition.change(epoch=record.epoch + 1, ending=failure, ends_as=ends_as.value)
    transition.event(EventType.TERMINATION, failure.message, reason=failure.reason)
    transition.move(
        Phase.TERMINATING, "Deleting the node." if record.attempts else "There is no node to delete.", failure.reason
    )
    attempt = transition.record.attempt
    if attempt is not None and attempt.state is not AttemptState.GONE:
        if attempt.state is not AttemptState.RELEASING:
            transition.change_attempt(state=AttemptState.RELEASING, release_since=transition.now)
        return transition.requeue_after("teardown")
    return finish(transition)


def poisoned(transition: Transition, found: Poisoned, timeouts: Timeouts) -> Decision:
    """Retry the step of a message that the host gave up, a limited number of times: a killed host proves nothing.

    Do nothing if the step was done meanwhile, its epoch is over, or the message was counted before. A termination is
    never given up.
    """
    record = transition.record
    done = found.epoch < record.epoch or record.due_at is None or transition.now < record.due_at
    if done or record.phase is Phase.TERMINATING or found.message_id in record.poison_ids:
        return unchanged(record)
    attempt = record.attempt
    if attempt is not None and attempt.state is AttemptState.RELEASING:
        alert_when_late(transition, "", timeouts)
    if record.poisoned >= timeouts.poisoned:
        message = "A step of this instance kept failing; see the app's log. Its node is being deleted."
        return terminate(transition, Failure(reason=Reason.POISON_MESSAGE, message=message))
    transition.change(poisoned=record.poisoned + 1, poison_ids=[*record.poison_ids, found.message_id])
    # Leave it overdue, so that the sweep sends it again.
    return transition.wait_until(record.due_at)


def finish(transition: Transition) -> Decision:
    """Enter the final phase: nothing is left."""
    record = transition.record
    final = Phase(record.ends_as or "failed")
    message = record.ending.message if record.ending else ""
    transition.change(ended_at=transition.now)
    transition.move(final, message, record.ending.reason if record.ending else None)
    return transition.wait_until(None)


def release_delay(tries: int, timeouts: Timeouts) -> float:
    """Return the seconds until the next release attempt: 2, 4, 8, … up to the limit."""
    return min(timeouts.release_poll_max, 2.0 ** min(tries, 10))


def not_gone(transition: Transition, message: str, timeouts: Timeouts) -> Decision:
    """Repeat an unconfirmed release, and raise one alert when it takes too long.

    An instance whose time is over meanwhile ends: nothing follows its release.
    """
    attempt = transition.record.attempts[-1]
    tries = attempt.release_tries + 1
    transition.change_attempt(release_tries=tries)
    alert_when_late(transition, message, timeouts)
    ending = termination_reason(transition.record, transition.now)
    if ending is not None and transition.record.phase is not Phase.TERMINATING:
        return terminate(transition, ending)
    step = "teardown" if transition.record.phase is Phase.TERMINATING else "advance"
    return transition.requeue_after(step, release_delay(tries, timeouts))


def is_alert_due(attempt: Attempt, now: datetime, timeouts: Timeouts) -> bool:
    """Whether a release takes too long, and no alert has said so for some hours."""
    if attempt.state is not AttemptState.RELEASING or attempt.release_since is None:
        return False
    if now < attempt.release_since + timedelta(seconds=timeouts.release_alert):
        return False
    return attempt.alerted_at is None or now >= attempt.alerted_at + timedelta(seconds=timeouts.release_alert_again)


def alert_when_late(transition: Transition, message: str, timeouts: Timeouts) -> None:
    """Raise the alert of an overdue release if it is due: once when it is overdue, then every few hours."""
    attempt = transition.record.attempts[-1]
    if not is_alert_due(attempt, transition.now, timeouts):
        return
    minutes = seconds_between(attempt.release_since or transition.now, transition.now) / 60
    transition.change_attempt(alerted_at=transition.now, alert_event=transition.record.event_count)
    transition.event(
        EventType.ALERT,
        f"{attempt.cluster_name} is not confirmed deleted after {minutes:.0f} minutes and "
        f"{attempt.release_tries} tries and may still cost money. {message}".rstrip(),
        data={"alert": RELEASE_ALERT, "cluster_name": attempt.cluster_name, "tries": attempt.release_tries},
    )


def still_releasing(transition: Transition, timeouts: Timeouts) -> Decision:
    """Raise the alert of an overdue release although none of its steps comes to a decision."""
    alert_when_late(transition, "", timeouts)
    if transition.record is transition.before:
        return unchanged(transition.before)
    return transition.wait_until(transition.record.due_at)
