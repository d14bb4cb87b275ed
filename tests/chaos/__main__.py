"""`make chaos`: the app on Azurite in fast simulation, killed with SIGKILL again and again; every launch is counted.

Clients repeat a call that got no answer, with the same Idempotency-Key, as real ones do. Azurite is stopped and started
on its data folder in between. One seed decides what is launched, deleted and when; the kills come in real time.

After each kill another version of the app goes on: this checkout, an older one (`CHAOS_OLDER`), and this one with what
a later version may add. What one of them wrote, the others must read, keep and finish.
"""

import argparse
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from devhost import azurite
from shared.backends.simulation.cloud import TableSimulatedCloud
from shared.settings import Settings
from shared.storage.connect import table_client
from shared.storage.tables import TableInstanceStore
from tests.chaos.versions import ROOT, VersionError, describe, export, keeps_fields, later, older

TOKEN = "token-of-the-chaos-test"
SPEED = 40
"""Simulated seconds per second: a launch takes two seconds and what its messages wait."""
LEASE = 3
"""Seconds until a killed host's messages come back; the real host's ten minutes would only make this test longer."""
SETTLE_SECONDS = 240.0
"""After the last kill: some sweeps, 30 s apart, and the longest release."""
QUIET_SECONDS = 75.0
"""Two sweeps, and what they set going."""
START_SECONDS = 60.0
"""Until the app listens, on a busy machine."""
AFTER_START = 0.8
"""Share of the kills that let the app start: on a busy machine that takes longer than the longest life."""
BODY = {
    "model_name": "meta-llama/Llama-3.1-8B-Instruct",
    "provider": "azure",
    "region": "eastus",
    "instance_type": "Standard_NV36ads_A10_v5",
}
FAULTS: list[dict[str, str]] = [
    {},
    {},
    {"simulate.no-capacity": "1"},
    {"simulate.setup-failure": "1"},
    {"simulate.teardown-tries": "2"},
    {"simulate.evict-after": "20"},
]


@dataclass
class Arena:
    """What is running: Azurite on a data folder, and the app that gets killed."""

    folder: Path
    port: int
    ports: tuple[int, int, int]
    storage: azurite.Azurite
    versions: Sequence[Path]
    """Folders of the versions that take turns, this checkout first."""
    app: subprocess.Popen[bytes] | None = None
    starts: int = 0
    kills: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start_app(self) -> None:
        """Start the version whose turn it is."""
        version = self.versions[self.starts % len(self.versions)]
        self.starts += 1
        environment = {
            **os.environ,
            "AzureWebJobsStorage": self.storage.connection_string,
            "AZURE_FUNCTIONS_ENVIRONMENT": "Development",
            "GPULAUNCH_ORCHESTRATOR": "simulation",
            "GPULAUNCH_SIMULATION_SPEED": str(SPEED),
            "GPULAUNCH_ADMIN_TOKENS": TOKEN,
            "PYTHON_THREADPOOL_THREAD_COUNT": "48",
        }
        command = [
            sys.executable,
            "-m",
            "devhost",
            "--app",
            str(version),
            "--port",
            str(self.port),
            "--lease",
            str(LEASE),
        ]
        with (self.folder / "app.log").open("ab") as log:
            self.app = subprocess.Popen(
                command, cwd=version, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def wait_for_app(self) -> None:
        """Wait until the app takes connections."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.1)
        raise TimeoutError(f"the app does not start within {START_SECONDS:.0f} s; see .cache/chaos.log")

    def kill_app(self) -> None:
        if self.app is not None:
            os.killpg(self.app.pid, signal.SIGKILL)
            self.app.wait()
            self.kills += 1

    def settle_alone(self) -> None:
        """Let this checkout bring everything to its end."""
        self.kill_app()
        self.kills -= 1
        self.versions = self.versions[:1]
        self.start_app()

    def restart_storage(self) -> None:
        self.storage.stop()
        self.storage = azurite.start(self.folder / "azurite", self.ports)


def call(arena: Arena, method: str, path: str, body: object = None, key: str | None = None) -> httpx.Response:
    """Call until there is an answer that is no 5xx."""
    headers = {"X-Admin-Token": TOKEN, **({"Idempotency-Key": key} if key else {})}
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        try:
            answer = httpx.request(method, f"{arena.url}{path}", json=body, headers=headers, timeout=15)
            if answer.status_code < 500 and not (answer.status_code == 409 and method == "DELETE"):
                return answer
        except httpx.TransportError:
            # The app is dead at the moment, or died over this call.
            if time.monotonic() > deadline:
                raise
        if time.monotonic() > deadline:
            raise TimeoutError(f"{method} {path} got no good answer in {SETTLE_SECONDS:.0f} s")
        time.sleep(0.2)


def user(arena: Arena, seed: int, launches: int, accepted: dict[str, str]) -> None:
    """Launch so many instances and delete some of them; what was accepted is written down by its key."""
    chance = random.Random(seed)
    for _ in range(launches):
        key = str(uuid.UUID(int=chance.getrandbits(128)))
        answer = call(arena, "POST", "/api/instances/launch", {**BODY, "labels": chance.choice(FAULTS)}, key)
        assert answer.status_code == 202, answer.text
        accepted[key] = answer.json()["instance_id"]
        if chance.random() < 0.4:
            time.sleep(chance.uniform(0, 2))
            victim = chance.choice(list(accepted.values()))
            assert call(arena, "DELETE", f"/api/instances/{victim}").status_code == 202
        time.sleep(chance.uniform(0, 0.5))


def executioner(arena: Arena, seed: int, kills: int) -> None:
    """Kill the app so many times, at random moments of its life; restart the storage now and then."""
    chance = random.Random(seed)
    for number in range(1, kills + 1):
        if chance.random() < AFTER_START:
            arena.wait_for_app()
        time.sleep(chance.uniform(0.1, 4.0))
        arena.kill_app()
        if number % 12 == 0:
            arena.restart_storage()
        arena.start_app()
    arena.stop.set()


def instances(arena: Arena) -> list[Any]:
    found: list[Any] = []
    token = ""
    while True:
        page = call(arena, "GET", f"/api/instances?page_size=200{token}").json()
        found += page["instances"]
        if page["next_token"] is None:
            return found
        token = f"&continuation_token={page['next_token']}"


def wait_until_settled(arena: Arena, phases: set[str]) -> list[Any]:
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        found = instances(arena)
        if all(one["phase"] in phases for one in found):
            return found
        if time.monotonic() > deadline:
            stuck = [(one["instance_id"], one["phase"]) for one in found if one["phase"] not in phases]
            raise TimeoutError(f"these did not settle in {SETTLE_SECONDS:.0f} s: {stuck}")
        time.sleep(2)


def later_events(store: TableInstanceStore, instance_id: str) -> int:
    """What a record has in the field that the later version alone knows."""
    found = store.load(instance_id)
    extra = {} if found is None else found.record.model_extra or {}
    return int(extra.get("later_events", 0))


def account(arena: Arena, accepted: dict[str, str], versions: Sequence[Path]) -> list[str]:
    """Everything that is wrong; empty is what is wanted."""
    settings = Settings.model_validate(
        {
            "AzureWebJobsStorage": arena.storage.connection_string,
            "AZURE_FUNCTIONS_ENVIRONMENT": "Development",
        }
    )
    cloud = TableSimulatedCloud(table_client(settings), settings.workspace)
    store = TableInstanceStore(table_client(settings), settings.workspace)
    wrong: list[str] = []
    found = wait_until_settled(arena, {"ready", "terminated", "failed"})
    ids = Counter(one["instance_id"] for one in found)
    asked_for = set(accepted.values())
    wrong += [f"lost: {one} was accepted and is not there" for one in sorted(asked_for - ids.keys())]
    wrong += [f"doubled: {one} is there and nobody asked for it" for one in sorted(ids.keys() - asked_for)]
    nodes = Counter(node.instance_id for node in cloud.nodes())
    from_later = 0
    for one in found:
        expected = 1 if one["phase"] == "ready" else 0
        if nodes[one["instance_id"]] != expected:
            wrong.append(f"{one['instance_id']} is {one['phase']} and has {nodes[one['instance_id']]} nodes")
        events = store.events(one["instance_id"])
        sequences = [event.sequence for event in events]
        if sequences != list(range(len(sequences))):
            wrong.append(f"{one['instance_id']} has events {sequences}")
        wrote = sum("later" in event.data for event in events)
        kept = later_events(store, one["instance_id"])
        from_later += wrote
        if wrote != kept and all(map(keeps_fields, versions)):
            wrong.append(f"{one['instance_id']}: the later version counted {kept} of its {wrote} events")
    print(f"events of the later version: {from_later}")
    reasons = Counter(one["ending"]["reason"] for one in found if one["phase"] == "failed")
    print(f"failed: {dict(reasons)}")
    print(f"settled: {dict(Counter(one['phase'] for one in found))}, {sum(nodes.values())} nodes")
    for one in found:
        if one["phase"] == "ready":
            call(arena, "DELETE", f"/api/instances/{one['instance_id']}")
    wait_until_settled(arena, {"terminated", "failed"})
    wrong += [f"left over: {node.cluster_name}" for node in cloud.nodes()]
    wrong += [f"left over: record {live.instance_id}" for live in store.live()]
    return wrong


def main() -> int:
    """Run the chaos; 0 when nothing was lost, doubled or left over."""
    parser = argparse.ArgumentParser("chaos")
    parser.add_argument("--launches", type=int, default=200)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gpulaunch-chaos-") as name:
        folder = Path(name)
        try:
            revision = older(os.environ.get("CHAOS_OLDER"))
            versions = [ROOT, export(revision, folder / "older"), later(folder / "later")]
        except VersionError as error:
            print(f"{error}", file=sys.stderr)
            return 2
        print(f"the older version is {describe(revision)}")
        blob, queue, table, port = azurite.free_ports(4)
        ports = (blob, queue, table)
        arena = Arena(folder, port, ports, azurite.start(folder / "azurite", ports), versions)
        accepted: dict[str, str] = {}
        began = time.monotonic()
        try:
            arena.start_app()
            users = 4
            each = options.launches // users
            threads = [
                threading.Thread(target=user, args=(arena, options.seed * 100 + number, each, accepted))
                for number in range(users)
            ]
            threads.append(threading.Thread(target=executioner, args=(arena, options.seed, options.kills)))
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            arena.settle_alone()
            # Evictions that are due have to be seen by a sweep before anything can be called settled.
            time.sleep(QUIET_SECONDS)
            wrong = account(arena, accepted, versions)
            kills = arena.kills
        finally:
            arena.kill_app()
            arena.storage.stop()
            kept = ROOT / ".cache" / "chaos.log"
            kept.parent.mkdir(exist_ok=True)
            kept.write_bytes((folder / "app.log").read_bytes())
    print(f"{len(accepted)} launches accepted, {kills} kills, {time.monotonic() - began:.0f} s")
    lost, doubled = (sum(line.startswith(word) for line in wrong) for word in ("lost", "doubled"))
    print(f"{lost} lost, {doubled} doubled, {len(wrong) - lost - doubled} left over or wrong")
    for line in wrong:
        print(f"  {line}")
    return 0 if not wrong and len(accepted) == options.launches // 4 * 4 else 1


if __name__ == "__main__":
    sys.exit(main())
