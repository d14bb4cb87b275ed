"""A bare `sky launch` of a task that serves the tiny model: the yardstick for this project's own times."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

import httpx

from tests.e2e.stack import model
from tests.e2e.stack.assembly import Stack
from tests.e2e.stack.processes import free_port, wait_until

CLUSTER = "bare"
# Half a minute was seen on two idle cores; SkyPilot's own work goes on beside it.
HEALTHY_SECONDS = 300
# `down` returns while Slurm still completes the job, whose epilog may take ten seconds.
GONE_SECONDS = 60


def bare_launch(stack: Stack) -> dict[str, float]:
    """Launch, serve, ask, take down; returns the seconds of each stage in order.

    Asserts on the way that the endpoint refuses a request without its key and answers one with it, and that no Slurm
    job is left. Raises StackError when a stage takes too long.
    """
    port, key = free_port(), secrets.token_urlsafe(16)
    times: dict[str, float] = {}
    clock = time.monotonic()

    def done(stage: str) -> None:
        nonlocal clock
        times[stage] = time.monotonic() - clock
        clock = time.monotonic()

    task = stack.folder / "bare.yaml"
    # JSON is YAML.
    task.write_text(json.dumps(_task(stack, port, key)))
    stack.sky.cli("launch", "--yes", "--detach-run", "--cluster", CLUSTER, str(task), seconds=300)
    done("sky launch")
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            wait_until(lambda: _healthy(client), seconds=HEALTHY_SECONDS, what="a healthy vLLM")
            done("job start and vLLM until healthy")
            question = {"model": model.NAME, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
            refused = client.post("/v1/chat/completions", json=question)
            assert refused.status_code == 401, f"without the key: {refused.status_code} {refused.text}"
            headers = {"Authorization": f"Bearer {key}"}
            answer = client.post("/v1/chat/completions", json=question, headers=headers)
            assert answer.status_code == 200, f"with the key: {answer.status_code} {answer.text}"
            assert answer.json()["usage"]["completion_tokens"] > 0
            done("chat completion")
    finally:
        stack.sky.cli("down", "--yes", CLUSTER, seconds=180)
        done("sky down")
    wait_until(lambda: not stack.slurm.squeue(), seconds=GONE_SECONDS, what="an empty squeue")
    done("squeue empty")
    return times


def _task(stack: Stack, port: int, key: str) -> dict[str, Any]:
    serve = (
        f"exec {stack.vllm.executable} serve {stack.model} --served-model-name {model.NAME} --host 127.0.0.1 "
        f"--port {port} --max-model-len {model.MAX_LENGTH} --enforce-eager"
    )
    return {
        "name": CLUSTER,
        "resources": {"infra": stack.infra, "accelerators": "A10:1"},
        "envs": stack.vllm.variables(),
        "secrets": {"VLLM_API_KEY": key},
        "run": serve,
    }


def _healthy(client: httpx.Client) -> bool:
    try:
        return client.get("/health").is_success
    except httpx.TransportError:
        return False
