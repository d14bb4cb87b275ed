"""Alerts through the whole program, to a receiver on this machine that speaks HTTP."""

import base64
import hashlib
import hmac
import json
import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import azure.functions as func
import pytest
from pytest import MonkeyPatch

from functions.queues import alerts
from shared.control.sweep.burning import ORPHAN_ALERTED
from shared.errors import StoreUnavailableError
from shared.queues import ALERTS, QUEUES
from shared.storage import rows
from shared.storage.base import ORPHAN, Marker
from shared.storage.queues import poison_queue
from tests.contract.test_unreadable_rows import later_phase, rewrite
from tests.functional.agent.servers import StandIn
from tests.functional.world import RETRY_SECONDS, SEED, World, settings
from tests.standins.http import Request, Response

KEY = b"k" * 32
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"


class Receiver(StandIn):
    """Keeps what it is sent; answers with the statuses given, 204 when there are none left."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.redirect: str | None = None
        super().__init__()

    def answer(self, request: Request) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.got.append((request.target, headers, request.body))
        to = {} if self.redirect is None else {"Location": self.redirect}
        return Response(self.statuses.pop(0) if self.statuses else 204, headers=to)

    def alerts(self) -> list[Any]:
        return [json.loads(body) for _, _, body in self.got]


class Alerting(World):
    def __init__(self, hooks: str, events: str | None = None, **more: str) -> None:
        given = {
            "GPULAUNCH_WEBHOOK_URLS": hooks,
            "GPULAUNCH_WEBHOOK_SECRET": SECRET,
            "GPULAUNCH_WEBHOOK_EVENTS": events,
        }
        dev = {"AZURE_FUNCTIONS_ENVIRONMENT": "Development", **more}
        super().__init__(given=settings(**dev, **{name: value for name, value in given.items() if value is not None}))

    def deliver(self) -> int:
        served = 0
        while taken := self.queues.take(ALERTS, hide_seconds=RETRY_SECONDS):
            for message in taken:
                served += 1
                alerts(func.QueueMessage(id=message.id, body=message.body, pop_receipt=message.pop_receipt))
                self.queues.forget(message)
        return served


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def test_a_launch_should_be_told_of_signed(receiver: Receiver) -> None:
    world = Alerting(f"json|{receiver.url}/hook")
    instance_id = world.launch(name="my-model", labels={"team": "a"})
    world.run(100)
    world.delete(instance_id)
    world.run(30)
    world.deliver()
    assert [alert["data"]["phase"] for alert in receiver.alerts()] == ["ready", "terminated"]
    path, headers, body = receiver.got[0]
    first = receiver.alerts()[0]
    assert path == "/hook"
    assert (first["type"], first["data"]["name"]) == ("instance.phase_changed", "my-model")
    assert (first["data"]["instance_id"], first["data"]["labels"]) == (instance_id, {"team": "a"})
    event = world.events(instance_id)[first["data"]["sequence"]]
    assert (first["data"]["message"], first["timestamp"]) == (event["message"], event["at"])
    assert headers["webhook-id"] == f"{instance_id}-{event['sequence']}"
    text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    signature = base64.b64encode(hmac.new(KEY, text, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{signature}"
    assert int(headers["webhook-timestamp"]) == int(world.clock.now().timestamp())


def test_without_a_webhook_there_should_be_no_further_storage_operation() -> None:
    def operations(world: World) -> tuple[int, Counter[str]]:
        for labels in ({}, {"simulate.no-capacity": "9"}):
            world.launch(labels=labels)
        world.run(200)
        return world.queues.depth(ALERTS), Counter([*world.queues.calls.seen, *world.store.calls.seen])

    none, without = operations(World())
    alerts_sent, with_webhook = operations(Alerting("json|http://127.0.0.1:1/x", events="phase,alert"))
    assert none == 0 < alerts_sent
    assert without == with_webhook - Counter(send=alerts_sent)
    assert ALERTS not in QUEUES, "it would be made, polled and swept everywhere"


@pytest.mark.parametrize("hooks", ["", "slack|https://hooks.slack.example/x"])
def test_the_queue_should_be_polled_only_where_there_is_a_webhook(hooks: str) -> None:
    code = "import function_app; print(sorted(f.get_function_name() for f in function_app.app.get_functions()))"
    environment = os.environ | {"GPULAUNCH_WEBHOOK_URLS": hooks}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "'provisioning'" in done.stdout
    assert ("'alerts'" in done.stdout) is bool(hooks)


def test_a_failed_launch_should_be_told_as_one(receiver: Receiver) -> None:
    world = Alerting(f"json|{receiver.url}/")
    world.launch(labels={"simulate.no-capacity": "9"})
    world.run(120)
    world.deliver()
    (alert,) = receiver.alerts()
    assert (alert["type"], alert["data"]["phase"]) == ("instance.failed", "failed")
    assert alert["data"]["reason"]


def test_the_alert_of_a_node_that_won_t_go_should_be_repeated_every_few_hours(
    receiver: Receiver, monkeypatch: MonkeyPatch
) -> None:
    world = Alerting(f"json|{receiver.url}/", events="alert")
    monkeypatch.setattr(world.simulation.provider, "release", refusing)
    instance_id = world.launch(labels={"simulate.teardown-tries": "100"}, max_lifetime_minutes=1440)
    world.run(100)
    world.delete(instance_id)
    world.run(660)
    for _ in range(9):
        world.run(3600)
        world.deliver()
    told = receiver.alerts()
    assert [alert["type"] for alert in told] == ["instance.alert"] * 3
    assert len({headers["webhook-id"] for _, headers, _ in receiver.got}) == 3
    assert "after 490 minutes" in told[2]["data"]["message"]


def test_the_alert_should_be_sent_though_the_process_died_after_the_write(receiver: Receiver) -> None:
    world = Alerting(f"json|{receiver.url}/", events="alert")
    instance_id = world.launch(labels={"simulate.teardown-tries": "100"})
    world.run(100)
    world.delete(instance_id)
    world.run(640, sweeping=False)  # steps alone wrote the event; nothing was sent
    assert [event["type"] for event in world.events(instance_id)].count("alert") == 1
    assert world.deliver() == 0
    world.run(60)
    world.deliver()
    world.run(60)
    world.deliver()
    assert [alert["type"] for alert in receiver.alerts()] == ["instance.alert"]


def test_an_alert_that_the_queue_did_not_take_should_be_sent_by_the_next_sweep(receiver: Receiver) -> None:
    world = Alerting(f"json|{receiver.url}/", events="alert")
    instance_id = world.launch(labels={"simulate.teardown-tries": "100"})
    world.run(100)
    world.delete(instance_id)
    world.run(640, sweeping=False)
    send = world.queues.send
    world.queues.send = failing  # pyright: ignore[reportAttributeAccessIssue]
    world.sweep()
    world.queues.send = send
    assert world.deliver() == 0
    world.run(60)
    world.deliver()
    assert [alert["type"] for alert in receiver.alerts()] == ["instance.alert"]


def test_an_unreadable_record_whose_alert_was_not_taken_should_be_announced_by_the_next_sweep(
    receiver: Receiver,
) -> None:
    world = Alerting(f"json|{receiver.url}/", events="alert")
    instance_id = world.to_ready()
    rewrite(world.store, rows.record_key(instance_id, ended=False), later_phase)
    send = world.queues.send
    world.queues.send = failing  # pyright: ignore[reportAttributeAccessIssue]
    world.sweep()
    world.queues.send = send
    assert world.deliver() == 0
    world.run(60)
    world.deliver()
    assert [alert["type"] for alert in receiver.alerts()] == ["instance.unreadable"]


def failing(*_: object, **__: object) -> None:
    raise StoreUnavailableError("the queue does not answer")


def test_a_release_whose_steps_never_get_anywhere_should_be_told_of(receiver: Receiver) -> None:
    world = Alerting(f"json|{receiver.url}/", events="alert")
    instance_id = world.to_ready()
    world.delete(instance_id)
    world.rebuild(backends=failing)
    world.run(700)
    world.deliver()
    assert [alert["type"] for alert in receiver.alerts()] == ["instance.alert"]
    assert world.errors
    world.errors.clear()


def refusing(*_: object) -> bool:
    return False


def test_an_orphan_that_stays_should_be_told_of_every_few_hours(receiver: Receiver, monkeypatch: MonkeyPatch) -> None:
    world = Alerting(f"json|{receiver.url}/", events="alert")
    world.to_ready()
    name = f"gl-{'0' * 26}-01"
    world.store.put_marker(Marker(kind=ORPHAN, key=name, at=world.clock.now(), text="simulation"))
    monkeypatch.setattr(world.store, "drop_marker", refusing)  # it is listed all the while
    world.run(6 * 3600)
    monkeypatch.undo()
    world.deliver()
    told = receiver.alerts()
    assert [alert["type"] for alert in told] == ["garbage.staying"] * 2
    assert name in told[0]["data"]["message"]
    assert "may cost money" in told[0]["data"]["message"]
    world.run(1200)  # the garbage collection drops the marker of what is no longer listed
    assert world.store.markers(ORPHAN_ALERTED) == []


def test_a_node_that_won_t_go_should_be_told_of(receiver: Receiver) -> None:
    world = Alerting(f"json|{receiver.url}/", events="alert")
    instance_id = world.launch(labels={"simulate.teardown-tries": "99"})
    world.run(100)
    world.delete(instance_id)
    world.run(700)
    world.deliver()
    assert [alert["type"] for alert in receiver.alerts()] == ["instance.alert"]


def test_a_threshold_of_the_budget_should_be_told(receiver: Receiver) -> None:
    world = Alerting(f"json|{receiver.url}/", events="alert", GPULAUNCH_MONTHLY_BUDGET_USD="50")
    instance_id = world.launch(max_lifetime_minutes=600)
    world.deliver()
    (alert,) = receiver.alerts()
    assert (alert["type"], alert["data"]["instance_id"]) == ("instance.alert", instance_id)
    assert "50" in alert["data"]["message"]


def test_a_budget_without_room_should_be_told_once_and_signed(receiver: Receiver) -> None:
    world = Alerting(f"json|{receiver.url}/", events="alert", GPULAUNCH_LABEL_BUDGETS="team=a:50")
    world.launch(labels={"team": "a"})
    world.deliver()
    assert [alert["type"] for alert in receiver.alerts()] == ["instance.alert"]
    refused = [world.call("POST", "/api/instances/launch", SEED | {"labels": {"team": "a"}}) for _ in range(3)]
    assert [answer.status for answer in refused] == [402] * 3
    receiver.statuses = [503]
    world.deliver()
    world.run(6)
    world.deliver()
    assert len(receiver.got) == 3
    told = receiver.alerts()[-1]
    assert told["type"] == "budget.refused"
    budget = {"month": "2026-01", "mode": "simulation", "label": "team=a"}
    assert budget | {"budget_usd": 50, "used_usd": 38.4, "asked_usd": 38.4} == {
        name: value for name, value in told["data"].items() if name not in ("at", "message")
    }
    assert told["data"]["message"].startswith("A launch of 38.40 USD exceeds the budget for 2026-01 (team=a)")
    ids = [headers["webhook-id"] for _, headers, _ in receiver.got]
    assert ids[1] == ids[2] != ids[0]
    assert "webhook-signature" in receiver.got[-1][1]


@pytest.mark.parametrize("form", ["json", "slack", "teams"])
def test_an_address_that_guesses_tokens_should_be_told_of(receiver: Receiver, form: str) -> None:
    world = Alerting(f"{form}|{receiver.url}/", events="alert")
    for _ in range(30):
        world.call("GET", "/api/instances", token="not-a-token-of-ours", headers={"X-Forwarded-For": "203.0.113.7"})
    world.deliver()
    ((_, _, body),) = receiver.got
    text = body.decode()
    assert "203.0.113.7" in text
    assert "not-a-token-of-ours" not in text
    if form == "json":
        assert receiver.alerts()[0]["type"] == "access.throttled"
    else:
        assert "Too many failed sign-ins" in text


def test_a_step_that_always_fails_should_be_told_of(receiver: Receiver) -> None:
    world = Alerting(f"json|{receiver.url}/", events="poison")
    world.launch()
    world.run(40)
    for _ in range(20):
        world.cloud.calls.fail_next("get", RuntimeError("a fault of the program"))
    world.run(400)
    world.deliver()
    assert [alert["type"] for alert in receiver.alerts()] == ["instance.poisoned"]


@pytest.mark.parametrize("form", ["json", "slack", "teams"])
def test_a_record_that_cannot_be_read_should_be_announced_every_four_hours(receiver: Receiver, form: str) -> None:
    world = Alerting(f"{form}|{receiver.url}/", events="alert")
    ids = [world.to_ready() for _ in range(2)]
    rewrite(world.store, rows.record_key(ids[0], ended=False), later_phase)
    for _ in range(5):
        world.run(60)
        world.deliver()
    (alert,) = receiver.alerts()
    world.run(4 * 3600)
    world.deliver()
    assert len({headers.get("webhook-id", body) for _, headers, body in receiver.got}) == len(receiver.got) == 2
    assert ids[0] in str(alert)
    assert "unreadable_record" in str(alert)
    assert "DELETE terminates it" in str(alert)
    if form == "json":
        assert (alert["type"], alert["data"]["reason"]) == ("instance.unreadable", "unreadable_record")
        assert alert["data"]["instance_id"] == ids[0]
        assert receiver.got[0][1]["webhook-id"] == f"{ids[0]}-unreadable-{alert['timestamp'][:13].replace('-', '')}"


def test_an_unreadable_record_should_be_no_alert_where_alerts_are_not_chosen(receiver: Receiver) -> None:
    world = Alerting(f"json|{receiver.url}/", events="failed")
    rewrite(world.store, rows.record_key(world.to_ready(), ended=False), later_phase)
    world.run(120)
    assert world.deliver() == 0


def test_only_what_was_chosen_should_be_told(receiver: Receiver) -> None:
    world = Alerting(f"json|{receiver.url}/", events="phase")
    world.launch()
    world.run(100)
    world.deliver()
    told = [alert["data"]["phase"] for alert in receiver.alerts()]
    assert told[0] == "validating"
    assert told[-1] == "ready"
    assert "provisioning" in told


def test_a_receiver_that_is_down_should_be_tried_again_with_back_off(receiver: Receiver) -> None:
    receiver.statuses = [503, 429, 500]
    world = Alerting(f"json|{receiver.url}/", events="ready")
    world.launch()
    world.run(100)
    tries: list[float] = []
    start = world.clock.now()
    for _ in range(200):
        if world.deliver():
            tries.append((world.clock.now() - start).total_seconds())
        world.run(1)
    assert tries == [0, 5, 35, 155]
    assert len({headers["webhook-id"] for _, headers, _ in receiver.got}) == 1
    assert world.queues.depth(ALERTS) == 0


def test_each_receiver_should_be_tried_for_itself(receiver: Receiver) -> None:
    world = Alerting(f"slack|{receiver.url}/slack teams|{receiver.url}/teams", events="ready")
    world.launch()
    world.run(100)
    receiver.statuses = [204, 500]
    world.deliver()
    world.run(10)
    world.deliver()
    assert [path for path, _, _ in receiver.got] == ["/slack", "/teams", "/teams"]


@pytest.mark.parametrize("status", [301, 400, 401, 404, 410])
def test_a_receiver_that_refuses_should_not_be_asked_again(
    receiver: Receiver, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    receiver.statuses = [status]
    world = Alerting(f"slack|{receiver.url}/services/T000/secret-path", events="ready")
    world.launch()
    world.run(100)
    with caplog.at_level(logging.DEBUG):
        world.deliver()
    assert len(receiver.got) == 1
    assert world.queues.depth(poison_queue(ALERTS)) == 1
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert str(status) in errors[0]
    told = [record.getMessage() for record in caplog.records if record.name.startswith("gpulaunch")]
    assert not [line for line in told if "secret-path" in line]


def test_an_alert_should_go_to_the_configured_address_alone(receiver: Receiver) -> None:
    receiver.redirect = f"{receiver.url}/elsewhere"
    receiver.statuses = [307]
    world = Alerting(f"slack|{receiver.url}/hook", events="ready")
    world.launch()
    world.run(100)
    world.deliver()
    assert [target for target, _, _ in receiver.got] == ["/hook"]


def test_a_receiver_that_is_never_there_should_be_given_up_and_block_nobody(caplog: pytest.LogCaptureFixture) -> None:
    world = Alerting("slack|http://127.0.0.1:1/secret-path", events="ready")
    instance_id = world.launch()
    world.run(100)
    assert world.show(instance_id)["phase"] == "ready"
    for _ in range(8):
        world.deliver()
        world.run(7300)
    assert world.queues.depth(ALERTS) == 0
    assert world.queues.depth(poison_queue(ALERTS)) == 1
    assert "ConnectError" in caplog.text
    assert "secret-path" not in "".join(r.getMessage() for r in caplog.records if r.name.startswith("gpulaunch"))


def test_storage_that_takes_no_alert_should_not_stop_a_step(caplog: pytest.LogCaptureFixture) -> None:
    world = Alerting("slack|http://127.0.0.1:1/x", events="validating")
    instance_id = world.launch()
    world.queues.calls.fail_next("send", StoreUnavailableError("busy"))
    world.run(100)
    assert world.show(instance_id)["phase"] == "ready"
    assert world.errors == []
    assert "is lost" in caplog.text


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b'{"instanceId": "inst-01K0000000000000000000000A", "epoch": 1, "sequence": 0}', b"\xff"],
)
def test_an_alert_about_nothing_should_be_buried(receiver: Receiver, body: bytes) -> None:
    world = Alerting(f"json|{receiver.url}/")
    world.queues.put(ALERTS, body)
    world.deliver()
    assert world.queues.bodies(poison_queue(ALERTS)) == [body]
    assert receiver.got == []


def later_alert(**changes: Any) -> bytes:
    """An alert about something that this version does not know."""
    message = {"instanceId": "inst-" + "0" * 26, "epoch": 0, "sequence": 0, "spend": {"usd": 3}}
    return json.dumps(message | changes).encode()


def test_an_alert_that_only_a_later_version_can_read_should_be_left_to_it(receiver: Receiver) -> None:
    """While an update goes on, either version takes messages of the other."""
    world = Alerting(f"json|{receiver.url}/hook")
    world.queues.put(ALERTS, later_alert())
    assert world.deliver() == 1
    assert (receiver.got, world.queues.depth(poison_queue(ALERTS))) == ([], 0)
    (body,) = world.queues.bodies(ALERTS)
    assert json.loads(body)["spend"] == {"usd": 3}
    for _ in range(10):
        world.clock.advance(2 * 3600.0)
        world.deliver()
    assert (receiver.got, world.queues.depth(ALERTS), world.queues.depth(poison_queue(ALERTS))) == ([], 0, 1)


def test_an_alert_of_a_record_that_cannot_be_read_should_wait_until_it_can(receiver: Receiver) -> None:
    def ready_again(document: dict[str, Any]) -> None:
        document["phase"] = "ready"

    world = Alerting(f"json|{receiver.url}/hook")
    key = rows.record_key(world.to_ready(), ended=False)
    waiting = world.queues.depth(ALERTS)
    rewrite(world.store, key, later_phase)
    world.deliver()
    assert (receiver.got, world.queues.depth(poison_queue(ALERTS))) == ([], 0)
    rewrite(world.store, key, ready_again)
    world.clock.advance(60.0)
    world.deliver()
    assert len(receiver.got) == waiting > 0


def test_garbage_for_a_reason_of_a_later_version_should_be_told_of(receiver: Receiver) -> None:
    world = Alerting(f"json|{receiver.url}/hook,slack|{receiver.url}/slack")
    notice = {"at": "2026-01-31T09:00:00Z", "reason": "rusting", "count": 2, "message": "two nodes rust"}
    for hook in (0, 1):
        world.queues.put(ALERTS, later_alert(garbage=notice, hook=hook))
    world.deliver()
    first, second = receiver.alerts()
    assert (first["type"], first["data"]["message"]) == ("garbage.rusting", "two nodes rust")
    assert "2 nodes" in json.dumps(second)
