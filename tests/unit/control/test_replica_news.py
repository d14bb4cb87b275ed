"""When a replica's record changes, its endpoint learns of what matters to it and of nothing else."""

from typing import Any

import pytest

from gpulaunch.models.instances import Phase
from shared.control.replicas import ReplicaNews
from shared.domain.messages import EndpointMessage
from shared.errors import StoreUnavailableError
from shared.queues import LAUNCHES
from tests.twins.clock import ManualClock
from tests.twins.factories import make_record
from tests.twins.queues import MemoryQueues


def asked(before: Phase, after: Phase, **given: Any) -> list[EndpointMessage]:
    queues = MemoryQueues(ManualClock())
    given = {"replica_of": "chat", "generation": 1} | given
    ReplicaNews(queues).committed(make_record(phase=before, **given), make_record(phase=after, **given), [])
    return [EndpointMessage.model_validate_json(body) for body in queues.bodies(LAUNCHES)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Phase.REGISTERING, Phase.READY),
        (Phase.READY, Phase.RECOVERING),
        (Phase.READY, Phase.TERMINATING),
        (Phase.TERMINATING, Phase.TERMINATED),
        (Phase.PROVISIONING, Phase.FAILED),
    ],
)
def test_an_endpoint_should_learn_when_a_replica_gets_ready_is_lost_or_ends(before: Phase, after: Phase) -> None:
    assert asked(before, after) == [EndpointMessage(endpoint="chat")]


@pytest.mark.parametrize(
    ("before", "after"),
    [(Phase.QUEUED, Phase.VALIDATING), (Phase.READY, Phase.READY), (Phase.RECOVERING, Phase.PROVISIONING)],
)
def test_it_should_not_be_asked_for_anything_else(before: Phase, after: Phase) -> None:
    assert asked(before, after) == []


def test_an_instance_of_no_endpoint_should_ask_for_nothing() -> None:
    assert asked(Phase.REGISTERING, Phase.READY, replica_of=None, generation=None) == []


def test_a_message_that_is_refused_should_be_left_to_the_sweep() -> None:
    queues = MemoryQueues(ManualClock())
    queues.calls.fail_next("send", StoreUnavailableError("no answer"))
    record = make_record(phase=Phase.READY, replica_of="chat", generation=1)
    ReplicaNews(queues).committed(make_record(replica_of="chat", generation=1), record, [])
    assert queues.bodies(LAUNCHES) == []
