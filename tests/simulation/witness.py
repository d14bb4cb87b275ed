"""Tells the oracles what happens: the one place where facts of the simulated world, and records, reach them."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.control.garbage_report import GARBAGE, GarbageReport
from tests.simulation.oracles.accounts import Admissions, Report
from tests.simulation.oracles.alerts import BudgetAlerts, OtherAlerts, ReleaseAlerts
from tests.simulation.oracles.budgets import Limits
from tests.simulation.oracles.endings import Deletions
from tests.simulation.oracles.facts import Alert, Event, Life, Machine, Oracle, Record, Terms, World
from tests.simulation.oracles.garbage import GarbageAlerts
from tests.simulation.oracles.jobs import Jobs
from tests.simulation.oracles.keys import Keys
from tests.simulation.oracles.liveness import Liveness
from tests.simulation.oracles.money import Meter
from tests.simulation.oracles.owners import Owners
from tests.simulation.oracles.reasons import Reasons
from tests.simulation.oracles.rounds import Rounds
from tests.simulation.oracles.unseen import Unseen

PATIENCE = 720.0
"""Seconds after which a message that a dead worker held has been delivered again."""
if TYPE_CHECKING:
    from tests.simulation.simulator import Simulator

WEBHOOK = {
    "GPULAUNCH_WEBHOOK_URLS": "json|https://alerts.example.com/gpulaunch",
    "GPULAUNCH_WEBHOOK_SECRET": "whsec_" + "c2VjcmV0LW9mLXRoZS1zaW11bGF0aW9u",
    "GPULAUNCH_WEBHOOK_EVENTS": "alert,poison",
}
"""Settings of every seed: without a receiver nothing is sent."""
LOOK_SECONDS = 30.0
"""Between two checks of what should have happened by now."""


class Witness:
    """
    Parameters
    ----------
    there
        Whatever there is of clusters in the cloud, machines or not, of this deployment and of others.
    garbage
        What the program shows as garbage: the clusters that wait for a person, and the foreign ones.
    keys
        When the launches were accepted whose Idempotency-Keys storage still has.
    others
        Oracles that only some worlds have.
    """

    def __init__(
        self,
        world: World,
        there: Callable[[], set[str]],
        garbage: Callable[[], tuple[set[str], set[str]]],
        keys: Callable[[], Sequence[datetime]],
        others: Sequence[Oracle] = (),
    ) -> None:
        self.world = world
        alone = (Deletions, Jobs, Rounds, Liveness, Owners, Reasons, Meter, Admissions, Report, Limits, ReleaseAlerts)
        self._oracles: list[Oracle] = [
            *(oracle(world) for oracle in alone),
            BudgetAlerts(world),
            OtherAlerts(world),
            Unseen(world, there, lambda: garbage()[0] | garbage()[1]),
            GarbageAlerts(world, lambda: garbage()[0]),
            Keys(world, keys),
            *others,
        ]

    def created(self, record: Record, events: Sequence[Event]) -> None:
        for oracle in self._oracles:
            oracle.created(record, events)

    def changed(self, before: Record, record: Record, events: Sequence[Event]) -> None:
        for oracle in self._oracles:
            oracle.changed(before, record, events)

    def machine_came(self, name: str, *, spot: bool | None) -> None:
        machine = self.world.machines.setdefault(name, Machine(name, spot))
        if not machine.runs:
            machine.lives.append(Life(self.world.now()))
        for oracle in self._oracles:
            oracle.machine_came(machine)

    def machine_ended(self, name: str) -> None:
        machine = self.world.machines.get(name)
        if machine is None or not machine.runs:
            return
        machine.lives[-1].ended = self.world.now()
        for oracle in self._oracles:
            oracle.machine_ended(machine)

    def deletion_asked(self, name: str) -> None:
        for oracle in self._oracles:
            oracle.deletion_asked(name)

    def node_told_to_end(self, name: str) -> None:
        for oracle in self._oracles:
            oracle.node_told_to_end(name)

    def deletion_promised(self, instance_id: str) -> None:
        for oracle in self._oracles:
            oracle.deletion_promised(instance_id)

    def launched(
        self, key: str | None, asked: Mapping[str, Any], since: datetime, status: int, instance_id: str
    ) -> None:
        """A launch was answered; status 0: it was not."""
        for oracle in self._oracles:
            if status in (402, 403):
                oracle.launch_refused(status, asked, since)
            elif status != 202:
                oracle.launch_unanswered()
            if key is not None:
                oracle.key_answered(key, json.dumps(asked, sort_keys=True), status, instance_id)

    def launch_refused_quietly(self) -> None:
        """A replica's launch was refused, which nobody is told."""
        for oracle in self._oracles:
            oracle.launch_unanswered()

    def shown(self, answer: Mapping[str, Any]) -> None:
        for oracle in self._oracles:
            oracle.shown(answer)

    def reported(self, answer: Mapping[str, Any], begun: datetime) -> None:
        for oracle in self._oracles:
            oracle.reported(answer, begun)

    def alerted(self, webhook_id: str, body: bytes) -> None:
        """A receiver got an alert; those that it knows already are repetitions."""
        if webhook_id in self.world.alerts:
            return
        alert = self.world.alerts[webhook_id] = Alert(at=self.world.now(), body=json.loads(body))
        for oracle in self._oracles:
            oracle.alerted(alert)

    def gave_up(self, body: bytes) -> None:
        """The host gave a message up."""
        message = json.loads(body)
        if "hook" in message:
            self.world.alerts_may_be_lost = True
        elif "instanceId" in message:
            self.world.given_up[str(message["instanceId"])] += 1

    def look(self) -> None:
        for oracle in self._oracles:
            oracle.look()

    def waits(self) -> bool:
        return any(oracle.waits() for oracle in self._oracles)

    def close(self) -> None:
        for oracle in self._oracles:
            oracle.close()


def witness_of(simulator: "Simulator") -> Witness:
    """The witness of a simulated world that stands already."""
    made, chaos, azure = simulator, simulator.chaos, simulator.azure
    checks, given, timeouts = made.checks, made.given, made.adapters.timeouts
    terms = Terms(
        kind=made.kind,
        asks_azure=azure is not None,
        attempts_per_round=timeouts.max_attempts,
        recoveries=timeouts.max_recoveries,
        poisoned=timeouts.poisoned,
        monthly_budget_usd=given.monthly_budget_usd,
        ends_at_budget=given.budget_action == "end",
        max_instances=given.max_instances,
        sweep_seconds=LOOK_SECONDS * made.workload.pace,
        clocks=timedelta(seconds=chaos.rates.clocks / 2),
    )
    start = made.scheduler.now()

    def there() -> set[str]:
        return made.there() if azure is None else made.there() | azure.clusters()

    def garbage() -> tuple[set[str], set[str]]:
        texts = [marker.text for marker in made.table.markers(GARBAGE) if marker.key == "report"]
        reports = [GarbageReport.model_validate_json(text) for text in texts]
        waiting = {one.cluster_name for report in reports for one in report.waiting}
        return waiting, {one.cluster_name for report in reports for one in report.foreign}

    world = World(
        now=made.scheduler.now,
        calm_at=start + timedelta(seconds=chaos.until),
        terms=terms,
        violated=checks.violated,
        records=lambda: checks.records,
        nodes=made.fleet.nodes,
        lied=checks.lied,
        neighbours=lambda: made.neighbours.names,
        alerts_may_be_lost=chaos.rates.message_lost > 0,
    )
    others: Sequence[Oracle] = () if made.endpoints is None else made.endpoints.judged_in(world)
    return Witness(world, there, garbage, made.kept_keys, others)


class Receiver:
    """Where alerts go: takes the place of `delivery.post`, with the same answer."""

    def __init__(self, simulator: "Simulator") -> None:
        self._simulator = simulator

    def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> tuple[str, bool] | None:
        made = self._simulator

        def effect() -> None:
            made.scheduler.note(f"an alert arrives: {headers['webhook-id']}")
            made.witness.alerted(headers["webhook-id"], body)

        made.chaos.other("post an alert", effect)
        return None
