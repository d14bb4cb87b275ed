"""This project's app under the local host, for measurement."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.load import Call
from bench.processes import Server
from bench.results import ROOT
from devhost.azurite import Azurite, free_ports

TOKEN = "token-of-the-benchmark"  # noqa: S105 - of a server on the loopback that lives for minutes
SEED = {
    "model_name": "meta-llama/Llama-3.1-8B-Instruct",
    "provider": "azure",
    "region": "eastus",
    "instance_type": "Standard_NV36ads_A10_v5",
    "use_spot": True,
}
BACKGROUND = ("provisioning", "teardown", "health", "sweep")
"""Functions that are not HTTP: on Flex Consumption each has instances of its own."""
START_SECONDS = 60


def environment(storage: Azurite, **given: str) -> dict[str, str]:
    """The app's environment: a simulation in the given storage."""
    return {
        "PATH": os.environ.get("PATH", ""),
        "PWD": str(ROOT),
        "HOME": os.environ.get("HOME", "/"),
        "LC_ALL": "C.UTF-8",
        "AzureWebJobsStorage": storage.connection_string,
        "AZURE_FUNCTIONS_ENVIRONMENT": "Development",
        "GPULAUNCH_ORCHESTRATOR": "simulation",
        "GPULAUNCH_ADMIN_TOKENS": TOKEN,
        "GPULAUNCH_MASTER_KEY": "master-key-of-the-benchmark-of-no-secrecy",
        "PYTHON_THREADPOOL_THREAD_COUNT": "48",
        **given,
    }


def start(
    name: str,
    env: Mapping[str, str],
    folder: Path,
    *,
    background: bool = True,
    arguments: Sequence[str] = ("--log-level", "WARNING"),
) -> tuple[Server, str]:
    """The app and its address; without `background` only its HTTP functions run."""
    (port,) = free_ports(1)
    disabled = {} if background else {f"AzureWebJobs.{one}.Disabled": "true" for one in BACKGROUND}
    command = [sys.executable, "-m", "devhost", "--port", str(port), *arguments]
    server = Server.start(name, command, {**env, **disabled}, folder)
    address = f"http://127.0.0.1:{port}"
    server.wait_healthy(f"{address}/api/health", START_SECONDS)
    return server, address


def launch_call(address: str) -> Call:
    """The launch of the README."""
    return Call(f"{address}/api/instances/launch", SEED, {"X-Admin-Token": TOKEN})
