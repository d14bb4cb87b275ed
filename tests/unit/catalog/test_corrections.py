from dataclasses import replace

import pytest

from shared.catalog import corrections
from shared.catalog.corrections import CatalogRow, ExcludedRow
from shared.clouds.azure.corrections import CORRECTIONS

ROW = CatalogRow(
    instance_type="Standard_NC4as_T4_v3",
    gpu="T4",
    gpu_count=1,
    vcpus=4,
    memory_gib=28,
    price=0.526,
    spot_price=0.06,
    region="eastus",
)


def correct(row: CatalogRow) -> CatalogRow | ExcludedRow:
    return corrections.correct(row, CORRECTIONS)


def test_a_sound_row_stays_as_it_is() -> None:
    assert correct(ROW) == ROW


@pytest.mark.parametrize(("spot", "kept"), [(0.525, 0.525), (0.526, None), (0.6, None), (None, None)])
def test_a_spot_price_not_below_on_demand_is_none(spot: float | None, kept: float | None) -> None:
    assert correct(replace(ROW, spot_price=spot)) == replace(ROW, spot_price=kept)


def test_the_wrong_count_is_replaced() -> None:
    corrected = correct(replace(ROW, instance_type="Standard_ND96isr_H100_v5", gpu="H100", gpu_count=12))
    assert isinstance(corrected, CatalogRow)
    assert corrected.gpu_count == 8


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"gpu": "", "gpu_count": 0}, "no-gpu"),
        ({"price": None, "spot_price": None}, "no-price"),
        ({"gpu_count": 0.167}, "part-of-a-gpu"),
        ({"gpu_count": 1.5}, "part-of-a-gpu"),
        ({"instance_type": "Standard_NV18ads_A10_v5", "gpu_count": 1}, "part-of-a-gpu"),
        ({"instance_type": "Standard_NC24r_Promo"}, "retired"),
        ({"instance_type": "Standard_NC24rs_v3"}, "retired"),
        ({"instance_type": "Standard_NV48s_v3"}, "retired"),
    ],
)
def test_left_out(change: dict[str, object], rule: str) -> None:
    outcome = correct(replace(ROW, **change))  # pyright: ignore[reportArgumentType] - the table is read by people
    assert isinstance(outcome, ExcludedRow)
    assert outcome.rule == rule


@pytest.mark.parametrize("instance_type", ["Standard_NC24ads_A100_v4", "Standard_NV36ads_A10_v5", "Standard_ND40rs_v2"])
def test_their_successors_are_not_retired(instance_type: str) -> None:
    assert isinstance(correct(replace(ROW, instance_type=instance_type)), CatalogRow)
