"""Whether a model fits a machine, from what was found of it."""

from typing import Any

import pytest

from gpulaunch.models.offers import Offer
from shared.domain.model import ModelFacts
from shared.planning.model_fit import ModelNeed, contradiction, disk_gib, model_need, would_fit
from tests.twins.factories import make_offer, make_request

GIB = 2**30
LLAMA_8B = {"parameters": {"BF16": 8_030_261_248}, "weight_bytes": 16_060_556_376, "cache_bytes": 131_072}
LLAMA_70B = {"parameters": {"BF16": 70_553_706_496}, "weight_bytes": 141_107_497_872, "cache_bytes": 327_680}
R1 = {
    "parameters": {"F8_E4M3": 680_571_043_840, "BF16": 3_918_786_560, "F32": 41_555_600},
    "weight_bytes": 688_586_727_753,
}
LLAMA_405B_FP8 = {"parameters": {"BF16": 4_352_000_000, "F8_E4M3": 401_501_847_552}, "weight_bytes": 410_250_000_000}


def facts(**given: Any) -> ModelFacts:
    weights = given.get("weight_bytes", 0)
    return ModelFacts.model_validate({"source": "hf://o/m", "total_bytes": weights, "weight_bytes": weights} | given)


def against(found: dict[str, Any], args: list[str], **offer: Any) -> str | None:
    need = model_need(facts(**found), args)
    assert need is not None
    return need.against(make_offer(**offer), None)


@pytest.mark.parametrize(
    ("found", "args", "offer"),
    [
        (LLAMA_8B, [], {"gpu_memory_gib": 24}),
        (LLAMA_8B, ["--quantization", "fp8"], {"gpu_memory_gib": 16}),
        (LLAMA_8B, ["--cpu-offload-gb", "8"], {"gpu_memory_gib": 16}),
        (LLAMA_8B, ["--dtype", "float32"], {"gpu_memory_gib": 40}),
        (
            {**LLAMA_8B, "parameters": {"F32": 8_030_261_248}, "weight_bytes": 32_121_044_992},
            [],
            {"gpu_memory_gib": 24},
        ),
        (LLAMA_70B, ["-tp", "2"], {"gpu_memory_gib": 80, "gpu_count": 2}),
        (R1, ["--tensor-parallel-size=8"], {"gpu_memory_gib": 141, "gpu_count": 8}),
        (LLAMA_405B_FP8, ["--tensor-parallel-size=8"], {"gpu_memory_gib": 80, "gpu_count": 8}),
        ({"weight_bytes": 5 * GIB}, [], {"gpu_memory_gib": None, "memory_gib": None}),
    ],
)
def test_what_fits_should_not_be_refused(found: dict[str, Any], args: list[str], offer: dict[str, Any]) -> None:
    assert against(found, args, **offer) is None


@pytest.mark.parametrize(
    ("found", "args", "offer", "why"),
    [
        (LLAMA_8B, [], {"gpu": "T4", "gpu_memory_gib": 16}, "at least 17.6 GiB, and the T4 has 16 GiB"),
        (LLAMA_8B, ["--dtype", "float32"], {"gpu_memory_gib": 24}, "the A10 has 24 GiB"),
        (LLAMA_8B, ["--max-model-len", "128k"], {"gpu_memory_gib": 24}, "needs at least 34"),
        (LLAMA_70B, [], {"gpu_memory_gib": 80, "gpu_count": 2}, "needs at least 144"),
        (LLAMA_70B, ["-tp=4"], {"gpu_memory_gib": 80, "gpu_count": 2}, "vllm_args use 4 GPUs, and the machine has 2"),
        (R1, ["-tp", "8"], {"gpu_memory_gib": 80, "gpu_count": 8}, "on each GPU"),
        ({"weight_bytes": 16 * GIB}, [], {"gpu_memory_gib": 16}, "the A10 has 16 GiB"),
        ({**LLAMA_8B, "draft_bytes": 8 * GIB}, [], {"gpu_memory_gib": 24}, "needs at least 26"),
        (LLAMA_70B, ["--cpu-offload-gb=100"], {"gpu_memory_gib": 80, "memory_gib": 64}, "GiB of the host's memory"),
        (
            {"weight_bytes": 20 * GIB, "largest_bytes": 20 * GIB, "pickled": True},
            [],
            {"gpu_memory_gib": 24, "memory_gib": 16},
            "it needs 26 GiB of the host's memory, and the machine has 16 GiB",
        ),
    ],
)
def test_what_cannot_fit_should_be_refused_with_the_figures(
    found: dict[str, Any], args: list[str], offer: dict[str, Any], why: str
) -> None:
    assert why in (against(found, args, **offer) or "it fits")


def machine(gpu: str, count: int, memory: float, price: float) -> Offer:
    return make_offer(gpu=gpu, gpu_count=count, gpu_memory_gib=memory, price_per_hour=price, use_spot=False)


def test_what_would_fit_should_be_the_cheapest_machine_and_how() -> None:
    offers = [
        machine("H100", 2, 80, 14),
        machine("A100-80GB", 2, 80, 7),
        machine("A10", 1, 24, 3),
        machine("A10", 2, 24, 6),
    ]
    args: list[str] = []
    assert (would_fit(facts(**LLAMA_70B), args, offers) or "").startswith("A100-80GB:2 (")
    assert "with --tensor-parallel-size=2, 7 USD an hour" in (would_fit(facts(**LLAMA_70B), args, offers) or "")
    assert "--tensor" not in (would_fit(facts(**LLAMA_8B), args, offers) or "")
    assert would_fit(facts(**R1), args, offers) is None


@pytest.mark.parametrize(
    ("requested", "found", "size"),
    [
        ({}, facts(**LLAMA_8B), 256),
        ({}, facts(**R1), 642 + 60),
        ({"disk_size": 1000}, facts(**R1), 1000),
        ({}, None, 256),
        ({"model_name": "meta-llama/Llama-3.1-405B-Instruct-FP8"}, None, 397 + 60),
    ],
)
def test_the_disk_should_hold_the_model_and_vllm(
    requested: dict[str, Any], found: ModelFacts | None, size: int
) -> None:
    assert disk_gib(make_request(**requested), found) == size


def test_a_disk_that_is_too_small_should_be_refused() -> None:
    need = model_need(facts(**R1), ["-tp", "8"])
    assert need is not None
    big = make_offer(gpu_memory_gib=141, gpu_count=8)
    assert need.against(big, 500) == "it needs 682 GiB of disk, and disk_size is 500"
    assert need.against(big, 681) is not None
    assert need.against(big, 682) is None


def gpu_gib(found: dict[str, Any], *args: str) -> float:
    need = model_need(facts(**found), args)
    assert need is not None
    return need.gpu_gib


def test_what_vllm_quantizes_should_need_as_much_less_as_its_numbers_are_narrower() -> None:
    plain, eight, four = (
        gpu_gib(LLAMA_70B, *args) for args in ([], ["--quantization", "fp8"], ["--quantization", "bitsandbytes"])
    )
    assert plain > 1.8 * eight
    assert eight > 1.5 * four


def test_numbers_of_an_unknown_kind_should_count_as_16_bits() -> None:
    unknown = {"parameters": {"X9": 8_030_261_248}, "weight_bytes": 16_060_556_376}
    known = {"parameters": {"BF16": 8_030_261_248}, "weight_bytes": 16_060_556_376}
    assert gpu_gib(unknown) == gpu_gib(known)


def test_the_disk_of_a_model_whose_name_says_nothing_should_be_the_default() -> None:
    assert disk_gib(make_request(model_name="org/model"), None) == disk_gib(make_request(model_name="org/tiny"), None)
    assert disk_gib(make_request(model_name="org/model-405b"), None) > disk_gib(make_request(model_name="org/m"), None)


def test_what_is_stored_packed_should_stay_as_it_is_whatever_the_arguments_say() -> None:
    packed = {"parameters": {"F8_E4M3": 8_000_000_000, "BF16": 1_000_000_000}, "weight_bytes": 10_000_000_000}
    assert gpu_gib(packed, "--quantization", "bitsandbytes") == gpu_gib(packed)


def test_a_model_that_does_not_say_what_it_caches_should_be_taken_for_one_with_little() -> None:
    # 16 million tokens of 16 KiB are 256 GiB.
    assert gpu_gib({"weight_bytes": 2 * GIB}, "--max-model-len", "16M") == round((2 + 256 + 1) / 0.92, 1)


def test_no_more_than_a_share_of_the_weights_should_be_offloaded_to_the_host() -> None:
    def host_gib(*args: str) -> float:
        need = model_need(facts(weight_bytes=20 * GIB), ["-tp", "2", *args])
        assert need is not None
        return need.host_gib

    assert host_gib("--cpu-offload-gb", "4") == host_gib() + 2 * 4
    assert host_gib("--cpu-offload-gb", "100") == host_gib() + 20


CACHE_OF_A_GIB = {"weight_bytes": 20 * GIB, "cache_bytes": 512 * 1024}
"""One gibibyte of cache for the shortest context, 2048 tokens."""


@pytest.mark.parametrize(
    ("args", "held"),
    [
        ([], 20 + 1 + 1),
        (["--kv-cache-dtype=fp8"], 20 + 0.5 + 1),
        (["-tp", "2"], 10 + 0.5 + 1),
        (["--cpu-offload-gb=15"], 5 + 1 + 1),
        (["--cpu-offload-gb=100"], 0 + 1 + 1),
    ],
)
def test_a_gpu_should_hold_its_share_of_the_weights_and_of_one_shortest_context(args: list[str], held: float) -> None:
    assert gpu_gib(CACHE_OF_A_GIB, *args) == round(held / 0.92, 1)


@pytest.mark.parametrize(
    ("args", "weights"),
    [
        ([], "14.0 GiB of weights"),
        (["--dtype", "bfloat16"], "14.0 GiB of weights"),
        (["--dtype", "float32"], "18.0 GiB of weights"),
    ],
)
def test_what_is_beside_packed_weights_should_be_loaded_at_the_width_of_the_arguments(
    args: list[str], weights: str
) -> None:
    need = model_need(facts(parameters={"F8_E4M3": 10 * GIB, "F32": 2 * GIB}), args)
    assert need is not None
    assert need.basis.startswith(weights)


@pytest.mark.parametrize(
    ("parameters", "basis"),
    [
        ({}, "5.0 GiB of weights"),
        ({"BF16": 1_500_000_000}, "2.8 GiB of weights: 1.5 billion BF16"),
        (
            {"F32": 1_000_000, "F8_E4M3": 9_000_000_000, "BF16": 4_000_000_000},
            "15.8 GiB of weights: 9 billion F8_E4M3, 4 billion BF16",
        ),
    ],
)
def test_the_two_commonest_kinds_of_numbers_should_be_named(parameters: dict[str, int], basis: str) -> None:
    need = model_need(facts(weight_bytes=5 * GIB, parameters=parameters), [])
    assert need is not None
    assert need.basis == basis


def test_the_host_should_have_room_for_the_cache_that_is_offloaded_to_it() -> None:
    def host_gib(*args: str) -> float:
        need = model_need(facts(weight_bytes=GIB), args)
        assert need is not None
        return need.host_gib

    assert host_gib("--kv-offloading-size", "10") == host_gib() + 10


@pytest.mark.parametrize(
    ("machine", "why"),
    [
        ({"gpu_memory_gib": 16.0, "memory_gib": 8.0}, None),
        ({"gpu_memory_gib": 15.9, "memory_gib": 8.0}, "needs at least 16.0 GiB on each GPU, and the A10 has 15.9 GiB"),
        ({"gpu_memory_gib": 16.0, "memory_gib": 7.9}, "needs 8 GiB of the host's memory, and the machine has 7.9 GiB"),
    ],
)
def test_a_machine_with_exactly_what_a_model_needs_should_do(machine: dict[str, float], why: str | None) -> None:
    need = ModelNeed(gpu_gib=16.0, gpus=2, host_gib=8.0, disk_gib=100, basis="")
    assert need.against(make_offer(gpu_count=2, **machine), None) == (why and f"it {why}")


def test_a_model_that_fits_on_the_gpus_of_its_arguments_should_need_no_advice_on_how() -> None:
    four = [machine("A100-80GB", 4, 80, 14)]
    assert would_fit(facts(**LLAMA_70B), ["-tp", "2"], four) == "A100-80GB:4 (Standard_NV36ads_A10_v5), 14 USD an hour"
    assert "with --tensor-parallel-size=4" in (would_fit(facts(**LLAMA_70B), [], four) or "")
    assert would_fit(facts(**LLAMA_8B), ["--gpu-memory-utilization=2"], four) is None


@pytest.mark.parametrize(
    ("found", "args", "why"),
    [
        ({"longest": 4096}, ["--max-model-len=4097"], "--max-model-len is 4097, and the model's context has 4096"),
        ({"longest": 4096}, ["--max-model-len", "5k"], "--max-model-len is 5000"),
        ({"heads": 14}, ["-tp", "4"], "--tensor-parallel-size is 4, which does not divide the model's 14"),
    ],
)
def test_what_no_machine_can_give_should_be_said(found: dict[str, Any], args: list[str], why: str) -> None:
    said = contradiction(facts(**found), args)
    assert said is not None
    assert said[0].startswith(why)


@pytest.mark.parametrize(
    ("found", "args"),
    [
        ({"longest": 4096}, ["--max-model-len=4096"]),
        ({"longest": 4096}, ["--max-model-len=auto"]),
        ({"longest": None}, ["--max-model-len=1M"]),
        # What the arguments change is no longer what was found.
        ({"longest": 4096}, ["--max-model-len=8192", "--hf-overrides", '{"rope_scaling": {"factor": 2}}']),
        ({"longest": 4096}, ["--max-model-len=8192", "--hf-overrides.rope_scaling.factor", "2"]),
        ({"heads": 14}, ["-tp", "7"]),
        ({"heads": 14}, ["--pipeline-parallel-size=4"]),
        ({"heads": None}, ["-tp", "3"]),
        ({}, []),
    ],
)
def test_what_a_machine_may_give_should_not_be_refused(found: dict[str, Any], args: list[str]) -> None:
    assert contradiction(facts(**found), args) is None


def test_no_machine_should_be_named_on_whose_gpus_the_heads_cannot_be_divided() -> None:
    offers = [make_offer(gpu="A100", gpu_memory_gib=80, gpu_count=count, price_per_hour=count) for count in (3, 4)]
    said = would_fit(facts(**LLAMA_70B, heads=64), [], offers)
    assert said is not None
    assert "--tensor-parallel-size=4" in said
