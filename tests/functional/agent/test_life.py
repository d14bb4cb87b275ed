"""The whole life of a node, in both ways of reporting, and the ways in which it ends."""

import json
import os
import signal
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from gpulaunch.models.times import iso
from shared.domain.node import ModelFile, NodeNotice, NodePhase
from tests.functional.agent.processes import Nodes, eventually, free_port
from tests.functional.agent.servers import AGENT_TOKEN, API_KEY, NODE_TOKEN, SECRETS, ControlPlane, Metadata, Store

CONFIG = b'{"model_type": "llama"}'
LIFE = ["installing", "loading_model", "starting_server", "serving"]


def model(store: Store) -> list[ModelFile]:
    return [store.file("config.json", CONFIG), store.file("weights/model.safetensors", os.urandom(3_000_000))]


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_push_reports_every_phase_registers_once_and_beats(nodes: Nodes, store: Store, control: ControlPlane) -> None:
    control.lease = (200, {"renewed": True, "lease_seconds": 2})
    control.assignment = nodes.assignment(model(store), vllm_args=["--max-model-len", "256"], lease_seconds=2)
    node = nodes.start(push=control)
    eventually(lambda: len(control.bodies("heartbeat")) >= 2)
    phases = control.phases()
    assert phases == [phase for phase in LIFE if phase in phases]
    assert phases[-1] == "serving"
    assert len(control.bodies("register")) == 1
    port = control.bodies("register")[0].port
    assert control.bodies("heartbeat")[0].model_dump() == {"running_requests": 0.0, "waiting_requests": 0.0}
    assert {call.token for call in control.calls} == {NODE_TOKEN}
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    body: dict[str, Any] = {"model": "org/tiny", "messages": []}
    assert httpx.post(url, json=body).status_code == 401
    answer = httpx.post(url, json=body, headers={"Authorization": f"Bearer {API_KEY}"})
    assert answer.json()["model"] == "org/tiny"
    folder = node.work / "model"
    assert (folder / "weights/model.safetensors").read_bytes() == store.objects["/weights/model.safetensors"]
    assert not list(folder.rglob("*.part*"))
    argv = json.loads((node.work / "vllm.argv").read_text())[1:]
    assert argv == [
        *("serve", str(folder), "--served-model-name", "org/tiny", "--host", "0.0.0.0", "--port", str(port)),  # noqa: S104 - vLLM's argument
        *("--middleware", "gpulaunch_guard.Guard", "--max-model-len", "256"),
    ]
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{node.agent_port}/v1/status")

    control.lease = (200, {"renewed": False, "lease_seconds": 0})
    vllm = node.vllm_pid()
    assert node.wait() == 0
    assert not alive(vllm)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("given", "asked"),
    [([], ["--max-model-len", "auto"]), (["--max_model_len=1k"], ["--max_model_len=1k"])],
)
def test_the_longest_context_that_fits_is_asked_for_unless_the_user_names_one(
    nodes: Nodes, store: Store, given: list[str], asked: list[str]
) -> None:
    port = free_port()
    node = nodes.start(pull=nodes.assignment(model(store), port=port, vllm_args=given))
    node.reaches("serving")
    argv = json.loads((node.work / "vllm.argv").read_text())
    assert argv[argv.index("gpulaunch_guard.Guard") + 1 :] == asked


def test_pull_answers_whoever_has_the_token_and_refuses_others(nodes: Nodes, store: Store) -> None:
    node = nodes.start(pull=nodes.assignment(model(store), port=free_port()))
    status = node.reaches("serving")
    assert status.fetched_bytes == status.total_bytes == len(CONFIG) + 3_000_000
    assert status.port is not None
    assert any("INFO loading" in line for line in status.log_tail)
    assert node.ask("wrong").status_code == 401
    assert "phase" not in node.ask("wrong").text
    assert httpx.get(f"http://127.0.0.1:{node.agent_port}/").status_code == 401


@pytest.mark.parametrize("way", ["push", "pull"])
def test_secrets_are_nowhere_to_be_seen(nodes: Nodes, store: Store, control: ControlPlane, way: str) -> None:
    job = {"command": ["sh", "-c", "tr '\\0' '\\n' </proc/self/environ >seen.environ; sleep 30"]}
    control.assignment = nodes.assignment(model(store), job=job)
    node = nodes.start(push=control) if way == "push" else nodes.start(pull=control.assignment)
    vllm = node.vllm_pid()
    eventually(lambda: (node.work / "seen.environ").exists() and "PATH" in (node.work / "seen.environ").read_text())
    environ = Path(f"/proc/{vllm}/environ").read_text()
    assert f"VLLM_API_KEY={API_KEY}" in environ
    seen = (node.work / "seen.environ").read_text()
    assert f"OPENAI_API_KEY={API_KEY}" in seen
    assert "OPENAI_BASE_URL=http://127.0.0.1:" in seen
    pids = [node.process.pid, *(int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())]
    lines = [_read(f"/proc/{pid}/cmdline") for pid in pids]
    for secret in SECRETS:
        assert not [line for line in lines if secret in line]
        assert secret not in node.log()
        if secret != API_KEY:
            assert secret not in environ + seen
    for name in ("GPULAUNCH_ASSIGNMENT", "GPULAUNCH_NODE_TOKEN", "GPULAUNCH_AGENT_TOKEN"):
        assert name not in environ + seen
    if way == "pull":
        answer = eventually(lambda: (text := node.ask().text) and "the key is" in text and text)
        assert not any(secret in str(answer) for secret in SECRETS)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def test_a_job_runs_once_against_the_endpoint_and_its_exit_code_is_reported(
    nodes: Nodes, store: Store, control: ControlPlane
) -> None:
    ask = "r = u.Request(os.environ['OPENAI_BASE_URL'] + '/models', headers={'Authorization': k})"
    script = f"import os, sys, urllib.request as u; k = 'Bearer ' + os.environ['OPENAI_API_KEY']; {ask}"
    script += "; sys.exit(40 + u.urlopen(r).status // 100)"
    control.assignment = nodes.assignment(model(store), job={"command": ["python3", "-c", script]})
    nodes.start(push=control)
    eventually(lambda: control.bodies("complete"))
    assert [body.exit_code for body in control.bodies("complete")] == [42]


def test_what_a_job_said_is_reported_with_its_end_and_without_the_key(
    nodes: Nodes, store: Store, control: ControlPlane
) -> None:
    command = ["sh", "-c", "echo with $OPENAI_API_KEY; echo no such file: data.jsonl >&2; exit 3"]
    control.assignment = nodes.assignment(model(store), job={"command": command})
    nodes.start(push=control)
    eventually(lambda: control.bodies("complete"))
    (told,) = [body for body in control.bodies("progress") if body.job is not None]
    assert (told.job.exit_code, told.log_tail) == (3, ["with [hidden]", "no such file: data.jsonl"])


def test_a_job_that_cannot_start_is_reported_when_asked(nodes: Nodes, store: Store) -> None:
    node = nodes.start(pull=nodes.assignment(model(store), job={"command": ["no-such-program; touch owned"]}))
    node.reaches("serving")
    job = eventually(lambda: getattr(node.status(), "job", None))
    assert job.exit_code == 127
    assert not list(node.work.rglob("owned"))


def test_a_lease_that_is_not_renewed_ends_the_node(nodes: Nodes, store: Store) -> None:
    node = nodes.start(pull=nodes.assignment(model(store)), GPULAUNCH_LEASE_SECONDS="1", **nodes.slurm())
    node.reaches("serving")
    vllm = node.vllm_pid()
    assert node.wait() == 1
    assert "lease_lost" in node.log()
    assert nodes.scancelled() == "4711\n"
    assert not alive(vllm)


def test_refusals_do_not_renew_the_lease(nodes: Nodes, store: Store, control: ControlPlane) -> None:
    control.assignment = nodes.assignment(model(store), lease_seconds=1)
    control.lease = (401, {"renewed": True, "lease_seconds": 900})
    node = nodes.start(push=control, **nodes.slurm())
    assert node.wait() == 1
    assert control.calls
    assert "lease_lost" in node.log()
    assert nodes.scancelled() == "4711\n"


def test_questions_with_the_token_keep_a_node_and_others_do_not(nodes: Nodes, store: Store) -> None:
    node = nodes.start(pull=nodes.assignment(model(store)), GPULAUNCH_LEASE_SECONDS="1", **nodes.slurm())
    node.reaches("serving")
    until = datetime.now(UTC) + timedelta(seconds=1.4)
    while datetime.now(UTC) < until:
        assert node.ask(AGENT_TOKEN).status_code == 200
    assert node.process.poll() is None
    asked = 0
    while node.process.poll() is None and asked < 2000:
        try:
            assert node.ask("wrong").status_code == 401
            asked += 1
        except httpx.TransportError:
            break
    assert node.wait() == 1


@pytest.mark.parametrize("lease", [(410, {"code": "gone"}), (200, {"renewed": False, "lease_seconds": 0})])
def test_a_node_whose_attempt_is_over_ends_at_once_whatever_it_does(
    nodes: Nodes, store: Store, control: ControlPlane, lease: tuple[int, object]
) -> None:
    store.hold_after = 0
    control.assignment = nodes.assignment(model(store))
    control.lease = lease
    node = nodes.start(push=control, **nodes.slurm())
    assert node.wait() == 0
    assert nodes.scancelled() == "4711\n"


def test_the_deadline_ends_the_node_without_the_control_plane(nodes: Nodes) -> None:
    soon = iso(datetime.now(UTC) + timedelta(seconds=1))
    node = nodes.start(
        GPULAUNCH_URL=f"http://127.0.0.1:{free_port()}",
        GPULAUNCH_NODE_TOKEN=NODE_TOKEN,
        GPULAUNCH_DEADLINE=soon,
        **nodes.slurm(),
    )
    assert node.wait() == 1
    assert "deadline" in node.log()
    assert nodes.scancelled() == "4711\n"


def test_sigterm_is_passed_on_before_the_node_ends(nodes: Nodes, store: Store, control: ControlPlane) -> None:
    control.assignment = nodes.assignment(model(store))
    node = nodes.start(push=control)
    eventually(lambda: control.bodies("register"))
    vllm = node.vllm_pid()
    node.process.send_signal(signal.SIGTERM)
    assert node.wait() == 1
    assert [body.notice for body in control.bodies("notice")] == [NodeNotice.SIGTERM]
    assert not alive(vllm)


def test_pull_shows_the_notice_and_requests_may_finish(nodes: Nodes, store: Store) -> None:
    node = nodes.start(pull=nodes.assignment(model(store), vllm_args=["--fake-running", "1"]))
    node.reaches("serving")
    node.process.send_signal(signal.SIGTERM)
    status = eventually(lambda: found if (found := node.status()) and found.notice else None)
    assert (status.notice, status.phase) == (NodeNotice.SIGTERM, NodePhase.SERVING)
    assert alive(node.vllm_pid())


def test_azures_eviction_notice_is_passed_on_and_the_group_deleted(
    nodes: Nodes, store: Store, control: ControlPlane, metadata: Metadata
) -> None:
    control.assignment = nodes.assignment(model(store))
    urls: dict[str, Any] = {"GPULAUNCH_METADATA_URL": metadata.url, "GPULAUNCH_MANAGEMENT_URL": metadata.url}
    node = nodes.start(push=control, GPULAUNCH_CLOUD="azure", **urls)
    eventually(lambda: control.bodies("register"))
    metadata.events = [{"EventType": "Freeze", "NotBefore": "", "Resources": ["vm-1"]}]
    assert not control.bodies("notice")
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    metadata.events = [{"EventType": "Preempt", "EventStatus": "Scheduled", "NotBefore": moment, "Resources": ["vm-1"]}]
    notice = eventually(lambda: control.bodies("notice"))[0]
    assert notice.notice is NodeNotice.EVICTION
    assert 20 < notice.seconds_left < 31
    deleted = eventually(lambda: [request for request in metadata.requests if request[0] == "DELETE"])[0]
    assert deleted[1].startswith(f"/subscriptions/sub-1/resourceGroups/{metadata.group}?api-version=")
    assert deleted[2] == "Bearer managed-identity-token"
    assert "managed-identity-token" not in node.log()
    assert not alive(node.vllm_pid())


def test_a_shared_group_is_never_deleted_the_machine_is_deallocated(nodes: Nodes, metadata: Metadata) -> None:
    metadata.group = "everybody"
    urls: dict[str, Any] = {"GPULAUNCH_METADATA_URL": metadata.url, "GPULAUNCH_MANAGEMENT_URL": metadata.url}
    nodes.start(pull=nodes.assignment([]), GPULAUNCH_CLOUD="azure", GPULAUNCH_DEADLINE=iso(datetime.now(UTC)), **urls)
    posted = eventually(lambda: [request for request in metadata.requests if request[0] == "POST"])[0]
    assert "/everybody/providers/Microsoft.Compute/virtualMachines/vm-1/deallocate?" in posted[1]
    assert not [request for request in metadata.requests if request[0] == "DELETE"]


def test_a_second_agent_of_the_attempt_exits_quietly(nodes: Nodes, store: Store) -> None:
    first = nodes.start(pull=nodes.assignment(model(store)))
    first.reaches("serving")
    second = nodes.start(pull=nodes.assignment(model(store)), **nodes.slurm())
    assert second.wait() == 0
    assert "another agent" in second.log()
    assert nodes.scancelled() == ""
    assert first.reaches("serving")


def test_children_do_not_outlive_a_killed_agent(nodes: Nodes, store: Store) -> None:
    node = nodes.start(pull=nodes.assignment(model(store), job={"command": ["sh", "-c", "echo $$ >job.pid; sleep 60"]}))
    vllm = node.vllm_pid()
    job = int(eventually(lambda: (node.work / "job.pid").exists() and (node.work / "job.pid").read_text()))
    node.process.kill()
    eventually(lambda: not alive(vllm) and not alive(job))


def test_a_server_that_ends_is_a_failure_with_its_code_and_last_line(
    nodes: Nodes, store: Store, control: ControlPlane
) -> None:
    control.assignment = nodes.assignment(model(store), vllm_args=["--fake-exit", "3"])
    node = nodes.start(push=control)
    failed = eventually(lambda: [body for body in control.bodies("progress") if body.failure])[0]
    assert (failed.phase, failed.failure) == (NodePhase.FAILED, "server_failed")
    assert failed.detail == "vLLM ended with 3: ValueError: no GPU has that much memory"
    assert "INFO the key is [hidden]" in failed.log_tail
    assert node.process.poll() is None, "stays until the control plane ends it: the machine is still there"


def test_an_engine_that_fails_is_reported_with_its_cause_and_the_lines_around_it(
    nodes: Nodes, store: Store, control: ControlPlane
) -> None:
    control.assignment = nodes.assignment(model(store), vllm_args=["--fake-engine-failure"])
    nodes.start(push=control)
    failed = eventually(lambda: [body for body in control.bodies("progress") if body.failure])[0]
    assert failed.detail == "vLLM ended with 1: torch.OutOfMemoryError: CUDA out of memory."
    assert any("CUDA out of memory" in line for line in failed.log_tail)
    assert "See root cause above" in failed.log_tail[-1]
    assert len(failed.log_tail) <= 100


def test_a_port_that_becomes_free_in_time_is_used(nodes: Nodes, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    blocker = Store()
    port = int(blocker.url.rpartition(":")[2])
    try:
        node = nodes.start(pull=nodes.assignment(model(store), port=port))
        node.reaches("starting_server")
        assert node.process.poll() is None
    finally:
        blocker.close()
    assert node.reaches("serving").port == port
