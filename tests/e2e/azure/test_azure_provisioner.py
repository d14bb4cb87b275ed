"""From 202 to ready and back to nothing, with SkyPilot's own Azure provisioner making every management call."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import pytest

from gpulaunch import Credentials, node_client
from tests.e2e.azure.assembly import HUB_TOKEN, SEED_MODEL, AzureStack, azure_stack
from tests.e2e.stack.app import MASTER_KEY, App
from tests.e2e.stack.clients import Applications
from tests.e2e.stack.gateways import Gateways
from tests.e2e.stack.processes import run, wait_until
from tests.standins.azure import Fault
from tests.standins.azure.shapes import Resource

SEED = {
    "model_name": SEED_MODEL,
    "provider": "azure",
    "region": "eastus",
    "instance_type": "Standard_NV36ads_A10_v5",
    "use_spot": True,
}
NAME = "chat-prod"
READY_SECONDS = 420
"""A launch takes a minute with its set-up on the node, and vLLM half of one; the rest is for a busy machine."""
GONE_SECONDS = 180
OURS = f"mgmt-compute/{version('azure-mgmt-compute')}"
"""In the User-Agent of the app's own calls; SkyPilot's libraries are of other versions."""


@pytest.fixture(scope="module")
def azure() -> Iterator[AzureStack]:
    with azure_stack() as running:
        yield running


@pytest.fixture(scope="module")
def gateways(azure: AzureStack) -> Iterator[Gateways]:
    made = Gateways(azure.processes, azure.azurite, MASTER_KEY)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def app(azure: AzureStack, gateways: Gateways) -> Iterator[App]:
    running = azure.app(GPULAUNCH_GATEWAY_URL=gateways.url)
    gateways.start()
    yield running
    running.stop()


def launch(app: App, **more: object) -> str:
    answer = app.call("POST", "/api/instances/launch", {**SEED, **more}, status=202)
    assert answer["mode"] == "real"
    assert answer["warnings"] == []
    return str(answer["instance_id"])


def ask(app: App, instance_id: str) -> None:
    """The endpoint answers by the model's name, with its key only."""
    access = app.call("GET", f"/api/instances/{instance_id}/credentials")
    question = {"model": SEED_MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
    url, key = f"{access['endpoint']}/chat/completions", access["api_key"]
    with node_client(Credentials.model_validate(access), timeout=60) as client:
        answer = client.post(url, json=question, headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["usage"]["completion_tokens"] > 0
        assert client.post(url, json=question).status_code == 401


def nothing_left(azure: AzureStack) -> None:
    """No group, disk, address or identity in Azure; no cluster in SkyPilot's books; no machine."""
    azure.manager.settle()
    assert list(azure.manager.groups) == []
    assert list(azure.manager.resources) == []
    assert not re.search(r"\bgl-", azure.sky.cli("status"))
    assert azure.manager.unknown == []


def offers(app: App, instance_id: str) -> list[tuple[bool, str | None]]:
    shown = app.show(instance_id)
    return [
        (attempt["offer"]["use_spot"], None if attempt["failure"] is None else attempt["failure"]["reason"])
        for attempt in shown["attempts"]
    ]


def test_the_hub_of_this_run_should_be_one_for_its_own_client(azure: AzureStack) -> None:
    """`huggingface_hub` fetches the gated model as it would from the real one."""
    code = "import sys, huggingface_hub as hub; print(hub.snapshot_download(sys.argv[1], local_dir=sys.argv[2]))"
    folder = azure.folder / "by-huggingface-hub"
    environment = {"HF_ENDPOINT": azure.hub.endpoint, "HF_TOKEN": HUB_TOKEN, "HF_HOME": str(azure.folder / "hf")}
    run([azure.vllm.python, "-c", code, SEED_MODEL, folder], env=environment, seconds=60)
    fetched = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert fetched == dict(azure.hub.repositories[SEED_MODEL].files)


def test_the_seeds_request_fails_over_from_spot_and_serves(
    app: App, azure: AzureStack, capsys: pytest.CaptureFixture[str]
) -> None:
    no_room = Fault(
        "PUT",
        "/virtualMachines/",
        409,
        "AllocationFailed",
        "Allocation failed. We do not have sufficient capacity for the requested VM size in this region.",
        when=lambda body: body["properties"].get("priority") == "Spot",
    )
    azure.manager.faults.append(no_room)
    began = time.monotonic()
    instance_id = launch(app)
    app.wait(instance_id, "ready", seconds=READY_SECONDS)
    ready = time.monotonic() - began
    assert no_room.times == 0
    assert offers(app, instance_id) == [(True, "no_capacity"), (False, None)]
    assert "AllocationFailed" in app.show(instance_id)["attempts"][0]["failure"]["message"]
    assert len(azure.manager.groups) == 1
    assert f"GET /api/models/{SEED_MODEL}/revision/main?blobs=true" in azure.hub.calls
    assert azure.hub.fetched[-1][1] is None, "the storage behind the Hub sees no token"
    ask(app, instance_id)
    app.end(instance_id)
    app.wait(instance_id, "terminated", seconds=GONE_SECONDS)
    nothing_left(azure)
    calls = management_calls(azure)
    (azure.folder / "logs" / "management-calls.txt").write_text(calls + "\n")
    with capsys.disabled():
        print(f"\naccepted until ready, through a failover: {ready:.0f} s; SkyPilot's management calls:\n{calls}")


def management_calls(azure: AzureStack) -> str:
    """What SkyPilot asked of Azure, each kind of call with its number."""
    seen: dict[str, int] = {}
    for call, heard in zip(azure.manager.calls, azure.manager.heard, strict=True):
        if OURS in heard.headers.get("User-Agent", ""):
            continue
        brief = re.sub(r"/subscriptions/[^/]+", "", re.sub(r"gl-[0-9a-z-]+", "<cluster>", call))
        brief = re.sub(r"/operations/[^/]+|/operationresults/[^/]+", "/operations/<id>", brief)
        seen[brief] = seen.get(brief, 0) + 1
    assert any(call.startswith("PUT ") and "/virtualMachines/" in call for call in seen)
    return "\n".join(f"  {count:4} {call}" for call, count in seen.items())


def test_an_endpoint_outlives_its_machines_with_nothing_left(app: App, azure: AzureStack, gateways: Gateways) -> None:
    # From the other kind of store, by the same name.
    launch = {**SEED, "model_source": azure.model_source}
    made = app.call("POST", "/api/endpoints", {"name": NAME, "launch": launch, "drain_seconds": 0}, status=201)
    key = app.call("POST", f"/api/endpoints/{NAME}/keys", {"name": "search"}, status=201)["key"]

    def members() -> list[dict[str, Any]]:
        return app.call("GET", f"/api/endpoints/{NAME}")["members"]

    wait_until(members, seconds=60, what="the endpoint's replica")
    [member] = members()
    instance_id = member["instance_id"]
    app.wait(instance_id, "ready", seconds=READY_SECONDS)
    applications = Applications(azure.processes, azure.vllm, made["address"], key, NAME, clients=4)
    applications.start()
    lost: list[float] = []
    try:
        served(applications)
        fates: dict[str, Callable[[Resource], None]] = {
            "deallocated": azure.manager.machines.evict,
            "deleted": azure.manager.machines.vanish,
        }
        for number, (fate, befall) in enumerate(fates.items()):
            (machine,) = azure.manager.of_type("microsoft.compute/virtualmachines")
            with azure.manager.lock:
                befall(machine)
            lost.append(time.time())
            app.wait(instance_id, "recovering", "provisioning", seconds=120)
            noticed = time.time() - lost[-1]
            app.wait(instance_id, "ready", seconds=READY_SECONDS)
            tried = offers(app, instance_id)
            assert len(tried) == number + 2
            (was_spot, reason), (_, latest) = tried[-2:]
            # Where spot was refused lately, the plan begins with the on-demand offer; only spot machines are evicted.
            assert reason == ("evicted" if fate == "deallocated" and was_spot else "node_lost")
            assert latest is None
            assert app.show(instance_id)["recoveries"] == number + 1
            assert len(azure.manager.groups) == 1
            served(applications)
            replaced = time.time() - lost[-1]
            print(f"\na machine that was {fate} was noticed after {noticed:.0f} s, replaced after {replaced:.0f} s")
        asked = applications.stop()
    finally:
        applications.kill()
    assert app.call("GET", f"/api/endpoints/{NAME}")["address"] == made["address"]
    # Every request was answered, however long its machine was gone, but those whose answer had begun.
    failed = [one for one in asked if one.error is not None]
    assert [one for one in failed if one.code != "broken"] == []
    assert all(any(one.first and one.first <= at <= one.ended for at in lost) for one in failed)
    assert gateways.count("broken_streams_total") == len(failed)
    held = max(one.held for one in asked)
    print(f"{len(asked)} requests, {len(failed)} streams broke off, one was held for {held:.0f} s")
    app.call("DELETE", f"/api/endpoints/{NAME}", status=202)
    app.wait(instance_id, "terminated", seconds=GONE_SECONDS)
    wait_until(lambda: not azure.manager.groups, seconds=60, what="the end of the group")
    nothing_left(azure)


def served(applications: Applications) -> None:
    """Wait until each application has got an answer that it asked for from now on."""
    now = time.time()

    def answered() -> bool:
        return sum(one.began > now and one.error is None for one in applications.seen()) >= applications.clients

    wait_until(answered, seconds=60, what="answers at the endpoint's address", interval=0.5)
