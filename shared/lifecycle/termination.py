"""→ terminating → terminated or failed: nothing is called ended before the provider says that nothing is left."""

from datetime import timedelta

from gpulaunch.models.instances import EventType, Phase, Reason
from shared.domain.instance import AttemptState, Failure
from shared.lifecycle.observations import Poisoned
from shared.lifecycle.rules import final_phase
from shared.lifecycle.timeouts import Limits
from shared.lifecycle.transition import Decision, Draft, unchanged


def end(draft: Draft, failure: Failure) -> Decision:
    """Begin to end the instance, from any live phase; harmless when it is ending already."""
    record = draft.record
    if record.ended or record.phase is Phase.TERMINATING:
        return unchanged(draft.before)
    ends_as = final_phase(record, failure.reason)
    draft.change(epoch=record.epoch + 1, ending=failure, ends_as=ends_as.value)
    draft.event(EventType.TERMINATION, failure.message, reason=failure.reason)
    draft.move(
        Phase.TERMINATING, "Taking the node away." if record.attempts else "Nothing to take away.", failure.reason
    )
    attempt = draft.record.attempt
    if attempt is not None and attempt.state is not AttemptState.GONE:
        if attempt.state is not AttemptState.RELEASING:
            draft.change_attempt(state=AttemptState.RELEASING, release_since=draft.now)
        return draft.follow("teardown")
    return finish(draft)


def poisoned(draft: Draft, found: Poisoned, limits: Limits) -> Decision:
    """A message was given up: its step is sent again some times, since a killed host proves nothing against it.

    Nothing, if that step was done in between or its epoch is over. What is ending is never given up.
    """
    record = draft.record
    done = found.epoch < record.epoch or record.due_at is None or draft.now < record.due_at
    if done or record.phase is Phase.TERMINATING:
        return unchanged(record)
    attempt = record.attempt
    if attempt is not None and attempt.state is AttemptState.RELEASING:
        alert_when_late(draft, "", limits)
    if record.poisoned >= limits.poisoned:
        message = "A step of this instance failed again and again; see the app's log. Its node is taken away."
        return end(draft, Failure(reason=Reason.POISON_MESSAGE, message=message))
    draft.change(poisoned=record.poisoned + 1)
    # It stays overdue, so that the sweep sends it again.
    return draft.rest(record.due_at)


def finish(draft: Draft) -> Decision:
    """Nothing is left: the final phase."""
    record = draft.record
    final = Phase(record.ends_as or "failed")
    message = record.ending.message if record.ending else ""
    draft.change(ended_at=draft.now)
    draft.move(final, message, record.ending.reason if record.ending else None)
    return draft.rest(None)


def release_delay(tries: int, limits: Limits) -> float:
    """Seconds until a release is asked for again: 2, 4, 8, … up to the limit."""
    return min(limits.release_poll_max, 2.0 ** min(tries, 10))


def not_gone(draft: Draft, message: str, limits: Limits) -> Decision:
    """The node is not confirmed gone: ask again, and raise an alert once when it takes too long."""
    attempt = draft.record.attempts[-1]
    tries = attempt.release_tries + 1
    draft.change_attempt(release_tries=tries)
    alert_when_late(draft, message, limits)
    step = "teardown" if draft.record.phase is Phase.TERMINATING else "advance"
    return draft.follow(step, release_delay(tries, limits))


def alert_when_late(draft: Draft, message: str, limits: Limits) -> None:
    """Raise the alert of a release that takes too long, in the one change of the record that first comes too late."""
    attempt = draft.record.attempts[-1]
    alert_at = (attempt.release_since or draft.now) + timedelta(seconds=limits.release_alert)
    if draft.before.updated_at < alert_at <= draft.now:
        draft.event(
            EventType.ALERT,
            f"{attempt.cluster_name} is not confirmed gone after {limits.release_alert / 60:.0f} minutes and "
            f"{attempt.release_tries} tries; it may be billing. {message}".rstrip(),
            data={"cluster_name": attempt.cluster_name, "tries": attempt.release_tries},
        )
