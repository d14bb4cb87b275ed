"""Users: they launch, ask again when no answer came, look, delete, and leave."""

from random import Random
from typing import TYPE_CHECKING, Any

from tests.functional.world import ADMIN, SEED
from tests.simulation.scheduler import Process

if TYPE_CHECKING:
    from tests.simulation.host import Answer
    from tests.simulation.simulator import Simulator

_HEADERS = {"X-Admin-Token": ADMIN}
_REFUSED = (402, 403)
"""Answers to a launch that a budget or a limit has no room for."""
_AGAIN = (503, 409)
"""Answers after which it is right to ask again."""

_AMBUSHES = (
    "load",
    "commit",
    "list files",
    "requests of",
    "cluster",
    "launch",
    "down",
    "cancel",
    "ask",
    "add node",
    "send",
)


class User:
    def __init__(self, simulator: "Simulator", number: int) -> None:
        self.name = f"user {number}"
        self.done = False
        self._simulator = simulator
        self._random = simulator.random
        self._scheduler = simulator.scheduler
        self._key = f"key-{number}" if self._random.random() < 0.7 else None
        self._body = self._draw_body()
        workload = simulator.workload
        first = workload.first if number == 0 else None
        self._arrives_within = workload.arrivals if first is None else first
        own = Random(f"tabs {simulator.seed} {number}")
        self._tabs = self._key is not None and own.random() < 0.15
        """Launches the same twice at once."""
        self._other_body = self._key is not None and own.random() < 0.1
        """Uses its key again for something else."""
        if self._key is not None:
            simulator.checks.keyed.add(self._body["name"])
        self._instance_id: str | None = None

    def live(self) -> None:
        chaos = self._simulator.chaos
        self._scheduler.pause(self._random.uniform(0, self._arrives_within))
        if self._tabs:
            delay = self._random.uniform(0, 2)
            self._scheduler.spawn(f"{self.name} tab 2", Process(self.name), self._launch, delay=delay)
        self._launch()
        if self._other_body and self._instance_id is not None:
            self._reuse_key()
        deletes = chaos.strikes(chaos.rates.delete) and self._instance_id is not None
        if deletes and self._instance_id is not None and self._random.random() < 0.5:
            deletes = False
            self._lie_in_wait(self._instance_id)
        if self._key is not None and self._random.random() < 0.5:
            self._scheduler.pause(self._random.uniform(0, 100))
            self._launch()
        self._look()
        if deletes:
            self._scheduler.pause(self._random.uniform(0, self._random.choice((5, 60, 600))))
            self._delete()
        self._look()
        self.done = True

    def leave(self) -> None:
        """Delete every live instance that this user may have, known or not."""
        for record in self._simulator.checks.records:
            if not record.ended and record.request.name == self._body["name"]:
                self._instance_id = record.instance_id
                self._delete()

    def _lie_in_wait(self, instance_id: str) -> None:
        """Delete while an operation of a certain kind is under way for the instance, which takes its time then."""
        delay = self._random.uniform(0, self._random.choice((1, 30)))

        def strike() -> None:
            self._scheduler.spawn(f"{self.name} deletes", Process(self.name), self._delete, delay=delay)

        self._simulator.chaos.ambushes[instance_id[-4:].lower()] = (self._random.choice(_AMBUSHES), strike)

    def _draw_body(self) -> dict[str, Any]:
        random, workload = self._random, self._simulator.workload
        body: dict[str, Any] = {**SEED, "name": self.name.replace(" ", "-")}
        if random.random() < 0.5:
            body["use_spot"] = random.random() < 0.5
            body["spot_fallback"] = random.random() < 0.7
        if random.random() < 0.4:
            body["region"] = ["eastus", "westus2"]
        if random.random() < 0.3:
            body["max_lifetime_minutes"] = random.choice(workload.lifetimes)
        if random.random() < 0.3:
            body["idle_minutes"] = random.choice(workload.idle_times)
        if random.random() < 0.2:
            body["budget_usd"] = random.choice(workload.budgets)
        if random.random() < 0.2:
            body["job"] = {"command": ["python", "job.py"]}
        return body

    def _launch(self) -> None:
        headers = {**_HEADERS, **({"Idempotency-Key": self._key} if self._key else {})}
        while True:
            since = self._scheduler.now()
            answer = self._simulator.host.call("launch_instance", {}, self._body, headers)
            status = 0 if answer is None else answer.status
            instance_id = "" if answer is None else str(answer.json.get("instance_id", ""))
            self._simulator.witness.launched(self._key, self._body, since, status, instance_id)
            if answer is not None and answer.status == 202:
                self._instance_id = answer.json["instance_id"]
                self._simulator.checks.answered(answer.json["instance_id"], self._key)
                return
            if answer is not None and (answer.status in _REFUSED or answer.json.get("code") == "quota_exceeded"):
                self._scheduler.note(f"launch_instance is refused: {answer.status}")
                return
            self._expect(answer, "launch_instance")
            if self._key is None:
                return
            self._scheduler.pause(self._random.uniform(1, 20))

    def _reuse_key(self) -> None:
        """Launch something else with the same Idempotency-Key, which is refused."""
        other = {**self._body, "max_lifetime_minutes": 7}
        headers = {**_HEADERS, "Idempotency-Key": str(self._key)}
        since = self._scheduler.now()
        answer = self._simulator.host.call("launch_instance", {}, other, headers)
        if answer is not None:
            self._scheduler.note(f"launches something else with its key: {answer.status}")
            instance_id = str(answer.json.get("instance_id", ""))
            self._simulator.witness.launched(self._key, other, since, answer.status, instance_id)

    def _look(self) -> None:
        if self._instance_id is None:
            return
        route = {"instanceId": self._instance_id}
        for operation in ("show_instance", "instance_events"):
            answer = self._simulator.host.call(operation, route, None, _HEADERS, "GET")
            if answer is None or answer.status != 200:
                self._expect(answer, operation)
            elif operation == "show_instance":
                self._simulator.witness.shown(answer.json)
        answer = self._simulator.host.call("list_instances", {}, None, _HEADERS, "GET")
        if answer is None or answer.status != 200:
            self._expect(answer, "list_instances")

    def _delete(self) -> None:
        if self._instance_id is None:
            return
        self._simulator.witness.world.deletes.setdefault(self._instance_id, self._scheduler.now())
        while True:
            while self._instance_id in self._simulator.truth.unreadable:
                self._scheduler.pause(30)  # a DELETE ends it for good, and it could not be restored
            answer = self._simulator.host.call(
                "terminate_instance", {"instanceId": self._instance_id}, None, _HEADERS, "DELETE"
            )
            if answer is not None and answer.status == 202:
                self._simulator.witness.deletion_promised(self._instance_id)
                return
            self._expect(answer, "terminate_instance")
            self._scheduler.pause(self._random.uniform(1, 20))

    def _expect(self, answer: "Answer | None", operation: str) -> None:
        if (
            answer is not None
            and answer.status not in _AGAIN
            and self._instance_id not in self._simulator.truth.unreadable
        ):
            self._simulator.checks.violated(f"{operation} answered {answer.status} {answer.json}")
