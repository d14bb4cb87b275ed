"""The providers' common suite over SkyPilot, and what only SkyPilot can do to us. The server is a stand-in."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gpulaunch.models.instances import Reason
from shared.backends.skypilot.provider import SkyPilotProvider
from shared.domain.provider import (
    AttemptRef,
    LaunchRefusedError,
    LaunchSpec,
    NodeState,
    NodeView,
    ProviderNotEnabledError,
    ProviderUnavailableError,
)
from shared.redaction import Redactor
from shared.settings import Settings
from tests.contract import test_provider as suite
from tests.standins.sky_server import FULL, NO_ROOM, Failing, SkyServer
from tests.twins.clock import START, ManualClock
from tests.twins.factories import make_offer

# The suite's tests run here as well, with the `rig` of this file.
globals().update(
    {name: value for name, value in vars(suite).items() if name.startswith("test_") and "no_provider" not in name}
)

SLURM = make_offer(provider="slurm", region="e2e", instance_type=None, use_spot=False, price_per_hour=0)


def settings(**given: Any) -> Settings:
    return Settings.model_validate({"AZURE_FUNCTIONS_ENVIRONMENT": "Development", **given})


class SkyRig:
    """SkyPilotProvider on a stand-in server; both live by one clock."""

    full = {FULL: "1"}

    def __init__(self, server: SkyServer, **given: Any) -> None:
        self.clock = ManualClock()
        self.server = server
        server.now = lambda: self.clock.now().timestamp()
        self.offer = make_offer()
        chosen = settings(SKYPILOT_API_SERVER_ENDPOINT=server.url, SKYPILOT_USER_ID="67706c61", **given)
        self.provider = SkyPilotProvider(chosen, self.clock, Redactor(), script=lambda: "echo hi")

    def now(self) -> datetime:
        return self.clock.now()

    def until(self, attempt_ref: AttemptRef, state: NodeState) -> NodeView:
        for _ in range(20):
            self.clock.advance(1.0)
            view = self.provider.describe(attempt_ref)
            if view.state is state:
                return view
            self.server.settle()
        raise AssertionError(f"never {state}")

    def unreachable(self) -> None:
        self.server.answer = 503

    def place(self, number: int = 1, **given: Any) -> LaunchSpec:
        return replace(suite.launch_spec(self, number), **given)

    def up(self, number: int = 1, **given: Any) -> AttemptRef:
        attempt_ref = suite.submit(self, self.place(number, **given))
        self.until(attempt_ref, NodeState.UP)
        return attempt_ref


@pytest.fixture
def server() -> Iterator[SkyServer]:
    with SkyServer() as server:
        yield server


@pytest.fixture
def rig(server: SkyServer) -> Iterator[SkyRig]:
    rig = SkyRig(server)
    yield rig
    rig.provider.close()


def test_a_launch_whose_answer_was_lost_is_adopted_and_its_job_runs_once(rig: SkyRig) -> None:
    rig.server.swallow_launch_answers = 1
    given = rig.place()
    with pytest.raises(ProviderUnavailableError):
        rig.provider.submit(given)
    request_id = rig.provider.submit(given)
    rig.server.settle()
    assert rig.provider.submit(given) == request_id
    assert rig.server.jobs == [given.cluster_name]


@pytest.mark.parametrize(("left", "launched"), [(10, 1), (9.9, 0)])
def test_a_launch_is_begun_only_with_time_for_its_answer(rig: SkyRig, left: float, launched: int) -> None:
    given = rig.place(submit_until=rig.now() + timedelta(seconds=left))
    if launched:
        rig.provider.submit(given)
    else:
        with pytest.raises(ProviderUnavailableError, match="too slow"):
            rig.provider.submit(given)
    assert len(rig.server.of("sky.launch")) == launched


def test_a_submission_whose_time_is_over_asks_nothing(rig: SkyRig) -> None:
    with pytest.raises(ProviderUnavailableError):
        rig.provider.submit(rig.place(submit_until=rig.now()))
    assert rig.server.of("sky.launch") == []


@pytest.mark.parametrize("launched", [True, False])
def test_a_restarted_server_still_knows_whether_a_node_ever_existed(rig: SkyRig, launched: bool) -> None:
    given = rig.place()
    if launched:
        rig.server.swallow_launch_answers = 1
        with pytest.raises(ProviderUnavailableError):
            rig.provider.submit(given)
        rig.server.settle()
        del rig.server.nodes[given.cluster_name]
    rig.server.restart()
    view = rig.provider.describe(suite.attempt_ref(given, None))
    assert (view.state, view.request_id, view.listed) == (NodeState.ABSENT, None, launched)


def test_a_cluster_is_listed_with_what_and_where_it_is(rig: SkyRig) -> None:
    one = rig.up()
    (cluster,) = rig.provider.clusters()
    assert (cluster.provider, cluster.region, cluster.use_spot) == ("azure", one.offer.region, one.offer.use_spot)
    assert str(one.offer.instance_type) in cluster.machine


def test_a_launch_that_failed_is_not_launched_again_under_its_name(rig: SkyRig) -> None:
    rig.server.launch_failures = [NO_ROOM]
    given = rig.place()
    first = rig.provider.submit(given)
    rig.server.settle()
    assert rig.provider.submit(given) == first
    assert len(rig.server.of("sky.launch")) == 1
    view = rig.provider.describe(suite.attempt_ref(given, None))
    assert view.failure is not None
    assert view.failure.reason is Reason.NO_CAPACITY
    assert view.failure.message.startswith("Azure has no capacity for Standard_NV36ads_A10_v5 (spot) in eastus: ")
    assert "AllocationFailed" in view.failure.message


def test_a_server_that_forgot_its_requests_is_asked_for_the_cluster(rig: SkyRig) -> None:
    attempt_ref = rig.up()
    rig.server.restart()
    view = rig.provider.describe(attempt_ref)
    assert (view.state, view.failure, view.request_id) == (NodeState.UP, None, None)
    assert rig.provider.submit(rig.place()) is None
    assert len(rig.server.jobs) == 1
    suite.release(rig, attempt_ref)
    assert rig.server.machines() == []


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("RequestInterruptedError", "Request 'r1' was interrupted by an API server restart and will not be resumed."),
        ("RequestCancelled", "the request was cancelled"),
        ("BrokenProcessPool", "A process in the process pool was terminated abruptly"),
    ],
)
def test_a_server_that_stops_in_mid_launch_says_nothing_about_the_offer(rig: SkyRig, kind: str, message: str) -> None:
    rig.server.launch_failures = [Failing(kind, message)]
    attempt_ref = suite.submit(rig, rig.place())
    rig.server.settle()
    failure = rig.provider.describe(attempt_ref).failure
    assert failure is not None
    assert failure.reason is Reason.PROVIDER_UNAVAILABLE


def test_a_restart_in_mid_launch_is_a_failure_and_the_machine_is_taken_away(rig: SkyRig) -> None:
    attempt_ref = suite.submit(rig, rig.place())
    rig.server.begin()
    rig.server.restart()
    view = rig.provider.describe(attempt_ref)
    assert view.failure is not None
    assert (view.failure.reason, view.state) == (Reason.PROVIDER_UNAVAILABLE, NodeState.UP)
    assert rig.server.machines() == [attempt_ref.cluster_name]
    suite.release(rig, attempt_ref)
    assert rig.server.machines() == []


def test_a_cluster_that_is_being_made_says_since_when_and_one_that_is_set_up_no_more(rig: SkyRig) -> None:
    attempt_ref = suite.submit(rig, rig.place())
    assert rig.provider.describe(attempt_ref).created_at is None
    rig.clock.advance(20.0)
    rig.server.begin()
    rig.clock.advance(20.0)
    assert rig.provider.describe(attempt_ref).created_at == START + timedelta(seconds=20)
    assert rig.until(attempt_ref, NodeState.UP).created_at is None  # SkyPilot has overwritten it by now


def test_a_waiting_launch_is_cancelled_since_a_teardown_would_not_stop_it(rig: SkyRig) -> None:
    attempt_ref = suite.submit(rig, rig.place())
    assert not rig.provider.release(attempt_ref)
    rig.server.settle()
    assert [request.status for request in rig.server.of("sky.launch")] == ["CANCELLED"]
    assert rig.server.jobs == []


def test_absence_right_after_a_cancellation_proves_nothing(rig: SkyRig) -> None:
    attempt_ref = suite.submit(rig, rig.place())
    assert not rig.provider.release(attempt_ref)
    assert not rig.provider.release(attempt_ref)
    rig.clock.advance(6.0)
    assert rig.provider.release(attempt_ref)


@pytest.mark.parametrize("apart", [-60.0, 60.0, 7200.0])
def test_how_long_ago_that_was_is_what_the_server_s_clock_says(rig: SkyRig, apart: float) -> None:
    rig.server.now = lambda: rig.clock.now().timestamp() + apart
    attempt_ref = suite.submit(rig, rig.place())
    assert not rig.provider.release(attempt_ref)
    rig.clock.advance(4.0)
    assert not rig.provider.release(attempt_ref)
    rig.clock.advance(2.0)
    assert rig.provider.release(attempt_ref)


def test_a_launch_that_runs_is_taken_down_by_name_once(rig: SkyRig) -> None:
    attempt_ref = suite.submit(rig, rig.place())
    rig.server.begin()
    for _ in range(3):
        assert not rig.provider.release(attempt_ref)
    assert len(rig.server.of("sky.down")) == 1
    rig.server.settle()
    rig.clock.advance(6.0)
    assert rig.provider.release(attempt_ref)
    assert rig.server.machines() == []


def test_a_teardown_that_says_done_and_is_not_is_repeated(rig: SkyRig) -> None:
    attempt_ref = rig.up()
    rig.server.lying_downs = 2
    for _ in range(3):
        assert not rig.provider.release(attempt_ref)
        assert rig.server.machines() == [attempt_ref.cluster_name]
        rig.clock.advance(1.0)
        rig.server.settle()
    assert rig.provider.release(attempt_ref)
    assert len(rig.server.of("sky.down")) == 3
    assert rig.server.machines() == []


def test_a_teardown_that_failed_is_reported_and_after_a_while_repeated(rig: SkyRig) -> None:
    attempt_ref = rig.up()
    rig.server.down_failures = [Failing("RuntimeError", "ScopeLocked: the resource group is locked")]
    assert not rig.provider.release(attempt_ref)
    rig.server.settle()
    with pytest.raises(ProviderUnavailableError, match="ScopeLocked"):
        rig.provider.release(attempt_ref)
    rig.clock.advance(31.0)
    assert not rig.provider.release(attempt_ref)
    rig.server.settle()
    assert rig.provider.release(attempt_ref)
    assert len(rig.server.of("sky.down")) == 2


def test_nothing_is_ever_purged(rig: SkyRig) -> None:
    attempt_ref = rig.up()
    suite.release(rig, attempt_ref)
    assert [request.body.get("purge", False) for request in rig.server.of("sky.down")] == [False]


def test_a_name_that_is_being_taken_away_is_not_launched(rig: SkyRig) -> None:
    attempt_ref = rig.up()
    assert not rig.provider.release(attempt_ref)
    with pytest.raises(ProviderUnavailableError, match="being deleted"):
        rig.provider.submit(rig.place())


def test_a_node_that_died_behind_the_books_is_noticed_after_two_minutes(rig: SkyRig) -> None:
    attempt_ref = rig.up()
    rig.server.kill_machine(attempt_ref.cluster_name)
    rig.clock.advance(60.0)
    assert rig.provider.describe(attempt_ref).state is NodeState.UP
    rig.clock.advance(61.0)
    assert rig.provider.describe(attempt_ref).state is NodeState.UP
    assert rig.provider.describe(attempt_ref).state is NodeState.ABSENT


def test_books_that_are_fresh_are_not_compared_again(rig: SkyRig) -> None:
    attempt_ref = rig.up()
    for _ in range(100):
        rig.clock.advance(5.0)
        rig.provider.describe(attempt_ref)
    forced = [request for request in rig.server.of("sky.status") if request.body["refresh"] == "FORCE"]
    assert 3 <= len(forced) <= 5


def test_a_stopped_machine_is_seen_as_stopped(rig: SkyRig) -> None:
    attempt_ref = rig.up()
    rig.server.nodes[attempt_ref.cluster_name].status = "STOPPED"
    assert rig.provider.describe(attempt_ref).state is NodeState.STOPPED


def test_the_address_comes_from_the_opened_port_and_is_asked_for_once(rig: SkyRig) -> None:
    attempt_ref = rig.up()
    assert rig.provider.describe(attempt_ref).address == "203.0.113.7"
    rig.provider.describe(attempt_ref)
    assert len(rig.server.of("sky.endpoints")) == 1


def test_without_an_endpoint_the_address_stays_unknown(rig: SkyRig) -> None:
    rig.server.endpoints = {}
    attempt_ref = rig.up()
    view = rig.provider.describe(attempt_ref)
    assert (view.state, view.address) == (NodeState.UP, None)


def test_a_slurm_node_is_reached_by_its_name(rig: SkyRig) -> None:
    attempt_ref = suite.submit(rig, rig.place(offer=SLURM))
    assert rig.until(attempt_ref, NodeState.UP).address == "gpu-node"
    assert rig.server.of("sky.endpoints") == []


def test_the_task_says_all_that_the_launch_needs_and_no_more(rig: SkyRig) -> None:
    rig.provider.submit(rig.place(secrets={"GPULAUNCH_NODE_TOKEN": "abc"}, labels={"team": "blue"}))
    (request,) = rig.server.of("sky.launch")
    task = json.loads(request.body["task"])
    resources = task["resources"]
    assert resources["infra"] == "azure/eastus"
    assert (resources["instance_type"], resources["use_spot"]) == ("Standard_NV36ads_A10_v5", True)
    assert resources["ports"] == ["8000", "8001"]
    assert resources["labels"]["team"] == "blue"
    assert (task["secrets"], task["run"]) == ({"GPULAUNCH_NODE_TOKEN": "abc"}, "echo hi")
    assert "setup" not in task
    assert not request.body.get("retry_until_up", False)
    assert request.body["env_vars"] == {"SKYPILOT_USER_ID": "67706c61", "SKYPILOT_USER": "gpulaunch"}


def test_no_cloud_s_credentials_are_to_be_copied_to_the_node(rig: SkyRig) -> None:
    rig.provider.submit(rig.place())
    (request,) = rig.server.of("sky.launch")
    config = request.body["override_skypilot_config"]
    assert {"aws", "azure", "gcp", "kubernetes", "slurm"} <= set(config)
    assert {cloud["remote_identity"] for cloud in config.values()} == {"NO_UPLOAD"}


def test_listings_never_ask_for_bodies_keys_or_handles(rig: SkyRig) -> None:
    rig.up()
    for request in rig.server.of("sky.status"):
        assert request.body["include_credentials"] is False
        assert request.body["include_handle"] is False


def test_a_task_that_the_server_refuses_is_refused_at_once(rig: SkyRig) -> None:
    rig.server.invalid = Failing("InvalidSkyPilotConfigError", "unsupported field")
    with pytest.raises(LaunchRefusedError) as refused:
        rig.provider.submit(rig.place())
    assert refused.value.failure.reason is Reason.INVALID_TASK
    assert rig.server.of("sky.launch") == []


def test_a_server_that_wants_another_token_is_not_enabled(server: SkyServer) -> None:
    server.token = "sky_right"
    wrong = SkyRig(server, SKYPILOT_SERVICE_ACCOUNT_TOKEN="sky_wrong")
    with pytest.raises(ProviderNotEnabledError, match="SKYPILOT_SERVICE_ACCOUNT_TOKEN"):
        wrong.provider.submit(wrong.place())
    answer = wrong.provider.availability("azure", 0.0)
    assert not answer.enabled
    assert "SKYPILOT_SERVICE_ACCOUNT_TOKEN" in answer.reason
    right = SkyRig(server, SKYPILOT_SERVICE_ACCOUNT_TOKEN="sky_right")
    assert right.provider.submit(right.place())
    right.provider.close()
    wrong.provider.close()


def test_clusters_of_others_are_not_ours(rig: SkyRig) -> None:
    attempt_ref = rig.up()
    node = rig.server.nodes[attempt_ref.cluster_name]
    rig.server.nodes["somebody-elses"] = replace(node, name="somebody-elses")
    rig.server.nodes["gl-short-01"] = replace(node, name="gl-short-01")
    (cluster,) = rig.provider.clusters()
    assert cluster.cluster_name == attempt_ref.cluster_name
    assert cluster.created_at is not None
    assert cluster.created_at.astimezone(UTC) > START


def test_an_old_server_that_ignores_the_filter_does_not_make_us_adopt_a_stranger(rig: SkyRig) -> None:
    other = rig.up(2)
    rig.server.requests[str(other.request_id)].cluster_name = None
    rig.provider.submit(rig.place(1))
    assert len(rig.server.of("sky.launch")) == 2


def test_availability_is_remembered_for_a_minute(rig: SkyRig) -> None:
    assert rig.provider.availability("azure", 0.0).enabled
    rig.server.enabled = []
    rig.clock.advance(59.0)
    assert rig.provider.availability("azure", 0.0).enabled
    rig.clock.advance(2.0)
    assert not rig.provider.availability("azure", 0.0).enabled


def test_what_is_not_enabled_is_checked_once_and_then_says_what_to_do(rig: SkyRig) -> None:
    rig.server.check_log = (
        "  GCP: disabled\n    Reason [compute]: no credentials.\n    Run gcloud auth\n\nTo enable a cloud"
    )
    first = rig.provider.availability("gcp", 0.0)
    assert (first.enabled, first.wait_seconds > 0) == (False, True)
    assert rig.provider.availability("gcp", 1.0).wait_seconds > 0
    rig.server.settle()
    answer = rig.provider.availability("gcp", 2.0)
    assert (answer.enabled, answer.wait_seconds) == (False, 0.0)
    assert "sky check gcp" in answer.reason
    assert "no credentials. Run gcloud auth" in answer.reason
    assert len(rig.server.of("sky.check")) == 1


def test_credentials_that_came_later_are_found_by_the_check(rig: SkyRig) -> None:
    rig.server.after_check = ["gcp"]
    assert rig.provider.availability("gcp", 0.0).wait_seconds > 0
    rig.server.settle()
    assert rig.provider.availability("gcp", 1.0).enabled


def test_a_check_that_never_ends_is_no_answer(rig: SkyRig) -> None:
    rig.provider.availability("gcp", 0.0)
    with pytest.raises(ProviderUnavailableError):
        rig.provider.availability("gcp", 151.0)


def test_clouds_whose_credentials_can_t_be_kept_back_are_named(rig: SkyRig) -> None:
    rig.server.enabled = ["azure", "lambda"]
    assert "lambda" in rig.provider.availability("azure", 0.0).reason
    rig.server.enabled = ["slurm"]
    assert "lambda" not in rig.provider.availability("slurm", 0.0).reason


class Meanwhile(list[str]):
    """The calls of a server, on one of which something happens before it is answered."""

    def __init__(self, at: Callable[[int, str], bool], happens: Callable[[], object]) -> None:
        super().__init__()
        self._at, self._happens = at, happens

    def append(self, call: str) -> None:
        super().append(call)
        if self._at(len(self), call):
            self._happens()


def second(number: int, call: str) -> bool:
    return number == 2


@pytest.mark.parametrize("begun", [True, False])
def test_a_launch_that_ends_between_two_questions_should_not_be_taken_for_gone(rig: SkyRig, *, begun: bool) -> None:
    attempt_ref = suite.submit(rig, rig.place())
    if begun:
        rig.server.begin()
    rig.server.calls = Meanwhile(second, rig.server.settle)
    assert not rig.provider.release(attempt_ref)
    assert rig.server.machines() == [attempt_ref.cluster_name]
    rig.server.settle()
    rig.clock.advance(6.0)
    suite.release(rig, attempt_ref)
    assert rig.server.machines() == []


@pytest.mark.parametrize("begun", [True, False])
def test_neither_should_it_be_called_absent(rig: SkyRig, *, begun: bool) -> None:
    attempt_ref = suite.submit(rig, rig.place())
    if begun:
        rig.server.begin()
    rig.server.calls = Meanwhile(second, rig.server.settle)
    assert rig.provider.describe(attempt_ref).state is NodeState.PENDING
    assert rig.provider.describe(attempt_ref).state is NodeState.UP


def test_a_node_that_is_being_taken_away_should_be_neither_up_nor_absent(rig: SkyRig) -> None:
    attempt_ref = rig.up()
    assert not rig.provider.release(attempt_ref)
    assert rig.provider.describe(attempt_ref).state is NodeState.PENDING


@pytest.mark.parametrize(("seconds", "launched"), [(19.0, 1), (21.0, 0)])
def test_a_validation_that_takes_long_should_leave_no_launch_behind_its_time(
    rig: SkyRig, seconds: float, launched: int
) -> None:
    def validating(_: int, call: str) -> bool:
        return call.endswith("/validate")

    rig.server.calls = Meanwhile(validating, lambda: rig.clock.advance(seconds))
    given = rig.place(submit_until=rig.now() + timedelta(seconds=30))
    if launched:
        rig.provider.submit(given)
    else:
        with pytest.raises(ProviderUnavailableError):
            rig.provider.submit(given)
    assert len(rig.server.of("sky.launch")) == launched
