"""Whatever lies in a queue: it is acted upon or buried with one line; nothing is raised, nothing is retried."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import azure.functions as func
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.functional.world import World
from tests.hostile.strategies import json_bytes, json_values

UNKNOWN = "inst-01K0000000000000000000000A"
FUNCTIONS = {"provisioning": "gpulaunch-launches", "teardown": "gpulaunch-teardowns", "health": "gpulaunch-health"}
LIMITS = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    database=None,
)


@pytest.fixture(scope="module")
def busy() -> Iterator[tuple[World, str]]:
    world = World()
    ready = world.launch()
    world.run(100)
    yield world, ready
    found = world.store.load(ready)
    assert found is not None
    assert found.record.phase == "ready"


def near_messages(instance_id: str) -> st.SearchStrategy[bytes]:
    """Messages with the right fields and values that are nearly right."""
    ids = st.sampled_from([instance_id, UNKNOWN, "inst-7ZZZZZZZZZZZZZZZZZZZZZZZZZ"])
    values: dict[str, st.SearchStrategy[Any]] = {
        "instanceId": ids | json_values,
        "lastInstanceId": ids | json_values,
        "epoch": st.integers() | st.just(1) | json_values,
        "step": st.sampled_from(["advance", "teardown", "probe"]) | json_values,
    }
    return st.fixed_dictionaries({}, optional=values).map(lambda value: json.dumps(value).encode())


@LIMITS
@given(data=st.data())
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_no_message_should_raise_and_garbage_should_be_buried_with_one_line(
    busy: tuple[World, str], caplog: pytest.LogCaptureFixture, name: str, data: st.DataObject
) -> None:
    world, ready = busy
    body = data.draw(st.binary(max_size=200) | json_bytes | near_messages(ready))
    poison = f"{FUNCTIONS[name]}-poison"
    before = world.queues.depth(poison)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        sent = func.QueueMessage(id="1", body=body, pop_receipt="1")
        world.functions[name].get_user_function()(sent)
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    buried = world.queues.bodies(poison)[before:]
    assert (buried, len(lines)) in (([], 0), ([body], 1))
    assert all("\n" not in line and "\r" not in line for line in lines)
    if not lines:
        assert ready in json.loads(body).values() or name == "health"


@LIMITS
@given(data=st.data())
@pytest.mark.parametrize("queue", sorted(FUNCTIONS.values()))
def test_no_poisoned_message_should_stop_a_sweep(busy: tuple[World, str], queue: str, data: st.DataObject) -> None:
    world, _ = busy
    world.queues.bury(queue, data.draw(st.binary(max_size=200) | json_bytes | near_messages(UNKNOWN)))
    world.clock.set(world.clock.now().replace(minute=10, second=0))
    world.sweep()


def test_a_poisoned_probe_should_be_forgotten_and_end_nobody(world: World) -> None:
    """Found by looking for garbage: probes were taken for steps, and lay in the poison queue for ever."""
    instance_id = world.launch()
    world.run(100)
    probe = {"instanceId": instance_id, "lastInstanceId": instance_id, "epoch": 1, "step": "probe"}
    world.queues.bury("gpulaunch-health", json.dumps(probe).encode())
    world.run(700)
    assert world.queues.depth("gpulaunch-health-poison") == 0
    assert world.show(instance_id)["phase"] == "ready"
