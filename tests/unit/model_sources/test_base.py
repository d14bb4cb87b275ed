"""Sources as users write them."""

import pytest

from gpulaunch.models.instances import Reason
from gpulaunch.models.requests import LaunchRequest
from shared.domain.provider import LaunchRefusedError
from shared.model_sources.base import BlobSource, BucketSource, HubSource, Source, is_safe_path, parse_source


def request(source: str | None) -> LaunchRequest:
    return LaunchRequest(model_name="org/name", gpu="A10", model_source=source)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        (None, HubSource("org/name")),
        ("hf://other/model", HubSource("other/model")),
        ("hf://gpt2", HubSource("gpt2")),
        ("r2://models/llama/8b/", BucketSource("r2", "models", "llama/8b/")),
        ("s3://models", BucketSource("s3", "models", "")),
        ("s3://models/100%25", BucketSource("s3", "models", "100%25/")),
        ("https://acc.blob.core.windows.net/c/a/b", BlobSource("acc.blob.core.windows.net", "c", "a/b/")),
        ("https://acc.blob.core.windows.net/c/a%20b", BlobSource("acc.blob.core.windows.net", "c", "a b/")),
    ],
)
def test_sources_are_understood(text: str | None, source: Source) -> None:
    assert parse_source(request(text)) == source


@pytest.mark.parametrize(
    "text",
    ["hf://a/b/c", "r2://b/../x", "s3://b/a//c", "https://host", "https://host/", "https://host/c/%2e%2e/x"],
)
def test_sources_that_name_too_little_or_leave_their_folder_are_refused(text: str) -> None:
    with pytest.raises(LaunchRefusedError) as caught:
        parse_source(request(text))
    assert caught.value.failure.reason is Reason.MODEL_FETCH_FAILED


@pytest.mark.parametrize("path", ["a", "a/b.c", "weights/model-00001-of-00002.safetensors", "ü/ß"])
def test_paths_below_a_folder_are_safe(path: str) -> None:
    assert is_safe_path(path)


@pytest.mark.parametrize("path", ["", "/a", "a/", "../a", "a/../b", "./a", "a\\b", "C:/a", "a\nb", "a\0b", "x" * 1025])
def test_other_paths_are_not(path: str) -> None:
    assert not is_safe_path(path)
