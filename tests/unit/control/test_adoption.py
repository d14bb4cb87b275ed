"""What a node without a record is taken for: by the listing and the catalog, and by nothing that it says itself."""

from typing import Any, cast

import pytest

from shared.billing.admission import Admission, AdmissionRules
from shared.billing.budget import Budgets
from shared.billing.gate import LedgerGate
from shared.billing.limits import AdmissionLimits
from shared.catalog.snapshot import snapshot
from shared.control.adoption import Adopter
from shared.control.clusters import ClusterListing
from shared.control.garbage_report import GarbageReports
from shared.domain.instance import attempt_of, instance_of
from shared.domain.provider import Cluster
from shared.lifecycle.timeouts import Timeouts
from tests.functional.world import settings
from tests.twins.clock import START, ManualClock
from tests.twins.factories import DEPLOYMENT
from tests.twins.queues import MemoryQueues
from tests.twins.store import MemoryInstanceStore
from tests.unit.control.doubles import ProviderDouble, make_cluster

NAME = "gl-01k0000000000000000000000a-02"
AZURE = {"provider": "azure", "region": "eastus", "machine": "1x(gpus=A10:1, cpus=36, Standard_NV36ads_A10_v5, [spot])"}
OWN = {"provider": "kubernetes", "region": "rack-7", "machine": "1x(gpus=H100:4, cpus=8)"}


def cluster(facts: dict[str, Any], **given: Any) -> Cluster:
    return make_cluster(NAME, deployment=DEPLOYMENT, **facts | given)


def adopter(longest: int | None = None) -> Adopter:
    store, clock = MemoryInstanceStore(), ManualClock()
    rules = AdmissionRules(Budgets(), AdmissionLimits(lifetime_minutes=longest))
    admission = Admission(store, LedgerGate(store, lambda _: None), rules, cast("Any", None))
    listing = ClusterListing(store, ProviderDouble().backends(), {}, ["real"])
    reports = GarbageReports(store, clock, DEPLOYMENT)
    queues = MemoryQueues(clock)
    return Adopter(store, listing, reports, snapshot(), admission, queues, clock, settings(), DEPLOYMENT, Timeouts())


def taken_for(given: Cluster) -> tuple[str, str | None, str, int, bool] | None:
    record = adopter().as_adopted(given)
    if record is None:
        return None
    assert (record.instance_id, record.attempts[-1].number) == (instance_of(NAME), attempt_of(NAME))
    offer = record.attempts[-1].offer
    return offer.region, offer.instance_type, offer.gpu, offer.gpu_count, offer.use_spot


@pytest.mark.parametrize("spot", [False, True])
@pytest.mark.parametrize("changed", [{}, {"region": "EastUS"}, {"machine": "standard_nv36ads_a10_V5"}])
def test_a_rented_machine_should_be_known_by_its_type_region_and_kind(changed: dict[str, Any], *, spot: bool) -> None:
    found = taken_for(cluster(AZURE, use_spot=spot, **changed))
    assert found == ("eastus", "Standard_NV36ads_A10_v5", "A10", 1, spot)


@pytest.mark.parametrize(("region", "shown"), [("rack-7", "rack-7"), (None, "*")])
@pytest.mark.parametrize(("gpus", "gpu", "count"), [("H100:4", "H100", 4), ("h100:1", "H100", 1), ("A10:2", "A10", 2)])
def test_a_node_of_one_s_own_should_be_known_by_its_gpus(
    region: str | None, shown: str, gpus: str, gpu: str, count: int
) -> None:
    found = taken_for(cluster(OWN, region=region, machine=f"1x(gpus={gpus}, cpus=8)"))
    assert found == (shown, None, gpu, count, False)


@pytest.mark.parametrize(
    "given",
    [
        cluster(AZURE, machine=""),
        cluster(AZURE, machine="1x(gpus=A10:1, Standard_NV36ads_A10_v6)"),
        cluster(AZURE, region="westeurope"),
        cluster(AZURE, region=None),
        cluster(AZURE, provider=None),
        cluster(AZURE, provider="lambda"),
        cluster(AZURE, provider="aws"),
        cluster(AZURE, created_at=None),
        cluster(OWN, machine="1x(cpus=8)"),
        cluster(OWN, machine="1x(gpus=TURBO9000:1)"),
    ],
)
def test_one_that_the_catalog_does_not_know_should_not_be_adopted(given: Cluster) -> None:
    assert taken_for(given) is None


def test_a_provider_without_prices_should_be_said_with_what_is_wrong(caplog: pytest.LogCaptureFixture) -> None:
    taken_for(cluster(AZURE, provider="aws"))
    assert f"{NAME} cannot be adopted: this catalog has no aws prices" in caplog.text


@pytest.mark.parametrize(("longest", "minutes"), [(None, 43_200), (90, 90)])
def test_its_lifetime_should_be_the_longest_that_is_allowed(longest: int | None, minutes: int) -> None:
    record = adopter(longest).as_adopted(cluster(AZURE, use_spot=True))
    assert record is not None
    assert (record.deadline_at - START).total_seconds() == minutes * 60
