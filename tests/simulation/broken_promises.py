"""Planted bugs that only the oracles find, or only one of the rarer workloads: each breaks one promise of the docs."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from gpulaunch.models.instances import Phase, Reason
from gpulaunch.models.responses import LaunchAnswer
from shared.api import views
from shared.app import runtime
from shared.billing import admission, budget
from shared.billing.gate import LedgerGate
from shared.billing.ledger import month_of
from shared.control import idempotency
from shared.control import launch as launching
from shared.control import records as control_records
from shared.control.node_calls import NodeCalls
from shared.control.sweep import budget_cap, burning
from shared.control.sweep.expiry import Expiry
from shared.control.sweep.garbage import GarbageCollection
from shared.domain.costs import attempt_cost
from shared.domain.instance import AttemptState, Failure, InstanceRecord
from shared.domain.money import Ledger, Reservation
from shared.domain.node import LeaseAnswer
from shared.domain.provider import Probe
from shared.lifecycle import machine, progress, provision, rules, termination
from shared.lifecycle import ready as health
from shared.lifecycle.observations import Observation, Reported, TerminationRequested
from shared.lifecycle.timeouts import Timeouts
from shared.lifecycle.transition import Decision, unchanged
from shared.storage.base import IdempotencyEntry, VersionedLedger
from tests.simulation.mutations import MUTATIONS, Patch, always, mutation

__all__ = ["MUTATIONS"]


def where(patch: Patch, drops: Callable[[InstanceRecord, Observation], bool]) -> None:
    """Let the lifecycle ignore some of what it observes."""
    decide = machine.decide

    def deaf(record: InstanceRecord, found: Observation, now: datetime, timeouts: Timeouts) -> Decision:
        return unchanged(record) if drops(record, found) else decide(record, found, now, timeouts)

    patch.setattr(machine, "decide", deaf)


@mutation
def delete_after_a_failover_is_forgotten(patch: Patch) -> None:
    """A DELETE of an instance that is at its second attempt is answered, and comes to nothing."""

    def drops(record: InstanceRecord, found: Observation) -> bool:
        asked = isinstance(found, TerminationRequested) and found.failure.reason is Reason.USER_REQUEST
        return asked and len(record.attempts) > 1

    where(patch, drops)


@mutation
def results_of_jobs_are_not_kept(patch: Patch) -> None:
    """A node that reports what its job came to gets its answer, and nothing is written."""

    def drops(record: InstanceRecord, found: Observation) -> bool:
        calls_us = record.attempt is not None and record.attempt.calls_us
        return calls_us and isinstance(found, Reported) and found.status.job is not None

    where(patch, drops)


@mutation
def rounds_never_end(patch: Patch) -> None:
    """When all planned offers have failed, the first one has another turn."""
    patch.setattr(provision, "no_successor", always(None))


@mutation
def one_recovery_more(patch: Patch) -> None:
    """A node may be lost once more than is said."""
    lost = rules.lost_too_often

    def patient(record: InstanceRecord, most: int, failure: Failure) -> Failure | None:
        return lost(record, most + 1, failure)

    patch.setattr(health, "lost_too_often", patient)


@mutation
def phases_last_twice_as_long(patch: Patch) -> None:
    """A node that hangs is given up, after twice the time that its phase may take."""
    allowed = Timeouts.allowed

    def longer(timeouts: Timeouts) -> dict[Phase, float]:
        assert allowed.fget is not None
        return {phase: seconds * 2.5 for phase, seconds in allowed.fget(timeouts).items()}

    patch.setattr(Timeouts, "allowed", property(longer))


@mutation
def busy_nodes_are_idle(patch: Patch) -> None:
    """Running requests do not keep a node from being idle."""
    module: Any = health
    healthy = module._healthy

    def blind(before: Any, probe: Probe, now: datetime) -> Any:
        return healthy(before, replace(probe, running_requests=0.0), now)

    patch.setattr(health, "_healthy", blind)


@mutation
def one_failed_probe_is_enough(patch: Patch) -> None:
    """A hiccup of the network costs a serving node."""
    unhealthy = rules.unhealthy

    def hasty(failures: int, _: int, message: str) -> Failure | None:
        return unhealthy(failures, 1, message)

    patch.setattr(health, "unhealthy", hasty)


@mutation
def second_attempts_lose_their_lease(patch: Patch) -> None:
    """A node that replaces another gets the answer to end itself once it is ready."""
    calls_of: Any = NodeCalls
    lease = calls_of._lease

    def stingy(calls: NodeCalls, record: InstanceRecord, attempt: int) -> LeaseAnswer:
        answer: LeaseAnswer = lease(calls, record, attempt)
        if attempt > 1 and record.phase is Phase.READY:
            return answer.model_copy(update={"renewed": False, "lease_seconds": 0})
        return answer

    patch.setattr(NodeCalls, "_lease", stingy)


@mutation
def answers_show_the_last_attempts_cost(patch: Patch) -> None:
    """What an instance is said to cost leaves out what its earlier attempts have cost."""

    def last(record: InstanceRecord, now: datetime) -> float:
        return sum(attempt_cost(one, now) for one in record.attempts[-1:])

    patch.setattr(views, "cost_so_far", last)


@mutation
def creation_at_the_cloud_is_not_asked(patch: Patch) -> None:
    """An attempt counts from its submission although the cloud knows better."""
    for module in (provision, progress):
        patch.setattr(module, "bill_from_creation", always(None))


@mutation
def lifetime_is_ten_minutes_longer(patch: Patch) -> None:
    """An instance lives, and is planned to live, longer than its user allowed."""
    accept = launching.accept

    def generous(request: Any, *, lifetime_minutes: int, **given: Any) -> Any:
        return accept(request, lifetime_minutes=lifetime_minutes + 10, **given)

    patch.setattr(launching, "accept", generous)


@mutation
def budget_may_be_overrun(patch: Patch) -> None:
    """An instance's own budget is compared with a quarter of what it has cost."""
    cost = rules.cost_so_far

    def quarter(record: InstanceRecord, now: datetime) -> float:
        return cost(record, now) / 4

    patch.setattr(rules, "cost_so_far", quarter)


@mutation
def month_counts_what_has_ended(patch: Patch) -> None:
    """A month's budget is used up by instances that have ended only, whatever the live ones cost."""
    patch.setattr(budget_cap, "micro_so_far", always(0))


@mutation
def alert_is_not_repeated(patch: Patch) -> None:
    """A node that burns money for hours raises one alert; found by the seeds that last for weeks."""
    due = termination.is_alert_due

    def once(attempt: Any, now: datetime, timeouts: Timeouts) -> bool:
        return attempt.alerted_at is None and due(attempt, now, timeouts)

    for module in (termination, burning):
        patch.setattr(module, "is_alert_due", once)


@mutation
def alert_comes_at_once(patch: Patch) -> None:
    """Each release raises the alert that it takes too long."""

    def nervous(attempt: Any, now: datetime, timeouts: Timeouts) -> bool:
        return attempt.state is AttemptState.RELEASING and attempt.alerted_at is None

    for module in (termination, burning):
        patch.setattr(module, "is_alert_due", nervous)


@mutation
def thresholds_are_announced_at_each_launch(patch: Patch) -> None:
    """An alert about a budget comes with every launch above its threshold."""
    apply = budget.apply_thresholds

    def forgetful(ledger: Ledger, held: Reservation, budgets: Any, *, refused: bool) -> Any:
        fresh = {key: account.model_copy(update={"alerted": 0}) for key, account in ledger.accounts.items()}
        return apply(ledger.model_copy(update={"accounts": fresh}), held, budgets, refused=refused)

    patch.setattr(admission, "apply_thresholds", forgetful)


@mutation
def last_threshold_is_missed(patch: Patch) -> None:
    """No alert says that 80 or 100 % of a budget are taken."""
    patch.setattr(budget, "THRESHOLDS", (50,))


@mutation
def waiting_garbage_raises_no_alert(patch: Patch) -> None:
    """Nodes wait for a confirmation, and no alert says so."""
    patch.setattr(GarbageCollection, "_alert", always(None))


@mutation
def settled_in_the_month_of_its_end(patch: Patch) -> None:
    """What an instance cost is booked to the month in which it ended; found where a month ends."""
    settle = control_records.settle

    def later(ledger: Ledger, held: Reservation, actual: int) -> Ledger:
        now = runtime().clock.now()
        return settle(ledger, held.model_copy(update={"month": month_of(now)}), actual)

    patch.setattr(control_records, "settle", later)


@mutation
def keys_never_expire(patch: Patch) -> None:
    """Idempotency-Keys are kept for ever; found by the seeds that last for weeks."""
    patch.setattr(Expiry, "begin", always(None))


@mutation
def crowds_are_admitted_unchecked(patch: Patch) -> None:
    """Whoever has lost the ledger to others three times is admitted as if it were empty; found in crowds."""
    change = LedgerGate.change

    def impatient(gate: LedgerGate, attempt: Callable[[VersionedLedger], Any]) -> Any:
        tries = 0

        def counted(found: VersionedLedger) -> Any:
            nonlocal tries
            tries += 1
            return attempt(found if tries <= 3 else VersionedLedger(Ledger(), found.etag))

        return change(gate, counted)

    patch.setattr(LedgerGate, "change", impatient)


@mutation
def any_body_has_the_key(patch: Patch) -> None:
    """An Idempotency-Key that comes again with another body is answered as if it were the same."""
    module: Any = idempotency
    replay = module._replay

    def careless(found: IdempotencyEntry, key: idempotency.LaunchKey) -> LaunchAnswer:
        answer: LaunchAnswer = replay(found, replace(key, body_hash=found.body_hash))
        return answer

    patch.setattr(idempotency, "_replay", careless)
