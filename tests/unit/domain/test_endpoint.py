"""Endpoints: a replica's id by its slot, and what a resume tries anew."""

from datetime import timedelta

from ulid import ULID

from gpulaunch.models.instances import Reason
from shared.domain.endpoint import EndpointSpec, new_endpoint, replica_id, resumed
from shared.domain.instance import Failure
from tests.twins.clock import START


def test_a_replicas_id_should_sort_by_the_time_of_its_start_and_be_its_slots_alone() -> None:
    found = replica_id("ep-1", 1, 1, START)
    assert ULID.from_str(found.removeprefix("inst-")).datetime == START
    assert found == replica_id("ep-1", 1, 1, START)
    others = {replica_id("ep-2", 1, 1, START), replica_id("ep-1", 2, 1, START), replica_id("ep-1", 1, 2, START)}
    assert len({found, *others}) == 4
    assert replica_id("ep-1", 1, 1, START + timedelta(seconds=1)) > found


def test_a_resume_should_try_a_stopped_generation_anew() -> None:
    spec = EndpointSpec.model_validate({"launch": {"model_name": "org/model", "gpu": "A10"}, "replicas": 1})
    endpoint = new_endpoint("chat", "ep-1", spec, START)
    failure = Failure(reason=Reason.SETUP_FAILED, message="it did not start")
    stopped = endpoint.with_generation(endpoint.wanted.model_copy(update={"stopped": failure, "failed_starts": 3}))
    again = resumed(stopped, START).wanted
    assert (again.stopped, again.failed_starts) == (None, 0)
    assert resumed(endpoint, START) is endpoint
