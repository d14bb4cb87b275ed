"""The Functions worker drops whatever stands beside a line's text, so the text names instance and request itself."""

import logging
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import azure.functions as func
import pytest
from azure.functions.timer import TimerRequest

from shared.errors import StoreUnavailableError
from shared.queues import LAUNCHES
from shared.redaction import Redactor, redact_all_logging
from tests.functional.listening import Listening
from tests.functional.web.visitor import Visitor
from tests.functional.world import READER, SEED, Answer, World

SURROGATE = "\udce9"
UNKNOWN = "inst-01ARZ3NDEKTSV4RRFFQ69G5FAV"


@pytest.fixture
def heard() -> Iterator[Listening]:
    world = Listening()
    yield world
    world.ear.close()


def fail(world: World, method: str, error: Exception) -> None:
    world.store.calls.fail_next(method, error)


def test_each_line_should_name_in_its_text_the_instance_and_the_request_that_it_is_about(heard: Listening) -> None:
    instance_id = heard.launch(labels={"simulate.no-capacity": "1", "simulate.teardown-tries": "3"})
    heard.call("GET", f"/api/instances/{UNKNOWN}")
    heard.call("GET", "/api/instances", token="not-a-token-of-ours")
    heard.call("POST", f"/api/nodes/{instance_id}/heartbeat", {}, token=None, headers={"Authorization": "Bearer x"})
    heard.queues.bury(LAUNCHES, f'{{"instanceId": "{instance_id}", "epoch": 1, "step": "advance"}}'.encode())
    heard.run(120)
    heard.delete(instance_id)
    heard.run(400)
    named = [line for line in heard.lines() if line.get("instance_id") or line.get("request_id")]
    assert len(named) > 20
    for line in named:
        for key in ("instance_id", "request_id"):
            # A line of a step inherits its span's instance, which its own text need not repeat.
            assert str(line.get(key) or "") in line["body"] or line.get("event") is None, line


def refused(world: World) -> Iterator[Answer]:
    """An answer of each kind of problem."""
    instance_id = world.launch()
    yield world.call("POST", "/api/instances/launch", raw=b"{")
    yield world.call("GET", "/api/instances", token="not-a-token-of-ours")
    yield world.call("GET", "/api/instances", token=None)
    yield world.call("POST", "/api/instances/launch", SEED, token=READER)
    yield world.call("GET", f"/api/instances/{UNKNOWN}")
    yield world.call("GET", f"/api/instances/{instance_id}/credentials")
    yield world.call("POST", "/api/instances/launch", raw=b" " * 100_000)
    yield world.call("POST", "/api/instances/launch", SEED, headers={"Content-Type": "text/plain"})
    yield world.call("POST", "/api/instances/launch", SEED | {"region": "nowhere"})
    fail(world, "load", RuntimeError("a fault of the program"))
    yield world.call("GET", f"/api/instances/{instance_id}")
    fail(world, "load", StoreUnavailableError("planted"))
    yield world.call("GET", f"/api/instances/{instance_id}")


def test_the_request_of_every_problem_should_be_found_in_the_log(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for answer in refused(world):
        assert answer.status >= 400
        lines = [line for line in caplog.messages if answer.json["request_id"] in line]
        assert lines, answer.json
        assert any(f"answered {answer.status}" in line for line in lines)


def test_one_query_of_the_docs_should_find_a_request_and_an_instance(heard: Listening) -> None:
    query = (Path(__file__).parents[2] / "docs" / "observability.md").read_text("utf-8")
    assert "| where Message has id" in query

    def has(searched: str) -> list[str]:
        # Kusto's `has` finds whole terms, which letters and digits make up.
        whole = re.compile(rf"(?<![0-9A-Za-z]){re.escape(searched)}(?![0-9A-Za-z])")
        return [line["body"] for line in heard.lines() if whole.search(line["body"])]

    launched = heard.call("POST", "/api/instances/launch", SEED)
    instance_id = launched.json["instance_id"]
    refused = heard.call("GET", f"/api/instances/{instance_id}/credentials")
    heard.run(90)
    assert has(refused.json["request_id"])
    (line,) = has(launched.headers["X-Request-Id"])
    assert instance_id in line
    assert len(has(instance_id)) > 5


def test_the_request_of_a_problem_page_should_be_found_in_the_log(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    page = Visitor(world).sign_in().get(f"/instances/{UNKNOWN}")
    (shown,) = re.findall(r"Request ([0-9a-f]{32})", page.body.decode())
    assert page.headers["X-Request-Id"] == shown
    assert [line for line in caplog.messages if shown in line]


def test_what_is_changed_should_be_logged_with_instance_and_request_and_what_is_read_should_not(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    launched = world.call("POST", "/api/instances/launch", SEED)
    instance_id = launched.json["instance_id"]
    deleted = world.delete(instance_id)
    for answer in (launched, deleted):
        (line,) = [line for line in caplog.messages if answer.headers["X-Request-Id"] in line]
        assert instance_id in line
    shown = world.call("GET", f"/api/instances/{instance_id}")
    assert not [line for line in caplog.messages if shown.headers["X-Request-Id"] in line]


def test_who_is_shown_a_key_should_be_logged_and_the_key_should_not(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    instance_id = world.to_ready()
    page = Visitor(world).sign_in().get(f"/instances/{instance_id}/key")
    answer = world.call("GET", f"/api/instances/{instance_id}/credentials")
    for shown in (answer, page):
        (line,) = [line for line in caplog.messages if shown.headers["X-Request-Id"] in line]
        assert line.startswith(f"the key of {instance_id} was shown to unknown")
    assert answer.json["api_key"] not in "".join(caplog.messages)


def test_a_step_that_fails_should_be_logged_with_its_instance(world: World, caplog: pytest.LogCaptureFixture) -> None:
    instance_id = world.launch()
    fail(world, "load", StoreUnavailableError("planted"))
    world.run(20)
    assert [line for line in caplog.messages if instance_id in line and "planted" in line]
    world.errors.clear()


@pytest.fixture
def redacted() -> Iterator[None]:
    factory = logging.getLogRecordFactory()
    redact_all_logging(Redactor())
    yield
    logging.setLogRecordFactory(factory)


@pytest.mark.usefixtures("redacted")
def test_lone_surrogates_should_never_reach_a_line(caplog: pytest.LogCaptureFixture) -> None:
    try:
        int(f"bad {SURROGATE}")
    except ValueError:
        logging.getLogger("anyone").exception("with %s and é", SURROGATE)
    assert "é" in caplog.text
    assert caplog.text.encode()


def failing_step(world: World, text: str) -> Any:
    instance_id = world.launch()
    body = f'{{"instanceId": "{instance_id}", "epoch": 1, "step": "advance"}}'.encode()
    fail(world, "load", RuntimeError(f"said {text}"))
    return world.functions["provisioning"].get_user_function()(func.QueueMessage(id="1", body=body, pop_receipt="x"))


def failing_sweep(world: World, text: str) -> Any:
    fail(world, "put_marker", RuntimeError(f"said {text}"))
    return world.functions["sweep"].get_user_function()(TimerRequest(past_due=False))


@pytest.mark.usefixtures("redacted")
@pytest.mark.parametrize("text", [SURROGATE, "plain é"], ids=["surrogate", "plain"])
@pytest.mark.parametrize("run", [failing_step, failing_sweep])
def test_an_error_that_leaves_a_function_should_be_one_that_the_worker_can_send(
    world: World, run: Callable[[World, str], Any], text: str
) -> None:
    with pytest.raises(Exception, match="said") as caught:
        run(world, text)
    assert "".join(traceback.format_exception(caught.value)).encode()
    assert isinstance(caught.value, RuntimeError) is (text != SURROGATE)


@pytest.mark.usefixtures("redacted")
def test_an_error_with_a_surrogate_should_be_an_answer_of_calls_and_pages(world: World) -> None:
    visitor, instance_id = Visitor(world).sign_in(), world.launch()
    fail(world, "load", RuntimeError(f"said {SURROGATE}"))
    assert world.call("GET", f"/api/instances/{instance_id}").json["code"] == "internal_error"
    fail(world, "load", RuntimeError(f"said {SURROGATE}"))
    assert visitor.get(f"/instances/{instance_id}").status == 500
