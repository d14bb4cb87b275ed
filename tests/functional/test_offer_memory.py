"""An offer that was refused lately comes last in the next launch's plan; simulated refusals teach nothing."""

from datetime import timedelta

from gpulaunch.models.instances import Reason
from shared.domain.instance import Failure
from shared.errors import StoreUnavailableError
from shared.storage.base import REFUSED_OFFER, Marker
from tests.functional.scripted import NodeWorld
from tests.functional.world import SEED, World


def first_offer(world: World) -> bool:
    return bool(world.call("POST", "/api/instances/launch", SEED).json["offers"][0]["use_spot"])


def test_a_refused_offer_should_come_last_for_half_an_hour(push: NodeWorld) -> None:
    assert first_offer(push) is True
    push.scripted.spot_failure = Failure(reason=Reason.NO_CAPACITY, message="AllocationFailed")
    push.run(5)
    assert first_offer(push) is False
    push.clock.advance(31 * 60)
    assert first_offer(push) is True


def test_a_failure_of_the_model_should_not_put_the_offer_back(push: NodeWorld) -> None:
    assert first_offer(push) is True
    push.scripted.spot_failure = Failure(reason=Reason.SERVER_FAILED, message="no such option")
    push.run(5)
    assert first_offer(push) is True


def test_simulated_refusals_should_teach_nothing(world: World) -> None:
    world.launch(labels={"simulate.no-capacity": "1"})
    world.run(100)
    assert first_offer(world) is True


def test_a_burst_of_launches_should_read_the_memory_once(push: NodeWorld) -> None:
    push.store.calls.seen.clear()
    for _ in range(10):
        assert first_offer(push) is True
    assert push.store.calls.seen.count("markers") == 1


def test_a_refusal_that_another_process_met_should_count_within_seconds(push: NodeWorld) -> None:
    assert first_offer(push) is True
    now = push.clock.now()
    key = "azure/eastus/Standard_NV36ads_A10_v5x1/spot"
    push.store.put_marker(
        Marker(kind=REFUSED_OFFER, key=key, at=now, until=now + timedelta(minutes=30), text="no_capacity")
    )
    assert first_offer(push) is True
    push.clock.advance(5)
    assert first_offer(push) is False


def test_a_refusal_should_count_at_once_where_it_was_met(push: NodeWorld) -> None:
    push.scripted.spot_failure = Failure(reason=Reason.NO_CAPACITY, message="AllocationFailed")
    assert first_offer(push) is True
    push.run(1)
    assert first_offer(push) is False


def test_a_refusal_should_be_remembered_from_when_it_was_met_whatever_its_instance_does_then(push: NodeWorld) -> None:
    push.scripted.spot_failure = Failure(reason=Reason.NO_CAPACITY, message="AllocationFailed")
    instance_id = push.launch()
    push.run(60)
    (before,) = push.store.markers(REFUSED_OFFER)
    push.delete(instance_id)
    push.run(60)
    assert push.store.markers(REFUSED_OFFER) == [before]


def test_a_memory_that_storage_refuses_should_not_stop_the_step(push: NodeWorld) -> None:
    push.scripted.spot_failure = Failure(reason=Reason.NO_CAPACITY, message="AllocationFailed")
    instance_id = push.launch()
    push.store.calls.fail_next("put_marker", StoreUnavailableError("no answer"))
    push.run(5)
    assert push.store.markers(REFUSED_OFFER) == []
    assert [attempt["offer"]["use_spot"] for attempt in push.show(instance_id)["attempts"]] == [True, False]
