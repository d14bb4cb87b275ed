"""The alert rules look for what the app really logs: their texts are tried on lines of the running program."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from azure.functions.timer import TimerRequest

from shared.lifecycle.timeouts import Timeouts
from shared.queues import LAUNCHES
from tests.functional.exporting import copied
from tests.functional.listening import Listening
from tests.unit.infra.snapshots import NAMES, of
from tests.unit.infra.templates import INFRA, ROOT, code

Line = dict[str, Any]


def _query(name: str) -> str:
    return re.sub(r"(?m)^//.*$", "", (INFRA / "queries" / f"{name}.kql").read_text("utf-8"))


def _event(name: str) -> str:
    (event,) = re.findall(r'Properties\.event\) == "(\w+)"', _query(name))
    return event


@pytest.fixture(scope="module")
def lines() -> Iterator[list[Line]]:
    """What a whole life logs: a launch, messages that are senseless or given up, a node that does not go away."""
    world = Listening()
    instance_id = world.launch(labels={"simulate.teardown-tries": "100"})
    world.queues.put(LAUNCHES, b"no json")
    world.queues.bury(LAUNCHES, f'{{"instanceId": "{instance_id}", "epoch": 1, "step": "advance"}}'.encode())
    world.run(90)
    world.call("GET", "/api/instances", token="not-a-token-of-ours")
    world.delete(instance_id)
    world.run(Timeouts().release_alert + 720)
    world.rebuild(back_up=copied)
    world.functions["backup"].get_user_function()(TimerRequest(past_due=False))
    yield world.lines()
    world.ear.close()


def test_a_sweep_should_log_the_line_that_the_alert_counts(lines: list[Line]) -> None:
    sweeps = [line for line in lines if line.get("event") == _event("sweep")]
    assert len(sweeps) > 10
    assert sweeps[0]["live"] == 1


def test_a_copy_should_log_the_line_that_the_alert_counts(lines: list[Line]) -> None:
    (line,) = [line for line in lines if line.get("event") == _event("backup")]
    assert line["rows"] == 7


def test_messages_that_are_buried_or_given_up_should_be_seen(lines: list[Line]) -> None:
    seen = [line["body"] for line in lines if line.get("event") == _event("poison")]
    assert [text for text in seen if "is buried in its poison queue" in text]
    assert [text for text in seen if "the host gave up a message" in text]
    # And the host's own line, should the app be unable to say anything.
    assert re.findall(r'has "([^"]+)"', _query("poison")) == ["to queue 'gpulaunch-", "-poison'"]


def test_a_wrong_token_should_log_the_line_that_the_alert_counts(lines: list[Line]) -> None:
    (line,) = [line for line in lines if line.get("event") == _event("access")]
    assert set(re.findall(r"Properties\.(\w+)", _query("access"))) <= line.keys()


def test_a_node_that_does_not_go_should_be_seen_once(lines: list[Line]) -> None:
    (text,) = re.findall(r'has "([^"]+)"', _query("teardown"))
    assert len([line for line in lines if text in line["body"] and line.get("event") == _event("teardown")]) == 1


def test_an_instance_should_be_followed_by_its_lines(lines: list[Line]) -> None:
    """As stuck.kql does: the last line with an event and a phase says where an instance is."""
    assert set(re.findall(r"isnotempty\(tostring\(Properties\.(\w+)\)\)", _query("stuck"))) == {"event", "phase"}
    told = [line for line in lines if line.get("event") and line.get("phase")]
    assert {"validating", "provisioning", "ready", "terminating"} <= {line["phase"] for line in told}
    assert told[-1]["phase"] == "terminating"
    assert all(line["instance_id"] for line in told)


def test_stuck_should_be_longer_than_any_phase_may_last() -> None:
    (hours,) = re.findall(r"ago\((\d+)h\)", _query("stuck"))
    limits = Timeouts()
    longest = max(limits.provisioning, limits.installing, limits.loading_model, limits.starting_server)
    assert longest < int(hours) * 3600


def test_every_query_should_be_an_alert_rule() -> None:
    text = code(INFRA / "modules" / "monitoring.bicep")
    loaded = set(re.findall(r"loadTextContent\('\.\./queries/(\w+)\.kql'\)", text))
    assert loaded == {path.stem for path in (INFRA / "queries").glob("*.kql")}


def _titles(case: str) -> set[str]:
    logs = [rule["properties"]["displayName"] for rule in of(case, "Microsoft.Insights/scheduledQueryRules")]
    metrics = [rule["properties"]["description"] for rule in of(case, "Microsoft.Insights/metricAlerts")]
    return {title.partition(". ")[0].removeprefix("gpulaunch: ") for title in [*logs, *metrics]}


@pytest.mark.parametrize("case", NAMES)
def test_every_alert_should_reach_somebody(case: str) -> None:
    (people,) = of(case, "Microsoft.Insights/actionGroups")
    assert people["properties"]["emailReceivers"]
    for rule in of(case, "Microsoft.Insights/scheduledQueryRules"):
        assert rule["properties"]["actions"] == {"actionGroups": [people["id"]]}
        assert rule["properties"]["enabled"]
    for rule in of(case, "Microsoft.Insights/metricAlerts"):
        assert rule["properties"]["actions"] == [{"actionGroupId": people["id"]}]
        assert rule["properties"]["enabled"]


def test_every_alert_should_have_its_meaning_in_the_guide() -> None:
    text = (ROOT / "docs" / "azure.md").read_text("utf-8")
    section = text[text.index("## Alerts") : text.index("## Rotate keys")]
    rows = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")][1:]
    assert _titles("everything") == set(rows)


def test_what_is_watched_should_follow_what_is_deployed() -> None:
    database = {"SkyPilot's API server keeps restarting", "SkyPilot's database does not answer"}
    assert _titles("dev") & database == _titles("prod") & database == database
    assert _titles("existing-server") & database == set()
    assert {case for case in NAMES if "the gateway keeps restarting" in _titles(case)} == {"prod", "everything"}


def test_a_new_deployment_should_raise_no_alert_before_its_first_sweep() -> None:
    """`max` of no rows is null, and null is not before any time."""
    assert "swept = max(TimeGenerated)\n| where swept < ago(10m)" in _query("sweep")
