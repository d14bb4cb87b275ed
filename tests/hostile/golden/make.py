"""Writes down what today's program stores: `python -m tests.hostile.golden.make NAME`, once for each stored shape.

`… NAME ledgers costs` writes down these kinds only.

A file that is there is never written again: it stands for what is in tables somewhere.
"""

import hashlib
import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

from gpulaunch.models.requests import LaunchRequest
from shared import app as runtime
from shared.domain.model import ExtraFacts, ModelFacts
from shared.domain.node import NodePhase
from shared.storage.base import ORPHAN, REFUSED_OFFER, InstanceFilter, Marker, readable
from tests.functional.scripted import NodeWorld
from tests.functional.world import World, settings


def documents() -> dict[str, list[Any]]:
    """Records in all sorts of states with their events, notes, idempotency entries, ledger and costs."""
    kinds = ("records", "events", "idempotency", "notes", "ledgers", "costs")
    found: dict[str, list[Any]] = {kind: [] for kind in kinds}
    _collect(found, _simulated())
    _collect(found, _called())
    _collect(found, _charged())
    return found


def _simulated() -> World:
    world = World()
    world.launch(labels={"simulate.evict-after": "5"}, idle_minutes=30, budget_usd=50.0, region=None)
    failing = world.launch(labels={"simulate.no-capacity": "9"}, name="no-room", vllm_args=["--seed", "1"])
    world.run(130)
    world.delete(failing)
    world.run(30)
    world.call("POST", "/api/instances/launch", _SEED, headers={"Idempotency-Key": "golden"})
    world.run(40)
    return world


class _Inspected:
    def inspect(self, request: LaunchRequest) -> ModelFacts:
        extra = ExtraFacts(name="o/lora", repository="o/lora", commit="b" * 40, total_bytes=10)
        return ModelFacts(
            source=f"hf://{request.model_name}@{'a' * 40}",
            repository=request.model_name,
            commit="a" * 40,
            total_bytes=16_060_556_386,
            weight_bytes=16_060_556_376,
            largest_bytes=4_976_698_672,
            parameters={"BF16": 8_030_261_248},
            draft_bytes=10,
            extras=[extra],
            cache_bytes=131_072,
            context=131_072,
        )


def _called() -> World:
    world = NodeWorld()
    world.rebuild(models=_Inspected())
    instance_id = world.to_ready()
    report = {"phase": NodePhase.SERVING, "detail": "all is well", "log_tail": ["a line"], "port": 8000}
    world.node(instance_id, "progress", report)
    world.node(instance_id, "notice", {"notice": "eviction", "seconds_left": 30})
    world.run(30)
    done = world.launch(job={"command": ["true"]}, disk_size=300, chat_template="{{ messages }}\n", force=True)
    world.run(5)
    world.node(done, "complete", {"exit_code": 0})
    world.run(5)
    now = world.clock.now()
    world.store.put_marker(Marker(kind=ORPHAN, key="gl-x", at=now, text="real"))
    world.store.put_marker(Marker(kind=REFUSED_OFFER, key="azure/eastus/a/spot", at=now, until=now, text="no_capacity"))
    return world


def _charged() -> World:
    """With a ledger: an instance that lives and one that has ended, an eviction in its costs, a threshold passed."""
    limits = {"GPULAUNCH_LAUNCHES_PER_MINUTE": "9", "GPULAUNCH_LABEL_MAX_GPUS": "team=a:9"}
    world = World(given=settings(GPULAUNCH_MONTHLY_BUDGET_USD="70", GPULAUNCH_LABEL_BUDGETS="team=a:60", **limits))
    ending = world.launch(labels={"team": "a", "simulate.evict-after": "5"}, region=None, budget_usd=9.5)
    world.run(200)
    world.delete(ending)
    world.run(60)
    world.launch(labels={"team": "a"})
    return world


def _collect(found: dict[str, list[Any]], world: World) -> None:
    for one in readable(world.store.page(InstanceFilter(), 100, None).records):
        found["records"].append(one.record.model_dump(mode="json"))
        found["events"] += [event.model_dump(mode="json") for event in world.store.events(one.record.instance_id)]
    entry = world.store.idempotency(hashlib.sha256(b"golden").hexdigest())
    if entry is not None:
        found["idempotency"].append(entry.model_dump(mode="json"))
    for kind in (ORPHAN, REFUSED_OFFER):
        found["notes"] += [note.model_dump(mode="json") for note in world.store.markers(kind)]
    ledger = world.store.ledger()
    if ledger.etag is not None:
        found["ledgers"].append(ledger.ledger.model_dump(mode="json"))
    found["costs"] += [entry.model_dump(mode="json") for entry in world.store.costs(date.min)]
    runtime.use(None)


_SEED = {"model_name": "org/name", "instance_type": "Standard_NV36ads_A10_v5", "region": "eastus"}

if __name__ == "__main__":
    path = Path(__file__).with_name(f"{sys.argv[1]}.json")
    if path.exists():
        sys.exit(f"{path.name} is there; a stored shape is not changed afterwards")
    wanted = {kind: found for kind, found in documents().items() if kind in (sys.argv[2:] or [kind])}
    path.write_text(json.dumps(wanted, indent=1, sort_keys=True) + "\n", encoding="utf-8")
