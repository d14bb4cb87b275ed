"""What is planned so that endpoints are as a file has them."""

from typing import Any

import pytest

from gpulaunch.cli.endpoint_plan import PlannedChange, planned
from gpulaunch.models.endpoints import EndpointRequest, EndpointView
from tests.unit.cli.endpoint_views import view_of

LAUNCH: dict[str, Any] = {"model_name": "org/model", "gpu": "A10", "labels": {"team": "search"}}


def wanted(name: str = "chat", launch: dict[str, Any] | None = None, **fields: Any) -> EndpointRequest:
    return EndpointRequest.model_validate({"name": name, "launch": LAUNCH | (launch or {}), **fields})


def one(asked: EndpointRequest, *found: EndpointView) -> PlannedChange:
    [change] = planned([asked], found, None)
    return change


def fields(change: PlannedChange) -> dict[str, tuple[Any, Any]]:
    return {one.field: (one.before, one.after) for one in change.fields}


def test_bounds_should_be_compared_with_the_defaults_of_what_is_left_out() -> None:
    scaled = wanted(max_replicas=3)
    assert one(scaled, view_of(wanted(max_replicas=3, min_replicas=0, scaling="balanced"), replicas=2)).action == "keep"
    assert fields(one(scaled, view_of(wanted(max_replicas=2)))) == {"max_replicas": (2, 3)}
    assert fields(one(wanted(replicas=2), view_of(scaled))) == {
        "min_replicas": (0, None),
        "max_replicas": (3, None),
        "scaling": ("balanced", None),
        "replicas": (None, 2),
    }


def test_what_is_not_there_should_be_created() -> None:
    change = one(wanted(replicas=3))
    assert (change.action, change.revision, change.starts_replicas, change.rolls_out) == ("create", None, True, False)
    assert fields(change) == {
        "replicas": (None, 3),
        "launch.model_name": (None, "org/model"),
        "launch.gpu": (None, "A10"),
        "launch.labels.team": (None, "search"),
    }


def test_what_is_as_wanted_should_be_kept() -> None:
    change = one(wanted(), view_of(wanted(), status="paused", paused=True))
    assert (change.action, change.fields) == ("keep", [])


UNLABELLED = {"launch.labels.team": ("search", None)}


@pytest.mark.parametrize(
    ("changes", "expected", "rolls_out", "starts"),
    [
        ({"replicas": 2}, {"replicas": (1, 2)}, False, True),
        ({"drain_seconds": 60}, {"drain_seconds": (600, 60)}, False, False),
        ({"launch": {"gpu": "L4"}}, {"launch.gpu": ("A10", "L4")}, True, True),
        ({"launch": {"region": ["a"]}}, {"launch.region": (None, ["a"])}, True, True),
        ({"launch": {"labels": {"a.b": "c"}}}, {**UNLABELLED, "launch.labels.a.b": (None, "c")}, True, True),
        ({"launch": {"labels": {}}}, UNLABELLED, True, True),
    ],
)
def test_what_differs_should_be_changed_over_what_was_shown(
    changes: dict[str, Any], expected: dict[str, tuple[Any, Any]], rolls_out: bool, starts: bool
) -> None:
    change = one(wanted(**changes), view_of(wanted()))
    assert (change.action, change.revision, fields(change)) == ("change", "revision of chat", expected)
    assert (change.rolls_out, change.starts_replicas) == (rolls_out, starts)


def test_what_a_file_leaves_out_should_be_set_back_to_its_default() -> None:
    change = one(wanted(), view_of(wanted(replicas=5, drain_seconds=9, launch={"use_spot": False})))
    assert fields(change) == {"launch.use_spot": (False, True), "replicas": (5, 1), "drain_seconds": (9, 600)}


FOUND = [
    view_of(wanted("chat")),
    view_of(wanted("old")),
    view_of(wanted("going"), status="deleting"),
    view_of(wanted("theirs", {"labels": {"team": "ads"}})),
    view_of(wanted("bare", {"labels": {}})),
]


def test_only_what_has_the_label_and_is_not_in_the_file_should_be_deleted() -> None:
    plan = planned([wanted("new"), wanted("chat")], FOUND, ("team", "search"))
    assert [(one.name, one.action) for one in plan] == [("new", "create"), ("chat", "keep"), ("old", "delete")]
    assert plan[-1].revision == "revision of old"


def test_nothing_should_be_deleted_unless_a_label_says_so() -> None:
    assert [one.action for one in planned([wanted()], FOUND, None)] == ["keep"]
    assert [one.action for one in planned([wanted()], FOUND, ("team", ""))] == ["keep"]
