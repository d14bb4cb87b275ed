"""The alert rules look for what the app really logs: their texts are tried on lines of the running program."""

import logging
import re
from collections.abc import Iterator

import pytest

from shared import runtime
from shared.api.queues import LAUNCHES
from shared.lifecycle.limits import Limits
from tests.functional.world import World
from tests.unit.infra.templates import INFRA, code


def _query(name: str) -> str:
    return re.sub(r"(?m)^//.*$", "", (INFRA / "queries" / f"{name}.kql").read_text("utf-8"))


def _texts(name: str, operator: str) -> list[str]:
    return re.findall(rf'{operator} "([^"]+)"', _query(name))


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What a whole life logs: a launch, a senseless message, a node that does not go away."""
    caplog.set_level(logging.INFO)
    world = World()
    instance_id = world.launch(labels={"simulate.teardown-tries": "100"})
    world.queues.put(LAUNCHES, b"no json")
    world.run(90)
    world.delete(instance_id)
    world.run(Limits().release_alert + 120)
    yield [record.getMessage() for record in caplog.records]
    runtime.use(None)


def test_a_sweep_should_log_the_line_that_the_alert_counts(lines: list[str]) -> None:
    (prefix,) = _texts("sweep", "startswith")
    assert len([line for line in lines if line.startswith(prefix)]) > 10


def test_a_buried_message_should_be_seen(lines: list[str]) -> None:
    texts = _texts("poison", "has")
    assert texts[:2] == ["to queue 'gpulaunch-", "-poison'"]
    assert [line for line in lines if texts[2] in line]


def test_a_node_that_does_not_go_should_be_seen_once(lines: list[str]) -> None:
    (text,) = _texts("teardown", "has")
    assert len([line for line in lines if text in line]) == 1


def test_phases_should_be_read_out_of_the_log(lines: list[str]) -> None:
    (found,) = re.findall(r'extract_all\(@"([^"]+)"', _query("stuck"))
    pattern = re.compile(found)
    phases = {match[2] for line in lines if (match := pattern.match(line))}
    assert {"validating", "provisioning", "ready", "terminating"} <= phases


def test_stuck_should_be_longer_than_any_phase_may_last() -> None:
    (hours,) = re.findall(r"ago\((\d+)h\)", _query("stuck"))
    limits = Limits()
    longest = max(limits.provisioning, limits.installing, limits.loading_model, limits.starting_server)
    assert longest < int(hours) * 3600


def test_every_query_should_be_an_alert_rule() -> None:
    text = code(INFRA / "modules" / "monitoring.bicep")
    loaded = set(re.findall(r"loadTextContent\('\.\./queries/(\w+)\.kql'\)", text))
    assert loaded == {path.stem for path in (INFRA / "queries").glob("*.kql")}
