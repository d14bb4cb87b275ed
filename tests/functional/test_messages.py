"""Messages are hints: lost, doubled, late, senseless ones do no harm; steps that keep failing end their instance."""

import json
import logging

import pytest

from shared.domain.messages import StepMessage
from shared.queues import LAUNCHES, PROBES, QUEUES, TEARDOWNS
from tests.functional.world import World

STRANGE = [
    b"",
    b"no json",
    b"\xff\xfe",
    b"{}",
    b"[1]",
    b'{"instanceId": "inst-1", "epoch": 1, "step": "advance"}',
    b'{"instanceId": "inst-01K0000000000000000000000A", "epoch": 1, "step": "a\\nline"}',
    b'{"instanceId": "inst-01K0000000000000000000000A", "epoch": 1, "step": "advance"}',
]


@pytest.mark.parametrize("queue", [LAUNCHES, TEARDOWNS])
@pytest.mark.parametrize("body", STRANGE)
def test_a_senseless_message_should_end_in_the_poison_queue_with_one_line(
    world: World, caplog: pytest.LogCaptureFixture, queue: str, body: bytes
) -> None:
    caplog.set_level(logging.INFO)
    instance_id = world.launch()
    world.queues.put(queue, body)
    world.run(1)
    assert world.queues.bodies(f"{queue}-poison") == [body]
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert "poison queue" in errors[0].getMessage()
    world.run(700)
    assert world.queues.bodies(f"{queue}-poison") == [body]
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1
    assert world.show(instance_id)["phase"] == "ready"


def test_a_senseless_probe_should_end_in_the_poison_queue(world: World) -> None:
    world.queues.put(PROBES, b'{"instanceId": "all of them"}')
    world.run(1)
    assert world.queues.depth(f"{PROBES}-poison") == 1


def test_doubled_messages_should_become_one_chain(world: World) -> None:
    instance_id = world.launch()
    for _ in range(5):
        world.queues.put(LAUNCHES, world.queues.bodies(LAUNCHES)[0])
    world.run(40)
    assert world.queues.depth(LAUNCHES) == 1
    world.run(60)
    assert world.show(instance_id)["phase"] == "ready"
    assert len(world.cloud.nodes()) == 1
    assert [event["type"] for event in world.events(instance_id)].count("attempt_started") == 1


@pytest.mark.parametrize(("earlier", "phase"), [(True, "terminating"), (False, "terminated")])
def test_a_message_of_an_earlier_epoch_should_change_nothing_and_one_of_this_epoch_should(
    world: World, earlier: bool, phase: str
) -> None:
    instance_id = world.launch()
    old = world.queues.bodies(LAUNCHES)[0]
    world.run(40)
    world.delete(instance_id)
    (own,) = world.queues.bodies(TEARDOWNS)
    for queue in (LAUNCHES, TEARDOWNS):  # so that the one message is all that could act
        for message in world.queues.take(queue, limit=32):
            world.queues.forget(message)
    world.queues.put(LAUNCHES, old if earlier else own)
    world.run(10, sweeping=False)
    assert (world.show(instance_id)["phase"], len(world.cloud.nodes())) == (phase, int(earlier))


def test_all_messages_lost_should_only_cost_time(world: World) -> None:
    instance_id = world.launch()
    for _ in range(40):
        for queue in QUEUES:
            for message in world.queues.take(queue, limit=32):
                world.queues.forget(message)
        world.run(29.5)
        if world.show(instance_id)["phase"] == "ready":
            break
    assert world.show(instance_id)["phase"] == "ready"
    assert len(world.cloud.nodes()) == 1


def test_a_step_that_always_fails_should_fail_the_instance_and_take_its_node_away(world: World) -> None:
    instance_id = world.launch()
    world.run(40)
    assert len(world.cloud.nodes()) == 1
    for _ in range(30):
        world.cloud.calls.fail_next("get", RuntimeError("a fault of the program"))
    world.run(300)
    assert {str(error) for error in world.errors} == {"a fault of the program"}
    assert 15 <= len(world.errors) < 30
    world.errors.clear()
    shown = world.show(instance_id)
    assert (shown["phase"], shown["ending"]["reason"]) == ("failed", "poison_message")
    assert world.cloud.nodes() == []
    assert world.queues.depth(f"{LAUNCHES}-poison") == 0


def test_a_step_that_fails_some_times_should_not(world: World) -> None:
    instance_id = world.launch()
    world.run(40)
    for _ in range(3):
        world.cloud.calls.fail_next("get", RuntimeError("a fault that passes"))
    world.run(100)
    world.errors.clear()
    assert world.show(instance_id)["phase"] == "ready"


@pytest.mark.parametrize("given_up", [1, 2])
def test_a_step_whose_hosts_were_killed_should_go_on(world: World, given_up: int) -> None:
    instance_id = world.launch()
    world.run(40)
    for _ in range(5 * given_up):
        world.cloud.calls.fail_next("get", RuntimeError("the host was killed"))
    world.run(300)
    world.errors.clear()
    shown = world.show(instance_id)
    assert (shown["phase"], len(shown["attempts"])) == ("ready", 1)
    assert world.queues.depth(f"{LAUNCHES}-poison") == 0


def test_a_message_given_up_after_its_step_was_done_should_mean_nothing(world: World) -> None:
    instance_id = world.launch()
    world.run(100)
    for epoch in (0, 1, 1, 1):
        message = StepMessage(instanceId=instance_id, epoch=epoch, step="advance")
        world.queues.bury(LAUNCHES, message.model_dump_json().encode())
    world.run(700)
    assert world.queues.depth(f"{LAUNCHES}-poison") == 0
    assert world.show(instance_id)["phase"] == "ready"


def test_a_step_of_a_later_version_should_bring_the_instance_forward(world: World) -> None:
    """A message is a hint: what is due, the record says, whatever a later version calls it."""
    instance_id = world.launch()
    (own,) = world.queues.bodies(LAUNCHES)
    world.queues.put(LAUNCHES, own.replace(b'"advance"', b'"inspect"'))
    for message in world.queues.take(LAUNCHES, 1):
        world.queues.forget(message)
    world.run(90)
    assert world.show(instance_id)["phase"] == "ready"
    assert world.queues.depth(f"{LAUNCHES}-poison") == 0


def test_steps_of_a_later_version_that_an_older_one_buried_should_fail_nothing(world: World) -> None:
    world.run(590)  # the next sweep but one reads the poison queues, while the instance starts
    instance_id = world.launch()
    (own,) = world.queues.take(LAUNCHES)
    world.queues.forget(own)
    for _ in range(5):
        world.queues.bury(LAUNCHES, own.body.replace(b'"advance"', b'"inspect"'))
    world.run(150)
    assert world.show(instance_id)["phase"] == "ready"
    assert world.queues.depth(f"{LAUNCHES}-poison") == 0


def test_messages_should_carry_names_and_numbers_only(world: World) -> None:
    world.launch(labels={"team": "secret-project"})
    world.run(100)
    for queue in QUEUES:
        for body in world.queues.bodies(queue):
            assert set(json.loads(body)) <= {"instanceId", "lastInstanceId", "epoch", "step"}
