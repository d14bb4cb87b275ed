"""Models on the Hub, over HTTP to a stand-in of it."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gpulaunch.models.requests import LaunchRequest
from shared.clock import SystemClock
from shared.domain.model import ModelFacts
from shared.domain.provider import LaunchRefusedError
from shared.model_sources.files import SourceFiles
from shared.model_sources.inspection import SourceInspector
from shared.model_sources.web import Web
from shared.settings import Settings
from tests.standins.hub import HubServer, Repository
from tests.unit.model_sources.shapes import config, index, tensors

KEY = "key-of-the-tests-0123456789-abcdef"

WHOLE = {"config.json": config(), "tokenizer.json": b"{}", "model.safetensors": tensors({"w": ("BF16", (10, 3))})}
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
OTHER = Repository({**WHOLE, "model.safetensors": tensors({"w": ("BF16", (9, 9))})})


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer(
        {"org/m": Repository(WHOLE, revisions={"v1.0": OTHER, "refs/pr/3": OTHER})}, token="hf_good"
    ) as server:
        yield server


def launch(model: str = "org/m", source: str | None = None, **more: Any) -> LaunchRequest:
    return LaunchRequest(model_name=model, gpu="A10", model_source=source, **more)


def files(hub: HubServer, **given: str) -> SourceFiles:
    values = {"GPULAUNCH_MASTER_KEY": KEY, "HF_ENDPOINT": hub.endpoint, **given}
    return SourceFiles(Settings.model_validate(values), SystemClock())


def inspect(hub: HubServer, request: LaunchRequest, **given: str) -> ModelFacts:
    return SourceInspector(files(hub, **given)).inspect(request)


def refusal(hub: HubServer, request: LaunchRequest, **given: str) -> str:
    with pytest.raises(LaunchRefusedError) as caught:
        inspect(hub, request, **given)
    return str(caught.value)


def test_a_model_should_be_known_by_its_own_metadata(hub: HubServer) -> None:
    hub.repositories["org/m"] = Repository(WHOLE, parameters={"BF16": 8_030_261_248})
    facts = inspect(hub, launch())
    commit = hub.repositories["org/m"].commit
    assert (facts.source, facts.commit, facts.repository) == (f"hf://org/m@{commit}", commit, "org/m")
    assert facts.parameters == {"BF16": 8_030_261_248}
    assert facts.total_bytes == sum(map(len, WHOLE.values()))
    assert facts.cache_bytes == 32 * 8 * 128 * 2 * 2
    assert not [call for call in hub.calls if call.endswith(".safetensors")], "weights are not read"


def test_without_the_hubs_metadata_headers_should_be_read(hub: HubServer) -> None:
    assert inspect(hub, launch()).parameters == {"BF16": 30}


@pytest.mark.parametrize(
    "request_",
    [
        launch(source="hf://org/m@v1.0"),
        launch(vllm_args=["--revision", "v1.0"]),
        launch(vllm_args=["--revision=v1.0"]),
        launch(source="hf://org/m@refs/pr/3"),
        launch(source="hf://org/m@" + OTHER.commit),
        launch(source="https://huggingface.co/org/m/tree/v1.0"),
    ],
)
def test_the_revision_asked_for_should_be_the_one_that_is_fetched(hub: HubServer, request_: LaunchRequest) -> None:
    listing = files(hub).list_files(request_)
    assert listing.commit == OTHER.commit != hub.repositories["org/m"].commit
    assert all(f"/resolve/{OTHER.commit}/" in file.url for file in listing.files)


def test_an_unknown_revision_should_be_refused(hub: HubServer) -> None:
    assert "org/m has no revision v9" in refusal(hub, launch(source="hf://org/m@v9"))


@pytest.mark.parametrize("source", ["hf://org/m@", "hf://org/m@a b", "hf://org/m@../x", "hf://a/b/c", "hf://org/m@a?b"])
def test_what_is_not_a_revision_should_be_refused(hub: HubServer, source: str) -> None:
    with pytest.raises(ValueError if "?" in source else LaunchRefusedError):
        inspect(hub, launch(source=source))


def test_a_renamed_model_should_be_found_by_its_old_name(hub: HubServer) -> None:
    hub.renamed["meta-llama/Meta-M"] = "org/m"
    facts = inspect(hub, launch("meta-llama/Meta-M"), HF_TOKEN="hf_good")
    assert facts.repository == "org/m"
    listing = files(hub).list_files(launch("meta-llama/Meta-M"))
    assert all(file.url.startswith(f"{hub.endpoint}/org/m/resolve/") for file in listing.files)


def test_a_redirect_in_a_circle_should_be_refused(hub: HubServer) -> None:
    hub.renamed["org/m"] = "org/m"
    assert "redirects in a circle" in refusal(hub, launch())


def test_a_listing_should_not_be_asked_of_another_host() -> None:
    asked: list[str] = []

    def answer(sent: httpx.Request) -> httpx.Response:
        asked.append(sent.url.host)
        return httpx.Response(307, headers={"Location": "https://evil.test/api/models/org/m/revision/main"})

    values = {"GPULAUNCH_MASTER_KEY": KEY, "HF_TOKEN": "hf_good"}
    made = SourceFiles(Settings.model_validate(values), SystemClock(), Web(httpx.MockTransport(answer)))
    with pytest.raises(LaunchRefusedError, match=r"redirects to evil\.test"):
        made.list_files(launch())
    assert asked == ["huggingface.co"]


def test_checksums_should_be_those_of_the_hub(hub: HubServer) -> None:
    found = {file.path: file.checksum for file in files(hub).list_files(launch()).files}
    assert {path: checksum and checksum.algorithm for path, checksum in found.items()} == {
        "config.json": "git",
        "tokenizer.json": "git",
        "model.safetensors": "sha256",
    }


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "hf://org/m is gated, and HF_TOKEN is not set; accept its terms at"),
        ({"HF_TOKEN": "hf_other"}, "hf://org/m is gated, and the account of HF_TOKEN has no access"),
    ],
)
def test_a_gated_model_should_be_refused_without_access(hub: HubServer, given: dict[str, str], why: str) -> None:
    hub.repositories["org/m"] = Repository(WHOLE, gated=True)
    assert why in refusal(hub, launch(), **given)


def test_a_gated_model_should_be_found_with_access(hub: HubServer) -> None:
    hub.repositories["org/m"] = Repository(WHOLE, gated=True)
    assert inspect(hub, launch(), HF_TOKEN="hf_good").total_bytes > 0


def test_a_token_that_the_hub_does_not_know_should_be_called_so() -> None:
    def answer(sent: httpx.Request) -> httpx.Response:
        said = {"X-Error-Message": "Invalid credentials in Authorization header"}
        return httpx.Response(401, headers=said if "Authorization" in sent.headers else {})

    def refusal_with(**given: str) -> str:
        settings = Settings.model_validate({"GPULAUNCH_MASTER_KEY": KEY, **given})
        with pytest.raises(LaunchRefusedError) as caught:
            SourceFiles(settings, SystemClock(), Web(httpx.MockTransport(answer))).list_files(launch())
        return str(caught.value)

    assert "does not know HF_TOKEN (Invalid credentials in Authorization header)" in refusal_with(HF_TOKEN="hf_old")
    assert "has no such model, or it is private and HF_TOKEN is not set" in refusal_with()


def test_a_model_that_is_not_there_should_be_refused(hub: HubServer) -> None:
    assert "has no such model, or it is private and HF_TOKEN is not set" in refusal(hub, launch("org/typo"))
    assert "or the account of HF_TOKEN cannot see it" in refusal(hub, launch("org/typo"), HF_TOKEN="hf_good")


@pytest.mark.parametrize(
    ("repository", "why"),
    [
        ({"config.json": config(), "model-q4.gguf": b"x"}, "GGUF only"),
        (
            {"adapter_config.json": b"{}", "adapter_model.safetensors": b"x" * 20},
            "hf://org/m is an adapter; launch its base model",
        ),
        ({"config.json": config(), "README.md": b"x"}, "no weights that vLLM can load"),
        ({**WHOLE, "config.json": b"<html>"}, "config.json is not a JSON object"),
        ({k: v for k, v in WHOLE.items() if k != "config.json"}, "there is no config.json"),
        (
            {
                "config.json": config(),
                SHARDS[0]: tensors({"w": ("BF16", (2,))}),
                "model.safetensors.index.json": index(*SHARDS),
            },
            "is incomplete: a weight file is missing (model-00002-of-00002.safetensors)",
        ),
        ({"config.json": config(), SHARDS[1]: tensors({"w": ("BF16", (2,))})}, "a weight file is missing"),
        (
            {"config.json": config(), "model.safetensors.index.json": index(*SHARDS), "other.safetensors": b""},
            "other.safetensors is empty",
        ),
        ({**WHOLE, "model.safetensors.index.json": b"[]"}, "is not a JSON object"),
        (
            {**WHOLE, "model.safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:0"},
            "Git LFS pointer",
        ),
        ({**WHOLE, "model.safetensors": tensors({"w": ("BF16", (9, 9))}, cut=1)}, "is cut short"),
        ({**WHOLE, "model.safetensors": b"PK\x03\x04 a zip archive instead"}, "is not a safetensors file"),
    ],
)
def test_what_could_not_be_served_should_be_refused(hub: HubServer, repository: dict[str, bytes], why: str) -> None:
    hub.repositories["org/m"] = Repository(repository)
    assert why in refusal(hub, launch())


@pytest.mark.parametrize(
    "repository",
    [
        {"config.json": config(), "pytorch_model.bin": b"x"},
        {"config.json": config(), **{name: tensors({"w": ("BF16", (2,))}) for name in SHARDS}},
        {"params.json": b"{}", "consolidated.safetensors": tensors({"w": ("BF16", (2,))})},
        # The index of another form of the weights, which is not fetched.
        {**WHOLE, "pytorch_model.bin.index.json": index("pytorch_model-00001-of-00001.bin")},
    ],
)
def test_what_can_be_served_should_be_accepted(hub: HubServer, repository: dict[str, bytes]) -> None:
    hub.repositories["org/m"] = Repository(repository)
    assert inspect(hub, launch()).weight_bytes > 0
