"""Azure's families of machines, and the lines of its quota that matter."""

import pytest

from shared.catalog.snapshot import snapshot
from shared.clouds.azure.quota import concerns_gpus, family_of
from shared.planning.quota import plain


@pytest.mark.parametrize(
    ("kind", "family"),
    [
        ("Standard_NV36ads_A10_v5", "standardNVADSA10v5Family"),
        ("Standard_NV36adms_A10_v5", "standardNVADSA10v5Family"),
        ("standard_nv72ads_a10_v5", "standardNVADSA10v5Family"),
        ("Standard_NC4as_T4_v3", "Standard NCASv3_T4 Family"),
        ("Standard_NC24ads_A100_v4", "StandardNCADSA100v4Family"),
        ("Standard_NC80adis_H100_v5", "StandardNCadsH100v5Family"),
        ("Standard_NC24rs_v3", "standardNCSv3Family"),
        ("Standard_NC24r_Promo", "standardNCPromoFamily"),
        ("Standard_NC12", "standardNCFamily"),
        ("Standard_ND96asr_v4", "Standard NDASv4_A100 Family"),
        ("Standard_ND96amsr_A100_v4", "standardNDAMSv4_A100Family"),
        ("Standard_ND96isr_H100_v5", "standardNDSH100v5Family"),
        ("Standard_ND40rs_v2", "standardNDSv2Family"),
        ("Standard_NV12s_v3", "standardNVSv3Family"),
        ("Standard_NV32as_v4", "standardNVSv4Family"),
    ],
)
def test_the_family_of_a_machine_should_be_azures(kind: str, family: str) -> None:
    assert plain(family_of(kind) or "") == plain(family)


@pytest.mark.parametrize("kind", ["Standard_NC6s_v9", "Standard_NV36ads_A10_v5_extra", "Basic_A1", ""])
def test_an_unknown_machine_should_have_no_family(kind: str) -> None:
    assert family_of(kind) is None


def test_every_machine_of_the_catalog_should_have_a_family() -> None:
    assert [kind for kind in snapshot().listing("azure").instance_types if family_of(kind) is None] == []


def test_only_lines_that_a_gpu_machine_may_need_should_count() -> None:
    families = {family_of(kind) or "" for kind in snapshot().listing("azure").instance_types}
    assert all(map(concerns_gpus, {*families, "cores", "lowPriorityCores", "virtualMachines"}))
    assert not any(map(concerns_gpus, ["standardFFamily", "availabilitySets", "standardDSv5Family"]))
