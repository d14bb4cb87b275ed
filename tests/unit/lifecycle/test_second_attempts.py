"""An attempt after a failed one goes the same way as a first one, and never by what the failed one was."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from gpulaunch.models.instances import Reason
from shared.domain.instance import Event
from shared.domain.node import JobResult, NodeNotice, NodePhase
from shared.domain.provider import NodeState, Probe
from shared.lifecycle.observations import (
    Observation,
    Poisoned,
    ProviderUnavailable,
    Released,
    StillReleasing,
    TimerFired,
)
from tests.twins.clock import START
from tests.twins.factories import make_offer
from tests.unit.lifecycle.story import (
    DEAD,
    ENABLED,
    GONE,
    IDLE,
    STILL_THERE,
    TAKEN,
    USER,
    Story,
    completed,
    failure,
    looked,
    noticed,
    probed,
    refused,
    registered,
    reported,
    validating,
)

HERE = make_offer(use_spot=False, price_per_hour=2.0)
OTHERS = [make_offer(region=region, use_spot=True, price_per_hour=0.5) for region in ("westus", "northeurope")]
DOWN = ProviderUnavailable("The SkyPilot server does not answer.")
Way = Callable[[int], list[Observation | float]]
"""Observations of an attempt by its number, and seconds between them."""

UP: list[Observation | float] = [TAKEN, 30.0, looked(NodeState.UP, NodePhase.INSTALLING, address="10.0.0.9")]
READY: list[Observation | float] = [
    *UP,
    200.0,
    looked(NodeState.UP, NodePhase.SERVING, address="10.0.0.9", probe=IDLE),
    60.0,
]
WAYS: dict[str, Way] = {
    "created late": lambda _: [TAKEN, 40.0, looked(NodeState.PENDING, created_at=START), 5.0, DOWN, *UP[1:]],
    "reports": lambda n: [
        *UP,
        40.0,
        reported(NodePhase.LOADING_MODEL, n, fetched_bytes=5, total_bytes=9, detail="half", log_tail=["a line"]),
        20.0,
        reported(NodePhase.STARTING_SERVER, n, port=8000),
        5.0,
        registered(n, port=8123, address="10.0.0.10"),
        looked(NodeState.UP, NodePhase.SERVING, probe=IDLE),
    ],
    "reports before the submission's answer": lambda n: [5.0, reported(NodePhase.INSTALLING, n), TAKEN],
    "registers before the submission's answer": lambda n: [5.0, registered(n), 5.0, TAKEN],
    "failed by its report": lambda n: [*UP, 10.0, reported(NodePhase.FAILED, n, failure="server_failed")],
    "failed at its launch": lambda _: [TAKEN, 9.0, looked(NodeState.ABSENT, failure=failure(Reason.NO_CAPACITY))],
    "refused and released late": lambda _: [
        4.0,
        refused(Reason.QUOTA_EXCEEDED),
        STILL_THERE,
        700.0,
        DOWN,
        StillReleasing(),
        Released(gone=True),
    ],
    "took too long": lambda _: [*UP, 90_000.0 / 20, DOWN],
    "shut down on its way": lambda n: [*UP, noticed(NodeNotice.EVICTION, n)],
    "unhealthy": lambda _: [*READY, probed(DEAD), 30.0, probed(DEAD), 30.0, probed(DEAD), 9.0, GONE],
    "stopped": lambda _: [*READY, probed(DEAD, NodeState.STOPPED, "deallocated")],
    "evicted": lambda n: [*READY, noticed(NodeNotice.EVICTION, n)],
    "reports when ready": lambda n: [
        *READY,
        reported(NodePhase.SERVING, n, detail="busy", log_tail=["another"]),
        probed(Probe(alive=True, running_requests=2, waiting_requests=0, finished_requests=0)),
    ],
    "its job": lambda n: [*READY, completed(3, n), 8.0, STILL_THERE, 8.0, GONE],
    "its job on the way": lambda n: [*UP, reported(NodePhase.SERVING, n, job=JobResult(exit_code=0)), GONE],
    "terminated": lambda _: [*READY, USER, 700.0, STILL_THERE, GONE],
    "submitted again": lambda _: [500.0, TimerFired(), 3.0, TAKEN, looked(NodeState.UP, NodePhase.INSTALLING)],
    "steps that keep failing": lambda _: [*UP, 900.0, *[Poisoned(9, f"message-{number}") for number in range(4)], GONE],
}


def told(story: Story, way: list[Observation | float]) -> tuple[dict[str, Any], list[tuple[object, ...]]]:
    """What the record and the events say of the attempt that begins now, with times counted from its start."""
    begun, before, number = story.now, len(story.events), story.attempt.number
    for one in way:
        if isinstance(one, float | int):
            story.wait(one)
        else:
            story.see(one)
    attempt = next(one for one in story.record.attempts if one.number == number)
    shown = {name: _since(begun, value) for name, value in attempt.model_dump().items()}
    for name in ("number", "cluster_name", "alert_event"):
        del shown[name]
    return shown, [_plain(event, attempt.cluster_name, number) for event in story.events[before:]]


def _since(begun: datetime, value: object) -> object:
    return value - begun if isinstance(value, datetime) else value


def _plain(event: Event, name: str, number: int) -> tuple[object, ...]:
    data = {key: value for key, value in event.data.items() if key not in ("cluster_name", "offer", "region")}
    own = event.attempt == number
    message = event.message.replace(name, "NODE") if own else event.type.value
    return event.type, event.phase, message, event.reason, event.duration_seconds, own, *([data] if own else [])


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_second_attempt_should_go_as_a_first_one_does(way: Way) -> None:
    first = validating(offers=(HERE, *OTHERS)).tell(ENABLED)
    second = validating(offers=(OTHERS[0], HERE, OTHERS[1])).tell(ENABLED)
    second.wait(20).tell(TAKEN).wait(40).tell(looked(NodeState.UP, NodePhase.INSTALLING, address="10.9.9.9"))
    second.wait(70).tell(looked(NodeState.UP, failure=failure(Reason.NETWORK_FAILED)), GONE)
    assert (second.attempt.number, second.attempt.offer) == (2, HERE)
    expected, found = told(first, way(1)), told(second, way(2))
    assert expected[1], "the way leads somewhere"
    assert found == expected


def test_what_a_failed_attempt_says_late_should_not_count_for_the_next_one() -> None:
    story = validating(offers=(OTHERS[0], HERE)).tell(ENABLED)
    story.wait(9).tell(refused(Reason.NO_CAPACITY), GONE).wait(9).tell(TAKEN)
    before = story.record
    for late in (reported(NodePhase.SERVING, 1), registered(1), noticed(NodeNotice.EVICTION, 1), completed(0, 1)):
        assert not story.see(late).changed
    assert story.record == before
