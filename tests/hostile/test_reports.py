"""Whatever nodes report, in whatever order: no fault of ours, no foreign line in the log, and an end when asked.

`make test` sends a hundred reports; `make fuzz` (`GPULAUNCH_FUZZ=800`) sixteen thousand.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared import app as runtime
from shared.domain.node import NodeNotice, NodePhase
from shared.domain.provider import NodeState, NodeView
from tests.functional.scripted import NodeWorld
from tests.hostile import strategies

REPORTS = 20
"""To one instance, before it is terminated."""
EXAMPLES = int(os.environ.get("GPULAUNCH_FUZZ", "5"))
_OURS = ("gpulaunch", "azure", "hypothesis", "asyncio")
answers: Counter[tuple[str, int]] = Counter()

words = (
    st.text(max_size=60)
    | st.sampled_from(
        ["\x01" * 2000, "x\n2026-11-26 ERROR gpulaunch.auth: admin signed in\x1b[2J", "\u202egnp.exe", "\x85a\u2028b"]
    )
    | st.sampled_from(
        ["<script>alert(1)</script>", "=HYPERLINK(1)", "<!channel>", "hf_abcdefghijklmnopqrstuvwx", "x" * 2001]
    )
)
numbers = st.integers() | st.floats() | st.sampled_from([2**53, 2**53 + 1, 10**308, -1, 1e308, True, "7", None])


def reports(phases: type[NodePhase] = NodePhase) -> st.SearchStrategy[dict[str, Any]]:
    """Reports of the right form, each field with what fits and what doesn't."""
    return st.fixed_dictionaries(
        {"phase": st.sampled_from([*phases]) | words},
        optional={
            "detail": words,
            "failure": st.sampled_from(["server_failed", "install_failed", "port_taken", "a" * 41]) | words,
            "fetched_bytes": numbers,
            "total_bytes": numbers,
            "port": numbers,
            "notice": st.sampled_from([*NodeNotice]) | words,
            "job": st.fixed_dictionaries({"exit_code": numbers}) | strategies.json_values,
            "log_tail": st.lists(words, max_size=6) | words.map(lambda word: [word] * 200),
            "more": strategies.json_values,
        },
    )


calls = st.one_of(
    st.tuples(st.just("progress"), reports()),
    st.tuples(
        st.just("register"),
        st.fixed_dictionaries({"port": numbers}, optional={"address": words, "vllm_version": words}),
    ),
    st.tuples(
        st.just("heartbeat"),
        st.fixed_dictionaries({}, optional={"running_requests": numbers, "waiting_requests": numbers}),
    ),
    st.tuples(
        st.just("notice"),
        st.fixed_dictionaries({"notice": st.sampled_from([*NodeNotice]) | words}, optional={"seconds_left": numbers}),
    ),
    st.tuples(st.just("complete"), st.fixed_dictionaries({"exit_code": numbers}) | strategies.json_values),
    st.tuples(st.sampled_from(["progress", "register", "heartbeat", "notice", "complete"]), strategies.json_values),
)


@pytest.fixture(autouse=True, scope="module")
def counted() -> Iterator[None]:
    yield
    shown = ", ".join(f"{name} {status}: {count}" for (name, status), count in sorted(answers.items()))
    print(f"\n{answers.total()} reports ({shown})")
    runtime.use(None)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=EXAMPLES < 100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    sent=st.lists(st.tuples(calls, st.sampled_from([0, 0, 1, 40])), min_size=REPORTS, max_size=REPORTS),
    ready=st.booleans(),
)
def test_no_reports_should_keep_an_instance_from_its_end(
    caplog: pytest.LogCaptureFixture, sent: list[tuple[tuple[str, Any], int]], ready: bool
) -> None:
    caplog.clear()
    caplog.set_level(logging.INFO)
    world = NodeWorld()
    instance_id = world.to_ready() if ready else world.launch()
    world.run(5)
    for (call, body), seconds in sent:
        answer = world.node(instance_id, call, body)
        answers[call, answer.status] += 1
        assert answer.status in (200, 400, 410, 413, 422), (call, body, answer.body)
        world.run(seconds)
    for path in ("", "/events", "/logs"):
        assert world.call("GET", f"/api/instances/{instance_id}{path}").status == 200
    assert world.call("GET", "/api/instances").status == 200
    assert world.delete(instance_id).status == 202
    world.scripted.view = NodeView(state=NodeState.ABSENT)
    world.run(120)
    assert world.show(instance_id)["phase"] in ("terminated", "failed")
    assert world.running() == 0
    assert world.errors == []
    for record in caplog.records:
        assert record.name.startswith(_OURS), record
        assert record.getMessage().isprintable(), record
