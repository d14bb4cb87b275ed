"""What a provider is given about the latest attempt, and how its node is called."""

from typing import Any

import pytest

from shared.auth import Deriver, Purpose
from shared.certificates import node_name
from shared.control.launch_spec import LaunchSpecs, attempt_ref
from shared.domain.instance import AttemptState, InstanceRecord
from shared.domain.provider import NodeTarget
from shared.planning.model_fit import DEFAULT_DISK_GIB
from tests.functional.scripted import Assigning
from tests.functional.world import MASTER, settings
from tests.twins.clock import START
from tests.twins.factories import DEPLOYMENT, make_attempt, make_instance_id, make_record, make_request

ID = make_instance_id()
DERIVER = Deriver(MASTER)
SPECS = LaunchSpecs(settings(), DERIVER, Assigning(), DEPLOYMENT)


def record(**attempt: Any) -> InstanceRecord:
    """An instance on its second attempt, whose first one had an address as well."""
    first = make_attempt(state=AttemptState.GONE, gone_at=START, address="10.0.0.1", port=7000)
    return make_record(mode="real", attempts=[first, make_attempt(number=2, **attempt)])


@pytest.mark.parametrize(("proves", "tls"), [(False, False), (True, False), (False, True), (True, True)])
def test_a_node_should_be_called_by_what_its_attempt_was_launched_with(*, proves: bool, tls: bool) -> None:
    attempt: dict[str, Any] = {"address": "10.0.0.2", "port": 8000, "proves": proves, "tls": tls}
    given = record(**attempt)
    assert SPECS.node_target(given) == NodeTarget(
        instance_id=ID,
        cluster_name=given.attempts[1].cluster_name,
        attempt=2,
        address="10.0.0.2",
        port=8000,
        agent_port=8001,
        agent_token=DERIVER.derive(ID, 2, Purpose.AGENT),
        api_key=DERIVER.endpoint_key(ID, 2),
        proves=proves,
        server_name=node_name(ID, 2) if tls else None,
        authority=DERIVER.authority_certificate() if tls else "",
    )


def test_one_whose_address_is_not_known_yet_should_not_be_called() -> None:
    assert SPECS.node_target(record()) is None


def test_what_is_newer_than_the_record_should_count() -> None:
    for given in (record(), record(address="10.0.0.2", port=8000)):
        target = SPECS.node_target(given, "10.0.0.9", 9000)
        assert target is not None
        assert (target.address, target.port) == ("10.0.0.9", 9000)
    target = SPECS.node_target(record(address="10.0.0.2"), "10.0.0.9")
    assert target is not None
    assert target.port is None


@pytest.mark.parametrize(
    ("listed", "up", "known"), [(False, False, False), (True, False, True), (False, True, True), (True, True, True)]
)
def test_a_provider_should_know_whether_the_latest_attempt_s_node_was_ever_there(
    *, listed: bool, up: bool, known: bool
) -> None:
    given = record(listed=listed, node_up_at=START if up else None, request_id="request-2")
    found = attempt_ref(given)
    assert (found.attempt, found.cluster_name, found.request_id) == (2, given.attempts[1].cluster_name, "request-2")
    assert found.listed is known


@pytest.mark.parametrize("disk", [None, 100])
def test_a_launch_should_be_the_latest_attempt_s_with_the_disk_that_is_asked_for(disk: int | None) -> None:
    given = record().model_copy(update={"mode": "simulation", "request": make_request(disk_size=disk)})
    spec = SPECS.launch_spec(given)
    assert (spec.attempt, spec.cluster_name) == (2, given.attempts[1].cluster_name)
    assert spec.disk_gib == (disk or DEFAULT_DISK_GIB)
