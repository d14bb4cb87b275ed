import pytest

from shared.catalog.gpu_memory import gpu_memory_gib
from shared.catalog.snapshot import snapshot


@pytest.mark.parametrize(
    ("gpu", "memory"), [("A10", 24), ("A100", 40), ("A100-80GB", 80), ("T4", 16), ("V100-32GB", 32), ("K80", 12)]
)
def test_known(gpu: str, memory: float) -> None:
    assert gpu_memory_gib(gpu) == memory


def test_the_machine_decides_where_its_gpu_is_a_special_one() -> None:
    assert gpu_memory_gib("H100", "Standard_NC40ads_H100_v5") == 94
    assert gpu_memory_gib("H100", "Standard_ND96isr_H100_v5") == 80


@pytest.mark.parametrize("gpu", ["B200", "tpu-v4", ""])
def test_unknown_is_none_and_not_a_guess(gpu: str) -> None:
    assert gpu_memory_gib(gpu) is None


def test_every_azure_offer_has_its_memory() -> None:
    assert all(offer.gpu_memory_gib for offer in snapshot().listing("azure").offers)


def test_only_gpus_whose_figures_differ_are_unknown() -> None:
    assert {name for name in snapshot().listing("slurm").gpus if gpu_memory_gib(name) is None} == {"B200", "B300"}
