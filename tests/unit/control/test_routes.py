"""How the gateway reaches replicas: at an address, with a key that it alone reads, by TLS where the node has it."""

from dataclasses import replace

import pytest

from gateway.table import unsealer
from gpulaunch.models.endpoints import EndpointSpec
from gpulaunch.models.instances import Phase
from gpulaunch.models.routes import RoutedTemplate
from shared.auth import Deriver
from shared.autoscaling.observed import UNREADABLE, Replica
from shared.certificates import node_name
from shared.control.routes import RouteMaker
from shared.domain.endpoint import EndpointRecord, Slot, new_endpoint
from tests.functional.world import MASTER
from tests.twins.clock import START
from tests.twins.factories import make_instance_id, make_request

ONE = make_instance_id()
DERIVER = Deriver(MASTER)
ROUTES = RouteMaker(DERIVER)
READY = Replica(phase=Phase.READY, attempt=2, address=("10.0.0.2", 8000), tls=True)


def endpoint(replica: Replica | None = None) -> EndpointRecord:
    """With one slot, routed to a replica if there is one."""
    spec = EndpointSpec.model_validate({"launch": make_request().model_dump(exclude_unset=True), "replicas": 1})
    slot = Slot(number=1, generation=1, instance_id=ONE, allotted_at=START, since=START)
    made = new_endpoint("chat", "ep-1", spec, START).with_slots([slot])
    return made if replica is None else ROUTES.routed(made, {ONE: replica})


def test_a_ready_replica_should_be_reached_by_its_certificates_name() -> None:
    found = endpoint(READY)
    route = found.slots[0].route
    assert route is not None
    assert (route.attempt, route.address, route.port) == (2, "10.0.0.2", 8000)
    assert (route.server_name, found.authority) == (node_name(ONE, 2), DERIVER.authority_certificate())
    assert unsealer(DERIVER.gateway_key())(route.sealed_key) == DERIVER.endpoint_key(ONE, 2)


def test_a_route_should_name_what_its_node_was_launched_with() -> None:
    template = RoutedTemplate(model_name="org/old", vllm_args=["--max-num-seqs", "2"])
    route = endpoint(replace(READY, template=template)).slots[0].route
    assert route is not None
    assert route.template == template


def test_a_route_of_an_earlier_version_should_be_completed() -> None:
    template = RoutedTemplate(model_name="org/old")
    route = ROUTES.routed(endpoint(READY), {ONE: replace(READY, template=template)}).slots[0].route
    assert route is not None
    assert route.template == template


def test_one_of_an_earlier_version_should_be_reached_in_plain() -> None:
    route = endpoint(Replica(phase=Phase.READY, attempt=2, address=("10.0.0.2", 8000))).slots[0].route
    assert route is not None
    assert route.server_name is None


def test_a_route_should_stay_as_it_is_while_its_node_is_the_same() -> None:
    found = endpoint(READY)
    assert ROUTES.routed(found, {ONE: READY}) is found


@pytest.mark.parametrize(
    "after",
    [
        Replica(phase=Phase.READY, attempt=3, address=("10.0.0.2", 8000), tls=True),
        Replica(phase=Phase.READY, attempt=2, address=("10.0.0.3", 8000), tls=True),
        Replica(phase=Phase.READY, attempt=2, address=("10.0.0.2", 8001), tls=True),
    ],
)
def test_another_node_should_get_a_route_of_its_own(after: Replica) -> None:
    before, found = endpoint(READY).slots[0].route, ROUTES.routed(endpoint(READY), {ONE: after}).slots[0].route
    assert before is not None
    assert found is not None
    assert (found.attempt, (found.address, found.port)) == (after.attempt, after.address)
    assert found.server_name == node_name(ONE, after.attempt)


def test_a_route_should_stay_while_its_replicas_record_cannot_be_read() -> None:
    found = endpoint(READY)
    assert ROUTES.routed(found, {ONE: UNREADABLE}) is found


@pytest.mark.parametrize("replicas", [{}, {ONE: Replica(phase=Phase.RECOVERING, attempt=2)}])
def test_a_replica_without_a_ready_node_should_have_no_route(replicas: dict[str, Replica]) -> None:
    found = ROUTES.routed(endpoint(READY), replicas)
    assert found.slots[0].route is None
    assert ROUTES.routed(found, replicas) is found
