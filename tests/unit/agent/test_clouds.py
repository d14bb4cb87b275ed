"""Interruption notices and the end of the machine, by cloud."""

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shared.agent.node.clouds.base import CloudNode, Interruption
from shared.agent.node.clouds.slurm import job_id
from shared.agent.node.host import cloud_node, end_machine, watch_interruption
from shared.agent.node.log import Log
from shared.agent.node.state import State
from tests.unit.agent.fakes import Answer, Answers, FakeClock, FakeHttp, always, json_answer, node_config


class EndedError(Exception):
    """Stands for the machine's death."""


def cloud(name: str, answer: Answers, code: int = 0) -> tuple[CloudNode | None, FakeHttp, FakeClock, list[list[str]]]:
    clock, transport, ran = FakeClock(), FakeHttp(answer), list[list[str]]()

    def run(command: list[str], **_: object) -> SimpleNamespace:
        ran.append(command)
        return SimpleNamespace(returncode=code)

    node = cloud_node(node_config(GPULAUNCH_CLOUD=name), transport, clock, Log(), run)
    return node, transport, clock, ran


def vm(name: str, answer: Answers) -> tuple[CloudNode, FakeHttp, FakeClock]:
    node, transport, clock, _ = cloud(name, answer)
    assert node is not None
    assert node.is_virtual_machine
    return node, transport, clock


def end(name: str, answer: Answers) -> FakeClock:
    node, _, clock, _ = cloud(name, answer)
    with pytest.raises(EndedError):
        end_machine(node, clock, Log())
    return clock


@pytest.mark.parametrize(
    ("event", "found"),
    [
        ({"EventType": "Preempt", "NotBefore": "", "Resources": ["vm-1"]}, Interruption(None)),
        ({"EventType": "Preempt", "NotBefore": "Mon, 02 Feb 2026 02:40:30 GMT", "Resources": []}, Interruption(30.0)),
        ({"EventType": "Preempt", "NotBefore": "", "Resources": ["vm-2"]}, None),
        ({"EventType": "Reboot", "NotBefore": "", "Resources": ["vm-1"]}, None),
    ],
)
def test_azures_notices(event: dict[str, Any], found: Interruption | None) -> None:
    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        assert headers["Metadata"] == "true"
        return json_answer(200, {"name": "vm-1"} if "compute" in url else {"Events": [event]})

    assert vm("azure", answer)[0].interruption() == found


def test_amazons_notice_needs_a_session() -> None:
    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        if method == "PUT":
            return Answer(200, b"session")
        assert headers["X-aws-ec2-metadata-token"] == "session"
        return json_answer(200, {"action": "terminate", "time": "2026-02-02T02:41:00Z"}) if later else Answer(404)

    later = False
    watched, transport, _ = vm("aws", answer)
    assert watched.interruption() is None
    later = True
    assert watched.interruption() == Interruption(60.0)
    assert [method for method, _, _ in transport.seen] == ["PUT", "GET", "GET"]


@pytest.mark.parametrize(("text", "found"), [(b"TRUE", Interruption(30.0)), (b"FALSE", None)])
def test_googles_notice(text: bytes, found: Interruption | None) -> None:
    assert vm("gcp", always(lambda: Answer(200, text)))[0].interruption() == found


def test_a_silent_metadata_service_is_asked_again() -> None:
    over, asked = threading.Event(), [0]

    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        asked[0] += 1
        if asked[0] == 1:
            raise TimeoutError
        return Answer(200, b"TRUE")

    watched, _, clock = vm("gcp", answer)
    state = State(Log())
    watch_interruption(watched, state, clock, Log(), over)
    assert (state.notice, clock.waited) == ("eviction", [30])


def test_azure_asks_again_and_then_for_the_next_best() -> None:
    seen: list[str] = []

    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        if "compute?" in url:
            return json_answer(200, {"subscriptionId": "s", "resourceGroupName": "gl-1-aaaa-eastus", "name": "vm-1"})
        if "oauth2" in url:
            return json_answer(200, {"access_token": "t"})
        seen.append(method)
        if seen.count("POST") == 1:
            raise EndedError
        return Answer(202)

    clock = end("azure", answer)
    assert seen == ["DELETE", "DELETE", "DELETE", "DELETE", "POST"]
    assert clock.waited == [60, 60, 60]


def test_a_group_of_another_cluster_with_our_name_in_front_is_not_ours() -> None:
    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        if "compute?" in url:
            return json_answer(200, {"subscriptionId": "s", "resourceGroupName": "gl-10-aaaa-eastus", "name": "vm-1"})
        if "oauth2" in url:
            return json_answer(200, {"access_token": "t"})
        assert method == "POST"
        raise EndedError

    end("azure", answer)


def test_google_deletes_its_own_instance() -> None:
    answers = {
        "token": b'{"access_token": "t"}',
        "zone": b"projects/1/zones/us-central1-a",
        "project-id": b"p",
        "name": b"n",
    }

    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        if method == "DELETE":
            assert headers["Authorization"] == "Bearer t"
            assert url.endswith("/projects/p/zones/us-central1-a/instances/n")
            raise EndedError
        return Answer(200, answers[url.rpartition("/")[2]])

    end("gcp", answer)


def test_amazon_shuts_down_until_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    node, _, clock, ran = cloud("aws", always(lambda: Answer(404)), code=1)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    def wait(event: threading.Event, seconds: float) -> bool:
        if len(ran) == 3:
            raise EndedError
        return False

    clock.wait = wait
    with pytest.raises(EndedError):
        end_machine(node, clock, Log())
    assert ran == [["sudo", "-n", "shutdown", "-h", "now"]] * 3


def test_without_rights_a_pod_ends_only_its_processes() -> None:
    node, _, clock, ran = cloud("kubernetes", always(lambda: Answer(404)))
    end_machine(node, clock, Log())
    assert not ran
    assert clock.waited == [10, 10, 10]


def test_on_an_unknown_cloud_nothing_is_tried() -> None:
    node, transport, clock, ran = cloud("", always(lambda: Answer(404)))
    end_machine(node, clock, Log())
    assert not ran
    assert not transport.seen


def test_the_slurm_job_is_found_in_the_environment_the_group_or_an_ancestor(tmp_path: Path) -> None:
    assert job_id({"SLURM_JOB_ID": "12"}, tmp_path) == "12"
    assert job_id({}, tmp_path) is None
    for pid, group, parent, environ in (("self", "0::/x", "77", ""), ("77", "", "1", "A=1\0SLURM_JOB_ID=34\0")):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cgroup").write_text(group)
        (tmp_path / pid / "stat").write_text(f"5 (py) thon) S {parent} 5")
        (tmp_path / pid / "environ").write_text(environ)
    assert job_id({}, tmp_path) == "34"
    (tmp_path / "self" / "cgroup").write_text("0::/system.slice/slurmstepd.scope/job_56/step_0")
    assert job_id({}, tmp_path) == "56"
