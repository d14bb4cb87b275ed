"""Secrets planted wherever the program can hold one are found nowhere but where they belong."""

import logging
import re
from collections.abc import Callable
from typing import Any

import pytest

from shared.adapters import secrets_of
from shared.auth import Purpose
from shared.backends.base import Backend
from shared.domain.instance import InstanceRecord
from shared.domain.node import Assignment, ModelFile, NodePhase, NodeStatus
from shared.domain.provider import NodeState, NodeView
from shared.queues import ALERTS, QUEUES
from shared.redaction import Redactor
from shared.storage.base import InstanceFilter, readable
from shared.storage.queues import poison_queue
from tests.functional.listening import Ear
from tests.functional.scripted import Assigning, Scripted
from tests.functional.world import Answer, World, settings

PLANTED = {
    "GPULAUNCH_ADMIN_TOKENS": "canary-admin-000001,canary-admin-000002",
    "GPULAUNCH_READ_TOKENS": "canary-reader-000003",
    "GPULAUNCH_MASTER_KEY": "canary-master-0004-0123456789abcdefghij",
    "HF_TOKEN": "canary-hub-00000005",
    "R2_ENDPOINT": "https://r2.example",
    "R2_ACCESS_KEY_ID": "canary-r2-id-000006",
    "R2_SECRET_ACCESS_KEY": "canary-r2-key-00007",
    "AWS_ACCESS_KEY_ID": "canary-s3-id-000008",
    "AWS_SECRET_ACCESS_KEY": "canary-s3-key-00009",
    "SKYPILOT_SERVICE_ACCOUNT_TOKEN": "canary-sky-token-10",
    "GPULAUNCH_WEBHOOK_URLS": "slack|https://hooks.example/canary-hook-000013",
    "GPULAUNCH_WEBHOOK_EVENTS": "phase,alert,poison",
    "AzureWebJobsStorage": "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=canary-storage-11==;",
}
SIGNED = "https://bucket.example/model.safetensors?X-Amz-Signature=canary-signature-12"
SECRETS = re.compile(r"canary-[a-z0-9-]*\d\d")


class Signing(Assigning):
    def make(self, record: InstanceRecord, attempt: int) -> Assignment:
        made = super().make(record, attempt)
        return made.model_copy(update={"files": [ModelFile(path="m", url=SIGNED)], "hub_token": "canary-hub-00000005"})


class Planted(World):
    """A world full of secrets that remembers each of its answers."""

    def __init__(self, mode: str) -> None:
        self.scripted = Scripted()
        backend = Backend(self.scripted, self.scripted)
        public = "https://app.example.com" if mode == "push" else None
        real = {"GPULAUNCH_ORCHESTRATOR": "skypilot", "GPULAUNCH_PUBLIC_URL": public}
        given = settings(**PLANTED, **(real if mode != "simulation" else {}))
        self.heard: list[tuple[str, Answer]] = []
        super().__init__(
            given=given, backend=None if mode == "simulation" else lambda _: backend, assignments=Signing()
        )
        redactor = Redactor(secrets_of(given))
        self.ear = Ear(redactor)
        self.rebuild(redactor=redactor, telemetry=self.ear.recording)

    def call(self, method: str, path: str, body: object = None, **more: Any) -> Answer:
        """See World; asks with a planted token."""
        more.setdefault("token", "canary-admin-000001")
        answer = super().call(method, path, body, **more)
        self.heard.append((path, answer))
        return answer

    def node(self, instance_id: str, name: str, body: object = None) -> Answer:
        """A call of the latest attempt's node."""
        found = self.store.load(instance_id)
        assert found is not None
        token = self.adapters.deriver.derive(instance_id, len(found.record.attempts), Purpose.NODE)
        method = "GET" if name == "assignment" else "POST"
        headers = {"Authorization": f"Bearer {token}"}
        return self.call(method, f"/api/nodes/{instance_id}/{name}", body, token=None, headers=headers)


def simulated(world: Planted) -> None:
    for fault in ("simulate.no-capacity", "simulate.setup-failure", "simulate.evict-after", "simulate.teardown-tries"):
        world.launch(labels={fault: "1"}, name=fault.removeprefix("simulate."))
    world.run(400)
    finish(world)


def called(world: Planted) -> None:
    """A node that says all that it knows, secrets included, comes up, is lost, and comes again."""
    instance_id = world.launch()
    world.run(3)
    talkative = f"Authorization: Bearer {world.adapters.deriver.derive(instance_id, 1, Purpose.NODE)}"
    key = world.adapters.deriver.endpoint_key(instance_id, 1)
    tail = [talkative, f"key {key}", f"GET {SIGNED}", *PLANTED.values()]
    assert world.node(instance_id, "assignment").status == 200
    report = {"phase": "loading_model", "detail": f"reading {SIGNED}", "log_tail": tail}
    assert world.node(instance_id, "progress", report).status == 200
    world.scripted.view = NodeView(state=NodeState.UP, detail="up", address="20.1.2.3")
    world.scripted.alive = True
    assert world.node(instance_id, "register", {"port": 8000}).status == 200
    world.run(10)
    assert world.call("GET", f"/api/instances/{instance_id}/credentials").status == 200
    world.node(instance_id, "notice", {"notice": "eviction", "seconds_left": 5})
    world.run(60)
    finish(world)


def asked(world: Planted) -> None:
    """The same where the node is asked."""
    instance_id = world.launch()
    world.run(3)
    tail = [f"key {world.adapters.deriver.endpoint_key(instance_id, 1)}", f"GET {SIGNED}", *PLANTED.values()]
    world.scripted.view = NodeView(state=NodeState.UP, detail="up", address="20.1.2.3")
    world.scripted.account = NodeStatus(phase=NodePhase.SERVING, detail=f"at {SIGNED}", port=8000, log_tail=tail)
    world.scripted.alive = True
    world.run(60)
    finish(world)


def finish(world: Planted) -> None:
    for one in list(readable(world.store.page(InstanceFilter(), 100, None).records)):
        name = one.record.instance_id
        for path in (f"/api/instances/{name}", f"/api/instances/{name}/events", f"/api/instances/{name}/logs"):
            assert world.call("GET", path).status == 200
        world.call("DELETE", f"/api/instances/{name}")
    world.run(120)
    for path in ("/api/instances", "/api/config", "/api/health", "/api/openapi.json", "/api/catalog"):
        assert world.call("GET", path).status == 200
    assert world.call("GET", "/api/instances", token="canary-wrong-token-99").status == 401


LIVES: dict[str, Callable[[Planted], None]] = {"simulation": simulated, "push": called, "pull": asked}


@pytest.mark.parametrize("mode", sorted(LIVES))
def test_no_planted_secret_should_be_found(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    world = Planted(mode)
    try:
        with caplog.at_level(logging.DEBUG):
            LIVES[mode](world)
        places = stored(world) | {"log": "\n".join(record.getMessage() for record in caplog.records)}
        places["telemetry"] = world.ear.text()
    finally:
        world.ear.close()
    belongs = ("/credentials", "/assignment")
    for path, answer in world.heard:
        if not path.endswith(belongs):
            places[path] = places.get(path, "") + answer.body.decode() + repr(dict(answer.headers))
    derived = {
        world.adapters.deriver.derive(one.record.instance_id, attempt.number, purpose)
        for one in list(readable(world.store.page(InstanceFilter(), 100, None).records))
        for attempt in one.record.attempts
        for purpose in Purpose
    }
    assert derived
    assert places["rows"]
    assert places["queues"]
    assert places["log"]
    assert "phase provisioning" in places["telemetry"]
    for place, text in places.items():
        assert not SECRETS.search(text), (place, SECRETS.findall(text))
        assert not [secret for secret in derived if secret in text], place
    if mode != "simulation":
        assert "[redacted]" in places["rows"], "the node told secrets, and what it told was kept"


def stored(world: World) -> dict[str, str]:
    found = list(readable(world.store.page(InstanceFilter(), 100, None).records))
    rows = [one.record.model_dump_json() for one in found]
    rows += [event.model_dump_json() for one in found for event in world.store.events(one.record.instance_id)]
    bodies = [
        body
        for queue in (*QUEUES, ALERTS)
        for name in (queue, poison_queue(queue))
        for body in world.queues.bodies(name)
    ]
    return {"rows": "\n".join(rows), "queues": b"\n".join(bodies).decode()}
