"""A model that takes as long to fetch as vLLM takes to install: ours does both at once, a bare task one by one.

vLLM is really installed, from PyPI, on both sides, with a cold cache as on a new machine: SkyPilot gives all clusters
of a Slurm node one cache of uv's, so vLLM's packages are taken out of it first, and the bare task has one of its own.
The object store is limited to the rate at which the bare task's installation of the same round and the model's files
take equally long.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from bench.ready.launch import GONE_SECONDS, nothing_left
from bench.ready.same_files import same_files
from bench.results import Figure, figure
from tests.e2e.stack import model, skypilot, wheels
from tests.e2e.stack.app import App
from tests.e2e.stack.assembly import CACHE, Stack
from tests.e2e.stack.processes import StackError, free_port, run, wait_until
from tests.e2e.stack.throttle import Bucket, Throttle

SECTION = "ready"
NAME = "larger-llama"
CLUSTER = "bare"
UV_CACHE = f"/tmp/uv_cache_{os.getuid()}"  # noqa: S108 - chosen by SkyPilot, in its command_runner.py
UNHURRIED = 20 * 2**20
"""Bytes per second before the rate is known: the app's listing and addresses pass by here too."""
STAGE_SECONDS = 600
"""An installation took 46 s on a busy machine with a good network; a slow one needs minutes."""

_BARE = """\
set -eu
cd {folder}
export UV_CACHE_DIR=$PWD/uv-cache
stamp() {{ echo "$1 $(date +%s.%N)" >>stamps; }}
stamp began
uv=$(command -v uv || true)
python3 -m venv env
[ -n "$uv" ] || {{ env/bin/python -m pip install --quiet uv; uv=env/bin/uv; }}
"$uv" pip install --quiet --python env/bin/python {requirement}
stamp installed
until [ -e go ]; do sleep 0.05; done
stamp fetching
mkdir model
pids=""
while read -r name url; do
  curl -fsS -o "model/$name" "$url" &
  pids="$pids $!"
done <files
for pid in $pids; do wait "$pid"; done
stamp fetched
exec env/bin/vllm serve model --served-model-name {name} --host 127.0.0.1 --port {port} \\
  --max-model-len {length} --enforce-eager
"""


@dataclass(frozen=True)
class Bare:
    """Seconds of the bare task's stages, which follow each other."""

    install: float
    fetch: float
    start: float

    @property
    def sum(self) -> float:
        """What its user waits for from the task's start on."""
        return self.install + self.fetch + self.start

    @property
    def bound(self) -> float:
        """What it would take with installing and fetching side by side and free of charge for each other."""
        return max(self.install, self.fetch) + self.start


@dataclass(frozen=True)
class Ours:
    """Seconds from the agent's start."""

    installed: float
    fetched: float
    ready: float


def node_image() -> dict[str, str]:
    """Variables of a node on which vLLM's build for CPUs can be installed. Raises StackError."""
    return wheels.prepare(CACHE)


def measure(stack: Stack, *, rounds: int) -> list[Figure]:
    """Bare, then ours, `rounds` times. Raises StackError when one does not become ready, or files differ."""
    load = os.getloadavg()[0]
    folder = model.make(CACHE / NAME, stack.vllm.python, model.LARGER)
    source = stack.s3.upload(folder, NAME)
    size = sum(path.stat().st_size for path in model.files(folder))
    bares: list[Bare] = []
    ours: list[Ours] = []
    rates: list[float] = []
    with Throttle(stack.s3.port, Bucket(UNHURRIED)) as store:
        app = App(stack)
        app.start(
            {
                "GPULAUNCH_VLLM_EXECUTABLE": "",
                "GPULAUNCH_VLLM_REQUIREMENT": wheels.REQUIREMENT,
                "GPULAUNCH_PUBLIC_URL": app.url,
                "R2_ENDPOINT": store.endpoint,
            }
        )
        try:
            for number in range(rounds):
                store.bucket.rate = UNHURRIED
                work = stack.folder / f"{CLUSTER}-{number}"
                _settle()
                bares.append(_bare(stack, store, folder, size, work))
                rates.append(store.bucket.rate / 2**20)
                shutil.rmtree(work)
                _settle()
                ours.append(_ours(stack, app, source, folder))
        finally:
            app.stop()
    return figures_of(
        bares, ours, f"{size / 2**20:.0f} MiB at {', '.join(f'{rate:.1f}' for rate in rates)} MiB/s", load
    )


def _settle() -> None:
    """Nobody is to profit from what another has downloaded, or to wait for what another has written."""
    uv = skypilot.install_uv(CACHE)
    run([uv, "cache", "clean", *wheels.packages()], env={**os.environ, "UV_CACHE_DIR": UV_CACHE}, seconds=120)
    os.sync()


def figures_of(bares: list[Bare], ours: list[Ours], what: str, load: float) -> list[Figure]:
    """The rows of neighbours measured in one run, under a note; `load` is the load average before."""
    note = f"{what}; vLLM installed with a cold cache; load average {load:.1f} to {os.getloadavg()[0]:.1f}"
    pairs = list(zip(ours, bares, strict=True))

    def row(name: str, values: list[float], unit: str = "s", target: float | None = None) -> Figure:
        return figure(SECTION, f"larger model: {name}", values, unit, target=target, note=note)

    return [
        row("bare, install", [one.install for one in bares]),
        row("bare, fetch by curl", [one.fetch for one in bares]),
        row("bare, server start", [one.start for one in bares]),
        row("bare, sum", [one.sum for one in bares]),
        row("ours, agent's start until installed", [one.installed for one in ours]),
        row("ours, agent's start until fetched", [one.fetched for one in ours]),
        row("ours, agent's start until ready", [one.ready for one in ours]),
        row("ours / (longer of bare's two + server start)", [one.ready / bare.bound for one, bare in pairs], "x", 1.1),
        # An installation takes as long as the network and the other processes let it, this minute or the next.
        row(
            "ours / (longer of our two + bare's server start)",
            [one.ready / (max(one.installed, one.fetched) + bare.start) for one, bare in pairs],
            "x",
        ),
        row("ours / bare's sum", [one.ready / bare.sum for one, bare in pairs], "x"),
    ]


# ---- the bare task


def _bare(stack: Stack, store: Throttle, model_folder: Path, size: int, folder: Path) -> Bare:
    folder.mkdir()
    port, key = free_port(), secrets.token_urlsafe(16)
    client = stack.s3.client(endpoint=store.endpoint)
    names = [path.name for path in model.files(model_folder)]
    addresses = [
        client.generate_presigned_url("get_object", {"Bucket": stack.s3.bucket, "Key": f"{NAME}/{name}"}, 3600)
        for name in names
    ]
    (folder / "files").write_text("".join(f"{name} {url}\n" for name, url in zip(names, addresses, strict=True)))
    task = stack.folder / "bare-larger.yaml"
    task.write_text(json.dumps(_task(stack, folder, port, key)))
    stack.sky.cli("launch", "--yes", "--detach-run", "--cluster", CLUSTER, str(task), seconds=300)
    try:
        stamps = wait_until(lambda: _stamps(folder, "installed"), seconds=STAGE_SECONDS, what="an installed vLLM")
        store.bucket.rate = size / (stamps["installed"] - stamps["began"])
        (folder / "go").touch()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as asking:
            wait_until(lambda: _healthy(asking), seconds=STAGE_SECONDS, what="a healthy vLLM of the bare task")
        healthy = time.time()
        if not same_files(model_folder, folder / "model", names):
            raise StackError("what curl fetched is not the model")
    finally:
        stack.sky.cli("down", "--yes", CLUSTER, seconds=180)
    nothing_left(stack)
    stamps = read_stamps((folder / "stamps").read_text())
    return Bare(
        install=stamps["installed"] - stamps["began"],
        fetch=stamps["fetched"] - stamps["fetching"],
        start=healthy - stamps["fetched"],
    )


def _task(stack: Stack, folder: Path, port: int, key: str) -> dict[str, Any]:
    script = _BARE.format(
        folder=shlex.quote(str(folder)),
        requirement=shlex.quote(wheels.REQUIREMENT),
        name=NAME,
        port=port,
        length=model.MAX_LENGTH,
    )
    return {
        "name": CLUSTER,
        "resources": {"infra": stack.infra, "accelerators": "A10:1"},
        "secrets": {"VLLM_API_KEY": key},
        "run": script,
    }


def read_stamps(text: str) -> dict[str, float]:
    """Seconds since 1970 by stage, of lines `stage seconds`."""
    return {stage: float(seconds) for stage, seconds in (line.split() for line in text.splitlines())}


def _stamps(folder: Path, stage: str) -> dict[str, float] | None:
    path = folder / "stamps"
    text = path.read_text() if path.exists() else ""
    # A line that is being written has no end yet.
    stamps = read_stamps(text[: text.rfind("\n") + 1])
    return stamps if stage in stamps else None


def _healthy(client: httpx.Client) -> bool:
    try:
        return client.get("/health").is_success
    except httpx.TransportError:
        return False


# ---- ours


def _ours(stack: Stack, app: App, source: str, model_folder: Path) -> Ours:
    instance_id = app.launch(model_name=NAME, model_source=source)
    app.wait(instance_id, "ready", seconds=STAGE_SECONDS)
    ready = next(
        datetime.fromisoformat(event["at"]).timestamp()
        for event in app.events(instance_id)
        if event["type"] == "phase" and event["data"]["to"] == "ready"
    )
    names = [path.name for path in model.files(model_folder)]
    try:
        (work,) = stack.slurm.home.glob(f".sky_clusters/*/gpulaunch/{instance_id}-1")
        (complete,) = work.parent.parent.glob(".cache/gpulaunch/venvs/*/.complete")
        if not same_files(model_folder, work / "model", names):
            raise StackError("what the agent fetched is not the model")
        # The task's script writes the agent as its last act before it becomes the agent.
        began = (work / "agent.pyz").stat().st_mtime
        fetched = max((work / "model" / name).stat().st_mtime for name in names)
        return Ours(complete.stat().st_mtime - began, fetched - began, ready - began)
    finally:
        app.end(instance_id)
        app.wait(instance_id, "terminated", seconds=GONE_SECONDS)
        nothing_left(stack)
