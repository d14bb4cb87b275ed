"""Wrong tokens and failed sign-ins: refused in every form, counted per address, logged without the token, alerted."""

import json
import logging
from collections.abc import Iterator

import pytest

from shared.control.access import ADDRESSES, ALERT_AGAIN, FAILURES, REFUSALS, FailedAttempts, RecentEvents
from shared.domain.errors import TooManyFailuresError
from shared.domain.messages import AccessNotice, AlertMessage, read_message
from shared.queues import ALERTS
from tests.functional.scripted import NodeWorld
from tests.functional.web.visitor import Visitor, text_of
from tests.functional.world import ADMIN, READER, SEED, Answer, World, settings
from tests.twins.clock import ManualClock

HERE, THERE = "203.0.113.7", "198.51.100.9"
WRONG = "not-a-token-of-this-deployment"


@pytest.fixture
def alerting() -> Iterator[World]:
    world = World(settings(GPULAUNCH_WEBHOOK_URLS="slack|https://hooks.example.com/x"))
    yield world
    assert world.errors == []


def ask(world: World, token: str = WRONG, source: str = HERE, **headers: str) -> Answer:
    return world.call("GET", "/api/instances", token=token, headers={"X-Forwarded-For": source, **headers})


def sign_in(world: World, token: str, source: str = HERE) -> Answer:
    visitor = Visitor(world)
    page = visitor.get("/signin", **{"X-Forwarded-For": source})
    mark = page.body.decode().split('name="csrf_token" value="')[1].split('"')[0]
    return visitor.post("/signin", {"csrf_token": mark, "token": token}, **{"X-Forwarded-For": source})


def use_up(world: World, source: str = HERE) -> None:
    for number in range(FAILURES):
        assert ask(world, f"{WRONG}-{number}", source).status == 401


def test_an_address_that_keeps_failing_should_wait_and_others_should_not(world: World) -> None:
    use_up(world)
    for token in (WRONG, ADMIN):
        refused = ask(world, token)
        assert (refused.status, refused.json["code"]) == (429, "too_many_failures")
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert ask(world, ADMIN, THERE).status == 200
    world.clock.advance(int(ask(world).headers["Retry-After"]))
    assert ask(world, ADMIN).status == 200


@pytest.mark.parametrize("token", [ADMIN, READER])
def test_right_tokens_should_never_be_counted(world: World, token: str) -> None:
    assert {ask(world, token).status for _ in range(5 * FAILURES)} == {200}


def test_calls_without_a_token_should_be_refused_but_not_counted(world: World) -> None:
    for _ in range(2 * FAILURES):
        answer = world.call("GET", "/api/instances", token=None, headers={"X-Forwarded-For": HERE})
        assert answer.status == 401
    assert ask(world, ADMIN).status == 200


def test_the_api_and_the_pages_should_count_together(world: World) -> None:
    for number in range(FAILURES):
        assert (ask(world) if number % 2 else sign_in(world, WRONG)).status == 401
    refused = sign_in(world, ADMIN)
    assert refused.status == 429
    assert int(refused.headers["Retry-After"]) > 0
    assert "Too many failed attempts" in text_of(refused)
    assert ask(world, ADMIN).status == 429
    world.clock.advance(60)
    assert sign_in(world, ADMIN).status == 303


def test_a_session_should_go_on_while_its_address_waits(world: World) -> None:
    visitor = Visitor(world).sign_in()
    use_up(world)
    assert visitor.get("/instances", **{"X-Forwarded-For": HERE}).status == 200


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("203.0.113.7", "203.0.113.7:51234"),
        ("203.0.113.7", "192.0.2.1, 203.0.113.7"),
        ("203.0.113.7", "a made-up address, 203.0.113.7:1"),
        ("203.0.113.7", "::ffff:203.0.113.7"),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"),
        ("2001:db8:1:2::1", "[2001:db8:1:2::7]:443"),
        ("", "nonsense"),
    ],
)
def test_one_caller_should_be_one_address_however_it_is_written(world: World, first: str, second: str) -> None:
    use_up(world, first)
    assert ask(world, ADMIN, second).status == 429


@pytest.mark.parametrize(
    ("first", "second"),
    [("203.0.113.7", "203.0.113.8"), ("203.0.113.7, 192.0.2.1", "203.0.113.7"), ("2001:db8:1:2::1", "2001:db8:1:3::1")],
)
def test_other_callers_should_be_other_addresses(world: World, first: str, second: str) -> None:
    use_up(world, first)
    assert ask(world, ADMIN, second).status == 200


def test_a_right_token_of_a_node_should_pass_whatever_its_neighbours_send(
    push: NodeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    instance_id = push.to_ready()
    path = f"/api/nodes/{instance_id}/heartbeat"

    def beat(token: str) -> Answer:
        headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": HERE}
        return push.call("POST", path, {}, token=None, headers=headers)

    caplog.set_level(logging.INFO, "gpulaunch.access")
    assert {beat(WRONG).status for _ in range(10 * FAILURES)} == {401}
    assert len([line for line in caplog.messages if "a wrong token of a node" in line]) == FAILURES
    assert beat(push.token(instance_id)).status == 200
    assert ask(push, ADMIN).status == 200


def test_what_is_kept_should_be_bounded_whoever_calls() -> None:
    clock = ManualClock()
    recent = RecentEvents(clock, FAILURES)
    for number in range(ADDRESSES + 500):
        for _ in range(3):
            recent.add((f"2001:db8:{number:x}::/64", ""))
    assert len(recent) == ADDRESSES
    for _ in range(1000):
        recent.add(("one", ""))
    clock.advance(61)
    assert not recent.wait(("one", ""))


def test_a_failure_should_be_logged_with_source_and_request_and_never_with_the_token(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    answers = [ask(world, f"{WRONG}\n{number}") for number in range(FAILURES)] + [sign_in(world, f"{WRONG}-page")]
    for answer in answers[:-1]:
        (line,) = [one for one in caplog.messages if answer.json["request_id"] in one and "a wrong token from" in one]
        assert HERE in line
    assert WRONG not in caplog.text
    failed = [record for record in caplog.records if getattr(record, "event", "") == "access_failed"]
    assert [getattr(record, "source", "") for record in failed] == [HERE] * FAILURES
    assert [getattr(record, "event", "") for record in caplog.records].count("access_throttled") == 1


def test_a_flood_should_fill_no_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(1000):
        ask(world)
        world.call("GET", "/api/instances", token=None, headers={"X-Forwarded-For": HERE})
    assert FAILURES < len(caplog.records) <= FAILURES + 1 + REFUSALS


def alerted(world: World) -> list[str]:
    """The addresses in the alerts that wait, which are taken."""
    found: list[str] = []
    for message in world.queues.take(ALERTS, 32):
        world.queues.forget(message)
        alert = read_message(AlertMessage, message.body)
        assert alert.access is not None
        assert alert.webhook_id.startswith("access-")
        found.append(alert.access.source)
    return found


def test_an_attack_should_be_one_alert_an_hour(alerting: World) -> None:
    for source in (HERE, THERE):
        use_up(alerting, source)
    alerting.clock.advance(60)
    use_up(alerting)
    assert alerted(alerting) == [HERE]
    alerting.clock.advance(ALERT_AGAIN.total_seconds())
    use_up(alerting, THERE)
    assert alerted(alerting) == [THERE]


def test_fewer_failures_than_the_limit_should_alert_nobody() -> None:
    clock, sent = ManualClock(), list[AccessNotice]()
    failures = FailedAttempts(clock, sent.append)
    for _ in range(10 * FAILURES):
        failures.check(HERE)
        failures.failed(HERE, "a wrong token", "r")
        clock.advance(60 / (FAILURES - 1))
    assert sent == []
    for _ in range(FAILURES):
        failures.failed(HERE, "a wrong token", "r")
    assert len(sent) == 1
    with pytest.raises(TooManyFailuresError):
        failures.check(HERE)


def bearer(world: World, authorization: str, method: str = "GET", path: str = "/api/instances") -> Answer:
    body = SEED if method == "POST" else None
    return world.call(method, path, body, token=None, headers={"Authorization": authorization})


def test_a_bearer_token_should_do_what_the_header_does(world: World) -> None:
    assert bearer(world, f"Bearer {READER}").status == 200
    assert bearer(world, f"bearer   {ADMIN}").status == 200
    assert bearer(world, f"Bearer {ADMIN}", "POST", "/api/instances/launch").status == 202
    assert bearer(world, f"Bearer {READER}", "POST", "/api/instances/launch").status == 403


@pytest.mark.parametrize("value", ["Bearer", "Bearer ", f"Basic {ADMIN}", ADMIN, f"Bearer {ADMIN},Bearer {ADMIN}"])
def test_other_authorizations_should_open_nothing(world: World, value: str) -> None:
    refused = bearer(world, value)
    assert refused.status == 401
    assert refused.headers["WWW-Authenticate"] == "Bearer"


def test_two_different_tokens_should_be_refused_and_the_same_twice_taken(world: World) -> None:
    assert ask(world, ADMIN, Authorization=f"Bearer {ADMIN}").status == 200
    for one, other in ((ADMIN, READER), (READER, ADMIN), (ADMIN, WRONG)):
        assert ask(world, one, Authorization=f"Bearer {other}").status == 401


def test_an_idempotency_key_should_belong_to_the_token_in_either_header(world: World) -> None:
    key = {"Idempotency-Key": "one-key-of-one-launch"}
    first = world.call("POST", "/api/instances/launch", SEED, headers=key)
    again = world.call(
        "POST", "/api/instances/launch", SEED, token=None, headers={**key, "Authorization": f"Bearer {ADMIN}"}
    )
    assert first.json["instance_id"] == again.json["instance_id"]


@pytest.mark.parametrize(
    "token", ["\udcff", "\udcc3\udca9" * 12, "é" * 20, "\x00" * 20, "\u202e" + ADMIN, "\U0001f511" * 9]
)
@pytest.mark.parametrize("header", ["X-Admin-Token", "Authorization"])
def test_a_token_of_any_characters_should_be_a_wrong_one(push: NodeWorld, token: str, header: str) -> None:
    instance_id = push.launch()
    value = token if header == "X-Admin-Token" else f"Bearer {token}"
    for path in ("/api/instances", f"/api/nodes/{instance_id}/assignment"):
        answer = push.call("GET", path, token=None, headers={header: value})
        assert (answer.status, json.loads(answer.body)["code"]) == (401, "unauthorized")
