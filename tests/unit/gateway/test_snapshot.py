"""What a gateway makes of an endpoint's row that scales: how many there may be, and when the next one is expected."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.snapshot import SOONEST, Endpoint, snapshot_of
from tests.twins.clock import START


def read(now: datetime = START, **row: Any) -> Endpoint:
    template = {"model_name": "m", "vllm_args": ["--max-num-seqs=16"]}
    document = {"name": "chat", "replicas": 1, "generations": [{"number": 1, "template": template}], **row}
    return snapshot_of([{"doc": json.dumps(document)}], str, now).endpoints["chat"]


def starting(*ages: float) -> list[dict[str, Any]]:
    begun = [(START - timedelta(seconds=age)).isoformat() for age in ages]
    return [
        {"instance_id": f"inst-{number}", "generation": 1, "state": "active", "allotted_at": at}
        for number, at in enumerate(begun)
    ]


@pytest.mark.parametrize(
    ("row", "most", "scales"),
    [
        ({"replicas": 2}, 2, False),
        ({"replicas": 0}, 0, False),
        ({"replicas": 0, "scaling": {"max_replicas": 3}}, 3, True),
        ({"replicas": 0, "scaling": {"max_replicas": 3}, "paused": True}, 0, False),
        ({"replicas": 0, "scaling": {"max_replicas": 3}, "deleting": True}, 0, False),
    ],
)
def test_requests_should_wait_where_replicas_may_be_started_and_nowhere_else(
    row: dict[str, Any], most: int, *, scales: bool
) -> None:
    found = read(**row)
    assert (found.replicas, found.scales) == (most, scales)


@pytest.mark.parametrize(
    ("ages", "landing"), [((), 100.0), ((0.0,), 100.0), ((10.0, 60.0), 40.0), ((99.0,), SOONEST), ((500.0,), SOONEST)]
)
def test_the_first_start_should_be_expected_after_the_usual_time(ages: tuple[float, ...], landing: float) -> None:
    assert read(start_seconds=100.0, slots=starting(*ages)).landing == landing


def test_a_start_of_an_earlier_version_should_be_expected_as_one_that_begins_now() -> None:
    slot = {"instance_id": "inst-1", "generation": 1, "state": "active"}
    assert read(start_seconds=100.0, slots=[slot]).landing == 100.0


@pytest.mark.parametrize(("asked", "target"), [({}, 11), ({"target_concurrency": 4}, 4)])
def test_a_node_should_be_crowded_beyond_what_is_asked_for_or_most_of_what_it_can(
    asked: dict[str, int], target: int
) -> None:
    assert read(scaling={"max_replicas": 3, **asked}).target == target
    assert read().target == 11
