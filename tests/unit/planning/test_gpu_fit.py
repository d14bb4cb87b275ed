import pytest

from shared.planning.gpu_fit import Fit, Need, fit, need, parameters, weights_gib
from tests.twins.factories import make_offer


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 8),
        ("Qwen/Qwen2.5-0.5B-Instruct", 0.5),
        ("Qwen/Qwen2.5-7B-Instruct-1M", 7),
        ("HuggingFaceTB/SmolLM2-135M", 0.135),
        ("facebook/opt-125m", 0.125),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", 44.8),
        ("Qwen/Qwen3-30B-A3B", 30),
        ("Qwen/Qwen3-235B-A22B-Instruct-2507-FP8", 235),
        ("openai/gpt-oss-20b", 20),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", 32),
        ("01-ai/Yi-34B-200K", 34),
        ("llama_7b", 7),
        ("tiny-10M", 0.01),
        ("huge-9999B", 9999),
        ("huge-10x1249B", 9992),
    ],
)
def test_a_name_says_how_many_parameters(name: str, billions: float) -> None:
    assert parameters(name) == pytest.approx(billions)  # pyright: ignore[reportUnknownMemberType]


@pytest.mark.parametrize(
    "name",
    [
        "gpt2",
        "microsoft/Phi-3-mini-128k-instruct",
        "meta-llama/Llama-4-Scout-17B-16E",
        "google/gemma-3n-E4B-it",
        "merge-7b-13b",
        "long-context-1M",
        "long-context-9M",
        "huge-10x1250B",
        "deepseek-ai/DeepSeek-V3",
        "model-0B",
        "v2b8x",
        "",
    ],
)
def test_a_name_that_says_nothing_or_several_things_is_no_ground(name: str) -> None:
    assert parameters(name) is None
    assert need(name, None, []) is None


LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


def gib(*args: str, name: str = LLAMA, source: str | None = None) -> float:
    found = need(name, source, args)
    assert found is not None
    return found.per_gpu_gib


def test_the_sum_for_an_8b_model_worked_by_hand() -> None:
    # 16e9 bytes are 14.90 GiB; 45 KiB * 2.8284 * 8192 tokens are 0.99 GiB; 1 GiB more; 0.92 of it is vLLM's.
    assert need(LLAMA, None, []) == Need(18.4, 1, "8 billion parameters at 16 bits, a context of 8,192 tokens")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--dtype=float32"], (29.80 + 0.99 + 1) / 0.92),
        (["--dtype", "bfloat16"], 18.4),
        (["--quantization=fp8"], (7.82 + 0.99 + 1) / 0.92),
        (["-q", "awq"], (4.47 + 0.99 + 1) / 0.92),
        (["--quantization", "bitsandbytes"], (4.47 + 0.99 + 1) / 0.92),
        (["--max-model-len=131072"], (14.90 + 15.91 + 1) / 0.92),
        (["--max_model_len", "128K"], (14.90 + 15.91 + 1) / 0.92),
        (["--max-model-len=2k"], (14.90 + 0.24 + 1) / 0.92),
        (["--max-model-len=auto"], 18.4),
        (["--max-model-len=131072", "--kv-cache-dtype=fp8"], (14.90 + 7.95 + 1) / 0.92),
        (["--tensor-parallel-size=2"], (7.45 + 0.50 + 1) / 0.92),
        (["-tp", "2", "-pp=2"], (3.73 + 0.25 + 1) / 0.92),
        (["--gpu-memory-utilization", "0.5"], (14.90 + 0.99 + 1) / 0.5),
        (["--cpu-offload-gb=10"], (4.90 + 0.99 + 1) / 0.92),
        (["--cpu-offload-gb=100"], (0.99 + 1) / 0.92),
        (["--max-model-len=1024", "--max-model-len=131072"], (14.90 + 15.91 + 1) / 0.92),
        (["--tensor-parallel-size=two", "--gpu-memory-utilization", "--seed=1"], 18.4),
    ],
)
def test_arguments_of_vllm_change_the_need(args: list[str], expected: float) -> None:
    assert gib(*args) == pytest.approx(expected, abs=0.15)  # pyright: ignore[reportUnknownMemberType]


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("Qwen2.5-7B-Instruct-AWQ", 4),
        ("Qwen2.5-7B-Instruct-GPTQ-Int4", 4),
        ("Qwen2.5-7B-Instruct-GPTQ-Int8", 8),
        ("Llama-3.1-8B-Instruct-FP8", 8),
        ("Llama-3.1-8B-bnb-4bit", 4),
        ("Meta-Llama-3.1-8B-quantized.w8a8", 8),
        ("Meta-Llama-3.1-8B-quantized.w4a16", 4),
        ("openai/gpt-oss-120b", 4),
        ("Llama-3.3-70B-Instruct-NVFP4", 4),
        ("Llama-3.1-8B-Instruct", 16),
        ("raw-q-7B", 16),
    ],
)
def test_a_name_says_how_a_model_is_kept(name: str, bits: int) -> None:
    found = need(name, None, [])
    assert found is not None
    assert f"at {bits} bits" in found.basis


def test_a_quantization_of_unknown_width_is_no_ground() -> None:
    assert need(LLAMA, None, ["--quantization=compressed-tensors"]) is None
    assert need(f"{LLAMA}-FP8", None, ["--quantization=compressed-tensors"]) is not None
    assert need(LLAMA, None, ["--gpu-memory-utilization=0"]) is None


def test_the_source_s_folder_goes_before_the_name_that_is_served() -> None:
    assert gib(name="my-endpoint", source="r2://models/llama-3.1-8b/") == 18.4
    assert gib(name="opt-125m", source="hf://meta-llama/Llama-3.1-8B") == 18.4
    assert gib(source="r2://models/latest") == 18.4
    assert need("my-endpoint", "s3://models/latest", []) is None


@pytest.mark.parametrize(
    ("name", "args", "memory", "count", "fits"),
    [
        (LLAMA, [], 24, 1, True),  # an A10 holds an 8B model
        (LLAMA, [], 16, 1, False),  # a T4 does not
        (f"{LLAMA}-AWQ-INT4", [], 16, 1, True),
        (LLAMA, ["--max-model-len=131072"], 24, 1, False),  # vLLM refuses to start with all of Llama's context
        ("Llama-2-13b-hf", [], 24, 1, False),
        ("Llama-2-13b-hf", [], 40, 1, True),
        ("Llama-3.3-70B-Instruct", [], 80, 1, False),
        ("Llama-3.3-70B-Instruct", [], 80, 2, False),  # one GPU is used unless vLLM is told
        ("Llama-3.3-70B-Instruct", ["-tp=2"], 80, 2, True),
        ("Llama-3.3-70B-Instruct", ["-tp=4"], 80, 2, False),  # the machine has two
        ("Llama-3.3-70B-Instruct-AWQ", [], 48, 1, True),
        ("Mixtral-8x7B-v0.1", [], 80, 1, False),
        ("openai/gpt-oss-20b", [], 16, 1, True),
        ("openai/gpt-oss-120b", [], 80, 1, True),
    ],
)
def test_pairs_of_models_and_gpus(name: str, args: list[str], memory: float, count: int, fits: bool) -> None:
    found = fit(need(name, None, args), [make_offer(gpu_memory_gib=memory, gpu_count=count)])
    assert found is not None
    assert found.fits is fits
    assert (found.warning is None) is fits


def test_nothing_is_said_of_what_is_not_known() -> None:
    needed = need(LLAMA, None, [])
    assert fit(needed, [make_offer(gpu_memory_gib=None)]) is None
    assert fit(needed, []) is None
    assert fit(None, [make_offer(gpu_memory_gib=24)]) is None


def test_the_weakest_of_the_planned_offers_counts() -> None:
    offers = [make_offer(gpu_memory_gib=memory) for memory in (80, None, 16, 24)]
    found = fit(need(LLAMA, None, []), offers)
    assert found is not None
    assert found.has_gib == 16


def test_a_warning_says_both_figures_and_what_to_do() -> None:
    small = fit(need(LLAMA, None, []), [make_offer(gpu="T4", gpu_memory_gib=16)])
    assert small is not None
    assert small.warning == (
        "The model may not fit: it needs about 19 GiB, has 16 GiB on the T4 (8 billion parameters at 16 bits, a "
        "context of 8,192 tokens). Use a larger GPU, a quantized model or a shorter --max-model-len."
    )
    idle = fit(need("Llama-3.3-70B", None, []), [make_offer(gpu_memory_gib=80, gpu_count=2)])
    assert idle is not None
    assert "vLLM uses one of 2 GPUs; add --tensor-parallel-size=2 to vllm_args to use all." in (idle.warning or "")
    many = fit(need(LLAMA, None, ["-tp", "4"]), [make_offer(gpu_memory_gib=80, gpu_count=1)])
    assert many is not None
    assert many.warning == "vllm_args request 4 GPUs, but the machine has 1."


def test_a_gpu_with_exactly_the_memory_needed_should_fit() -> None:
    def fits(has_gib: float) -> bool:
        return Fit(need=Need(16.0, 1, ""), gpu="T4", has_gib=has_gib, gpus=1).fits

    assert fits(16.0)
    assert not fits(15.9)


def test_a_warning_about_several_gpus_should_name_the_memory_of_each() -> None:
    # 140e9 bytes are 130.39 GiB, the cache 2.94; half of both and 1 GiB more are 67.66, which is 0.92 of 73.5.
    found = fit(need("Llama-3.3-70B", None, ["-tp=2"]), [make_offer(gpu_memory_gib=40, gpu_count=2)])
    assert found is not None
    assert found.words == "needs about 74 GiB each, has 40 GiB"


@pytest.mark.parametrize(
    ("source", "gib"),
    [
        ("r2://models/llama-8b-fp8/", 7.82),  # 8.4e9 bytes
        ("r2://models/latest", 14.90),
        (None, 14.90),
    ],
)
def test_the_size_of_the_files_should_be_that_of_the_folder_that_is_fetched(source: str | None, gib: float) -> None:
    assert round(weights_gib("my-llama-8b", source) or 0, 2) == gib
