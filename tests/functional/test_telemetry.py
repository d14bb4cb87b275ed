"""What is told of a launch: one trace from the HTTP call to ready, counters, and log lines with dimensions."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import azure.functions as func
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import NonRecordingSpan, SpanContext, format_trace_id, use_span

from gpulaunch.models.requests import LaunchRequest
from tests.functional.listening import Listening
from tests.functional.world import ADMIN, SEED


@pytest.fixture
def world() -> Iterator[Listening]:
    made = Listening()
    yield made
    made.ear.close()


def of(spans: list[ReadableSpan], instance_id: str) -> list[ReadableSpan]:
    return [span for span in spans if (span.attributes or {}).get("instance_id") == instance_id]


def trace_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return format_trace_id(span.context.trace_id)


def test_a_launch_should_be_one_trace_with_its_phases(world: Listening) -> None:
    first, second = world.launch(), world.launch()
    world.run(90)
    world.delete(first)
    world.run(5)
    spans = of(world.spans(), first)
    assert len({trace_of(span) for span in spans}) == 1
    assert {trace_of(span) for span in spans} & {trace_of(span) for span in of(world.spans(), second)} == set()
    (root,) = [span for span in spans if span.name == "launch"]
    assert root.parent is None
    phases = [span for span in spans if span.name.startswith("phase ")]
    assert [span.name.removeprefix("phase ") for span in phases] == [
        "queued", "validating", "provisioning", "installing", "loading_model", "starting_server", "registering",
        "ready", "terminating",
    ]  # fmt: skip
    assert root.context is not None
    assert {span.parent.span_id for span in phases if span.parent} == {root.context.span_id}
    # Each begins where the one before ended, and together they are the 82 seconds.
    assert [span.end_time for span in phases[:-1]] == [span.start_time for span in phases[1:]]
    began, ready = phases[0].start_time, phases[6].end_time
    assert began is not None
    assert ready is not None
    assert round((ready - began) / 1e9) == 82
    names = {span.name for span in spans}
    assert {"step advance", "step teardown", "provider submit", "provider describe", "provider release"} <= names


def test_steps_should_hang_below_the_launch_and_calls_of_the_provider_below_steps(world: Listening) -> None:
    instance_id = world.launch()
    world.run(90)
    spans = {span.context.span_id: span for span in of(world.spans(), instance_id) if span.context}
    (root,) = [one for one, span in spans.items() if span.name == "launch"]
    for span in spans.values():
        if span.name.startswith(("step ", "phase ")):
            assert span.parent is not None
            assert span.parent.span_id == root
        if span.name.startswith("provider "):
            assert span.parent is not None
            assert spans[span.parent.span_id].name.startswith("step ")


def begin(world: Listening, trace: str) -> str:
    return world.app.launcher.launch(LaunchRequest.model_validate(SEED), None, trace).instance_id


def test_the_hosts_own_request_should_be_the_beginning(world: Listening) -> None:
    instance_id = begin(world, f"00-{0xABCD:032x}-{0x1234:016x}-01")
    # A worker may put another trace around each message.
    with use_span(NonRecordingSpan(SpanContext(0xFFFF, 0x1, is_remote=True))):
        world.run(90)
    spans = of(world.spans(), instance_id)
    assert {trace_of(span) for span in spans} == {f"{0xABCD:032x}"}
    (root,) = [span for span in spans if span.name == "launch"]
    assert root.parent is not None
    assert root.parent.span_id == 0x1234


def test_a_launch_over_http_should_begin_where_the_hosts_trace_is(world: Listening) -> None:
    body = json.dumps(SEED).encode()
    headers = {"X-Admin-Token": ADMIN, "Content-Type": "application/json"}
    request = func.HttpRequest(method="POST", url="http://localhost/api/instances/launch", headers=headers, body=body)
    context = SimpleNamespace(trace_context=SimpleNamespace(trace_parent=f"00-{0xBEEF:032x}-{0x1234:016x}-01"))
    answer = world.functions["launch_instance"].get_user_function()(request, context)
    instance_id = json.loads(answer.get_body())["instance_id"]
    world.run(90)
    assert {trace_of(span) for span in of(world.spans(), instance_id)} == {f"{0xBEEF:032x}"}


@pytest.mark.parametrize("trace", ["", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_a_trace_that_is_none_should_be_no_obstacle(world: Listening, trace: str) -> None:
    instance_id = begin(world, trace)
    world.run(90)
    assert len({trace_of(span) for span in of(world.spans(), instance_id)}) == 1


def test_a_failed_attempt_should_be_a_failed_span_with_its_reason(world: Listening) -> None:
    instance_id = world.launch(labels={"simulate.no-capacity": "1"})
    world.run(120)
    (attempt,) = [span for span in of(world.spans(), instance_id) if span.name == "attempt"]
    assert not attempt.status.is_ok
    assert attempt.status.description == "no_capacity"
    assert (attempt.attributes or {})["region"] == "eastus"
    assert world.metrics()["gpulaunch.failures"] == {("no_capacity", 1.0)}


def test_counters_should_count_launches_phases_durations_and_cost(world: Listening) -> None:
    ids = [world.launch(), world.launch()]
    world.run(90)
    for one in ids:
        world.delete(one)
    world.run(30)
    told = world.points()
    assert [(point.attributes["provider"], point.value) for point in told["gpulaunch.launches"]] == [("azure", 2)]
    entered = {point.attributes["phase"]: point.value for point in told["gpulaunch.phases"]}
    assert entered["ready"] == entered["terminated"] == 2
    (ready,) = told["gpulaunch.ready.duration"]
    assert (ready.count, round(ready.sum)) == (2, 164)
    lasted = {point.attributes["phase"]: point.sum for point in told["gpulaunch.phase.duration"]}
    assert sum(lasted[name] for name in lasted if name not in ("ready", "terminating")) == pytest.approx(164, abs=1)
    (cost,) = told["gpulaunch.cost"]
    shown = sum(world.show(one)["cost_usd"] for one in ids)
    assert cost.value == pytest.approx(shown, abs=1e-4)
    assert cost.value > 0


def test_lines_should_carry_instance_attempt_and_phase(world: Listening) -> None:
    instance_id = world.launch(labels={"team": "a"})
    world.run(90)
    world.delete(instance_id)
    world.run(5)
    lines = [line for line in world.lines() if line.get("instance_id") == instance_id]
    assert {(line["phase"], line["event"]) for line in lines} >= {("provisioning", "phase"), ("ready", "phase")}
    assert all(line["attempt"] == 1 for line in lines if line["phase"] == "ready")
    (cost,) = [line for line in lines if line["event"] == "cost"]
    assert json.loads(str(cost["labels"])) == {"team": "a"}
    # Written inside a span, so that a trace has its lines.
    assert {line["trace"] for line in lines} == {trace_of(of(world.spans(), instance_id)[0])}


def test_a_line_without_dimensions_should_get_those_of_its_step(world: Listening) -> None:
    with world.adapters.telemetry.span("step advance", None, instance_id="inst-1", attempt=2, phase="ready"):
        logging.getLogger("gpulaunch.clouds").warning("the cloud did not say")
    (line,) = [line for line in world.lines() if line["body"] == "the cloud did not say"]
    assert (line["instance_id"], line["attempt"], line["phase"]) == ("inst-1", 2, "ready")


def test_an_error_should_be_noted_by_its_kind_alone(world: Listening) -> None:
    with pytest.raises(RuntimeError), world.adapters.telemetry.span("step advance"):
        raise RuntimeError("sig=abcdefgh12345678")
    (span,) = world.spans()
    assert span.status.description == "RuntimeError"
    assert span.events == ()


_QUIET = """
import json, sys
from tests.functional.world import World
world = World()
instance_id = world.launch()
world.run(90)
phase = world.show(instance_id)["phase"]
print(json.dumps([phase, [m for m in sys.modules if m.startswith(("opentelemetry", "azure.monitor"))]]))
"""


def test_with_nothing_configured_nothing_of_it_should_be_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _QUIET], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    found: Any = json.loads(done.stdout)
    assert found == ["ready", []]
