"""What vLLM's arguments say about memory."""

import pytest

from shared.planning.memory_use import memory_use


@pytest.mark.parametrize(("text", "share"), [("0.5", 0.5), ("1", 1.0), ("0.01", 0.01)])
def test_a_share_of_the_gpu_should_be_taken_as_given(text: str, share: float) -> None:
    found = memory_use([f"--gpu-memory-utilization={text}"])
    assert found is not None
    assert found.share == share


@pytest.mark.parametrize("text", ["0", "1.01", "2", "90"])
def test_one_that_vllm_would_refuse_should_say_nothing(text: str) -> None:
    assert memory_use([f"--gpu-memory-utilization={text}"]) is None


@pytest.mark.parametrize(("kind", "narrow"), [("auto", 1), ("fp8", 2), ("fp8_e5m2", 2), ("nvfp4", 4)])
def test_the_cache_should_be_as_much_smaller_as_its_numbers_are_narrower(kind: str, narrow: int) -> None:
    found = memory_use([f"--kv-cache-dtype={kind}"])
    assert found is not None
    assert found.narrow == narrow


@pytest.mark.parametrize("text", ["inf", "nan", "-1", "-0.5", "many", ""])
def test_memory_that_is_no_amount_should_count_as_not_given(text: str) -> None:
    found = memory_use([f"--cpu-offload-gb={text}", f"--kv-offloading-size={text}"])
    assert found is not None
    assert (found.offloaded_gib, found.host_gib) == (0.0, 0.0)
