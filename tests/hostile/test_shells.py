"""What a user writes never becomes a shell's text, neither in SkyPilot's task nor on the node."""

import base64
import gzip
import json
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from gpulaunch.models.requests import LaunchRequest
from shared.agent.task import node_environment, run_script
from shared.auth import Deriver, Purpose
from shared.backends.skypilot.task import task_for
from shared.domain.node import Assignment
from shared.domain.provider import LaunchSpec
from shared.settings import Settings
from tests.functional.agent.processes import Nodes, eventually
from tests.functional.agent.servers import Store
from tests.functional.scripted import NodeWorld
from tests.hostile.strategies import shell_text
from tests.twins.factories import DEPLOYMENT, make_attempt, make_record

KEY = "key-of-the-tests-0123456789-abcdef"

NASTY = [
    "$(touch owned)",
    "`touch owned`",
    "; touch owned",
    "&& touch owned #",
    "'\"; touch owned",
    "${IFS}",
    "-x\\",
    "*",
]
DERIVER = Deriver(SecretStr("k" * 32))
SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:/._=+-,")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
@given(args=st.lists(shell_text, max_size=4), command=st.lists(shell_text, min_size=1, max_size=3), push=st.booleans())
def test_the_whole_task_should_be_free_of_what_the_user_wrote(args: list[str], command: list[str], push: bool) -> None:
    fields: dict[str, Any] = {"model_name": "org/name", "instance_type": "Standard_NV36ads_A10_v5"}
    given_args = [arg for arg in args if "\n" not in arg and "\t" not in arg]
    given_command = [arg for arg in command if "\n" not in arg and "\t" not in arg] or ["$(x)"]
    request = LaunchRequest.model_validate(fields | {"vllm_args": given_args, "job": {"command": given_command}})
    record, attempt = make_record(request=request, mode="real", attempts=[make_attempt()]), make_attempt()
    assignment = Assignment(
        instance_id=record.instance_id,
        attempt=1,
        model_name=request.model_name,
        files=[],
        vllm_args=request.vllm_args,
        api_key="gl-" + "k" * 43,
        port=8000,
        deadline_at=record.deadline_at,
        lease_seconds=900,
        job=request.job,
    )
    public = "https://app.example.com" if push else None
    given_settings = Settings.model_validate({"GPULAUNCH_MASTER_KEY": KEY, "GPULAUNCH_PUBLIC_URL": public})
    made = node_environment(given_settings, DERIVER, record, attempt, assignment)
    launch_spec = LaunchSpec(
        cluster_name=attempt.cluster_name,
        instance_id=record.instance_id,
        attempt=1,
        offer=attempt.offer,
        labels={},
        environment=made.environment,
        secrets=made.secrets,
        started_at=attempt.started_at,
        deployment=DEPLOYMENT,
    )
    task = cast("dict[str, Any]", task_for(launch_spec, run_script(), [8000], "default"))
    assert task["run"] == run_script()
    assert set(task) == {"name", "resources", "envs", "secrets", "run"}
    for value in (*task["envs"].values(), *task["secrets"].values()):
        assert set(value) <= SAFE
    if not push:
        packed = gzip.decompress(base64.b64decode(made.secrets["GPULAUNCH_ASSIGNMENT"]))
        assert Assignment.model_validate_json(packed) == assignment


def test_the_node_should_get_hostile_arguments_as_they_are_and_run_none(tmp_path: Path) -> None:
    nodes, store = Nodes(tmp_path), Store()
    try:
        seen = tmp_path / "seen.json"
        script = f"import json, sys; open({str(seen)!r}, 'w').write(json.dumps(sys.argv[1:]))"
        job = {"command": ["python3", "-c", script, *NASTY]}
        assignment = nodes.assignment([store.file("config.json", b"{}")], vllm_args=NASTY, job=job)
        node = nodes.start(pull=assignment)
        assert json.loads(eventually(lambda: seen.exists() and seen.read_text())) == NASTY
        argv = json.loads((node.work / "vllm.argv").read_text())
        assert argv[-len(NASTY) :] == NASTY
        assert not list(tmp_path.rglob("owned"))
    finally:
        for started in nodes.started:
            started.process.kill()
            started.process.wait()
        store.close()


@pytest.mark.parametrize("text", NASTY)
@pytest.mark.parametrize("field", ["model_name", "name", "instance_type", "gpu", "region"])
def test_names_should_hold_nothing_that_a_shell_knows(text: str, field: str) -> None:
    body = {"model_name": "m", "instance_type": "x", field: text}
    world = NodeWorld()
    answer = world.call("POST", "/api/instances/launch", body)
    assert answer.status == 422
    assert field in {error["field"] for error in answer.json["errors"]}


def test_a_token_of_another_node_or_attempt_should_open_nothing() -> None:
    """Beside tests/functional/test_node_calls.py: every call, with every token that is not its own."""
    world = NodeWorld()
    mine, other = world.to_ready(), world.launch()
    derive = world.adapters.deriver.derive
    wrong = [derive(other, 1, Purpose.NODE), derive(mine, 1, Purpose.AGENT)]
    wrong += [
        derive(mine, 1, Purpose.ENDPOINT),
        world.adapters.deriver.endpoint_key(mine, 1),
        "admin-token-of-the-tests",
    ]
    for call in ("register", "progress", "heartbeat", "notice", "complete", "assignment"):
        for token in wrong:
            assert world.node(mine, call, {}, token=token).status == 401, call
    for path in ("/api/instances", f"/api/instances/{mine}/credentials", "/api/config"):
        assert world.call("GET", path, token=world.token(mine)).status == 401
    assert world.show(mine)["phase"] == "ready"
