"""What is found before a node is paid for: the model's source, its size, and whether it fits."""

from collections.abc import Iterator
from typing import Any, cast

import boto3
import pytest
from moto.server import ThreadedMotoServer

from gpulaunch.models.requests import LaunchRequest
from shared.model_sources.assignment import AssignmentMaker
from shared.model_sources.files import SourceFiles
from shared.model_sources.inspection import SourceInspector
from shared.model_sources.web import Web
from shared.settings import Settings
from tests.functional.scripted import NodeWorld
from tests.functional.world import SEED, World
from tests.standins.hub import HubServer, Repository
from tests.unit.model_sources.shapes import config, index, tensors

KEY = "key-of-the-tests-0123456789-abcdef"

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
FILES = {"config.json": config(), "model.safetensors": tensors({"w": ("BF16", (10, 3))})}
SMALL = Repository(FILES, parameters={"BF16": 8_030_261_248})
LARGE = Repository(FILES, parameters={"BF16": 70_553_706_496})


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer({MODEL: SMALL}, token="hf_good") as server:
        yield server


def world(**given: str) -> NodeWorld:
    """A world whose models are inspected in earnest."""
    made = NodeWorld()
    settings = Settings.model_validate({"GPULAUNCH_MASTER_KEY": KEY, **given})
    files = SourceFiles(settings, made.clock, Web(sleep=lambda _: None))
    assignments = AssignmentMaker(settings, made.adapters.deriver, files, made.clock)
    made.rebuild(models=SourceInspector(files), assignments=assignments)
    return made


def failed(made: NodeWorld, **launch: Any) -> tuple[str, str]:
    """Reason and message of a launch that fails before anything is submitted."""
    shown = made.show(made.launch(**launch))
    made.run(5)
    shown = made.show(shown["instance_id"])
    assert (shown["phase"], shown["attempts"], made.scripted.submitted) == ("failed", [], [])
    assert shown["cost_usd"] == 0
    return shown["ending"]["reason"], shown["ending"]["message"]


def test_a_model_should_be_looked_at_before_a_node_is_submitted(hub: HubServer) -> None:
    made = world(HF_ENDPOINT=hub.endpoint)
    instance_id = made.launch()
    made.run(5)
    shown = made.show(instance_id)
    assert shown["phase"] == "provisioning"
    assert shown["model"]["commit"] == SMALL.commit
    assert shown["model"]["parameters"] == {"BF16": 8_030_261_248}
    assert made.scripted.submitted[0].disk_gib == 256


@pytest.mark.parametrize(
    ("repository", "launch", "why"),
    [
        (Repository(FILES, gated=True), {}, "is gated, and HF_TOKEN is not set"),
        (SMALL, {"model_name": "meta-llama/Typo"}, "has no such model"),
        (SMALL, {"model_source": f"hf://{MODEL}@v9"}, "has no revision v9"),
        (Repository({"config.json": b"{}", "m.gguf": b"x"}), {}, "GGUF only"),
        (SMALL, {"model_source": "r2://models/no-such-prefix"}, "there are no files in r2://models/no-such-prefix"),
        (SMALL, {"model_source": "s3://models/x"}, "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_a_source_that_a_node_could_not_read_should_cost_nothing(
    hub: HubServer, repository: Repository, launch: dict[str, Any], why: str
) -> None:
    hub.repositories[MODEL] = repository
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        keys = {"R2_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "R2_SECRET_ACCESS_KEY": "s" * 40}
        made = world(HF_ENDPOINT=hub.endpoint, R2_ENDPOINT=f"http://{host}:{port}", **keys)
        access = {"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key": "s" * 40}
        url = f"http://{host}:{port}"
        client = cast("Any", boto3).client("s3", endpoint_url=url, region_name="us-east-1", **access)
        client.create_bucket(Bucket="models")
        reason, message = failed(made, **launch)
    finally:
        server.stop()
    assert reason == "model_fetch_failed"
    assert why in message


def test_a_model_that_cannot_fit_should_be_refused_with_what_would(hub: HubServer) -> None:
    hub.repositories[MODEL] = LARGE
    made = world(HF_ENDPOINT=hub.endpoint)
    reason, message = failed(made)
    assert reason == "does_not_fit"
    assert "it needs at least 144" in message
    assert "the A10 has 24 GiB" in message
    assert "It fits " in message
    assert "--tensor-parallel-size=" in message


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["--max-model-len", "200k"], "--max-model-len is 200000, and the model's context has 131072 tokens"),
        (["--tensor-parallel-size", "3"], "--tensor-parallel-size is 3, which does not divide the model's 32"),
    ],
)
def test_arguments_that_contradict_the_model_should_cost_nothing(hub: HubServer, args: list[str], why: str) -> None:
    reason, message = failed(world(HF_ENDPOINT=hub.endpoint), vllm_args=args)
    assert reason == "does_not_fit"
    assert why in message
    forced = world(HF_ENDPOINT=hub.endpoint)
    forced.launch(vllm_args=args, force=True)
    forced.run(5)
    assert len(forced.scripted.submitted) == 1


def test_an_adapter_of_the_rank_that_is_allowed_should_be_launched(hub: HubServer) -> None:
    hub.repositories["my-org/private-lora"] = Repository({**LORA, "adapter_config.json": b'{"r": 64}'})
    made = world(HF_ENDPOINT=hub.endpoint)
    made.launch(vllm_args=[*LORA_ARGS, "--max-lora-rank", "64"])
    made.run(5)
    assert len(made.scripted.submitted) == 1


def test_force_should_launch_what_does_not_fit(hub: HubServer) -> None:
    hub.repositories[MODEL] = LARGE
    made = world(HF_ENDPOINT=hub.endpoint)
    instance_id = made.launch(force=True)
    made.run(5)
    assert len(made.scripted.submitted) == 1
    assert any("Launched by `force` though it needs at least" in event["message"] for event in made.events(instance_id))


def test_force_should_not_launch_what_is_not_there(hub: HubServer) -> None:
    assert failed(world(HF_ENDPOINT=hub.endpoint), model_name="org/typo", force=True)[0] == "model_fetch_failed"


@pytest.mark.parametrize(("given", "size"), [({"disk_size": 512}, 512), ({"disk_gib": 300}, 300), ({}, 256)])
def test_the_disk_should_be_as_large_as_requested(hub: HubServer, given: dict[str, int], size: int) -> None:
    made = world(HF_ENDPOINT=hub.endpoint)
    made.launch(**given)
    made.run(5)
    assert made.scripted.submitted[0].disk_gib == size


def test_a_source_that_does_not_answer_should_be_asked_again_and_only_force_goes_on(hub: HubServer) -> None:
    silent = world(HF_ENDPOINT="http://127.0.0.1:9")
    instance_id = silent.launch()
    silent.run(60)
    assert (silent.show(instance_id)["phase"], silent.scripted.submitted) == ("validating", [])
    silent.run(3000)
    ending = silent.show(instance_id)["ending"]
    assert (ending["reason"], silent.scripted.submitted) == ("provider_unavailable", [])
    assert f"hf://{MODEL} cannot be listed now" in ending["message"]
    forced = world(HF_ENDPOINT="http://127.0.0.1:9")
    forced.launch(force=True)
    forced.run(5)
    assert len(forced.scripted.submitted) == 1


def test_every_node_of_an_instance_should_serve_the_same_commit(hub: HubServer) -> None:
    made = world(HF_ENDPOINT=hub.endpoint)
    instance_id = made.launch()
    made.run(5)
    later = Repository({**FILES, "model.safetensors": b"x" * 100}, revisions={SMALL.commit: SMALL})
    hub.repositories[MODEL] = later
    assigned = made.node(instance_id, "assignment").json
    assert {file["url"].split("/resolve/")[1].split("/")[0] for file in assigned["files"]} == {SMALL.commit}
    made.node(instance_id, "notice", {"notice": "eviction"})
    made.run(30)
    assert len(made.scripted.submitted) == 2
    again = made.node(instance_id, "assignment", token=made.token(instance_id, 2)).json
    assert [file["checksum"] for file in again["files"]] == [file["checksum"] for file in assigned["files"]]


def test_a_simulation_should_ask_nobody(hub: HubServer) -> None:
    made = World()
    files = SourceFiles(Settings.model_validate({"GPULAUNCH_MASTER_KEY": KEY, "HF_ENDPOINT": hub.endpoint}), made.clock)
    made.rebuild(models=SourceInspector(files))
    assert made.show(made.to_ready())["model"] is None
    assert not hub.calls


def test_a_request_of_earlier_versions_should_have_no_disk_of_its_own() -> None:
    request = LaunchRequest.model_validate({"model_name": "m", "gpu": "A10"})
    assert (request.disk_size, request.force) == (None, False)


LORA = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"x" * 50, "README.md": b"x"}
LORA_ARGS = ["--enable-lora", "--lora-modules", "sql=my-org/private-lora"]


def test_what_vllm_would_fetch_itself_should_be_fetched_by_the_node_with_our_rights(hub: HubServer) -> None:
    hub.repositories["my-org/private-lora"] = Repository(LORA, gated=True)
    made = world(HF_ENDPOINT=hub.endpoint, HF_TOKEN="hf_good")
    instance_id = made.launch(vllm_args=LORA_ARGS)
    made.run(5)
    commit = hub.repositories["my-org/private-lora"].commit
    hub.repositories["my-org/private-lora"] = Repository(
        {**LORA, "adapter_model.safetensors": b"y"}, revisions={commit: Repository(LORA, gated=True)}
    )
    assigned = made.node(instance_id, "assignment").json
    assert assigned["local_args"] == ["--enable-lora", "--lora-modules", "sql={extra-1}"]
    (folder,) = assigned["folders"]
    assert sorted(file["path"] for file in folder["files"]) == ["adapter_config.json", "adapter_model.safetensors"]
    assert all(f"/my-org/private-lora/resolve/{commit}/" in file["url"] for file in folder["files"])


@pytest.mark.parametrize(
    ("args", "repository", "why"),
    [
        (LORA_ARGS, None, "hf://my-org/private-lora: the Hub has no such model"),
        (LORA_ARGS, Repository(LORA, gated=True), "hf://my-org/private-lora is gated"),
        (LORA_ARGS, Repository(FILES), "hf://my-org/private-lora is not an adapter"),
        (LORA_ARGS, Repository({**LORA, "adapter_config.json": b'{"r": 64}'}), "has rank 64, and vLLM takes up to 16"),
        (
            [*LORA_ARGS, "--max-lora-rank=32"],
            Repository({**LORA, "adapter_config.json": b'{"r": 8, "rank_pattern": {"q_proj": 48}}'}),
            "has rank 48, and vLLM takes up to 32; add --max-lora-rank=64",
        ),
        (["--chat-template=model/chat.jinja"], None, "the model's folder has no chat.jinja, which vllm_args name"),
        (["--speculative-config", '{"model": "my-org/private-lora"}'], Repository(LORA), "is an adapter"),
        (["--tokenizer", "my-org/private-lora"], Repository({"x.txt": b""}), "so vLLM cannot use it"),
        (
            ["--speculative-config", '{"model": "my-org/private-lora"}'],
            Repository({**FILES, "model.safetensors.index.json": index("model.safetensors", "model-2.safetensors")}),
            "hf://my-org/private-lora is incomplete: a weight file is missing (model-2.safetensors)",
        ),
    ],
)
def test_what_vllm_could_not_fetch_should_cost_nothing(
    hub: HubServer, args: list[str], repository: Repository | None, why: str
) -> None:
    if repository is not None:
        hub.repositories["my-org/private-lora"] = repository
    assert why in failed(world(HF_ENDPOINT=hub.endpoint), vllm_args=args)[1]


CHATML = "{% for message in messages %}\n{{ '<|im_start|>' + message['role'] }}\n{% endfor %}\n" + "{{- 'x' }}" * 200


@pytest.mark.parametrize(
    "launch",
    [
        {"chat_template": CHATML},
        {"vllm_args": ["--seed", "1", "--chat-template", CHATML]},
        {"vllm_args": ["--seed", "1", f"--chat-template={CHATML}"]},
    ],
)
def test_a_chat_template_may_be_a_text_of_several_lines(hub: HubServer, launch: dict[str, Any]) -> None:
    made = world(HF_ENDPOINT=hub.endpoint)
    instance_id = made.launch(**launch)
    made.run(5)
    assigned = made.node(instance_id, "assignment").json
    assert assigned["chat_template"] == CHATML
    assert "--chat-template" not in " ".join(assigned["vllm_args"])


def test_a_chat_template_may_be_a_file_of_the_model(hub: HubServer) -> None:
    hub.repositories[MODEL] = Repository({**FILES, "chat.jinja": b"x"}, parameters=SMALL.parameters)
    made = world(HF_ENDPOINT=hub.endpoint)
    instance_id = made.launch(vllm_args=["--chat-template", "chat.jinja"])
    made.run(5)
    assert made.node(instance_id, "assignment").json["local_args"] == ["--chat-template", "{model}/chat.jinja"]


@pytest.mark.parametrize(
    ("launch", "why"),
    [
        ({"model_source": "r2://models/x", "vllm_args": ["--revision", "v1"]}, "--revision has no effect"),
        ({"vllm_args": ["--code-revision=v1"]}, "--code-revision has no effect"),
        ({"model_source": "hf://a/b@v1", "vllm_args": ["--revision", "v2"]}, "contradicts"),
    ],
)
def test_an_option_without_effect_should_be_a_422(launch: dict[str, Any], why: str) -> None:
    answer = NodeWorld().call("POST", "/api/instances/launch", SEED | launch)
    assert answer.status == 422
    assert why in str(answer.json["errors"])
