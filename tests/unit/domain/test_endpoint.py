"""Endpoints: how many replicas serve, a replica's id by its slot, generations, and what a resume tries anew."""

from datetime import timedelta

import pytest
from ulid import ULID

from gpulaunch.models.instances import Reason
from shared.domain.endpoint import (
    EndpointRecord,
    EndpointSpec,
    Generation,
    new_endpoint,
    paused,
    replica_id,
    resumed,
    with_new_generation,
    with_spec,
)
from shared.domain.instance import Failure
from tests.twins.clock import START


def spec(replicas: int) -> EndpointSpec:
    return EndpointSpec.model_validate({"launch": {"model_name": "org/model", "gpu": "A10"}, "replicas": replicas})


def made(replicas: int) -> EndpointRecord:
    return new_endpoint("chat", "ep-1", spec(replicas), START)


def test_a_replicas_id_should_sort_by_the_time_of_its_start_and_be_its_slots_alone() -> None:
    found = replica_id("ep-1", 1, 1, START)
    assert ULID.from_str(found.removeprefix("inst-")).datetime == START
    assert found == replica_id("ep-1", 1, 1, START)
    others = {replica_id("ep-2", 1, 1, START), replica_id("ep-1", 2, 1, START), replica_id("ep-1", 1, 2, START)}
    assert len({found, *others}) == 4
    assert replica_id("ep-1", 1, 1, START + timedelta(seconds=1)) > found


def test_a_resume_should_try_a_stopped_generation_anew() -> None:
    endpoint = made(1)
    failure = Failure(reason=Reason.SETUP_FAILED, message="it did not start")
    stopped = endpoint.with_generation(endpoint.wanted.model_copy(update={"stopped": failure, "failed_starts": 3}))
    again = resumed(stopped, START).wanted
    assert (again.stopped, again.failed_starts) == (None, 0)
    assert resumed(endpoint, START) is endpoint


@pytest.mark.parametrize(
    ("replicas", "count"), [(0, "0 replicas"), (1, "1 replica"), (2, "2 replicas"), (3, "3 replicas")]
)
def test_an_event_should_count_replicas_in_words(replicas: int, count: str) -> None:
    assert made(replicas).events[-1].message == f"Endpoint created with {count}."
    assert with_spec(made(5), spec(replicas), START).events[-1].message == f"{count} asked for."


def test_no_replica_should_serve_while_an_endpoint_is_paused_or_deleted() -> None:
    endpoint = made(3)
    assert endpoint.target == 3
    assert paused(endpoint, START).target == 0
    assert resumed(paused(endpoint, START), START).target == 3
    assert endpoint.model_copy(update={"deleting": True}).target == 0


def test_a_new_generation_should_leave_only_the_newest_that_was_proven() -> None:
    def generation(number: int, proven: bool) -> Generation:
        template = made(1).wanted.template
        return Generation(number=number, template=template, created_at=START, proven_at=START if proven else None)

    generations = [*(generation(number, proven=True) for number in (1, 2, 3)), generation(4, proven=False)]
    endpoint = made(1).model_copy(update={"generations": generations})
    changed = with_new_generation(endpoint, endpoint.wanted.template, START, "a new revision")
    assert [one.number for one in changed.generations] == [3, 5]
