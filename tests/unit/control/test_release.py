"""What becomes of a node: who is asked first, who may say that it is deleted, and what is asked before it is."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from gpulaunch.models.instances import Phase, Reason
from shared.control.release import NodeKeeper
from shared.domain.instance import AttemptState, Failure, InstanceRecord
from shared.domain.provider import (
    CleanupStatus,
    NodeState,
    NodeView,
    ProviderNotEnabledError,
    ProviderUnavailableError,
    RecordsLostError,
)
from tests.twins.clock import START
from tests.twins.factories import make_attempt, make_record
from tests.unit.control.doubles import CloudDouble, ProviderDouble

SILENT = ProviderUnavailableError("no answer")
LATER = START + timedelta(minutes=3)
UNKNOWN = NodeView(state=NodeState.ABSENT)
FAILED = Failure(reason=Reason.NO_CAPACITY, message="no room")


class Keeper:
    """A keeper of nodes on a provider and a cloud that share one list of acts."""

    def __init__(self, *, with_cloud: bool = True, deleted: tuple[str, ...] = ()) -> None:
        self.acts: list[str] = []
        self.provider, self.cloud = ProviderDouble(self.acts), CloudDouble(self.acts)
        clouds = {"azure": self.cloud} if with_cloud else {}
        self.nodes = NodeKeeper(self.provider.backends(), clouds, deleted.__contains__)  # pyright: ignore[reportArgumentType]

    @property
    def deletions(self) -> list[str]:
        """What was done, without the looks before it."""
        return [act for act in self.acts if "describe" not in act]


def record(phase: Phase = Phase.TERMINATING, mode: str = "real", **attempt: Any) -> InstanceRecord:
    given: dict[str, Any] = {"state": AttemptState.RELEASING, "billed_from": START, **attempt}
    return make_record(mode=mode, phase=phase, attempts=[make_attempt(**given)])


class TestDelete:
    @pytest.mark.parametrize(
        ("phase", "left", "deleted"),
        [
            (Phase.TERMINATING, CleanupStatus.NOTHING, True),
            (Phase.TERMINATING, CleanupStatus.FREE_LEFTOVERS, False),
            (Phase.TERMINATING, CleanupStatus.MACHINE, False),
            (Phase.RECOVERING, CleanupStatus.NOTHING, True),
            (Phase.RECOVERING, CleanupStatus.FREE_LEFTOVERS, True),
            (Phase.RECOVERING, CleanupStatus.MACHINE, False),
        ],
    )
    def test_an_end_should_wait_for_the_last_trace_and_a_next_attempt_for_what_costs_money(
        self, phase: Phase, left: CleanupStatus, *, deleted: bool
    ) -> None:
        keeper = Keeper()
        keeper.cloud.left = left
        assert keeper.nodes.release(record(phase)).gone is deleted
        assert keeper.deletions == ["release", "cloud delete in eastus"]

    def test_while_the_provider_still_deletes_the_cloud_should_be_left_alone(self) -> None:
        keeper = Keeper()
        keeper.provider.released = False
        assert not keeper.nodes.release(record()).gone
        assert keeper.deletions == ["release"]

    @pytest.mark.parametrize("phase", [Phase.TERMINATING, Phase.RECOVERING])
    def test_what_the_provider_still_deletes_should_not_be_taken_for_leftovers(self, phase: Phase) -> None:
        keeper = Keeper()
        keeper.provider.released, keeper.cloud.left = False, CleanupStatus.NOTHING
        assert not keeper.nodes.release(record(phase)).gone

    def test_without_a_cloud_the_provider_s_word_should_count(self) -> None:
        keeper = Keeper(with_cloud=False)
        assert keeper.nodes.release(record()).gone
        keeper.provider.released = False
        assert not keeper.nodes.release(record()).gone

    def test_a_simulated_node_should_not_be_looked_for_in_a_cloud(self) -> None:
        keeper = Keeper()
        assert keeper.nodes.release(record(mode="simulation")).gone
        assert keeper.deletions == ["release"]

    def test_a_provider_without_an_answer_should_not_stop_the_cloud_from_ending_what_costs_money(self) -> None:
        keeper = Keeper()
        keeper.provider.released = SILENT
        with pytest.raises(ProviderUnavailableError):
            keeper.nodes.release(record(Phase.TERMINATING))
        assert keeper.deletions == ["release", "cloud delete in eastus"]

    def test_for_a_next_attempt_it_should_be_waited_for_instead(self) -> None:
        keeper = Keeper()
        keeper.provider.released = SILENT
        with pytest.raises(ProviderUnavailableError):
            keeper.nodes.release(record(Phase.PROVISIONING))
        assert keeper.deletions == ["release"]

    def test_a_cloud_without_an_answer_should_leave_it_open(self) -> None:
        keeper = Keeper()
        keeper.cloud.left = SILENT
        with pytest.raises(ProviderUnavailableError):
            keeper.nodes.release(record())

    def test_where_records_were_lost_the_cloud_should_decide(self) -> None:
        keeper = Keeper()
        keeper.provider.released = RecordsLostError("it knows nothing of it")
        keeper.cloud.left = CleanupStatus.MACHINE
        assert not keeper.nodes.release(record()).gone
        keeper.cloud.left = CleanupStatus.NOTHING
        assert keeper.nodes.release(record()).gone

    @pytest.mark.parametrize("found", [True, False])
    def test_without_a_cloud_a_person_should_decide_of_that_node_alone(self, *, found: bool) -> None:
        name = record().attempts[-1].cluster_name
        keeper = Keeper(with_cloud=False, deleted=(name if found else "another",))
        keeper.provider.released = RecordsLostError("it knows nothing of it")
        if found:
            assert keeper.nodes.release(record()).gone
        else:
            with pytest.raises(RecordsLostError):
                keeper.nodes.release(record())


class TestRelease:
    def test_what_a_deletion_makes_unknown_should_be_asked_before_it(self) -> None:
        keeper = Keeper()
        keeper.provider.view = UNKNOWN
        keeper.nodes.release(record())
        assert keeper.acts == ["cloud describe", "describe", "release", "cloud delete in eastus"]

    def test_it_should_say_when_the_machine_was_created_and_whether_it_is_deleted(self) -> None:
        keeper = Keeper()
        keeper.cloud.view = NodeView(state=NodeState.UP, created_at=LATER)
        keeper.cloud.left = CleanupStatus.MACHINE
        found = keeper.nodes.release(record(node_up_at=LATER))
        assert (found.gone, found.created_at, found.never_launched) == (False, LATER, False)

    def test_an_attempt_of_which_nothing_is_known_should_never_have_been_launched(self) -> None:
        keeper = Keeper()
        keeper.provider.view = UNKNOWN
        assert keeper.nodes.release(record()).never_launched

    @pytest.mark.parametrize("left", [CleanupStatus.MACHINE, CleanupStatus.FREE_LEFTOVERS])
    def test_one_of_which_the_cloud_has_something_should_not(self, left: CleanupStatus) -> None:
        keeper = Keeper()
        keeper.provider.view, keeper.cloud.left = UNKNOWN, left
        assert not keeper.nodes.release(record()).never_launched

    @pytest.mark.parametrize(
        "known",
        [
            {"request_id": "request-1"},
            {"node_up_at": START},
            {"release_found": True},
            {"listed": True},
            {"mode": "simulation"},
        ],
    )
    def test_one_that_was_confirmed_once_should_not(self, known: dict[str, Any]) -> None:
        keeper = Keeper()
        keeper.provider.view = UNKNOWN
        assert not keeper.nodes.release(record(**known)).never_launched

    @pytest.mark.parametrize(
        "view",
        [
            NodeView(state=NodeState.PENDING),
            NodeView(state=NodeState.UP),
            NodeView(state=NodeState.ABSENT, request_id="request-1"),
            NodeView(state=NodeState.ABSENT, failure=FAILED),
            NodeView(state=NodeState.ABSENT, listed=True),
            SILENT,
            ProviderNotEnabledError("no credentials"),
        ],
    )
    def test_one_that_the_provider_remembers_or_cannot_tell_of_should_not(self, view: NodeView | Exception) -> None:
        keeper = Keeper()
        keeper.provider.view = view
        assert not keeper.nodes.release(record()).never_launched

    @pytest.mark.parametrize("listed", [True, False])
    def test_it_should_say_whether_the_provider_s_records_had_the_node(self, *, listed: bool) -> None:
        keeper = Keeper()
        keeper.provider.view = NodeView(state=NodeState.UP, listed=listed)
        assert keeper.nodes.release(record()).listed is listed


class TestCreation:
    @pytest.mark.parametrize(
        ("view", "created_at"),
        [(NodeView(state=NodeState.UP, created_at=LATER), LATER), (None, None), (SILENT, None)],
    )
    def test_a_cloud_that_can_be_asked_should_be_the_only_one_that_counts(
        self, view: NodeView | Exception | None, created_at: object
    ) -> None:
        keeper = Keeper()
        keeper.cloud.view = view
        assert keeper.nodes.created_at(record(), START + timedelta(seconds=9)) == created_at

    def test_else_the_provider_s_word_should(self) -> None:
        assert Keeper(with_cloud=False).nodes.created_at(record(), LATER) == LATER

    @pytest.mark.parametrize(("billed_from", "asked"), [(None, 1), (START, 1), (START + timedelta(seconds=1), 0)])
    def test_what_is_known_already_should_not_be_asked_again(self, billed_from: object, asked: int) -> None:
        keeper = Keeper()
        keeper.cloud.view = NodeView(state=NodeState.UP, created_at=LATER)
        found = keeper.nodes.created_at(record(billed_from=billed_from), LATER)
        assert (found is not None, len(keeper.acts)) == (bool(asked), asked)


class TestDescribe:
    @pytest.mark.parametrize("state", list(NodeState))
    def test_what_the_cloud_sees_should_count_without_the_provider(self, state: NodeState) -> None:
        keeper = Keeper()
        keeper.cloud.view = NodeView(state=state)
        assert keeper.nodes.describe(record(Phase.READY)) == keeper.cloud.view
        assert keeper.acts == ["cloud describe"]

    @pytest.mark.parametrize("view", [None, SILENT])
    def test_where_it_cannot_say_the_provider_should_be_asked(self, view: Exception | None) -> None:
        keeper = Keeper()
        keeper.cloud.view = view
        assert keeper.nodes.describe(record(Phase.READY)) == keeper.provider.view
        assert keeper.acts == ["cloud describe", "describe"]

    def test_a_simulated_node_should_not_be_looked_for_in_a_cloud(self) -> None:
        keeper = Keeper()
        keeper.cloud.view = NodeView(state=NodeState.ABSENT)
        assert keeper.nodes.describe(record(Phase.READY, mode="simulation")) == keeper.provider.view

    @pytest.mark.parametrize("error", [SILENT, ProviderNotEnabledError("no credentials")])
    @pytest.mark.parametrize("make", [Keeper, lambda: Keeper(with_cloud=False)])
    def test_whoever_cannot_say_should_say_nothing(self, error: Exception, make: Callable[[], Keeper]) -> None:
        keeper = make()
        keeper.provider.view = error
        assert keeper.nodes.describe(record(Phase.READY)) is None


class TestStarting:
    @pytest.mark.parametrize("state", [NodeState.ABSENT, NodeState.STOPPED])
    def test_a_node_that_the_provider_misses_should_be_looked_for_in_the_cloud(self, state: NodeState) -> None:
        keeper = Keeper()
        keeper.provider.view = NodeView(state=state, request_id="request-1")
        keeper.cloud.view = NodeView(state=NodeState.UP)
        keeper.cloud.view = NodeView(state=NodeState.UP, listed=False)
        found = keeper.nodes.describe_starting(record(Phase.PROVISIONING))
        assert (found.state, found.request_id, found.listed) == (NodeState.UP, "request-1", True)
        assert keeper.acts == ["describe", "cloud describe"]

    @pytest.mark.parametrize("view", [NodeView(state=NodeState.PENDING), NodeView(state=NodeState.UP)])
    def test_one_that_it_has_should_not(self, view: NodeView) -> None:
        keeper = Keeper()
        keeper.provider.view = view
        assert keeper.nodes.describe_starting(record(Phase.PROVISIONING)) == view
        assert keeper.acts == ["describe"]

    def test_one_that_failed_should_have_failed_whatever_is_left_of_it(self) -> None:
        keeper = Keeper()
        keeper.provider.view = NodeView(state=NodeState.ABSENT, failure=FAILED)
        keeper.cloud.view = NodeView(state=NodeState.UP)
        assert keeper.nodes.describe_starting(record(Phase.PROVISIONING)) == keeper.provider.view

    def test_where_records_were_lost_the_cloud_should_be_asked_for_the_latest_attempt(self) -> None:
        keeper = Keeper()
        keeper.provider.view, keeper.cloud.view = RecordsLostError("it knows nothing"), NodeView(state=NodeState.UP)
        latest = make_attempt(number=2, state=AttemptState.SUBMITTED)
        attempts = [make_attempt(number=1, state=AttemptState.GONE), latest]
        found = keeper.nodes.describe_starting(make_record(mode="real", phase=Phase.PROVISIONING, attempts=attempts))
        assert (found.state, found.listed) == (NodeState.UP, True)
        assert keeper.cloud.described == [latest.cluster_name]

    def test_without_a_word_of_it_nothing_should_be_known(self) -> None:
        keeper = Keeper()
        keeper.provider.view = RecordsLostError("it knows nothing")
        with pytest.raises(RecordsLostError):
            keeper.nodes.describe_starting(record(Phase.PROVISIONING))
