"""What is garbage: each rule with what it should take and what it should not."""

from datetime import timedelta

import pytest

from shared.domain.provider import Cluster, NodeState
from shared.lifecycle.garbage import GRACE, MAX_DELETIONS, Strays, strays, why_wait
from tests.twins.clock import START
from tests.twins.factories import DEPLOYMENT, OTHER_DEPLOYMENT

NAME = "gl-01k0000000000000000000000a-01"
NOW = START + timedelta(hours=1)


def told_apart(*, known: bool = False, recorded: bool = True, **given: object) -> Strays:
    fields: dict[str, object] = {"state": NodeState.UP, "created_at": START, "deployment": DEPLOYMENT}
    cluster = Cluster(cluster_name=NAME, **fields | given)  # pyright: ignore[reportArgumentType]
    return strays([cluster], {NAME} if known else set(), {NAME} if recorded else set(), DEPLOYMENT, NOW)


def test_a_node_of_ours_whose_instance_has_ended_should_be_garbage() -> None:
    assert told_apart().garbage == {NAME}


def test_a_node_that_a_live_record_knows_should_be_nothing_at_all() -> None:
    for owner in (DEPLOYMENT, OTHER_DEPLOYMENT, None):
        found = told_apart(known=True, deployment=owner)
        assert (found.garbage, found.unrecorded, found.foreign) == (set(), set(), {})


def test_a_node_of_ours_that_no_record_ever_had_should_not_be_garbage() -> None:
    found = told_apart(recorded=False)
    assert (found.garbage, found.unrecorded) == (set(), {NAME})


@pytest.mark.parametrize("owner", [OTHER_DEPLOYMENT, "", DEPLOYMENT.upper(), None])
@pytest.mark.parametrize("recorded", [True, False])
def test_a_node_with_another_identity_or_none_should_be_foreign(owner: str | None, recorded: bool) -> None:
    found = told_apart(deployment=owner, recorded=recorded)
    assert (found.garbage, found.unrecorded, set(found.foreign)) == (set(), set(), {NAME})


def test_remains_without_a_label_should_be_ours_only_if_they_are_recorded() -> None:
    assert told_apart(deployment=None, state=NodeState.ABSENT).garbage == {NAME}
    found = told_apart(deployment=None, state=NodeState.ABSENT, recorded=False)
    assert (found.garbage, found.unrecorded, set(found.foreign)) == (set(), set(), {NAME})


def test_remains_of_another_deployment_should_stay_whatever_is_recorded() -> None:
    assert told_apart(deployment=OTHER_DEPLOYMENT, state=NodeState.ABSENT).garbage == set()


@pytest.mark.parametrize("recorded", [True, False])
def test_an_exempt_or_a_young_node_should_be_left_alone(recorded: bool) -> None:
    young = NOW - GRACE + timedelta(seconds=1)
    for found in (told_apart(gc_protected=True, recorded=recorded), told_apart(created_at=young, recorded=recorded)):
        assert (found.garbage, found.unrecorded, found.foreign) == (set(), set(), {})
    assert told_apart(created_at=NOW - GRACE).garbage == {NAME}
    assert told_apart(created_at=None).garbage == {NAME}


@pytest.mark.parametrize("first", ["known", "foreign", "exempt", "young"])
def test_what_is_listed_before_a_node_should_not_hide_it(first: str) -> None:
    def listed(name: str) -> Cluster:
        return Cluster(
            cluster_name=name,
            state=NodeState.UP,
            created_at=NOW if name == "young" else START,
            gc_protected=name == "exempt",
            deployment=OTHER_DEPLOYMENT if name == "foreign" else DEPLOYMENT,
        )

    found = strays([listed(first), listed(NAME)], {"known"}, {NAME, first}, DEPLOYMENT, NOW)
    assert found.garbage == {NAME}


@pytest.mark.parametrize(("due", "ours"), [(0, 0), (0, 1), (1, 1), (1, 2), (2, 4), (MAX_DELETIONS, 2 * MAX_DELETIONS)])
def test_few_of_many_should_not_wait(due: int, ours: int) -> None:
    assert why_wait(due, ours) is None


@pytest.mark.parametrize(("due", "ours"), [(2, 2), (2, 3), (3, 5), (MAX_DELETIONS + 1, 1000)])
def test_many_or_most_should_wait(due: int, ours: int) -> None:
    assert why_wait(due, ours) is not None
