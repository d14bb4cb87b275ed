"""Until azd has built their images, the Container Apps run another one, which has to be healthy and do nothing."""

import os
import signal
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from devhost.azurite import free_ports
from tests.unit.infra.snapshots import container
from tests.unit.infra.templates import INFRA

PLACEHOLDER = "mcr.microsoft.com/azurelinux/base/python:3.12"
PORTS = {"skypilot": "SKYPILOT_API_SERVER_LOCAL_PORT", "gateway": "GATEWAY_PORT"}


@contextmanager
def _started(name: str) -> Generator[str]:
    """Run the script as the placeholder's image does, without this project's programs; yield its address."""
    if Path("/opt/gpulaunch").exists():
        pytest.skip("this project is installed on this machine")
    (port,) = free_ports(1)
    shell, _ = container("prod", name)["command"][:2]
    process = subprocess.Popen(
        [shell, str(INFRA / name / "start.sh")],
        env={"PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", "/"), PORTS[name]: str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 20
        while True:
            try:
                httpx.get(address)
                break
            except httpx.TransportError:
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
        yield address
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("name", PORTS)
def test_it_should_pass_the_probes_and_end_when_it_is_asked_to(name: str) -> None:
    probes = {probe["httpGet"]["path"] for probe in container("prod", name)["probes"] if "httpGet" in probe}
    with _started(name) as address:
        assert [httpx.get(f"{address}{path}").status_code for path in probes] == [200]


def test_the_gateways_should_say_what_is_missing() -> None:
    with _started("gateway") as address:
        answer = httpx.post(f"{address}/v1/chat/completions", json={"model": "chat-prod"})
    assert answer.status_code == 503
    assert "azd deploy gateway" in answer.json()["error"]["message"]


def test_the_servers_should_admit_nobody() -> None:
    with _started("skypilot") as address:
        assert httpx.post(f"{address}/launch", json={}).status_code == 503


@pytest.mark.parametrize("name", PORTS)
def test_it_should_come_from_a_registry_without_limits_and_go_once_the_image_is_built(name: str) -> None:
    first, later = container("prod", name), container("everything", name)
    assert first["image"] == PLACEHOLDER
    assert later["image"] == f"crexample.azurecr.io/gpulaunch/{name}:1"
    assert first["command"] == later["command"]
    assert first["command"][2] == (INFRA / name / "start.sh").read_text("utf-8")
