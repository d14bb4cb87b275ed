"""Whoever runs an endpoint: creates, changes, pauses, rolls out and deletes it, and makes and revokes its keys."""

from random import Random
from typing import TYPE_CHECKING, Any

from tests.functional.world import ADMIN, SEED
from tests.simulation.oracles.endpoint_facts import Key

if TYPE_CHECKING:
    from tests.simulation.endpoints.world import EndpointWorld
    from tests.simulation.host import Answer

_HEADERS = {"X-Admin-Token": ADMIN}
_MODEL_SLOTS = ("2", "4")
"""Requests that a node works on at once: few, so that some have to wait."""
_DRAINS = (0, 60, 120, 300)
BROKEN = {"serves": "no"}
"""Labels of a launch that no node can serve."""
_FINE = range(200, 300)
_AGAIN = (503, 409, 412)
"""Answers after which it is right to ask again: storage, somebody else's change, an endpoint that is being deleted."""
_GONE = 404


class EndpointUser:
    def __init__(self, world: "EndpointWorld", name: str) -> None:
        self.name = name
        self.done = False
        self._world = world
        self._simulator = world.simulator
        self._scheduler = world.simulator.scheduler
        self._random = Random(f"user of {name} {world.simulator.seed}")
        self._launches = 0
        self._keys = 0
        self._exists = False
        self.keeps = False
        """Whether it has an endpoint that it is not about to delete."""

    def live(self) -> None:
        random, chaos = self._random, self._simulator.chaos
        self._scheduler.pause(random.uniform(0, 60))
        self._create()
        self._make_key()
        acts = (
            *[self._scale] * 4,
            *[self._roll] * 3,
            *[self._relaunch] * 2,
            self._break,
            *[self._pause_and_resume] * 2,
            *[self._rotate] * 3,
            self._recreate,
            self._end_one,
            self._look,
        )
        while chaos.on:
            self._scheduler.pause(random.uniform(10, random.choice((60, 400))))
            if not chaos.on:
                break
            random.choice(acts)()
            if not self._exists:
                self._create()
                self._make_key()
        self.done = True

    def leave(self) -> None:
        if self._exists:
            self._delete()

    # What it does.

    def _create(self) -> None:
        random = self._random
        body: dict[str, Any] = {"launch": self._launch(), "replicas": random.choice((1, 1, 2, 3))}
        body["drain_seconds"] = random.choice(_DRAINS)
        if random.random() < 0.5:
            self._insist("put_endpoint", body, "PUT")
        else:
            self._insist("create_endpoint", {**body, "name": self.name}, "POST", own=False)
        self._exists = self.keeps = True

    def _launch(self, *, broken: bool = False) -> dict[str, Any]:
        self._launches += 1
        random = self._random
        labels = {"version": str(self._launches)} | (BROKEN if broken else {})
        launch: dict[str, Any] = {**SEED, "labels": labels}
        launch["vllm_args"] = ["--max-num-seqs", random.choice(_MODEL_SLOTS)]
        launch["use_spot"] = random.random() < 0.5
        if random.random() < 0.5:
            launch["region"] = ["eastus", "westus2"]
        if random.random() < 0.15:
            launch["max_lifetime_minutes"] = random.choice((15, 30))
        return launch

    def _scale(self) -> None:
        change: dict[str, Any] = {"replicas": self._random.choice((0, 1, 1, 2, 3))}
        if self._random.random() < 0.2:
            change["drain_seconds"] = self._random.choice(_DRAINS)
        self._insist("change_endpoint", change, "PATCH")

    def _roll(self) -> None:
        self._insist("rollout_endpoint", None, "POST")

    def _relaunch(self) -> None:
        launch = self._launch()
        self._insist("change_endpoint", {"launch": {name: launch[name] for name in ("labels", "vllm_args")}}, "PATCH")

    def _break(self) -> None:
        """Change to a launch that no node can serve, and back again some time later."""
        self._insist("change_endpoint", {"launch": {"labels": {**BROKEN, "version": str(self._launches)}}}, "PATCH")
        self._scheduler.pause(self._random.uniform(60, 600))
        if self._random.random() < 0.3:
            self._resume()
            self._scheduler.pause(self._random.uniform(30, 300))
        if self._random.random() < 0.7:
            self._relaunch()

    def _pause_and_resume(self) -> None:
        self._insist("pause_endpoint", None, "POST")
        self._scheduler.pause(self._random.uniform(1, self._random.choice((30, 400))))
        self._resume()

    def _resume(self) -> None:
        self._world.service.resumes[self.name] = self._world.now()
        self._insist("resume_endpoint", None, "POST")
        self._world.service.resumes[self.name] = self._world.now()

    def _rotate(self) -> None:
        """Make a new key and revoke an old one, in either order."""
        if self._random.random() < 0.7:
            self._make_key()
        keys = [one for one in self._world.keys_of(self.name) if one.revoking is None]
        if keys:
            self._revoke(self._random.choice(keys))
        if len(keys) < 2:
            self._make_key()

    def _recreate(self) -> None:
        self._delete()
        self._scheduler.pause(self._random.uniform(1, 300))
        self._create()
        self._make_key()

    def _end_one(self) -> None:
        """Terminate a replica as any instance."""
        row = self._world.store.there(self.name)
        slots = [] if row is None else [one for one in row.record.slots if one.instance_id in self._known()]
        if not slots:
            return
        instance_id = self._random.choice(slots).instance_id
        self._simulator.witness.world.deletes.setdefault(instance_id, self._world.now())
        answer = self._simulator.host.call("terminate_instance", {"instanceId": instance_id}, None, _HEADERS, "DELETE")
        if answer is not None and answer.status == 202:
            self._simulator.witness.deletion_promised(instance_id)

    def _known(self) -> set[str]:
        return {one.instance_id for one in self._simulator.checks.records} - self._simulator.truth.unreadable.keys()

    def _look(self) -> None:
        for operation, route in (("show_endpoint", True), ("list_endpoints", False), ("list_endpoint_keys", True)):
            self._try(operation, None, "GET", own=route)

    def _delete(self) -> None:
        for key in self._world.keys_of(self.name):
            key.revoking = key.revoking or self._world.now()
        self.keeps = False
        while self._has_unreadable():
            self._scheduler.pause(30)
        answer = self._insist("delete_endpoint", None, "DELETE")
        if answer.status != _GONE:
            for key in self._world.keys_of(self.name):
                key.revoked = key.revoked or self._world.now()
        self._exists = False

    def _has_unreadable(self) -> bool:
        """What cannot be read would be ended for good with its endpoint, and could not be restored."""
        row = self._world.store.there(self.name)
        mine = set[str]() if row is None else {one.instance_id for one in row.record.slots}
        return bool(mine & self._simulator.truth.unreadable.keys())

    # Keys.

    def _make_key(self) -> None:
        while True:
            self._keys += 1
            answer = self._try("create_endpoint_key", {"name": f"app-{self._keys}"}, "POST")
            if answer is not None and answer.status == 201:
                made = answer.json
                self._world.keys.append(Key(self.name, made["key"], self._world.now(), made["key_id"]))
                return
            if answer is not None and answer.status == _GONE:
                return
            self._scheduler.pause(self._random.uniform(1, 20))

    def _revoke(self, key: Key) -> None:
        key.revoking = key.revoking or self._world.now()
        answer = self._insist("revoke_endpoint_key", None, "DELETE", key_id=key.key_id)
        if answer.status in _FINE:
            key.revoked = key.revoked or self._world.now()

    # How it asks.

    def _insist(
        self, operation: str, body: object, method: str, *, own: bool = True, key_id: str | None = None
    ) -> "Answer":
        """Ask until it is answered for good."""
        while True:
            answer = self._try(operation, body, method, own=own, key_id=key_id)
            if answer is not None and (answer.status in _FINE or answer.status == _GONE):
                return answer
            self._scheduler.pause(self._random.uniform(1, 20))

    def _try(
        self, operation: str, body: object, method: str, *, own: bool = True, key_id: str | None = None
    ) -> "Answer | None":
        route = {"endpointName": self.name} if own else {}
        if key_id is not None:
            route["keyId"] = key_id
        answer = self._simulator.host.call(operation, route, body, _HEADERS, method)
        if answer is None:
            return None
        self._scheduler.note(f"{operation} of {self.name}: {answer.status}")
        quota = answer.status == 422 and answer.json.get("code") == "quota_exceeded"
        if answer.status not in (*_FINE, *_AGAIN, _GONE) and not quota:
            self._simulator.checks.violated(f"{operation} answered {answer.status} {answer.json}")
        return answer
