"""The whole program with Azure's own word: the real management client against a resource manager, SkyPilot scripted.

SkyPilot is the forgetful part here: it says that every node it was ever asked for runs, and that every teardown is
done. What is true stands in the resource manager.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gpulaunch.models.instances import Mode, Reason
from shared import app as runtime
from shared.backends.base import Backend
from shared.domain.instance import Failure
from shared.domain.provider import AttemptRef, LaunchSpec, NodeState, NodeView, ProviderUnavailableError
from shared.lifecycle.garbage import GRACE
from shared.planning.quota import plain
from shared.storage.base import ORPHAN
from tests.functional.scripted import NodeWorld, Scripted
from tests.functional.world import SEED
from tests.standins.azure import Fault
from tests.standins.azure.clusters import add_cluster
from tests.standins.azure.subscription import Subscription, cluster, serve_subscription
from tests.twins.clock import ManualClock
from tests.twins.factories import DEPLOYMENT, OTHER_DEPLOYMENT, make_ended

A10 = "StandardNVADSA10v5Family"
PLENTY = {A10: (0, 720), "cores": (0, 720), "lowPriorityCores": (0, 720), "virtualMachines": (0, 100)}


class Forgetful(Scripted):
    """SkyPilot with books of its own; its launches make machines, its teardowns may do nothing."""

    azure: Subscription
    clock: ManualClock
    creates_after: float | None = 0
    """Seconds from a launch to its machine; None: it never comes."""
    down = False
    """Its server is away: it takes nothing away and says so."""

    def submit(self, launch_spec: LaunchSpec) -> str | None:
        if self.creates_after == 0:
            self._create(launch_spec)
        return super().submit(launch_spec)

    def describe(self, attempt_ref: AttemptRef) -> NodeView:
        wanted = self.submitted[-1]
        age = (self.clock.now() - wanted.started_at).total_seconds()
        if self.creates_after and age >= self.creates_after and not self.azure.left():
            self._create(wanted)
        return super().describe(attempt_ref)

    def _create(self, launch_spec: LaunchSpec) -> None:
        self.azure.launch(
            launch_spec.cluster_name,
            region=launch_spec.offer.region,
            spot=launch_spec.offer.use_spot,
            **dict(launch_spec.labels),
        )

    def release(self, attempt_ref: AttemptRef) -> bool:
        if self.down:
            raise ProviderUnavailableError("The SkyPilot server does not answer")
        return super().release(attempt_ref)


class OnAzure(NodeWorld):
    def __init__(self, deployment: str = DEPLOYMENT) -> None:
        super().__init__(deployment=deployment)
        self.sky = Forgetful()
        self.sky.clock = self.clock
        backend = replace(self.adapters.backends("real"), provider=self.sky, nodes=self.sky)
        self.scripted = self.sky

        def real(mode: Mode) -> Backend:
            assert mode == "real"
            return backend

        self.rebuild(backends=real)

    def join(self, azure: Subscription) -> None:
        self.azure = self.sky.azure = azure
        self.rebuild(clouds={"azure": azure.azure})

    def machine(self, instance_id: str) -> Any:
        name = self.show(instance_id)["attempts"][-1]["cluster_name"]
        return next(one for one in self.azure.manager.of_type("microsoft.compute/virtualmachines") if name in one.name)

    def silent(self) -> None:
        self.sky.alive = False


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OnAzure]:
    made = OnAzure()
    for azure in serve_subscription(tmp_path, made.clock):
        made.join(azure)
        azure.manager.usages["eastus"] = dict(PLENTY)
        yield made
    assert made.errors == []


def reasons(world: OnAzure, instance_id: str) -> list[str | None]:
    failures: list[Any] = [attempt["failure"] for attempt in world.show(instance_id)["attempts"]]
    return [None if failure is None else failure["reason"] for failure in failures]


# What machines cost.


def test_a_machine_should_cost_from_its_creation_at_azure(world: OnAzure) -> None:
    world.sky.creates_after = 60
    instance_id = world.launch()
    world.run(120)
    [attempt] = world.show(instance_id)["attempts"]
    created = world.machine(instance_id).properties["timeCreated"]
    assert datetime.fromisoformat(attempt["billed_from"]) == datetime.fromisoformat(created)
    assert attempt["started_at"] < attempt["billed_from"]


def test_an_offer_without_room_should_cost_nothing_once_that_is_known(world: OnAzure) -> None:
    world.sky.creates_after = None
    world.sky.spot_failure = Failure(reason=Reason.NO_CAPACITY, message="no room")
    instance_id = world.launch()
    world.run(60)
    first, *_ = world.show(instance_id)["attempts"]
    assert (first["billed_from"], first["cost_usd"]) == (None, 0)


# Nodes that don't answer.


def test_an_evicted_node_should_be_recovered_on_the_next_offer_with_nothing_left(world: OnAzure) -> None:
    instance_id = world.to_ready()
    world.azure.manager.machines.evict(world.machine(instance_id))
    world.silent()
    world.run(40)
    shown = world.show(instance_id)
    assert reasons(world, instance_id) == ["evicted", None]
    assert "Azure evicted the spot machine" in shown["attempts"][0]["failure"]["message"]
    assert [attempt["offer"]["use_spot"] for attempt in shown["attempts"]] == [True, False]
    assert len(world.azure.manager.groups) == 1
    world.delete(instance_id)
    world.run(60)
    assert world.show(instance_id)["phase"] == "terminated"
    assert world.azure.left() == []


def test_a_deleted_machines_group_disk_and_address_should_not_stay(world: OnAzure) -> None:
    instance_id = world.to_ready()
    world.azure.manager.machines.vanish(world.machine(instance_id))
    world.silent()
    world.run(40)
    assert reasons(world, instance_id) == ["node_lost", None]
    assert len(world.azure.manager.groups) == 1
    assert world.azure.left().count("virtualMachines") == 1


def test_a_silent_endpoint_on_a_running_machine_should_get_its_time(world: OnAzure) -> None:
    instance_id = world.to_ready()
    world.silent()
    world.run(40)
    assert reasons(world, instance_id) == [None]
    assert world.show(instance_id)["health"]["state"] == "unhealthy"


def test_a_node_that_azure_runs_should_not_be_lost_because_skypilot_has_forgotten_it(world: OnAzure) -> None:
    instance_id = world.to_ready()
    world.sky.view = NodeView(state=NodeState.ABSENT)
    world.silent()
    world.run(40)
    assert reasons(world, instance_id) == [None]
    world.run(60)
    assert reasons(world, instance_id)[0] == "unhealthy"


def test_without_azures_word_skypilots_should_count(world: OnAzure) -> None:
    instance_id = world.to_ready()
    world.azure.manager.machines.evict(world.machine(instance_id))
    world.azure.manager.faults.append(Fault("GET", "virtualMachines", 503, "ServerBusy", times=99))
    world.silent()
    world.run(40)
    assert reasons(world, instance_id) == [None]
    world.sky.view = NodeView(state=NodeState.STOPPED)
    world.run(30)
    assert reasons(world, instance_id)[0] == "evicted"


def test_answering_nodes_should_cost_azure_nothing(world: OnAzure) -> None:
    world.to_ready()
    before = len(world.azure.manager.calls)
    world.run(110)
    # One look for garbage may fall into this time.
    assert len(world.azure.manager.calls) - before <= 4


# Teardown.


def test_an_instance_should_not_be_called_terminated_before_azure_has_nothing_left(world: OnAzure) -> None:
    instance_id = world.to_ready()
    world.azure.manager.operation_seconds = 200
    world.delete(instance_id)
    world.run(150)
    assert world.sky.released >= 1
    assert world.show(instance_id)["phase"] == "terminating"
    world.run(90)
    assert world.show(instance_id)["phase"] == "terminated"
    assert world.azure.left() == []


def test_a_failover_should_not_wait_for_a_group_in_which_nothing_costs_money(world: OnAzure) -> None:
    instance_id = world.to_ready()
    machine = world.machine(instance_id)
    world.azure.manager.machines.vanish(machine)
    address = world.azure.manager.of_type("microsoft.network/publicipaddresses")[0]
    world.azure.manager.drop(address)
    world.azure.manager.operation_seconds = 300
    world.silent()
    world.run(40)
    assert reasons(world, instance_id) == ["node_lost", None]
    assert len(world.azure.manager.groups) == 2
    world.run(300)
    world.azure.manager.settle()
    assert len(world.azure.manager.groups) == 1


def test_a_machine_should_go_even_while_skypilots_server_is_away(world: OnAzure) -> None:
    instance_id = world.to_ready()
    world.sky.down = True
    world.delete(instance_id)
    world.run(60)
    assert world.show(instance_id)["phase"] == "terminating"
    assert world.azure.left() == []
    world.sky.down = False
    world.run(60)
    assert world.show(instance_id)["phase"] == "terminated"


def test_a_teardown_that_azure_refuses_should_stay_open_and_raise_its_alert(world: OnAzure) -> None:
    instance_id = world.to_ready()
    refused = Fault("DELETE", "resourcegroups", 403, "AuthorizationFailed", times=999)
    world.azure.manager.faults.append(refused)
    world.delete(instance_id)
    world.run(11 * 60)
    assert world.show(instance_id)["phase"] == "terminating"
    alerts = [event["message"] for event in world.events(instance_id) if event["type"] == "alert"]
    assert "Contributor" in alerts[0]
    world.azure.manager.faults.clear()
    world.run(60)
    assert world.show(instance_id)["phase"] == "terminated"


# Garbage.


def lost(world: OnAzure, number: int, **where: Any) -> Any:
    """A machine whose instance has ended, with the word that nothing is left of it."""
    world.store.create(make_ended(cluster(number)), [], None)
    return world.azure.launch(cluster(number), **where)


def two_passes(world: OnAzure) -> None:
    world.run((GRACE + timedelta(minutes=9)).total_seconds())


def test_a_machine_that_skypilot_and_we_have_forgotten_should_go_in_two_passes(world: OnAzure) -> None:
    lost(world, 7)
    world.run(GRACE.total_seconds() + 150)
    assert [note.key for note in world.store.markers(ORPHAN)] == [cluster(7)]
    assert "virtualMachines" in world.azure.left()
    world.run(GRACE.total_seconds() + 240)
    assert world.azure.left() == []
    world.run(300)
    assert world.store.markers(ORPHAN) == []


def test_a_group_disk_or_address_alone_should_go_too(world: OnAzure) -> None:
    world.azure.manager.machines.vanish(lost(world, 7))
    world.azure.manager.add_group("shared")
    machine = lost(world, 8, group="shared")
    machine.properties["storageProfile"]["osDisk"]["deleteOption"] = "Detach"
    world.azure.manager.machines.vanish(machine)
    two_passes(world)
    world.run(600)
    assert world.azure.left() == ["group"]


@pytest.mark.parametrize(("key", "value"), [("gpulaunch-exempt", "yes"), ("gpulaunch-deployment", OTHER_DEPLOYMENT)])
def test_exempt_machines_and_those_of_other_deployments_should_stay(world: OnAzure, key: str, value: str) -> None:
    lost(world, 7).tags[key] = value
    world.run(3600)
    assert "virtualMachines" in world.azure.left()
    assert world.store.markers(ORPHAN) == []


def test_machines_of_live_instances_and_of_strangers_should_stay(world: OnAzure) -> None:
    instance_id = world.to_ready()
    world.azure.manager.add_group("theirs")
    world.azure.manager.machines.add("theirs", "web-1", tags={"owner": "somebody"})
    for _ in range(20):
        world.node(instance_id, "heartbeat", {"phase": "serving"})
        world.run(120)
    assert world.show(instance_id)["phase"] == "ready"
    assert world.azure.left().count("virtualMachines") == 2


def test_an_azure_that_does_not_answer_should_prove_nothing(world: OnAzure) -> None:
    lost(world, 7)
    world.run(7 * 60)
    assert [note.key for note in world.store.markers(ORPHAN)] == [cluster(7)]
    world.azure.manager.faults.append(Fault("GET", "resources$", 429, "TooManyRequests", times=999))
    world.run(20 * 60)
    assert [note.key for note in world.store.markers(ORPHAN)] == [cluster(7)]
    assert "virtualMachines" in world.azure.left()


# Quota.


def launch(world: OnAzure, **changes: Any) -> Any:
    return world.call("POST", "/api/instances/launch", SEED | changes)


def offers(answer: Any) -> list[str]:
    return [f"{offer['region']}/{'spot' if offer['use_spot'] else 'on-demand'}" for offer in answer.json["offers"]]


def test_no_spot_quota_should_strike_the_spot_offer_with_its_reason_in_the_ledger(world: OnAzure) -> None:
    world.azure.manager.usages["eastus"]["lowPriorityCores"] = (0, 0)
    answer = launch(world)
    assert offers(answer) == ["eastus/on-demand"]
    (warning,) = answer.json["warnings"]
    assert "0 of 0 cores free in lowPriorityCores" in warning
    accepted = world.events(answer.json["instance_id"])[0]
    (reason,) = accepted["data"]["left_out"].values()
    assert "lowPriorityCores" in reason
    world.run(5)
    assert [launch_spec.offer.use_spot for launch_spec in world.sky.submitted] == [False]


def test_a_family_without_quota_should_strike_on_demand_and_leave_spot(world: OnAzure) -> None:
    usages = world.azure.manager.usages["eastus"]
    del usages[A10]
    usages[" standard NVADSA10v5 family"] = (0, 35)
    assert offers(launch(world)) == ["eastus/spot"]


def test_no_quota_at_all_should_refuse_the_launch_at_once(world: OnAzure) -> None:
    world.azure.manager.usages["eastus"] |= {"lowPriorityCores": (0, 0), A10: (0, 0)}
    answer = launch(world)
    assert answer.status == 422
    assert answer.json["code"] == "quota_exceeded"
    assert "lowPriorityCores" in answer.json["detail"]
    assert A10 in answer.json["detail"]
    world.run(60)
    assert world.sky.submitted == []
    assert world.call("GET", "/api/instances").json["instances"] == []


def test_regions_that_come_up_when_others_are_struck_should_be_checked_too(world: OnAzure) -> None:
    regions = [
        offer.region
        for offer in world.adapters.catalog.listing("azure").offers
        if offer.instance_type == SEED["instance_type"]
    ]
    for region in regions:
        world.azure.manager.usages[region] = PLENTY | {"lowPriorityCores": (0, 0), A10: (0, 0)}
    world.azure.manager.usages["westus2"] = dict(PLENTY)
    answer = launch(world, region=sorted(set(regions)))
    assert offers(answer) == ["westus2/spot", "westus2/on-demand"]
    assert world.azure.manager.count("/usages") == len(set(regions))


def test_an_azure_that_does_not_answer_should_let_the_launch_through_with_a_warning(world: OnAzure) -> None:
    world.azure.manager.faults.append(Fault("GET", "usages", 500, "InternalServerError"))
    answer = launch(world)
    assert answer.status == 202
    assert offers(answer) == ["eastus/spot", "eastus/on-demand"]
    (warning,) = answer.json["warnings"]
    assert "eastus was not checked" in warning


def test_without_a_subscription_the_answer_should_say_that_nothing_was_checked(world: OnAzure) -> None:
    world.rebuild(clouds={})
    answer = launch(world)
    assert answer.status == 202
    assert "AZURE_SUBSCRIPTION_ID" in answer.json["warnings"][0]
    shown = world.call("GET", "/api/quota").json
    assert (shown["checked"], shown["regions"]) == (False, [])
    assert "AZURE_SUBSCRIPTION_ID" in shown["reason"]


def test_quota_should_be_shown_with_what_our_instances_hold(world: OnAzure) -> None:
    world.azure.manager.usages["eastus"]["standardDSv5Family"] = (0, 10)
    world.to_ready()
    (region,) = world.call("GET", "/api/quota").json["regions"]
    assert region["region"] == "eastus"
    lines = {plain(line["name"]): (line["limit"], line["free"], line["ours"]) for line in region["lines"]}
    assert lines == {
        plain(A10): (720, 720, 0),
        "cores": (720, 720, 0),
        "lowprioritycores": (720, 720, 36),
        "virtualmachines": (100, 100, 1),
    }
    asked = world.call("GET", "/api/quota?region=westus2,eastus").json["regions"]
    assert [one["region"] for one in asked] == ["eastus", "westus2"]


def test_a_region_that_azure_does_not_answer_for_should_be_shown_with_the_problem(world: OnAzure) -> None:
    world.azure.manager.faults.append(Fault("GET", "usages", 403, "AuthorizationFailed"))
    (region,) = world.call("GET", "/api/quota?region=eastus").json["regions"]
    assert region["checked_at"] is None
    assert "Reader" in region["problem"]


def test_an_unknown_region_should_be_refused(world: OnAzure) -> None:
    answer = world.call("GET", "/api/quota?region=eastuss")
    assert answer.status == 422
    assert "eastus" in answer.json["errors"][0]["nearest"]


# Other deployments.


def test_a_fresh_table_should_touch_no_machine_of_the_subscription(world: OnAzure) -> None:
    """A second environment, a laptop, or a new storage account: the same settings, and a table of its own."""
    instance_id = world.to_ready()
    stranger = OnAzure(deployment=OTHER_DEPLOYMENT)
    stranger.join(world.azure)
    for _ in range(30):
        runtime.use(stranger.app)
        stranger.run(120)
        runtime.use(world.app)
        world.node(instance_id, "heartbeat", {"phase": "serving"})
        world.run(120)
    assert world.show(instance_id)["phase"] == "ready"
    assert world.azure.left().count("virtualMachines") == 1
    runtime.use(stranger.app)
    (seen,) = stranger.call("GET", "/api/garbage").json["foreign"]
    assert (seen["cluster_name"][3:29].upper(), seen["deployment"]) == (instance_id[5:], DEPLOYMENT)
    assert stranger.errors == []


@pytest.mark.parametrize("remains", ["machine", "group"])
def test_what_carries_no_identity_and_has_no_record_should_stay(world: OnAzure, remains: str) -> None:
    machine = world.azure.launch(cluster(7))
    for resource in world.azure.manager.resources.values():
        # A disk has the tags of its machine.
        resource.tags.pop("gpulaunch-deployment", None)
    if remains == "group":
        world.azure.manager.machines.vanish(machine)
    before = world.azure.left()
    world.run(6 * 3600)
    assert world.azure.left() == before
    (seen,) = world.call("GET", "/api/garbage").json["foreign"]
    assert (seen["cluster_name"], seen["deployment"]) == (cluster(7), None)


def test_a_machine_of_ours_without_a_record_should_go_only_when_it_is_confirmed(world: OnAzure) -> None:
    world.azure.launch(cluster(7))
    world.run(6 * 3600)
    assert "virtualMachines" in world.azure.left()
    (waiting,) = world.call("GET", "/api/garbage").json["waiting"]
    assert world.call("POST", "/api/garbage/confirm", {"clusters": [waiting["cluster_name"]]}).status == 200
    world.run(900)
    assert world.azure.left() == []


def test_a_machine_under_an_earlier_user_id_should_be_released_with_its_instance(world: OnAzure) -> None:
    instance_id = world.to_ready()
    (machine,) = world.azure.manager.of_type("microsoft.compute/virtualmachines")
    name = machine.tags["skypilot-cluster-name"]
    for resource in list(world.azure.manager.resources.values()):
        world.azure.manager.drop(resource)
    world.azure.manager.groups.clear()
    add_cluster(world.azure.manager, f"{name.rpartition('-')[0]}-67706c61", region="eastus", spot=True)
    for _ in range(10):
        world.node(instance_id, "heartbeat", {"phase": "serving"})
        world.run(120)
    assert world.show(instance_id)["phase"] == "ready"
    assert world.call("GET", "/api/garbage").json["foreign"] == []
    world.delete(instance_id)
    world.run(120)
    assert world.show(instance_id)["phase"] == "terminated"
    assert world.azure.left() == []
