"""The command in a terminal, against the local host with Azurite: launch --watch, interrupt and resume, terminate."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import httpx
import pexpect
import pytest
from tenacity import Retrying, stop_after_delay, wait_fixed

from devhost.azurite import Azurite, free_ports
from gpulaunch.cli.exits import Exit

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "token-of-the-terminal-test"
# After its failed attempt the launch takes 7 s more: time enough to interrupt it also on busy cores.
SPEED = "12"
PATIENCE = 60


@pytest.fixture
def app(azurite: Azurite, tmp_path: Path) -> Iterator[str]:
    (port,) = free_ports(1)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "AzureWebJobsStorage": azurite.connection_string,
        "AZURE_FUNCTIONS_ENVIRONMENT": "Development",
        "GPULAUNCH_ORCHESTRATOR": "simulation",
        "GPULAUNCH_SIMULATION_SPEED": SPEED,
        "GPULAUNCH_ADMIN_TOKENS": TOKEN,
        "GPULAUNCH_WORKSPACE": f"terminal-{os.urandom(4).hex()}",
        "PYTHON_THREADPOOL_THREAD_COUNT": "48",
    }
    command = [sys.executable, "-m", "devhost", "--app", str(ROOT), "--port", str(port)]
    address = f"http://127.0.0.1:{port}"

    with (tmp_path / "app").open("wb") as output:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=output, stderr=output)
    try:
        patient = Retrying(stop=stop_after_delay(PATIENCE), wait=wait_fixed(0.1), reraise=True)
        patient(lambda: httpx.get(f"{address}/api/health", timeout=PATIENCE).raise_for_status())
        yield address
    finally:
        process.terminate()
        process.wait(PATIENCE)


class Person:
    def __init__(self, home: Path) -> None:
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GPULAUNCH_")},
            "PYTHONPATH": str(ROOT),
            "XDG_CONFIG_HOME": str(home),
            "TERM": "xterm-256color",
        }

    def types(self, *words: str) -> "pexpect.spawn[str]":
        # The terminal echoes ^C wherever the output just is, be it in the middle of a character.
        return pexpect.spawn(
            sys.executable, ["-m", "gpulaunch.cli", *words],
            env=self._environment, encoding="utf-8", codec_errors="replace",
            timeout=PATIENCE, dimensions=(40, 120),
        )  # fmt: skip

    def says(self, *words: str) -> tuple[int | None, str]:
        """The exit code and everything on the screen."""
        child = self.types(*words)
        return self.ends(child), str(child.before)

    def ends(self, child: "pexpect.spawn[str]") -> int | None:
        child.expect(pexpect.EOF)
        child.close()
        return child.exitstatus


@pytest.mark.filterwarnings("ignore:.*forkpty:DeprecationWarning")
def test_a_launch_should_be_watched_interrupted_resumed_and_ended(app: str, tmp_path: Path) -> None:
    person = Person(tmp_path)
    assert person.says("config", "set-url", app)[0] == Exit.OK
    child = person.types("config", "set-token")
    child.expect_exact(f"Token for {app}: ")
    child.sendline(TOKEN)
    assert person.ends(child) == Exit.OK
    assert TOKEN not in str(child.before)

    child = person.types(
        "launch", "meta-llama/Llama-3.1-8B-Instruct", "--gpu", "A10", "--region", "eastus", "--watch",
        "--label", "simulate.no-capacity=1",
    )  # fmt: skip
    child.expect_exact("at most $")
    child.expect_exact("Launch it? [y/N]: ")
    child.sendline("y")
    child.expect(r"inst-\w{26}")
    instance_id = str(child.after)
    child.expect_exact("Simulated: no capacity for this offer. (no_capacity)")
    child.sendintr()
    child.expect_exact(f"Resume: gpulaunch watch {instance_id}")
    assert person.ends(child) == Exit.INTERRUPTED

    child = person.types("watch", instance_id)
    child.expect("registering")
    child.expect("ready after .*: https://simulated-")
    assert person.ends(child) == Exit.OK

    child = person.types("terminate", instance_id, "--wait")
    child.expect_exact("Terminate it? [y/N]: ")
    child.sendline("y")
    child.expect(f"{instance_id}  terminated")
    assert person.ends(child) == Exit.OK
    status, shown = person.says("watch", instance_id)
    assert status == Exit.ENDED
    assert re.search(r"is terminated: .*\(user_request\)", shown)


def test_the_console_script_should_name_what_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    module, _, name = project["scripts"]["gpulaunch"].partition(":")
    assert callable(getattr(import_module(module), name))
