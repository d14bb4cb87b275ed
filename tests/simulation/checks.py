"""What has to hold, while things go wrong and after they did."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta

from gpulaunch.models.instances import EventType, Phase
from shared.domain.instance import Attempt, AttemptState, Event, InstanceRecord
from shared.storage.base import IdempotencyEntry
from tests.simulation.azure import FaultyAzure
from tests.simulation.oracles.promises import EARLY, FOLLOWED_BY
from tests.simulation.oracles.spending import micro_cost, month, worst_case
from tests.simulation.scheduler import Scheduler, Task
from tests.simulation.storage import Table
from tests.simulation.witness import Witness

COLLECTED_AFTER = 1200.0
"""Seconds within which the garbage collector has taken a node away that nobody knows: five
minutes after its creation it is marked, five later it is taken, by passes two minutes apart that may take a minute."""
DELETED_AFTER = 400.0
"""Seconds more where Azure deletes a group, which takes it up to four minutes."""
LONG = timedelta(hours=1)
"""More than any start takes."""
DAY = date(2026, 1, 1)
"""Before anything costs."""


def _has_claimed(before: InstanceRecord, attempt: Attempt) -> bool:
    """Whether a change took the lease of a submission."""
    if attempt.state is not AttemptState.SUBMITTING:
        return False
    earlier = before.attempt
    return (
        earlier is None or earlier.number != attempt.number or attempt.submit_lease_until > earlier.submit_lease_until
    )


class Checks:
    """Watches all that is written and all that runs.

    Parameters
    ----------
    machines
        Names of the clusters that really have a machine.
    launches
        Names of the clusters whose launch is under way.
    azure
        What Azure has; where it can be asked, no word of SkyPilot's excuses anything.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        table: Callable[[], Table],
        machines: Callable[[], set[str]],
        launches: Callable[[], set[str]],
        azure: FaultyAzure | None = None,
    ) -> None:
        self.violations: list[str] = []
        self.neighbours: frozenset[str] = frozenset()
        """Another deployment's clusters, which no record of this one can know."""
        self.accepted: dict[str, str | None] = {}
        """Instances whose acceptance a user saw, with the Idempotency-Key."""
        self.lied: dict[str, float] = {}
        """Clusters of which the provider said wrongly that they are gone, and when, where nobody else can be asked."""
        self.launches: Counter[str] = Counter()
        """How often something of a cluster's name was launched."""
        self.witness: Witness | None = None
        """Who tells the oracles; set once the world stands."""
        self.instances: list[str] = []
        self.keyed: set[str] = set()
        """Names of launches with an Idempotency-Key."""
        self._users: set[str] = set()
        self._scheduler = scheduler
        self._table = table
        self._machines = machines
        self._launches = launches
        self._azure = azure
        self._told: set[str] = set()
        self._claimed: dict[str, Task] = {}
        """By the name of the cluster: the step that is to submit it, and goes on before anything is due."""
        self._keys: dict[str, str] = {}

    def violated(self, what: str) -> None:
        """Write a violation down and stop: the trace ends with what led to it."""
        self._scheduler.note(f"VIOLATION: {what}")
        self._scheduler.stopped = True
        self.violations.append(f"at {self._scheduler.seconds:.3f} s: {what}")

    # While it runs.

    def created(self, record: InstanceRecord, events: Sequence[Event], key: IdempotencyEntry | None) -> None:
        self._scheduler.note(f"{record.instance_id[-4:]} is accepted")
        self.instances.append(record.instance_id)
        self._ledger_is_right()
        user = record.request.name or ""
        if user in self.keyed and user in self._users:
            self.violated(f"{user} launched once, with an Idempotency-Key, and has two instances")
        self._users.add(user)
        if record.event_count != len(events):
            self.violated(f"{record.instance_id} counts {record.event_count} events, there are {len(events)}")
        if self.witness is not None:
            self.witness.created(record, events)

    def committed(self, before: InstanceRecord, record: InstanceRecord, events: Sequence[Event]) -> None:
        """A record was changed; `before` is what stood there."""
        name = record.instance_id[-4:]
        attempt = record.attempt
        state = f", attempt {attempt.number} {attempt.state.value}" if attempt else ""
        self._scheduler.note(f"{name} is {record.phase.value}{state}; {'; '.join(event.message for event in events)}")
        if record.event_count != before.event_count + len(events) or [event.sequence for event in events] != list(
            range(before.event_count, record.event_count)
        ):
            self.violated(f"{name}: events {[event.sequence for event in events]} follow {before.event_count}")
        if record.epoch < before.epoch or len(record.attempts) < len(before.attempts):
            self.violated(f"{name}: an older record was written over a newer one")
        if (record.deadline_at, record.request.budget_usd) != (before.deadline_at, before.request.budget_usd):
            self.violated(f"{name}: deadline or budget changed")
        if before.ended:
            self.violated(f"{name} changed after its end")
        if record.poisoned > before.poisoned:
            self._scheduler.note(f"{name}: its step is to be sent again")
        if record.attempts and before.attempts and record.attempts[-1].number == before.attempts[-1].number:
            lease, earlier = record.attempts[-1].submit_lease_until, before.attempts[-1].submit_lease_until
            if lease > earlier:
                self._scheduler.note(f"{name}: the submission is claimed again")
        begins_to_end = before.phase is not Phase.TERMINATING and (record.ended or record.phase is Phase.TERMINATING)
        if record.replica_of is None or not begins_to_end:  # whose end its endpoint decides, at any time
            self._is_no_doubled_step(before, name)
        if self._scheduler.current is not None and attempt is not None and _has_claimed(before, attempt):
            self._claimed[attempt.cluster_name] = self._scheduler.current
        if record.ended:
            self._ledger_is_right()
        running, launching = self._machines(), self._launches()
        for one in record.attempts:
            if one.state is AttemptState.GONE and one.cluster_name not in self.lied:
                if one.cluster_name in running:
                    self.violated(f"{one.cluster_name} is called gone and has a machine")
                elif one.cluster_name in launching:
                    self.violated(f"{one.cluster_name} is called gone and is being launched")
                elif self._azure is not None and self._azure.costs(one.cluster_name):
                    self.violated(f"{one.cluster_name} is called gone and costs money")
        if record.ended and attempt is not None and attempt.state is not AttemptState.GONE:
            self.violated(f"{name} ended while its attempt is {attempt.state.value}")
        # An ending that has to take its node away waits for the last trace of it, a failover does not.
        waited = before.phase is Phase.TERMINATING and before.attempt is not None
        if (
            record.ended
            and waited
            and self._azure is not None
            and record.attempts[-1].cluster_name in self._azure.clusters()
        ):
            self.violated(f"{name} ended and its resource group is there")
        if self.witness is not None:
            self.witness.changed(before, record, events)

    def _is_no_doubled_step(self, before: InstanceRecord, name: str) -> None:
        """Doubled messages come to nothing: no step acts before it is due, so chains of messages become one."""
        task = self._scheduler.current
        if task is None or not task.name.startswith(("provisioning", "teardown")) or before.due_at is None:
            return
        if before.attempt is not None and self._claimed.get(before.attempt.cluster_name) is task:
            return
        early = timedelta(seconds=EARLY, milliseconds=1)
        if self.witness is not None:
            early += self.witness.world.terms.clocks
        if before.due_at > self._scheduler.now() + early:
            self.violated(f"{name} was stepped although nothing was due before {before.due_at}")

    def buried(self, queue: str, body: bytes) -> None:
        """A message was called one that can't be understood; nobody but we sends any."""
        self.violated(f"a message of {queue} names no instance: {body.decode()}")

    def repeated(self, instance_id: str, visible_at: datetime) -> None:
        """The sweep sent a step again whose message was there and not lost."""
        found = self._table().load(instance_id)
        if found is not None and found.record.phase is Phase.READY and visible_at < (found.record.due_at or visible_at):
            return  # left over from its start: a deadline waits for no message of before
        waited = (self._scheduler.now() - visible_at).total_seconds()
        self.violated(f"{instance_id[-4:]} is sent again while its message has waited for {waited:.0f} s")

    def taken(self, name: str) -> bool:
        """Whether the record says that the provider took the launch."""
        found = self._table().load(f"inst-{name[3:29].upper()}")
        states = {one.cluster_name: one.state for one in found.record.attempts} if found is not None else {}
        return states.get(name, AttemptState.SUBMITTING) is not AttemptState.SUBMITTING

    def launched(self, name: str) -> None:
        """The provider took a launch."""
        self.launches[name] += 1
        if name in self._machines() or name in self._launches():
            self.violated(f"{name} is launched a second time: two agents")

    def deletion_asked(self, name: str) -> None:
        """The program asks for the end of a cluster."""
        if self.witness is not None:
            self.witness.deletion_asked(name)

    def machine_ended(self, name: str) -> None:
        if self.witness is not None:
            self.witness.machine_ended(name)

    def machine_comes(self, name: str, *, spot: bool | None = None) -> None:
        """A machine begins to cost money."""
        if self.witness is not None:
            self.witness.machine_came(name, spot=spot)
        instance_id = f"inst-{name[3:29].upper()}"
        others = [one for one in self._machines() if one[:29] == name[:29] and one not in self.lied]
        if others:
            self.violated(f"{name} comes while {others} runs: two nodes of one instance")
        found = self._table().load(instance_id)
        if found is None:
            self.violated(f"{name} has no record")
            return
        attempt = found.record.attempt
        if found.record.ended:
            self.violated(f"{name} comes although its instance has ended")
        elif attempt is None or attempt.cluster_name != name or attempt.state is AttemptState.GONE:
            self.violated(f"{name} comes, which is not the attempt of its instance")

    def lies(self, name: str) -> bool:
        """Whether a release may lie: once for each node that is there."""
        if name in self._told or name not in self._machines():
            return False
        self._told.add(name)
        # Azure knows whether there is a machine, and nobody else whether SkyPilot still launches one.
        if self._azure is None or name in self._launches():
            self.lied[name] = self._scheduler.seconds
        return True

    def discarded(self, name: str) -> None:
        """The garbage collector takes a node away."""
        self._scheduler.note(f"{name[-7:]} is collected as garbage")
        found = self._table().load(f"inst-{name[3:29].upper()}")
        attempt = None if found is None or found.record.ended else found.record.attempt
        if attempt is not None and attempt.cluster_name == name and attempt.state is not AttemptState.GONE:
            self.violated(f"{name} is no garbage: its attempt is {attempt.state.value}")

    def answered(self, instance_id: str, key: str | None) -> None:
        if self._table().load(instance_id) is None:
            self.violated(f"{instance_id} was accepted and has no record")
        if key is not None and self._keys.setdefault(key, instance_id) != instance_id:
            self.violated(f"{key} stands for {self._keys[key]} and {instance_id}")
        self.accepted[instance_id] = key

    # After the faults.

    @property
    def records(self) -> list[InstanceRecord]:
        return [found.record for one in self.instances if (found := self._table().load(one)) is not None]

    def settled(self) -> bool:
        """Nothing is on its way any more."""
        if not all(record.ended or record.phase is Phase.READY for record in self.records):
            return False
        return not self.orphans()

    def orphans(self) -> set[str]:
        """Machines, and whatever else there is of a cluster, that no live attempt stands for."""
        kept = {record.attempts[-1].cluster_name for record in self.records if not record.ended and record.attempts}
        there = self._machines() if self._azure is None else self._machines() | self._azure.clusters()
        return there - kept - self.neighbours

    def garbage_is_gone(self, since: float) -> None:
        """Nothing is there any more that no record has known since then, in seconds since the start."""
        if self._scheduler.stopped:
            return
        gone = {
            one.cluster_name: one.gone_at
            for record in self.records
            for one in record.attempts
            if one.gone_at is not None and one.gone_at <= self._scheduler.start + timedelta(seconds=since)
        }
        for name in self.orphans() & gone.keys():
            self.violated(f"{name} is there, which no record knows since {gone[name]}")

    def at_rest(self, *, all_ended: bool) -> None:
        """After the faults, with time enough for everything to come to its end."""
        for instance_id in self.accepted:
            if self._table().load(instance_id) is None:
                self.violated(f"{instance_id} was accepted and is lost")
        for record in self.records:
            name = record.instance_id[-4:]
            # An endpoint that lives may start a replica at any time; how long that takes is watched meanwhile.
            starts = record.replica_of is not None and self._scheduler.now() - record.created_at < LONG
            if not record.ended and (all_ended or not (starts or record.phase is Phase.READY)):
                self.violated(f"{name} is still {record.phase.value}, since {record.phase_since}")
            if record.phase is Phase.READY and record.attempts[-1].cluster_name not in self._machines():
                self.violated(f"{name} is ready and has no machine")
            self._story(record)
        self._ledger_is_right()
        self._costs_are_right()
        for name in self.orphans():
            self.violated(f"{name} is there and has no live record")

    def _ledger_is_right(self) -> None:
        """What live instances may cost is reserved, what ended ones have cost is spent, each of them once."""
        if not any(record.reservation for record in self.records):
            return
        accounts: dict[str, list[int]] = {}
        usage: dict[str, list[int]] = {}
        for record in self.records:
            held = record.reservation
            if held is None:
                self.violated(f"{record.instance_id[-4:]} has no reservation")
                continue
            if (held.month, held.micro_usd) != (month(record), worst_case(record)):
                self.violated(f"{record.instance_id[-4:]} reserves {held}, not {worst_case(record)} of {month(record)}")
            for scope in held.scopes:
                account = accounts.setdefault(f"{held.month}/{scope}", [0, 0])
                used = usage.setdefault(scope, [0, 0])
                if record.ended:
                    account[1] += micro_cost(record, record.ended_at or self._scheduler.now())
                else:
                    account[0] += held.micro_usd
                    used[0] += 1
                    used[1] += held.gpus
        ledger = self._table().ledger().ledger
        # A refusal notes its alert in an account that nothing is booked to.
        booked = {key: [one.reserved, one.spent] for key, one in ledger.accounts.items() if one.reserved or one.spent}
        if booked != {key: account for key, account in accounts.items() if any(account)}:
            self.violated(f"the ledger has the accounts {ledger.accounts}, not {accounts}")
        if {key: [one.instances, one.gpus] for key, one in ledger.usage.items()} != usage:
            self.violated(f"the ledger counts {ledger.usage}, not {usage}")

    def _costs_are_right(self) -> None:
        """Each attempt that may have had a machine and is gone has one entry of the costs, and no other has one."""
        booked = [(entry.instance_id, entry.attempt, entry.up_at, entry.gone_at) for entry in self._table().costs(DAY)]
        gone = [
            (record.instance_id, attempt.number, attempt.billed_from, attempt.gone_at)
            for record in self.records
            for attempt in record.attempts
            if attempt.state is AttemptState.GONE and attempt.billed_from is not None
        ]
        if sorted(booked, key=repr) != sorted(gone, key=repr):
            self.violated(f"the costs of {booked} are booked, not those of {gone}")

    def _story(self, record: InstanceRecord) -> None:
        """The events tell a legal story, from the acceptance to where the record stands."""
        name = record.instance_id[-4:]
        events = self._table().events(record.instance_id)
        if [event.sequence for event in events] != list(range(record.event_count)):
            self.violated(f"{name} has the events {[event.sequence for event in events]}, not {record.event_count}")
            return
        phase, since = Phase.QUEUED, record.created_at
        last = record.created_at
        begun, ended = 0, 0
        for event in events:
            if event.at < last:
                self.violated(f"{name}: event {event.sequence} happened before the one before it")
            last = event.at
            begun += event.type is EventType.ATTEMPT_STARTED
            ended += event.type is EventType.ATTEMPT_GONE
            if begun - ended not in (0, 1):
                self.violated(f"{name}: attempt {begun} began before the last one was gone")
            if event.type is EventType.PHASE:
                before, after = Phase(event.data.get("from")), Phase(event.data.get("to"))
                if before is not phase or after.value not in FOLLOWED_BY[before.value]:
                    self.violated(f"{name}: {before.value} → {after.value} while it was {phase.value}")
                lasted = (event.at - since).total_seconds()
                if event.duration_seconds is None or abs(event.duration_seconds - lasted) > 0.01:
                    self.violated(f"{name}: {before.value} lasted {lasted} s, not {event.duration_seconds}")
                phase, since = after, event.at
        if phase is not record.phase:
            self.violated(f"{name} is {record.phase.value}, its events end with {phase.value}")
        if record.ended and begun != ended:
            self.violated(f"{name} ended with {begun} attempts, of which {ended} are gone")
        for one, following in zip(record.attempts, record.attempts[1:], strict=False):
            if one.gone_at is None or one.gone_at > following.started_at:
                self.violated(f"{name}: attempts {one.number} and {following.number} cost at once")
            elif one.node_up_at is not None and not one.started_at <= one.node_up_at <= one.gone_at:
                self.violated(f"{name}: attempt {one.number} cost before it began or after it was gone")
