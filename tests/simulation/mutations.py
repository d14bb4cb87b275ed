"""Planted bugs, each a patch applied by name: the simulation has to find every one of them."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from gpulaunch.models.instances import Phase
from shared.app import runtime
from shared.backends.skypilot.provider import SkyPilotProvider
from shared.billing import ledger as bookkeeping
from shared.clouds.azure.compute import AzureCompute
from shared.control import launch as launching
from shared.control import records as control_records
from shared.control import release as control_release
from shared.control.clusters import ClusterListing, RunningClusters
from shared.control.launch_spec import attempt_ref
from shared.control.records import Records, send_step
from shared.control.release import NodeKeeper
from shared.control.step import StepRunner
from shared.control.sweep import garbage, poison, requeue
from shared.control.sweep.garbage import GarbageCollection
from shared.domain.instance import Attempt, AttemptState, Failure, InstanceRecord
from shared.domain.messages import StepMessage
from shared.domain.money import Ledger
from shared.domain.provider import CleanupStatus, Cluster, LaunchSpec, NodeState
from shared.errors import StaleRecordError, StoreUnavailableError
from shared.lifecycle import machine, progress
from shared.lifecycle import provision as provisioning
from shared.lifecycle import ready as health
from shared.lifecycle.observations import Act, Nothing, Released, Reported, Submit
from shared.lifecycle.resending import Resent
from shared.lifecycle.rules import termination_reason
from shared.lifecycle.timeouts import Timeouts
from shared.lifecycle.transition import Decision, NextStep, Transition
from shared.storage import rows
from shared.storage.base import NO_BOOKING, Booking, Versioned
from tests.simulation.storage import FaultyStore, Table

Patch = pytest.MonkeyPatch
MUTATIONS: dict[str, Callable[[Patch], None]] = {}
ONLY: dict[str, str] = {}
"""By mutation: the kind of fault that alone finds it."""


def always(value: object) -> Callable[..., object]:
    """A function that answers the same whatever it is asked."""

    def answer(*_: object, **__: object) -> object:
        return value

    return answer


def raising(error: Exception) -> Callable[..., object]:
    """A function that fails whatever it is asked."""

    def fail(*_: object, **__: object) -> object:
        raise error

    return fail


def mutation(plant: Callable[[Patch], None]) -> Callable[[Patch], None]:
    """Keep a planted bug under its function's name."""
    MUTATIONS[plant.__name__] = plant
    return plant


def mutation_of(kind: str) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """The same of a bug that nothing but this kind of fault, a rate's name, can find."""

    def keep(plant: Callable[[Patch], None]) -> Callable[[Patch], None]:
        ONLY[plant.__name__] = kind
        return mutation(plant)

    return keep


@mutation
def ended_before_the_node_is_gone(patch: Patch) -> None:
    """One call for a release is taken for the end of the node."""
    patch.setattr(control_release, "Released", always(Released(gone=True)))


@mutation
def message_sent_before_the_record(patch: Patch) -> None:
    """The first message goes out before there is anything to step."""
    create = FaultyStore.create

    def early(store: Any, record: InstanceRecord, events: Any, key: Any, booking: Booking = NO_BOOKING) -> str:
        send_step(runtime().queues, record, NextStep("advance", 0.0))
        return create(store, record, events, key, booking)

    patch.setattr(FaultyStore, "create", early)
    patch.setattr(launching, "NextStep", raising(StoreUnavailableError("the message was sent before")))


@mutation
def etag_not_checked(patch: Patch) -> None:
    """Whoever writes last wins, whatever was read."""
    commit = Table.commit

    def anyway(table: Table, before: Versioned, record: InstanceRecord, events: Any, booking: Booking) -> str:
        there = table.load(record.instance_id)
        return commit(table, before if there is None else replace(before, etag=there.etag), record, events, booking)

    patch.setattr(Table, "commit", anyway)


@mutation
def no_adoption(patch: Patch) -> None:
    """A launch is repeated without looking for a request or a cluster of its name."""

    def submit(provider: Any, launch_spec: LaunchSpec) -> str:
        return provider._client.launch(
            {"resources": {"use_spot": launch_spec.offer.use_spot}, "envs": launch_spec.environment},
            launch_spec.cluster_name,
            {},
        )

    patch.setattr(SkyPilotProvider, "submit", submit)


@mutation
def lease_ignored_at_submit(patch: Patch) -> None:
    """Whoever finds an attempt that is being submitted submits it too."""
    next_act = machine.next_act

    def hasty(record: InstanceRecord, now: datetime, *, claimed: bool) -> Act:
        act = next_act(record, now, claimed=claimed)
        submitting = record.attempt is not None and record.attempt.state is AttemptState.SUBMITTING
        return Submit() if submitting and not isinstance(act, Nothing) and record.phase is Phase.PROVISIONING else act

    patch.setattr(machine, "next_act", hasty)


@mutation
def teardown_gives_up(patch: Patch) -> None:
    """After five tries a node is called gone."""
    released = provisioning.released

    def tired(transition: Transition, found: Released, limits: Timeouts) -> Decision:
        return released(transition, Released(found.gone or transition.record.attempts[-1].release_tries >= 5), limits)

    patch.setattr(provisioning, "released", tired)


@mutation
def sweep_does_not_send_again(patch: Patch) -> None:
    """A message that was lost stays lost."""
    for module in (requeue, poison):
        patch.setattr(module, "is_overdue", always(value=False))


@mutation
def sweep_sends_again_only_once(patch: Patch) -> None:
    """A message that is lost when it is sent again stays lost."""
    patch.setattr(Resent, "pause", timedelta(days=365))


@mutation
def release_in_a_submission_counts(patch: Patch) -> None:
    """While somebody may still be submitting, the absence of a node is believed."""
    released = provisioning.released

    def credulous(transition: Transition, found: Released, limits: Timeouts) -> Decision:
        transition.change_attempt(submit_lease_until=transition.now)
        return released(transition, Released(found.gone), limits)

    patch.setattr(provisioning, "released", credulous)


@mutation
def submission_outlasts_its_lease(patch: Patch) -> None:
    """However long what a node needs takes to be gathered, it is submitted."""
    patch.setattr(control_records, "in_time_to_submit", always(value=True))


@mutation
def recovery_without_release(patch: Patch) -> None:
    """A lost node is not taken away before the next one is started."""
    recover = health.recover

    def careless(transition: Transition, failure: Failure, limits: Timeouts) -> Decision:
        decision = recover(transition, failure, limits)
        if decision.record.phase is not Phase.RECOVERING:
            return decision
        transition.change_attempt(state=AttemptState.GONE, gone_at=transition.now)
        return transition.requeue_after("advance")

    patch.setattr(health, "recover", careless)


@mutation
def failover_without_release(patch: Patch) -> None:
    """A failed attempt is called gone without a word to the provider."""
    give_up = provisioning.give_up_attempt

    def careless(transition: Transition, failure: Failure, limits: Timeouts) -> Decision:
        decision = give_up(transition, failure, limits)
        if decision.record.phase is not Phase.PROVISIONING:
            return decision
        transition.change_attempt(state=AttemptState.GONE, gone_at=transition.now)
        return transition.requeue_after("advance")

    patch.setattr(progress, "give_up_attempt", careless)
    patch.setattr(provisioning, "give_up_attempt", careless)


@mutation
def idempotency_in_a_second_write(patch: Patch) -> None:
    """The Idempotency-Key is written after the record, not with it."""
    create = FaultyStore.create

    def in_two(store: Any, record: InstanceRecord, events: Any, key: Any, booking: Booking = NO_BOOKING) -> str:
        etag = create(store, record, events, None, booking)
        if key is not None:
            write = store.table._write
            row = rows.row_of("", rows.idempotency_key(key.key_hash), key)
            store._chaos.storage("write the key", lambda: write([row]))
        return etag

    patch.setattr(FaultyStore, "create", in_two)


@mutation
def events_in_a_second_write(patch: Patch) -> None:
    """Events are written after the record, not with it."""
    commit = FaultyStore.commit

    def in_two(store: Any, before: Versioned, record: InstanceRecord, events: Any, booking: Booking) -> str:
        written, made = store.table._write, store.table._event_rows
        etag = commit(store, before, record.model_copy(update={"event_count": before.record.event_count}), [], booking)
        if events:
            store._chaos.storage("write events", lambda: written(made(record.instance_id, events)))
        return etag

    patch.setattr(FaultyStore, "commit", in_two)


@mutation
def time_limit_put_off_by_reports(patch: Patch) -> None:
    """A node that reports all the time is never looked at, so its phase may last for ever."""
    reported = progress.reported

    def put_off(transition: Transition, found: Reported, limits: Timeouts) -> Decision:
        decision = reported(transition, found, limits)
        if not decision.changed or decision.next_step is not None or decision.record.due_at is None:
            return decision
        return transition.wait_until(transition.now + timedelta(seconds=30))

    patch.setattr(progress, "reported", put_off)


@mutation
def deadline_forgotten_when_ready(patch: Patch) -> None:
    """A ready instance is never looked at for its rules."""

    def tomorrow(_: InstanceRecord, now: datetime) -> datetime:
        return now + timedelta(days=1)

    def forgotten(record: InstanceRecord, now: datetime) -> Failure | None:
        return None if record.phase is Phase.READY else termination_reason(record, now)

    for module in (health, progress, machine):
        patch.setattr(module, "next_deadline", tomorrow)
        # Each probe asks as well, so either alone is not missed.
        patch.setattr(module, "termination_reason", forgotten)


@mutation
def no_garbage_collection(patch: Patch) -> None:
    """What the records lost sight of runs for ever."""
    patch.setattr(GarbageCollection, "collect", always(0))


@mutation
def garbage_without_grace(patch: Patch) -> None:
    """Whatever is listed and was in no record read before is taken away at once."""

    def take(task: Any, _: object, known: set[str], __: datetime) -> int:
        listing: ClusterListing = task.listing
        for name, (source, _cluster) in listing.read().clusters.items():
            if name not in known:
                listing.delete(source, name)
        return 0

    patch.setattr(GarbageCollection, "_read", always(RunningClusters({}, complete=False)))
    patch.setattr(GarbageCollection, "collect", take)


@mutation
def garbage_of_another_deployment_is_taken(patch: Patch) -> None:
    """Whatever has a name like ours and is in no live record is garbage, whoever's it is."""
    tell_apart = garbage.strays

    def all_ours(clusters: Iterable[Cluster], known: Any, _: Any, deployment: str, now: datetime) -> Any:
        ours = [replace(one, deployment=deployment) for one in clusters]
        return tell_apart(ours, known, {one.cluster_name for one in ours}, deployment, now)

    patch.setattr(garbage, "strays", all_ours)


@mutation
def skypilots_word_is_enough(patch: Patch) -> None:
    """A release is done when SkyPilot says so, whatever Azure has."""

    def credulous(keeper: Any, record: InstanceRecord) -> CleanupStatus:
        is_gone = keeper.backends(record.mode).provider.release(attempt_ref(record))
        return CleanupStatus.NOTHING if is_gone else CleanupStatus.MACHINE

    patch.setattr(NodeKeeper, "_delete", credulous)


@mutation
def traces_are_nothing(patch: Patch) -> None:
    """An ending does not wait for what costs no money."""
    delete = AzureCompute.delete

    def careless(azure: AzureCompute, cluster_name: str, region: str | None = None) -> CleanupStatus:
        remains = delete(azure, cluster_name, region)
        return CleanupStatus.NOTHING if remains is CleanupStatus.FREE_LEFTOVERS else remains

    patch.setattr(AzureCompute, "delete", careless)


@mutation
def groups_are_no_garbage(patch: Patch) -> None:
    """Garbage is looked for in SkyPilot's books and among machines, nowhere else."""
    clusters = AzureCompute.clusters

    def machines(azure: AzureCompute) -> list[Cluster]:
        return [one for one in clusters(azure) if one.state is not NodeState.ABSENT]

    patch.setattr(AzureCompute, "clusters", machines)


@mutation
def doubled_messages_are_steps(patch: Patch) -> None:
    """Neither the epoch of a message nor the time of its step is looked at."""
    next_act, run = machine.next_act, StepRunner.run

    def at_any_time(record: InstanceRecord, now: datetime, *, claimed: bool) -> Act:
        due = record if record.ended else record.model_copy(update={"due_at": None})
        return next_act(due, now, claimed=claimed)

    def of_any_epoch(runner: StepRunner, message: StepMessage) -> None:
        run(runner, message.model_copy(update={"epoch": 1_000_000}))

    patch.setattr(machine, "next_act", at_any_time)
    patch.setattr(StepRunner, "run", of_any_epoch)


@mutation
def stale_write_taken_for_done(patch: Patch) -> None:
    """A step that lost the race goes on as if it had won it."""
    commit = Records.commit

    def pretends(records: Records, before: Versioned, decision: Decision) -> Versioned:
        try:
            return commit(records, before, decision)
        except StaleRecordError:
            return Versioned(decision.record, before.etag)

    patch.setattr(Records, "commit", pretends)


@mutation
def reservation_in_a_second_write(patch: Patch) -> None:
    """A launch is written before it is counted."""
    create = FaultyStore.create

    def in_two(store: Any, record: InstanceRecord, events: Any, key: Any, booking: Booking = NO_BOOKING) -> str:
        etag = create(store, record, events, key)
        store.book(booking)
        return etag

    patch.setattr(FaultyStore, "create", in_two)


@mutation
def reservation_never_given_back(patch: Patch) -> None:
    """What an ended instance had reserved stays reserved."""

    def kept(ledger: Ledger, *_: object) -> Ledger:
        return ledger

    patch.setattr(control_records, "settle", kept)


@mutation
def cost_of_lost_attempts_forgotten(patch: Patch) -> None:
    """Only the last attempt of an instance is booked."""

    def last(_: InstanceRecord, after: InstanceRecord) -> list[Attempt]:
        return [one for one in after.attempts[-1:] if after.ended and one.billed_from is not None]

    patch.setattr(bookkeeping, "newly_gone", last)


@mutation
def cost_from_the_first_sight(patch: Patch) -> None:
    """An attempt costs money only once its node was seen running."""
    change = Transition.change_attempt

    def late(self: Transition, **fields: Any) -> Attempt:
        up = fields.get("node_up_at")
        return change(self, **(fields if up is None else {**fields, "billed_from": up}))

    patch.setattr(Transition, "change_attempt", late)
