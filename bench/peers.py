"""The servers that one would use instead: SkyPilot's and dstack's, each in an environment of its own from PyPI."""

import json
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.load import Call
from bench.processes import Server, run
from bench.results import ROOT
from devhost.azurite import free_ports

CACHE = ROOT / ".cache" / "bench"
SKYPILOT = "skypilot==0.14.1"
DSTACK = "dstack[server]==0.22.5"
START_SECONDS = 180
"""A first start makes a database and, on a busy machine, was seen to take a minute."""


@dataclass(frozen=True)
class Peer:
    """A server and the request that has it accept a launch."""

    server: Server
    launch: Callable[[], Call]
    accepted: int = 200


def environment(requirement: str) -> Path:
    """The folder of programs of an environment with that requirement; made on first use, in two minutes."""
    name = requirement.partition("==")[0].partition("[")[0]
    folder = CACHE / name
    stamp = folder / "requirement"
    if not stamp.exists() or stamp.read_text("utf-8") != requirement:
        print(f"installing {requirement} …", flush=True)
        run([sys.executable, "-m", "venv", "--clear", folder])
        run([folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", requirement])
        stamp.write_text(requirement, "utf-8")
    return folder / "bin"


def _wait(server: Server, url: str) -> None:
    """Wait until it is healthy; one that does not become so is ended. Raises BenchError."""
    try:
        server.wait_healthy(url, START_SECONDS)
    except BaseException:
        server.stop()
        raise


def start_skypilot(folder: Path) -> Peer:
    """SkyPilot's API server with no cloud enabled: it accepts a launch, whose worker then fails."""
    programs, home, (port,) = environment(SKYPILOT), folder / "skypilot-home", free_ports(1)
    home.mkdir()
    env = {
        "HOME": str(home),
        "PWD": str(home),
        "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
        "SKYPILOT_API_SERVER_LOCAL_PORT": str(port),
        "LC_ALL": "C.UTF-8",
    }
    command = [programs / "sky", "api", "start", "--foreground", "--port", str(port)]
    server = Server.start("skypilot", command, env, folder)
    _wait(server, f"http://127.0.0.1:{port}/api/health")
    task = {
        "resources": {"infra": "azure/eastus", "instance_type": "Standard_NV36ads_A10_v5", "use_spot": True},
        "run": "true",
    }

    def launch() -> Call:
        body = {
            "task": json.dumps(task),
            "cluster_name": f"bench-{secrets.token_hex(8)}",
            "env_vars": {"SKYPILOT_USER_ID": "67706c61", "SKYPILOT_USER": "bench"},
            "entrypoint": "bench",
            "entrypoint_command": "bench",
            "using_remote_api_server": False,
            "override_skypilot_config": {},
        }
        return Call(f"http://127.0.0.1:{port}/launch", body, {})

    return Peer(server, launch)


def start_dstack(folder: Path) -> Peer:
    """dstack's server on SQLite, as `dstack server` starts it, with no backend: it accepts a run and keeps it."""
    programs, home, (port,) = environment(DSTACK), folder / "dstack-home", free_ports(1)
    home.mkdir()
    token = secrets.token_hex(16)
    env = {
        "HOME": str(home),
        "PWD": str(home),
        "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin",
        "DSTACK_SERVER_ADMIN_TOKEN": token,
        "DSTACK_DO_NOT_UPDATE_DEFAULT_PROJECT": "1",
        "LC_ALL": "C.UTF-8",
    }
    command = [programs / "dstack", "server", "--host", "127.0.0.1", "--port", str(port), "--yes"]
    server = Server.start("dstack", command, env, folder)
    _wait(server, f"http://127.0.0.1:{port}/healthcheck")

    def launch() -> Call:
        configuration = {
            "type": "task",
            "commands": ["true"],
            "resources": {"gpu": "A10:1"},
            "regions": ["eastus"],
            "spot_policy": "spot",
        }
        spec = {
            "run_name": f"b{secrets.token_hex(8)}",
            "configuration": configuration,
            "ssh_key_pub": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBenchmarkBenchmarkBenchmarkBenchmarkBenchm bench",
        }
        body = {"plan": {"run_spec": spec, "current_resource": None}, "force": False}
        return Call(f"http://127.0.0.1:{port}/api/project/main/runs/apply", body, {"Authorization": f"Bearer {token}"})

    return Peer(server, launch)
