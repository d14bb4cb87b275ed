"""An address that outlives its nodes: applications talk to an endpoint of real vLLM while everything behind it fails.

In turn: the app dies while the first replicas start; the gateways are restarted; a node is killed; the tables are
silent; a roll-out drains a node; another one is told to end. `GPULAUNCH_E2E_SECONDS` is how long the applications go on
at least, `GPULAUNCH_E2E_OUTAGE_SECONDS` how long the tables are silent.
"""

from __future__ import annotations

import os
import re
import signal
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.stack.app import MASTER_KEY, App
from tests.e2e.stack.assembly import Stack
from tests.e2e.stack.clients import Applications, Asked
from tests.e2e.stack.gateways import Gateways
from tests.e2e.stack.processes import StackError, wait_until

NAME = "chat-prod"
SECONDS = float(os.environ.get("GPULAUNCH_E2E_SECONDS") or 90)
OUTAGE_SECONDS = float(os.environ.get("GPULAUNCH_E2E_OUTAGE_SECONDS") or 20)
READY_SECONDS = 300
VLLM_ARGS = ["--enforce-eager", "--max-model-len", "256", "--enable-log-requests"]
GRACE_SECONDS = 10
"""Of a node's agent, after SIGTERM."""
CALM_SECONDS = 10
"""Between two faults: every application has asked several times."""
UNCHOSEN_SECONDS = 15
"""Until no gateway chooses a node any more that drains or is about to end: they read the table every two seconds; the
rest is for a busy machine."""


@pytest.fixture
def gateways(stack: Stack) -> Iterator[Gateways]:
    made = Gateways(stack.processes, stack.azurite, MASTER_KEY)
    yield made
    made.stop()


@pytest.fixture
def app(stack: Stack, gateways: Gateways) -> Iterator[App]:
    running = App(stack)
    running.start(settings(running, gateways))
    gateways.start()
    yield running
    stack.azurite.resume()
    running.stop()


def settings(app: App, gateways: Gateways) -> dict[str, str]:
    return {"GPULAUNCH_PUBLIC_URL": app.url, "GPULAUNCH_GATEWAY_URL": gateways.url}


def members(app: App, *states: str) -> list[str]:
    """Instance ids of the endpoint's replicas that are in one of the states."""
    shown = app.call("GET", f"/api/endpoints/{NAME}")
    return [one["instance_id"] for one in shown["members"] if one["state"] in states]


def serving(app: App, stack: Stack, count: int) -> list[str]:
    """Wait until so many replicas serve."""

    def enough() -> list[str] | None:
        found = members(app, "serving")
        keep_logs(stack)
        return found if len(found) >= count else None

    try:
        return wait_until(enough, seconds=READY_SECONDS, what=f"{count} replicas that serve", interval=0.5)
    except StackError as error:
        events = app.call("GET", f"/api/endpoints/{NAME}")["events"]
        raise StackError(f"{error}: {[event['message'] for event in events]}") from error


def cluster(app: App, instance_id: str) -> str:
    return str(app.show(instance_id)["attempts"][-1]["cluster_name"])


def job_id(app: App, stack: Stack, instance_id: str) -> int:
    name = cluster(app, instance_id)
    (found,) = (job.job_id for job in stack.slurm.squeue() if job.name.startswith(name))
    return found


def node_processes(app: App, stack: Stack, instance_id: str) -> dict[int, str]:
    """The agent and vLLM of a replica, by their process ids."""
    return stack.processes.leftovers(f"GPULAUNCH_CLUSTER={cluster(app, instance_id)}")


def keep_logs(stack: Stack) -> Path:
    """Link the logs of the vLLMs that run now into a folder, which is returned: they go with their nodes."""
    kept = stack.folder / "vllm-logs"
    kept.mkdir(exist_ok=True)
    for log in (stack.slurm.home / ".sky_clusters").glob("*/gpulaunch/*/vllm.log"):
        link = kept / f"{log.parent.name}.log"
        if not link.exists():
            os.link(log, link)
    return kept


def received(stack: Stack) -> Counter[tuple[int, str]]:
    """How often each node began to work on each request, by the logs of all vLLMs there have been."""
    found: Counter[tuple[int, str]] = Counter()
    for log in keep_logs(stack).iterdir():
        seeds = re.findall(r"Received request .*?\bseed=(\d+)", log.read_text(errors="replace"))
        found.update((int(seed), log.stem) for seed in seeds)
    return found


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What happened, and when; times are those of `time.time`."""

    restarted: tuple[float, float]
    """From when to when gateways were restarted."""
    killed: str
    killed_at: tuple[float, float]
    """Before and after the node was killed."""
    drained: str
    drained_at: float
    warned: str
    warned_at: float


def happen(app: App, stack: Stack, gateways: Gateways, applications: Applications, victim: str) -> Faults:
    """All that happens behind the endpoint, with its replica `victim` as the one that is killed."""
    time.sleep(CALM_SECONDS)
    restarting = time.time()
    gateways.restart()
    restarted = time.time()
    time.sleep(CALM_SECONDS)

    job, processes = job_id(app, stack, victim), node_processes(app, stack, victim)
    wait_until(lambda: applications.open_streams(victim) > 1, seconds=60, what="open streams", interval=0.05)
    killing = time.time()
    for pid in processes:
        os.kill(pid, signal.SIGKILL)
    killed = time.time()
    stack.slurm.cancel(job)
    stack.azurite.pause()
    time.sleep(OUTAGE_SECONDS)
    stack.azurite.resume()
    wait_until(lambda: len(app.show(victim)["attempts"]) > 1, seconds=180, what="the next attempt of the killed node")
    noticed = time.time()
    serving(app, stack, 2)
    replaced = time.time()

    app.call("PATCH", f"/api/endpoints/{NAME}", {"launch": {"vllm_args": [*VLLM_ARGS, "--max-num-seqs", "64"]}})
    wait_until(lambda: members(app, "draining"), seconds=READY_SECONDS, what="a replica that drains", interval=0.5)
    keep_logs(stack)
    drained_at, (drained,) = time.time(), members(app, "draining")
    time.sleep(UNCHOSEN_SECONDS)

    shown = app.call("GET", f"/api/endpoints/{NAME}")["members"]
    (warned,) = (one["instance_id"] for one in shown if one["state"] == "serving" and one["generation"] == 1)
    processes, warned_at = node_processes(app, stack, warned), time.time()
    (agent,) = (pid for pid, command in processes.items() if command.endswith("/agent.pyz"))
    # As Slurm warns the batch step of a job that it will take away. vLLM itself hears nothing of it.
    os.kill(agent, signal.SIGTERM)
    time.sleep(UNCHOSEN_SECONDS + CALM_SECONDS)
    print(
        f"\nnoticed {noticed - killed:.0f} s after the kill (tables silent for {OUTAGE_SECONDS:.0f} s of them), "
        f"replaced after {replaced - killed:.0f} s; rolled out in {drained_at - replaced:.0f} s"
    )
    return Faults(
        restarted=(restarting, restarted),
        killed=victim,
        killed_at=(killing, killed),
        drained=drained,
        drained_at=drained_at,
        warned=warned,
        warned_at=warned_at,
    )


def check(asked: list[Asked], faults: Faults, gateways: Gateways, received: Counter[tuple[int, str]]) -> None:
    failed = [one for one in asked if one.error is not None]
    # The server of a node that is killed may live a moment longer than its engine, and say so in its streams.
    by_node = [one for one in failed if one.code != "broken"]
    assert [one for one in by_node if one.first is None or one.instance != faults.killed] == [], "lost before it began"
    assert {one.finish for one in asked if one.error is None} == {"length"}
    assert gateways.count("broken_streams_total") == len(failed) - len(by_node)
    # A node that was warned has ten seconds for what it works on: only a busy machine needs more.
    late = {
        one.seed for one in failed if one.instance == faults.warned and one.ended > faults.warned_at + GRACE_SECONDS
    }
    broken = {one.seed for one in failed} - late

    begun, over = faults.killed_at
    on_killed = [one for one in asked if one.instance == faults.killed and one.first is not None and one.first < over]
    in_flight = {one.seed for one in on_killed if one.stream and one.ended > begun and (one.error or one.ended > over)}
    assert broken == in_flight
    assert broken, "no stream was open on the node that was killed: the test shows nothing"
    # A gateway writes its lines five times a second.
    wait_until(lambda: gateways.answers().total() >= len(asked), seconds=5, what="a line for each request")
    answers = gateways.answers()
    assert set(answers) == {200}, answers
    assert answers[200] == len(asked), "a request was answered twice"

    seen: dict[int, list[str]] = {}
    for (seed, node), times in received.items():
        assert times == 1, f"request {seed} began {times} times on {node}"
        seen.setdefault(seed, []).append(node.rpartition("-")[0])
    for one in asked:
        nodes = seen[one.seed]
        if one.instance:
            assert one.instance in nodes
            assert len(nodes) <= one.attempts, one
        # A second node began anew only where the first one was taken away with the request on it.
        assert len(set(nodes) - {faults.killed, faults.warned}) <= 1, (one, nodes)

    for instance_id, at in ((faults.drained, faults.drained_at), (faults.warned, faults.warned_at)):
        late = [one for one in asked if one.instance == instance_id and one.began > at + UNCHOSEN_SECONDS]
        assert late == [], "a node got requests that drains or is about to end"
    restarting, restarted = faults.restarted
    retried = [one for one in asked if one.retries]
    assert [one for one in retried if not restarting - 5 < one.began < restarted + 5] == []


def report(asked: list[Asked], gateways: Gateways, seconds: float) -> None:
    streams = [one for one in asked if one.stream]
    took = statistics.median(one.ended - one.began for one in asked)
    print(
        f"{len(asked)} requests, {len(streams)} of them streams, in {seconds:.0f} s, half of them within {took:.1f} s; "
        f"{sum(one.error is not None for one in asked)} streams broke off, "
        f"{gateways.count('failovers_total')} failovers, {sum(one.retries for one in asked)} retries of clients, "
        f"held for at most {max(one.held for one in asked):.1f} s"
    )


def test_an_endpoint_should_keep_address_key_and_requests_whatever_happens_behind_it(
    app: App, stack: Stack, gateways: Gateways
) -> None:
    launch = {
        "model_name": "tiny-llama",
        "provider": "slurm",
        "region": stack.slurm.host,
        "gpu": "A10",
        "model_source": stack.model_source,
        "vllm_args": VLLM_ARGS,
    }
    made = app.call("POST", "/api/endpoints", {"name": NAME, "launch": launch, "replicas": 2}, status=201)
    key = app.call("POST", f"/api/endpoints/{NAME}/keys", {"name": "search"}, status=201)["key"]
    wait_until(lambda: len(stack.slurm.squeue()) == 2, seconds=120, what="two Slurm jobs")
    app.kill()
    app.start(settings(app, gateways))
    first, _ = serving(app, stack, 2)
    assert len(stack.slurm.squeue()) == 2, "a launch that its app did not outlive was made twice"

    applications = Applications(stack.processes, stack.vllm, made["address"], key, NAME)
    began = time.time()
    applications.start()
    try:
        faults = happen(app, stack, gateways, applications, first)
        time.sleep(max(0.0, began + SECONDS - time.time()))
        asked = applications.stop()
    finally:
        applications.kill()
    shown = app.call("GET", f"/api/endpoints/{NAME}")
    assert shown["address"] == made["address"]
    check(asked, faults, gateways, received(stack))
    report(asked, gateways, time.time() - began)

    app.call("PATCH", f"/api/endpoints/{NAME}", {"drain_seconds": 0})
    app.call("DELETE", f"/api/endpoints/{NAME}", status=202)
    wait_until(lambda: not stack.slurm.squeue(), seconds=READY_SECONDS, what="the end of all nodes")
    assert not re.search(r"\bgl-", stack.sky.cli("status"))
