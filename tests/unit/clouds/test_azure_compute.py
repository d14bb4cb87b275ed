"""Azure's word on machines: every call made by the real client, over HTTPS, to a stand-in for the resource manager."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.identity import CredentialUnavailableError

from gpulaunch.models.instances import Reason
from shared.clouds.azure.client import AzureClient
from shared.clouds.azure.compute import LISTING_SECONDS, QUOTA_SECONDS, AzureCompute
from shared.domain.provider import CleanupStatus, NodeState, ProviderUnavailableError
from tests.standins.azure import Fault, StaticCredential
from tests.standins.azure.clusters import add_cluster
from tests.standins.azure.shapes import RefusedError, Resource
from tests.standins.azure.subscription import USER_ID, Subscription, cluster, serve_subscription
from tests.twins.factories import DEPLOYMENT, OTHER_DEPLOYMENT

A, B = cluster(1), cluster(2)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Subscription]:
    yield from serve_subscription(tmp_path)


def state(world: Subscription, name: str = A) -> NodeState | None:
    world.clock.advance(LISTING_SECONDS)
    view = world.azure.describe(name)
    return None if view is None else view.state


def test_a_running_machine_should_be_up(world: Subscription) -> None:
    world.launch(A)
    assert state(world) is NodeState.UP


def test_an_evicted_spot_machine_should_be_stopped_and_called_evicted(world: Subscription) -> None:
    world.manager.machines.evict(world.launch(A))
    view = world.azure.describe(A)
    assert view is not None
    assert view.state is NodeState.STOPPED
    assert "evicted" in view.detail


@pytest.mark.parametrize("power", ["deallocated", "stopped", "stopping"])
def test_a_stopped_on_demand_machine_should_not_be_called_evicted(world: Subscription, power: str) -> None:
    world.manager.machines.set_power(world.launch(A, spot=False), power)
    view = world.azure.describe(A)
    assert view is not None
    assert view.state is NodeState.STOPPED
    assert "evicted" not in view.detail


def test_a_machine_deleted_behind_our_back_should_be_absent(world: Subscription) -> None:
    world.manager.machines.vanish(world.launch(A))
    assert state(world) is NodeState.ABSENT


def test_a_cluster_that_azure_never_heard_of_should_prove_nothing(world: Subscription) -> None:
    world.launch(A)
    assert state(world, B) is None


def test_machines_that_are_not_named_like_ours_should_be_left_out(world: Subscription) -> None:
    world.manager.add_group("theirs")
    world.manager.machines.add("theirs", "web-1", tags={"owner": "somebody"})
    world.manager.machines.add("theirs", "sky-1", tags={"skypilot-cluster-name": "sky-1-0a0a0a0a"})
    assert state(world) is None
    assert list(world.azure.clusters()) == []


def test_nodes_under_another_user_id_should_be_found_and_be_nobodys(world: Subscription) -> None:
    world.manager.add_group("theirs")
    world.manager.machines.add("theirs", "sky-1", tags={"skypilot-cluster-name": f"{A}-0a0a0a0a"})
    (found,) = world.azure.clusters()
    assert (found.cluster_name, found.deployment) == (A, None)


def test_a_node_made_under_an_earlier_user_id_should_be_described_and_deleted(world: Subscription) -> None:
    add_cluster(world.manager, f"{A}-67706c61", region="eastus", spot=True)
    assert state(world) is not None
    while world.azure.delete(A, "eastus") is not CleanupStatus.NOTHING:
        pass
    assert world.left() == []


def test_a_failed_provisioning_should_carry_azures_reason(world: Subscription) -> None:
    machine = world.launch(A)
    machine.properties["provisioningState"] = "Failed"
    error = RefusedError(409, "AllocationFailed", "We do not have sufficient capacity.")
    failed = {"code": f"ProvisioningState/failed/{error.code}", "level": "Error", "message": error.message}
    machine.statuses = [failed]
    view = world.azure.describe(A)
    assert view is not None
    assert view.state is NodeState.PENDING
    assert view.failure is not None
    assert view.failure.reason is Reason.NO_CAPACITY
    assert "sufficient capacity" in view.failure.message


def test_the_boot_time_should_be_what_azure_took(world: Subscription) -> None:
    machine = world.launch(A)
    done = world.clock.now() + timedelta(seconds=47)
    machine.statuses[0]["time"] = done.isoformat()
    view = world.azure.describe(A)
    assert view is not None
    assert "47 s" in view.detail


def test_a_machine_that_is_being_made_should_be_pending_without_a_boot_time(world: Subscription) -> None:
    machine = world.launch(A)
    machine.properties["provisioningState"] = "Creating"
    machine.statuses = [{"code": "ProvisioningState/creating", "level": "Info"}]
    view = world.azure.describe(A)
    assert view is not None
    assert (view.state, view.detail) == (NodeState.PENDING, "Azure reports that the machine is creating.")


def test_any_number_of_looks_should_cost_one_listing_until_it_is_old(world: Subscription) -> None:
    for number in range(20):
        world.launch(cluster(number))
    for number in range(20):
        assert world.azure.describe(cluster(number)) is not None
    listings = r"GET .*/providers/Microsoft.Compute/virtualMachines$"
    assert world.manager.count(listings) == 2
    assert world.manager.count("") == 3
    world.clock.advance(LISTING_SECONDS)
    assert world.azure.describe(A) is not None
    assert world.manager.count(listings) == 4


def test_a_listing_of_many_pages_should_be_read_to_its_end(world: Subscription) -> None:
    world.manager.page_size = 7
    for number in range(30):
        world.launch(cluster(number))
    assert len(world.azure.clusters()) == 30
    assert {view.state for view in map(world.azure.describe, map(cluster, range(30))) if view} == {NodeState.UP}


def test_throttling_should_be_obeyed_without_waiting(world: Subscription) -> None:
    world.launch(A)
    world.manager.faults.append(Fault("GET", "virtualMachines$", 429, "TooManyRequests", retry_after=90, times=2))
    with pytest.raises(ProviderUnavailableError, match="throttles"):
        world.azure.describe(A)
    asked = len(world.manager.calls)
    world.clock.advance(89)
    with pytest.raises(ProviderUnavailableError, match="next call is allowed at"):
        world.azure.describe(A)
    assert len(world.manager.calls) == asked
    world.clock.advance(1)
    world.manager.faults.clear()
    assert state(world) is NodeState.UP


def test_other_errors_should_not_keep_us_from_asking(world: Subscription) -> None:
    world.launch(A)
    world.manager.faults.append(Fault("GET", "resourcegroups$", 503, "ServerBusy"))
    with pytest.raises(ProviderUnavailableError, match="503"):
        world.azure.describe(A)
    view = world.azure.describe(A)
    assert view is not None
    assert view.state is NodeState.UP


@pytest.mark.parametrize(("status", "code"), [(401, "InvalidAuthenticationToken"), (403, "AuthorizationFailed")])
def test_a_refusal_should_name_the_role_that_is_missing(world: Subscription, status: int, code: str) -> None:
    world.manager.faults.append(Fault("GET", "virtualMachines$", status, code, times=9))
    with pytest.raises(ProviderUnavailableError, match=rf"{code}.*Reader") as raised:
        world.azure.describe(A)
    assert "token-of-the-stand-in" not in str(raised.value)


def test_a_token_that_does_not_count_should_be_said(world: Subscription) -> None:
    world.manager.tokens.clear()
    with pytest.raises(ProviderUnavailableError, match="InvalidAuthenticationToken"):
        world.azure.describe(A)


def test_an_address_that_nobody_answers_at_should_be_said(world: Subscription) -> None:
    client = AzureClient(
        world.manager.subscription, world.clock, credential=StaticCredential(), endpoint="https://127.0.0.1:1"
    )
    azure = AzureCompute(client, world.clock, USER_ID)
    with pytest.raises(ProviderUnavailableError, match="did not answer"):
        azure.describe(A)
    azure.close()


def test_a_cluster_should_go_with_its_group_and_all_that_is_in_it(world: Subscription) -> None:
    world.launch(A)
    world.launch(B)
    kept = world.left()[: len(world.left()) // 2]
    assert world.azure.delete(A, "eastus") in (CleanupStatus.MACHINE, CleanupStatus.FREE_LEFTOVERS)
    assert world.azure.delete(A, "eastus") is CleanupStatus.NOTHING
    assert len(world.left()) == len(kept)
    assert state(world, B) is NodeState.UP


def test_a_removal_under_way_should_not_be_asked_for_again(world: Subscription) -> None:
    world.manager.operation_seconds = 120
    world.launch(A)
    for _ in range(3):
        assert world.azure.delete(A, "eastus") is CleanupStatus.MACHINE
        world.clock.advance(30)
    assert world.manager.count("DELETE") == 1
    world.clock.advance(31)
    assert world.azure.delete(A, "eastus") is CleanupStatus.NOTHING
    assert world.left() == []


def test_a_group_that_azure_could_not_delete_should_be_deleted_again(world: Subscription) -> None:
    world.launch(A)
    world.manager.faults.append(Fault("DELETE", "resourcegroups", 409, "ScopeLocked", late=True))
    assert world.azure.delete(A) is CleanupStatus.MACHINE
    assert len(world.manager.groups) == 1
    assert world.azure.delete(A) in (CleanupStatus.MACHINE, CleanupStatus.FREE_LEFTOVERS)
    assert world.azure.delete(A) is CleanupStatus.NOTHING
    assert world.left() == []


def test_an_orphan_should_be_found_and_removed_without_its_region(world: Subscription) -> None:
    world.manager.machines.vanish(world.launch(A, region="westus2"))
    assert [found.cluster_name for found in world.azure.clusters()] == [A]
    while world.azure.delete(A) is not CleanupStatus.NOTHING:
        pass
    assert world.left() == []
    world.clock.advance(LISTING_SECONDS)
    assert list(world.azure.clusters()) == []


def test_no_login_should_be_said(world: Subscription) -> None:
    class NoLogin(StaticCredential):
        def get_token(self, *scopes: str, **_: Any) -> AccessToken:
            raise CredentialUnavailableError("Please run 'az login'.")

    client = AzureClient(world.manager.subscription, world.clock, credential=NoLogin(), endpoint=world.server.endpoint)
    azure = AzureCompute(client, world.clock, USER_ID)
    with pytest.raises(ProviderUnavailableError, match=r"No login to Azure works here.*az login"):
        azure.usage("eastus")
    azure.close()


def test_in_a_shared_group_only_the_clusters_own_parts_should_go(world: Subscription) -> None:
    world.manager.add_group("shared")
    world.manager.machines.add("shared", "web-1", tags={})
    theirs = world.left()
    world.launch(A, group="shared")
    world.launch(B, group="shared")
    for name in (A, B):
        for _ in range(8):
            if world.azure.delete(name, "eastus") is CleanupStatus.NOTHING:
                break
        else:
            pytest.fail(f"{name} does not go: {world.left()}")
    assert world.left() == theirs


def test_an_evicted_machines_disk_should_not_stay_behind(world: Subscription) -> None:
    world.manager.add_group("shared")
    machine = world.launch(A, group="shared")
    machine.properties["storageProfile"]["osDisk"]["deleteOption"] = "Detach"
    world.manager.machines.evict(machine)
    assert world.azure.delete(A, "eastus") is CleanupStatus.MACHINE
    assert "virtualMachines" not in world.left()
    assert world.azure.delete(A, "eastus") is CleanupStatus.MACHINE, "a disk without its machine is billed all the same"
    while world.azure.delete(A, "eastus") is not CleanupStatus.NOTHING:
        pass
    assert world.left() == ["group"]


def test_what_is_still_needed_should_be_tried_again_and_be_no_error(world: Subscription) -> None:
    world.manager.add_group("shared")
    world.launch(A, group="shared")
    reserved = Fault("DELETE", "networkInterfaces", 400, "NicReservedForAnotherVm", "InUse for 180 seconds.", times=2)
    world.manager.faults.append(reserved)
    seen = [world.azure.delete(A, "eastus") for _ in range(8)]
    assert seen[-1] is CleanupStatus.NOTHING
    assert reserved.times == 0


def test_a_removal_that_is_not_allowed_should_say_so(world: Subscription) -> None:
    world.launch(A)
    world.manager.faults.append(Fault("DELETE", "resourcegroups", 403, "AuthorizationFailed"))
    with pytest.raises(ProviderUnavailableError, match="Contributor"):
        world.azure.delete(A, "eastus")


def test_clusters_should_show_exemption_deployment_and_age(world: Subscription) -> None:
    begun = world.clock.now()
    world.launch(A, gpulaunch_exempt="yes")
    world.launch(B, gpulaunch_deployment=OTHER_DEPLOYMENT)
    world.clock.advance(600)
    found = {one.cluster_name: one for one in world.azure.clusters()}
    assert (found[A].gc_protected, found[A].deployment, found[A].created_at) == (True, DEPLOYMENT, begun)
    assert (found[B].gc_protected, found[B].deployment) == (False, OTHER_DEPLOYMENT)


def test_clusters_should_show_what_and_where_they_are(world: Subscription) -> None:
    machine = world.launch(A, spot=True)
    (cluster,) = world.azure.clusters()
    assert (cluster.provider, cluster.region, cluster.use_spot) == ("azure", "eastus", True)
    assert cluster.machine == machine.properties["hardwareProfile"]["vmSize"]


def test_a_disk_alone_should_be_found_with_the_tags_it_got_from_its_machine(world: Subscription) -> None:
    tags = {"skypilot-cluster-name": f"{A}-{USER_ID}", "gpulaunch-deployment": DEPLOYMENT, "gpulaunch-exempt": "true"}
    now = world.clock.now()
    name = f"{A}-{USER_ID}-cd34-0_OsDisk_1_0"
    world.manager.add_group("shared")
    world.manager.add(Resource("shared", "Microsoft.Compute", "disks", name, "eastus", now, tags))
    (found,) = world.azure.clusters()
    assert (found.cluster_name, found.state, found.created_at) == (A, NodeState.ABSENT, now)
    assert (found.deployment, found.gc_protected) == (DEPLOYMENT, True)


def test_quota_should_be_read_once_in_ten_minutes_for_each_region(world: Subscription) -> None:
    world.manager.usages["eastus"] = {"cores": (10, 100), "lowPriorityCores": (0, 72)}
    usage = world.azure.usage("eastus")
    assert world.azure.usage("eastus") is usage
    assert [(line.name, line.used, line.limit) for line in usage.lines] == [
        ("cores", 10, 100),
        ("lowPriorityCores", 0, 72),
    ]
    assert world.manager.count("/usages") == 1
    world.azure.usage("westus")
    assert world.manager.count("/usages") == 2
    world.manager.usages["eastus"]["cores"] = (90, 100)
    world.clock.advance(QUOTA_SECONDS - 1)
    assert world.azure.usage("eastus") == usage
    world.clock.advance(1)
    assert world.azure.usage("eastus").lines[0].used == 90


def test_a_quota_that_is_too_old_should_not_stand_in_for_no_answer(world: Subscription) -> None:
    world.manager.usages["eastus"] = {"cores": (10, 100)}
    world.azure.usage("eastus")
    world.clock.advance(QUOTA_SECONDS)
    world.manager.faults.append(Fault("GET", "usages", 500, "InternalServerError"))
    with pytest.raises(ProviderUnavailableError, match="quota of eastus"):
        world.azure.usage("eastus")
