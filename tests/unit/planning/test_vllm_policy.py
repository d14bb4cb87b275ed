"""Which of vLLM's arguments a launch may have; tests/e2e compares the table and its reading with the real parser."""

import pytest
from pydantic import ValidationError

from gpulaunch.models.requests import LaunchRequest
from gpulaunch.models.vllm_arguments import FLAGS, read
from gpulaunch.models.vllm_options import VERSION
from shared.planning.vllm_policy import refusals
from shared.settings import Settings

SPELLINGS_OF_OURS = [
    ["--api_key="], ["--api-key"], ["--api_key", "k"], ["--api-k=k"], ["--api_ke=k"], ["--host=::"],
    ["--hos=127.0.0.1"], ["--po=1"], ["--port.x", "1"], ["--ssl_keyfile=x"], ["--ssl", "x"],
    ["--ssl-ca-certs", "x"], ["--uds=/tmp/s"],
    ["--ud=/tmp/s"], ["--middleware", "os.abort"], ["--mid", "os.abort"], ["--root_path=/x"], ["--config", "x.yaml"],
    ["--config=x.yaml"], ["--seed", "--config", "x.yaml"], ["--served_model-name", "other"], ["--served", "other"],
    ["--model", "other/model"], ["--allow-credentials"], ["--no-allow-credentials"], ["--no-allow-cred"],
    ["--allowed-origins=[\"*\"]"], ["--grpc"], ["--grp"], ["--headless"], ["--help"], ["-h"], ["--help=all"],
    ["--hf-overrides.x", "--api-key", "k"], ["-dpm"], ["--tokens-only"],
]  # fmt: skip
FINE = [
    [], ["--max-model-len", "256"], ["--max_model_len=8k"], ["--max-model-len=auto"], ["-tp", "2"], ["-tp=2"], ["-O3"],
    ["-O=2"], ["--enforce-eager"], ["--no-enable-prefix-caching"], ["--no-enable_prefix-caching"], ["--seed", "-1"],
    ["--watermark=-0.5"], ["--hf-overrides", '{"rope_scaling": {"factor": 2.0}}'], ["--hf-overrides.rope.factor", "2"],
    ["--hf_overrides.rope_x.factor=2"], ["--compilation-config", '{"mode": 3}'], ["-cc.mode=3"],
    ["-cc.cudagraph_capture_sizes+", "1,2"], ["-cc.pass_config.fuse_norm_quant=true"],
    ["--speculative-config", '{"method": "ngram", "num_speculative_tokens": 3}'],
    ["--enable-lora", "--lora-modules", "sql=my-org/adapter", "b=model/b"],
    ["--lora-modules", '{"name": "a", "path": "o/a"}', "--enable-lora"],
    ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"],
    ["--enable-auto-tool-choice", "--no-enable-auto-tool-choice"],
    ["--enable-lora", "--max-loras", "2"], ["--tokenizer", "org/other"], ["--chat-template", "model/chat.jinja"],
    ["--chat-template", "{{ '/' }}{% for m in messages %}../{{ m }}{% endfor %}"], ["--tool-call-parser=hermes"],
    ["--allowed-media-domains", "a.example", "b.example"], ["--device-memory-utilization", "0.8"],
    ["--reasoning-config", '{"reasoning_start_str": "<think>", "reasoning_end_str": "</think>"}'],
]  # fmt: skip
REFUSED = [
    ["--max-model", "256"], ["--tensor", "2"], ["-tp2"], ["--maximum", "1"], ["--omni"], ["--"], ["-"], ["other/model"],
    ["--max-model-len 256"], ["--seed"], ["--seed", "1", "2"], ["--seed=1", "2"], ["--enforce-eager", "true"],
    ["--enforce-eager=true"], ["--seed.x", "1"], ["--watermark", "-0.5"], ["--hf-overrides.x", "--seed", "1"],
    ["--hf-token", "hf_x"], ["--hf_token=hf_x"], ["--hf-token"], ["--trust-remote-code"], ["--trust_remote_code"],
    ["--tool-parser-plugin=x.py"], ["--logits-processors", "a.B"], ["--worker-cls=a.B"], ["--download-dir", "d"],
    ["--allowed-local-media-path=/"], ["--kv-events-config.endpoint", "tcp://*:5557"], ["--master-addr", "1.2.3.4"],
    ["-n", "2"], ["-dpa", "1.2.3.4"], ["--otlp-traces-endpoint=http://x"], ["--profiler-config.torch_profiler_dir=d"],
    ["--tokenizer", "/etc"], ["--tokenizer=~/x"], ["--hf-config-path", "../x"], ["--lora-modules", "a=/etc"],
    ["--lora-modules", '{"name": "a", "path": "/etc"}'], ["--chat-template", "/proc/self/environ"],
    ["--generation-config", "a/../../x"], ["--default-mm-loras", '{"image": "https://x/y"}'],
    ["--compilation-config", '{"backend": "os.abort"}'], ["-cc.backend", "os.abort"],
    ["-cc.inductor_passes.x=os.abort"],
    ["--compilation-config", '{"mode": 3, "cache_dir": "x"}'], ["--speculative-config", '{"model": "/etc"}'],
    ["--speculative-config", '{"method": "custom_class", "model": "os.abort"}'], ["--spec-method=custom_class"],
    ["--hf-overrides.x+", "a,/etc"], ["--hf-overrides", '{"a": ["b", {"c": "/etc"}]}'],
    ["--structured-outputs-config.reasoning_parser_plugin=x.py"], ["--hf-overrides", '{"a": 1, "a": 2}'],
]  # fmt: skip


def accepted(args: list[str]) -> None:
    LaunchRequest(model_name="o/m", gpu="A10", vllm_args=args)


@pytest.mark.parametrize("args", SPELLINGS_OF_OURS, ids=" ".join)
def test_an_option_that_gpulaunch_sets_should_be_refused_in_every_spelling_that_vllm_takes(args: list[str]) -> None:
    with pytest.raises(ValidationError, match="gpulaunch"):
        accepted(args)


@pytest.mark.parametrize("args", FINE, ids=" ".join)
def test_arguments_that_vllm_takes_and_that_harm_nothing_should_pass(args: list[str]) -> None:
    accepted(args)
    assert refusals(args) == []


@pytest.mark.parametrize("args", REFUSED, ids=" ".join)
def test_what_vllm_does_not_take_and_what_may_harm_should_be_refused_with_its_place(args: list[str]) -> None:
    accepted(args)
    problem = refusals(args)[0]
    place = int(problem.field.removeprefix("vllm_args."))
    assert 0 <= place < len(args)
    assert problem.message.endswith(".")


@pytest.mark.parametrize(
    "args",
    [["--trust-remote-code"], ["--trust_remote_code"], ["--no-trust-remote-code"], ["--brand-new=1"],
     ["--brand_new", "x"], ["--tokenizer", "/opt/tokenizer"]],
)  # fmt: skip
def test_what_the_operator_allows_by_name_should_pass(args: list[str]) -> None:
    assert refusals(args) != [] or args[0].startswith("--no-")
    assert refusals(args, {"--trust-remote-code", "--brand-new", "--tokenizer"}) == []


def test_what_the_operator_allows_should_not_let_pass_what_gpulaunch_sets() -> None:
    with pytest.raises(ValidationError):
        accepted(["--api-key=x"])


def test_each_wrong_argument_should_be_named_with_what_was_meant() -> None:
    found = refusals(["--max-modle-len", "1", "--enforce-eager", "--tensor", "2"])
    assert [(one.field, one.nearest[:1]) for one in found] == [
        ("vllm_args.0", ["--max-model-len"]),
        ("vllm_args.3", ["--tensor-parallel-size"]),
    ]


def test_every_class_of_options_should_be_reviewed() -> None:
    assert not [option.name for option in FLAGS.values() if option.kind == "unreviewed"]


def test_the_table_should_be_of_the_version_that_nodes_install() -> None:
    assert f"vllm=={VERSION}" == Settings.model_fields["vllm_requirement"].default


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--max-model-len", "abc"], "--max-model-len takes a number such as 8192 or 8k, not 'abc'."),
        (["--max-model-len=1.5K"], "--max-model-len takes a number such as 8192 or 8k, not '1.5K'."),
        (["--enforce-eager", "--seed=x"], "--seed takes a whole number, not 'x'."),
        (["--tensor-parallel-size", "two"], "--tensor-parallel-size takes a whole number, not 'two'."),
        (["-tp", "0"], "--tensor-parallel-size must be 1 or more, not '0'."),
        (["--gpu-memory-utilization=95"], "--gpu-memory-utilization is a share, above 0 and up to 1, not '95'."),
        (["--gpu-memory-utilization", "nan"], "--gpu-memory-utilization is a share, above 0 and up to 1"),
        (["--dtype", "bf16"], "--dtype of vLLM 0.32.0 does not take 'bf16'. It takes auto, bfloat16, "),
        (["--kv-cache-dtype=int8"], "--kv-cache-dtype of vLLM 0.32.0 does not take 'int8'."),
        (["--max-lora-rank", "24"], "--max-lora-rank of vLLM 0.32.0 does not take '24'. It takes 1, 8, 16"),
        (["--limit-mm-per-prompt", "image=4"], "--limit-mm-per-prompt takes JSON, not 'image=4'."),
        (["--speculative-config", '{"method": "ngram"'], "--speculative-config takes JSON, not "),
        (["--cudagraph-capture-sizes", "1", "2", "many"], "--cudagraph-capture-sizes takes a whole number"),
    ],
)
def test_a_value_that_vllm_would_refuse_should_be_refused(args: list[str], message: str) -> None:
    (found,) = refusals(args)
    assert found.message.startswith(message)


@pytest.mark.parametrize(
    ("args", "place", "message"),
    [
        (["--lora-modules", "a=o/a"], 0, "--lora-modules needs --enable-lora. Add it, or remove --lora-modules."),
        (["--enable-lora", "--no-enable-lora", "--lora-modules=a=o/a"], 2, "--lora-modules needs --enable-lora."),
        (["--seed", "1", "--enable-auto-tool-choice"], 2, "--enable-auto-tool-choice needs --tool-call-parser."),
        (["--enable_log_outputs"], 0, "--enable-log-outputs needs --enable-log-requests."),
    ],
)
def test_an_option_that_needs_another_one_should_be_refused_without_it(
    args: list[str], place: int, message: str
) -> None:
    (found,) = refusals(args)
    assert found.field == f"vllm_args.{place}"
    assert found.message.startswith(message)


def test_the_nearest_values_should_be_named() -> None:
    (found,) = refusals(["--kv-cache-dtype", "fp8-e5m2"])
    assert found.nearest[0] == "fp8_e5m2"


@pytest.mark.parametrize(
    "args",
    [
        ["--max-model-len", "25.6k"], ["--max-model-len=-1"], ["--kv-cache-memory-bytes", "20G"], ["--seed", "-1"],
        ["--gpu-memory-utilization", "1"], ["--gpu-memory-utilization=.5"], ["--safetensors-load-strategy", "None"],
        ["--safetensors-load-strategy="], ["--moe-backend", "flashinfer-cutlass"], ["--max-lora-rank", "64"],
        ["--quantization", "brand_new"], ["--hf-overrides", "a.Name"], ["--limit-mm-per-prompt.image", "4"],
        ["--override-generation-config", '{"temperature": 0.7}'], ["--max-cpu-loras", "None"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_other_values_should_pass(args: list[str]) -> None:
    assert refusals(args) == []


def test_an_option_that_the_operator_allows_may_have_any_value() -> None:
    # Another version of vLLM may take more than the one of the table.
    assert refusals(["--dtype", "float6"]) != []
    assert refusals(["--dtype", "float6"], {"--dtype"}) == []


@pytest.mark.parametrize("entry", ["8", "-1", "a=b", "", "x--api-key"])
def test_a_value_should_not_be_taken_for_an_option(entry: str) -> None:
    assert read(entry) is None


def test_at_most_three_options_should_be_named_for_a_misspelled_one() -> None:
    # `--max-num-seqs` is alike too.
    (found,) = refusals(["--max-num-tokens"])
    assert found.nearest == ["--max-num-queued-tokens", "--max-num-batched-tokens", "--max-num-scheduled-tokens"]


def test_at_most_three_options_should_be_named_for_an_incomplete_one() -> None:
    (found,) = refusals(["--max-num", "2"])
    assert found.message == "--max-num is not complete. Write the name in full."
    assert found.nearest == ["--max-num-active-seqs", "--max-num-batched-tokens", "--max-num-queued-reqs"]


@pytest.mark.parametrize(
    ("value", "shown"), [("x" * 60, f"'{'x' * 60}'"), ("x" * 61, f"'{'x' * 57}…'"), ("x" * 200, f"'{'x' * 57}…'")]
)
def test_a_long_value_should_be_cut_in_the_message_about_it(value: str, shown: str) -> None:
    (found,) = refusals([value])
    assert found.message.startswith(f"{shown} is not an option")
