"""The lease, and what the agent reports when."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from shared.agent.node.errors import RetryableError
from shared.agent.node.log import Log
from shared.agent.node.report import ControlPlane, Reporter
from shared.agent.node.state import FAILED, SERVING, STOPPING, Lease, State
from shared.domain.node import NodeRegistration, NodeStatus, NoticeReport
from tests.unit.agent.fakes import Answer, Answers, FakeClock, FakeHttp, always, json_answer, node_config


def control(answer: Answers, clock: FakeClock) -> tuple[ControlPlane, Lease]:
    lease = Lease(clock, 900)
    return ControlPlane(node_config(GPULAUNCH_NODE_TOKEN="t"), FakeHttp(answer), lease), lease


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 429, 500, 503])
def test_no_error_renews_the_lease(status: int) -> None:
    clock = FakeClock()
    plane, lease = control(always(lambda: json_answer(status, {"lease_seconds": 900}, {"Retry-After": "3"})), clock)
    clock.at = 899
    with pytest.raises(RetryableError) as caught:
        plane.call("heartbeat", {})
    assert caught.value.after == 3
    assert not lease.over
    clock.at = 900
    assert lease.lost


def test_success_renews_the_lease_for_as_long_as_it_says() -> None:
    clock = FakeClock()
    plane, lease = control(always(lambda: json_answer(200, {"renewed": True, "lease_seconds": 100})), clock)
    clock.at = 899
    plane.call("heartbeat", {})
    clock.at = 998
    assert not lease.lost
    clock.at = 999
    assert lease.lost


@pytest.mark.parametrize("answer", [(410, {}), (200, {"renewed": False, "lease_seconds": 0})])
def test_an_answer_that_the_attempt_is_over_ends_the_node(answer: tuple[int, object]) -> None:
    plane, lease = control(always(lambda: json_answer(*answer)), FakeClock())
    plane.call("heartbeat", {})
    assert lease.over


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("body", [None, {"running_requests": 0}])
def test_a_redirect_of_the_apps_own_front_end_should_be_followed(status: int, body: dict[str, Any] | None) -> None:
    asked: list[tuple[str, str, str | None]] = []

    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        asked.append((method, url, headers.get("Authorization")))
        if url.startswith("https://app/moved"):
            return json_answer(200, {"renewed": True, "lease_seconds": 100})
        return json_answer(status, None, {"Location": "/moved"})

    plane, lease = control(answer, FakeClock())
    assert plane.call("heartbeat", body)["renewed"] is True
    assert asked[1] == (("GET" if body is None else "POST"), "https://app/moved", "Bearer t")
    assert lease.seconds == 100


@pytest.mark.parametrize("where", ["https://other/api", "http://app/api", "https://app.evil.test/x", "ftp://app/x"])
def test_a_redirect_elsewhere_should_get_no_token(where: str) -> None:
    asked: list[str] = []

    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        asked.append(url)
        return json_answer(308, None, {"Location": where})

    plane, lease = control(answer, FakeClock())
    with pytest.raises(RetryableError, match="GPULAUNCH_PUBLIC_URL has to be that address"):
        plane.call("progress", {})
    assert len(asked) == 1
    assert not lease.over


def test_a_redirect_in_a_circle_should_end() -> None:
    plane, _ = control(always(lambda: json_answer(302, None, {"Location": "/again"})), FakeClock())
    with pytest.raises(RetryableError, match="in a circle"):
        plane.call("progress", {})


class Plane:
    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.error: RetryableError | None = None
        self.answer: dict[str, Any] = {}

    def call(self, name: str, body: Any = None) -> Any:
        if self.error is not None:
            raise self.error
        self.calls.append((name, body))
        return self.answer

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]


def reporting() -> tuple[Reporter, State, Plane, FakeClock]:
    clock, plane, log = FakeClock(), Plane(), Log()
    state = State(log)
    made = Reporter(
        state=state,
        control=cast("ControlPlane", plane),
        lease=Lease(clock, 100),
        clock=clock,
        load=lambda: {"running_requests": 1.0},
        log=log,
    )
    return made, state, plane, clock


def settle(reporter: Reporter) -> None:
    while reporter.step() == 0:
        pass


def test_each_phase_is_reported_once_and_bytes_every_five_seconds() -> None:
    reporter, state, plane, clock = reporting()
    settle(reporter)
    assert plane.calls == [("progress", {"phase": "installing"})]
    state.total = 10
    state.add_fetched(4)
    clock.at = 4.9
    settle(reporter)
    assert len(plane.calls) == 1
    clock.at = 5.0
    settle(reporter)
    assert plane.calls[1:] == [("progress", {"phase": "installing", "fetched_bytes": 4, "total_bytes": 10})]
    clock.at = 24.9
    settle(reporter)
    assert len(plane.calls) == 2, "nothing moved: a fifth of the lease is soon enough"
    clock.at = 25.0
    settle(reporter)
    assert len(plane.calls) == 3
    for _, body in plane.calls:
        NodeStatus.model_validate(body)


def test_a_serving_node_registers_once_and_beats() -> None:
    reporter, state, plane, clock = reporting()
    state.port, state.version = 8000, "0.32.0"
    state.enter(SERVING)
    settle(reporter)
    assert plane.names == ["progress", "register"]
    NodeRegistration.model_validate(plane.calls[1][1])
    clock.at = 19.9
    settle(reporter)
    assert len(plane.calls) == 2
    clock.at = 20
    settle(reporter)
    assert plane.calls[2] == ("heartbeat", {"running_requests": 1.0})


def test_a_node_reports_and_registers_again_when_it_is_asked_to() -> None:
    reporter, state, plane, clock = reporting()
    state.port = 8000
    state.enter(SERVING)
    settle(reporter)
    plane.answer = {"renewed": True, "lease_seconds": 100, "report": True}
    clock.at = 20
    settle(reporter)
    assert plane.names == ["progress", "register", "heartbeat", "progress", "register"]
    plane.answer = {"renewed": True, "lease_seconds": 100}
    clock.at = 60
    settle(reporter)
    assert plane.names[5:] == ["heartbeat"]


def test_what_was_not_accepted_is_reported_again_after_a_pause() -> None:
    reporter, state, plane, _ = reporting()
    plane.error = RetryableError("down", 17)
    assert reporter.step() == 17
    plane.error = RetryableError("down")
    pauses = [reporter.step() for _ in range(8)]
    assert all(1 <= pause <= 30 for pause in pauses)
    assert pauses[-1] >= 15
    plane.error = None
    state.finish_job(3)
    state.warn("eviction", 25.0)
    settle(reporter)
    assert plane.names == ["notice", "progress", "complete"]
    NoticeReport.model_validate(plane.calls[0][1])
    assert reporter.noticed.is_set()
    settle(reporter)
    assert len(plane.calls) == 3


def test_the_first_notice_counts_and_a_failed_node_stays_failed() -> None:
    state = State(Log())
    state.warn("eviction")
    state.warn("sigterm")
    assert state.notice == "eviction"
    state.enter(FAILED, "why", "server_failed")
    state.enter(SERVING)
    assert (state.phase, state.failure) == ("failed", "server_failed")
    state.enter(STOPPING)
    assert state.phase == "stopping"


def test_a_failure_comes_with_the_last_lines_hidden_and_bounded() -> None:
    log = Log()
    log.hide("topsecret")
    state = State(log)
    state.tail = lambda: [f"{number} topsecret " + "x" * 5000 for number in range(300)]
    state.enter(FAILED, "y" * 5000, "server_failed")
    status = NodeStatus.model_validate(state.status(200))
    assert len(status.log_tail) == 200
    assert status.log_tail[-1].startswith("299 [hidden]")
