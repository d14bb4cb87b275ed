"""What a step does for an act, and what it makes of the answers."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gpulaunch.models.instances import Phase, Reason
from shared.auth import Deriver
from shared.catalog.snapshot import snapshot
from shared.control.launch_spec import LaunchSpecs
from shared.control.model_check import ModelCheck
from shared.control.observer import Observer
from shared.control.records import Lifecycle
from shared.control.release import NodeKeeper
from shared.domain.instance import AttemptState, Failure, InstanceRecord
from shared.domain.node import Assignment, NodePhase, NodeStatus
from shared.domain.provider import (
    Availability,
    LaunchRefusedError,
    NodeState,
    NodeView,
    ProviderNotEnabledError,
    ProviderUnavailableError,
)
from shared.lifecycle.observations import (
    Act,
    Checked,
    CheckProvider,
    Decide,
    Describe,
    LaunchRefused,
    NotEnabled,
    Nothing,
    Observed,
    ProviderUnavailable,
    Release,
    Released,
    Submit,
    Submitted,
    TimerFired,
)
from shared.lifecycle.rules import CLOCKS_APART
from shared.observability.instances import InstanceTelemetry
from shared.redaction import Redactor
from tests.functional.scripted import Assigning
from tests.functional.world import MASTER, settings
from tests.twins.clock import START, ManualClock
from tests.twins.factories import DEPLOYMENT, make_attempt, make_record
from tests.unit.control.doubles import CloudDouble, ProviderDouble

SECRET = "a-secret-that-somebody-repeats"
SILENT = ProviderUnavailableError(f"no answer to {SECRET}")
UP = NodeView(state=NodeState.UP, address="10.0.0.1")


class Slow(Assigning):
    """Makes assignments, for which the model's store takes its time."""

    def __init__(self, clock: ManualClock, seconds: float) -> None:
        self._clock, self._seconds = clock, seconds

    def make(self, record: InstanceRecord, attempt: int) -> Assignment:
        self._clock.advance(self._seconds)
        return super().make(record, attempt)


class Looking:
    def __init__(self, *, public_url: str | None = None, gathering: float = 0.0) -> None:
        self.clock = ManualClock()
        self.provider = ProviderDouble()
        self.acts = self.provider.acts
        redactor, backends = Redactor([SECRET]), self.provider.backends()
        given = settings(GPULAUNCH_ORCHESTRATOR="skypilot", GPULAUNCH_PUBLIC_URL=public_url)
        self.lifecycle = Lifecycle(self.clock)
        self.observer = Observer(
            backends,
            LaunchSpecs(given, Deriver(MASTER), Slow(self.clock, gathering), DEPLOYMENT),
            NodeKeeper(backends, {}, lambda _: False),
            self.lifecycle,
            ModelCheck(None, snapshot()),
            redactor,
            InstanceTelemetry(),
        )

    def perform(self, act: Act, **given: Any) -> Any:
        return self.observer.perform(record(**given), act)


def record(phase: Phase = Phase.PROVISIONING, mode: str = "real", **attempt: Any) -> InstanceRecord:
    given: dict[str, Any] = {"state": AttemptState.SUBMITTED, "billed_from": START, **attempt}
    return make_record(mode=mode, phase=phase, attempts=[make_attempt(**given)])


@pytest.mark.parametrize("act", [Decide(), Nothing()])
def test_what_asks_nobody_should_ask_nobody(act: Act) -> None:
    looking = Looking()
    assert looking.perform(act) == TimerFired()
    assert looking.acts == []


@pytest.mark.parametrize(
    ("error", "observation"),
    [
        (SILENT, ProviderUnavailable),
        (ProviderNotEnabledError(f"set {SECRET}"), NotEnabled),
        (LaunchRefusedError(Failure(reason=Reason.NO_CAPACITY, message=f"no room for {SECRET}")), LaunchRefused),
    ],
)
def test_an_error_of_the_provider_should_be_an_observation_without_secrets(
    error: Exception, observation: type[object]
) -> None:
    looking = Looking()
    looking.provider.available = looking.provider.request_id = looking.provider.view = error
    looking.provider.released = error
    for act in (CheckProvider(), Submit(), Describe(), Release()):
        found = looking.perform(act)
        assert isinstance(found, observation)
        assert SECRET not in str(found)


def test_an_error_of_the_program_should_not_be_one() -> None:
    looking = Looking()
    looking.provider.view = RuntimeError("a fault")
    with pytest.raises(RuntimeError):
        looking.perform(Describe())


def test_a_check_should_say_how_long_the_launch_has_waited() -> None:
    looking = Looking()
    looking.clock.advance(7)
    assert looking.perform(CheckProvider()) == Checked(Availability(enabled=True, reason="it is enabled"))
    assert looking.acts == ["availability azure 7"]


class TestSubmit:
    def test_it_should_be_given_until_when_it_has_to_be_over(self) -> None:
        looking = Looking(gathering=5)
        assert looking.perform(Submit(), state=AttemptState.SUBMITTING) == Submitted("request-1")
        (spec,) = looking.provider.submitted
        assert spec.submit_until == looking.lifecycle.submit_until()
        assert (spec.attempt, spec.deployment) == (1, DEPLOYMENT)

    @pytest.mark.parametrize(("gathering", "submitted"), [(0.0, 1), (0.001, 0)])
    def test_one_that_could_outlast_its_lease_should_not_begin(self, gathering: float, submitted: int) -> None:
        looking = Looking(gathering=gathering)
        lease = looking.clock.now() + timedelta(seconds=looking.lifecycle.timeouts.submit) + CLOCKS_APART
        found = looking.perform(Submit(), state=AttemptState.SUBMITTING, submit_lease_until=lease)
        assert len(looking.provider.submitted) == submitted
        assert isinstance(found, Submitted if submitted else ProviderUnavailable)

    @pytest.mark.parametrize(("again", "submitted"), [((True, False), 1), ((False, True), 0)])
    def test_whether_the_latest_attempt_was_submitted_before_should_decide_whether_to_look_for_its_node(
        self, again: tuple[bool, bool], submitted: int
    ) -> None:
        looking = Looking()
        cloud = CloudDouble(view=UP)
        backends = looking.provider.backends()
        nodes = NodeKeeper(backends, {"azure": cloud}, lambda _: False)
        observer = replace(looking.observer, nodes=nodes)
        lease = looking.clock.now() + timedelta(minutes=9)
        attempts = [
            make_attempt(number=1, state=AttemptState.GONE, gone_at=START, submitted_again=again[0]),
            make_attempt(number=2, submitted_again=again[1], submit_lease_until=lease),
        ]
        made = make_record(mode="real", phase=Phase.PROVISIONING, attempts=attempts)
        assert isinstance(observer.perform(made, Submit()), Submitted)
        assert len(looking.provider.submitted) == submitted


class TestRelease:
    def test_it_should_count_from_when_it_was_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not from its end: until the lease of a submission is over, absence proves nothing."""
        looking = Looking()
        asked_at = looking.clock.now()
        release = looking.provider.release

        def slowly(*given: Any) -> bool:
            looking.clock.advance(90)
            return release(*given)

        monkeypatch.setattr(looking.provider, "release", slowly)
        found = looking.perform(Release(), state=AttemptState.RELEASING)
        assert isinstance(found, Released)
        assert (found.gone, found.asked_at) == (True, asked_at)


class TestDescribe:
    def test_a_node_that_reported_before_should_be_asked_and_not_its_provider(self) -> None:
        looking = Looking()
        looking.provider.node = NodeStatus(phase=NodePhase.LOADING_MODEL)
        found = looking.perform(Describe(), node_phase=NodePhase.INSTALLING, address="10.0.0.2")
        assert looking.acts == ["status"]
        assert (found.view.state, found.view.address, found.status) == (
            NodeState.UP,
            "10.0.0.2",
            looking.provider.node,
        )

    @pytest.mark.parametrize(("reported", "asked"), [(1, "describe"), (2, "status")])
    def test_whether_the_latest_attempt_s_node_reported_before_should_decide(self, reported: int, asked: str) -> None:
        looking = Looking()
        looking.provider.node = NodeStatus(phase=NodePhase.LOADING_MODEL)
        known = {"node_phase": NodePhase.INSTALLING, "address": "10.0.0.2"}
        gone, running = {"state": AttemptState.GONE, "gone_at": START}, {"state": AttemptState.SUBMITTED}
        attempts = [make_attempt(None, number=number, **given) for number, given in ((1, gone), (2, running))]
        attempts[reported - 1] = attempts[reported - 1].model_copy(update=known)
        looking.observer.perform(make_record(mode="real", phase=Phase.PROVISIONING, attempts=attempts), Describe())
        assert looking.acts[0] == asked

    def test_one_that_does_not_answer_should_be_looked_up(self) -> None:
        looking = Looking()
        looking.provider.view = NodeView(state=NodeState.ABSENT)
        found = looking.perform(Describe(), node_phase=NodePhase.INSTALLING, address="10.0.0.2")
        assert (found.view.state, looking.acts) == (NodeState.ABSENT, ["status", "describe"])

    @pytest.mark.parametrize(("alive", "asked"), [(True, []), (False, ["describe"])])
    def test_one_that_calls_us_and_whose_server_is_dead_should_be_looked_up(
        self, alive: bool, asked: list[str]
    ) -> None:
        looking = Looking(public_url="https://app.example.com")
        looking.provider.alive = alive
        known = {"calls_us": True, "node_phase": NodePhase.SERVING, "address": "10.0.0.2", "port": 8000}
        looking.perform(Describe(), phase=Phase.REGISTERING, **known)
        assert [act for act in looking.acts if act == "describe"] == asked

    @pytest.mark.parametrize(
        "unknown", [{"node_phase": None}, {"address": None}, {"mode": "simulation", "address": "10.0.0.2"}]
    )
    def test_one_that_cannot_be_asked_should_be_looked_up_first(self, unknown: dict[str, Any]) -> None:
        looking = Looking()
        looking.provider.node = NodeStatus(phase=NodePhase.INSTALLING)
        looking.perform(Describe(), **{"node_phase": NodePhase.INSTALLING, "address": "10.0.0.2", **unknown})
        assert looking.acts[0] == "describe"

    @pytest.mark.parametrize("state", [NodeState.ABSENT, NodeState.PENDING, NodeState.STOPPED])
    def test_a_node_that_is_not_up_should_not_be_asked(self, state: NodeState) -> None:
        looking = Looking()
        looking.provider.view = NodeView(state=state, address="10.0.0.1")
        assert looking.perform(Describe()) == Observed(looking.provider.view)
        assert looking.acts == ["describe"]

    def test_one_that_calls_us_should_not_be_asked(self) -> None:
        looking = Looking(public_url="https://app.example.com")
        assert looking.perform(Describe()) == Observed(UP)
        assert looking.acts == ["describe"]

    @pytest.mark.parametrize(
        ("phase", "node_phase", "probed"),
        [
            (Phase.REGISTERING, NodePhase.INSTALLING, True),
            (Phase.INSTALLING, NodePhase.SERVING, True),
            (Phase.INSTALLING, NodePhase.LOADING_MODEL, False),
        ],
    )
    def test_its_server_should_be_probed_once_it_serves(
        self, phase: Phase, node_phase: NodePhase, *, probed: bool
    ) -> None:
        looking = Looking()
        looking.provider.node = NodeStatus(phase=node_phase, port=8123)
        found = looking.perform(Describe(), phase=phase)
        assert (found.probe is not None) is probed
        assert ("probe 8123" in looking.acts) is probed

    def test_a_port_that_nobody_has_named_should_not_be_probed(self) -> None:
        looking = Looking()
        looking.provider.node = NodeStatus(phase=NodePhase.SERVING)
        assert looking.perform(Describe()).probe is None

    def test_what_the_node_and_the_launch_say_should_be_free_of_secrets(self) -> None:
        looking = Looking()
        looking.provider.node = NodeStatus(phase=NodePhase.INSTALLING, detail=SECRET, log_tail=[f"key {SECRET}"])
        looking.provider.view = NodeView(
            state=NodeState.UP, address="a", failure=Failure(reason=Reason.SETUP_FAILED, message=SECRET)
        )
        found = looking.perform(Describe())
        assert found.status is not None
        assert SECRET not in str(found)
        assert found.status.log_tail == ["key [redacted]"]

    @pytest.mark.parametrize("make", [Looking, lambda: Looking(public_url="https://app.example.com")])
    def test_the_machine_s_creation_should_be_taken_from_whoever_knows(self, make: Callable[[], Looking]) -> None:
        looking = make()
        created_at = START + timedelta(seconds=9)
        looking.provider.view = NodeView(state=NodeState.UP, created_at=created_at)
        assert looking.perform(Describe()).view.created_at == created_at
        assert looking.perform(Describe(), billed_from=created_at).view.created_at is None
