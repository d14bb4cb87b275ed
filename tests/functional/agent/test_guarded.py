"""An endpoint answers nobody without its key, whatever vLLM itself lets pass; with it, its own agent and its users."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.upstream import KEEPALIVE_SECONDS
from tests.functional.agent.fake_vllm import INFERENCE
from tests.functional.agent.processes import Nodes
from tests.functional.agent.servers import API_KEY, Store

PATHS = (*INFERENCE, "/health", "/metrics", "/v1/models", "/", "/docs", "/ping")


@pytest.mark.parametrize("vllm_args", [[], ["--fake-running", "3"]], ids=str)
def test_nobody_should_get_an_answer_without_the_key(nodes: Nodes, store: Store, vllm_args: list[str]) -> None:
    node = nodes.start(
        pull=nodes.assignment([store.file("config.json", b"{}")], vllm_args=vllm_args), GPULAUNCH_LEASE_SECONDS="600"
    )
    url = f"http://127.0.0.1:{node.reaches('serving').port}"
    wrong: list[dict[str, str]] = [{}, {"Authorization": f"Bearer {API_KEY}x"}, {"X-Api-Key": API_KEY}]
    for headers in wrong:
        for path in PATHS:
            got = {method: httpx.request(method, url + path, headers=headers).status_code for method in ("GET", "POST")}
            assert got == {"GET": 401, "POST": 401}, path
    own: Any = {"Authorization": f"Bearer {API_KEY}"}
    assert httpx.post(f"{url}/v1/chat/completions", headers=own).status_code == 200
    assert httpx.get(f"{url}/health", headers=own).status_code == 200
    assert httpx.post(f"{url}/invocations", headers=own).status_code == 404
    argv = json.loads((node.work / "vllm.argv").read_text())
    assert argv[argv.index("--middleware") + 1] == "gpulaunch_guard.Guard"
    assert API_KEY not in "".join(argv)


def test_a_vllm_that_does_not_ask_the_guard_should_fail_its_node(nodes: Nodes, store: Store) -> None:
    given = nodes.assignment([store.file("config.json", b"{}")], vllm_args=["--fake-unguarded"])
    status = nodes.start(pull=given).reaches("failed")
    assert (status.failure, status.port is None) == ("server_failed", False)
    assert "answers 200 without the endpoint's key" in status.detail


def test_the_guard_should_be_found_beside_modules_of_the_nodes_own(nodes: Nodes, store: Store) -> None:
    given = nodes.assignment([store.file("config.json", b"{}")])
    own: dict[str, Any] = {
        "OPENAI_API_KEY": "sk-of-whoever-logs-in",
        "VLLM_API_KEY": "another",
        "VLLM_LOGGING_LEVEL": "DEBUG",
    }
    node = nodes.start(pull=given, PYTHONPATH="/opt/of-the-image", VLLM_USE_RUST_FRONTEND="1", **own)
    node.reaches("serving")
    entries = Path(f"/proc/{node.vllm_pid()}/environ").read_text().split("\0")
    environ = dict(entry.split("=", 1) for entry in entries if "=" in entry)
    assert environ["PYTHONPATH"] == f"{node.work}/guard:/opt/of-the-image"
    assert environ["VLLM_USE_RUST_FRONTEND"] == "0"
    assert (environ["VLLM_API_KEY"], environ["VLLM_LOGGING_LEVEL"]) == (API_KEY, "DEBUG")
    passed_on = [name for name in environ if name.startswith("GPULAUNCH_") or name == "OPENAI_API_KEY"]
    assert passed_on == ["GPULAUNCH_CLUSTER"], "which is no secret, and tells whose process this is"
    assert int(environ["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"]) > KEEPALIVE_SECONDS, "the gateway closes idle connections first"
