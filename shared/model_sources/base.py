"""Model sources: their kinds and what the control plane knows about each.

Errors are those of `shared.domain.provider`: LaunchRefusedError (reason `model_fetch_failed`) when a source can't be
read as things are, ProviderUnavailableError when a store did not answer and may do so later.
"""

import re
from dataclasses import dataclass
from typing import Literal, Protocol
from urllib.parse import unquote, urlsplit

from gpulaunch.models.instances import Reason
from gpulaunch.models.requests import LaunchRequest
from shared.domain.instance import Failure
from shared.domain.node import ModelFile
from shared.domain.provider import LaunchRefusedError


@dataclass(frozen=True)
class HubSource:
    """A model on the Hugging Face Hub, which the node lists and downloads itself."""

    model: str
    """`org/model`."""


@dataclass(frozen=True)
class BucketSource:
    store: Literal["r2", "s3"]
    bucket: str
    prefix: str
    """Empty, or ends with a slash."""

    @property
    def name(self) -> str:
        return f"{self.store}://{self.bucket}/{self.prefix}".rstrip("/")


@dataclass(frozen=True)
class BlobSource:
    """A folder in a public container of Azure Blob storage."""

    host: str
    """Host and, if given, port."""
    container: str
    prefix: str
    """Empty, or ends with a slash."""

    @property
    def name(self) -> str:
        return f"https://{self.host}/{self.container}/{self.prefix}".rstrip("/")


Source = HubSource | BucketSource | BlobSource

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_SIZE = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True)
class ModelListing:
    """What the node downloads: files, or a model of the Hub."""

    files: list[ModelFile]
    hub_model: str | None = None


class ModelFiles(Protocol):
    """Lists a model's files with URLs for the node."""

    def list_files(self, request: LaunchRequest) -> ModelListing:
        """Return the files of the request's model, with sizes and signed URLs; empty only for a model of the Hub.

        Raises LaunchRefusedError (the source can't be read) and ProviderUnavailableError (no answer now).
        """
        ...


def refused(message: str) -> LaunchRefusedError:
    """Return the error for a source that cannot be read, whatever the offer."""
    return LaunchRefusedError(Failure(reason=Reason.MODEL_FETCH_FAILED, message=message))


def is_safe_path(path: str) -> bool:
    """Return whether a relative path stays inside its folder, on every system."""
    parts = path.split("/")
    return (
        0 < len(path) <= 1024
        and path.isprintable()
        and "\\" not in path
        and ":" not in parts[0]
        and all(part not in ("", ".", "..") for part in parts)
    )


def parse_source(request: LaunchRequest) -> Source:
    """Return the request's source; by default the Hub's model of that name.

    Raises LaunchRefusedError when the source names too little or leaves its folder.
    """
    text = request.model_source or f"hf://{request.model_name}"
    scheme, _, rest = text.partition("://")
    if scheme == "https":
        _check_address(text)
    # A bucket's keys are taken literally; only URLs are percent-encoded.
    head, _, tail = (unquote(urlsplit(text).path).lstrip("/") if scheme == "https" else rest).partition("/")
    prefix = tail.strip("/")
    if prefix and not is_safe_path(prefix):
        raise refused(f"{text} is not a valid folder: remove empty, `.` and `..` parts")
    folder = f"{prefix}/" if prefix else ""
    match scheme:
        case "hf":
            if "/" in prefix or not head:
                raise refused(f"{text} is not a Hugging Face model; use hf://org/model")
            return HubSource(f"{head}/{prefix}" if prefix else head)
        case "r2" | "s3":
            return BucketSource(scheme, head, folder)
        case _:
            host = urlsplit(text).netloc
            if not host or not head:
                raise refused(
                    f"{text} names no container; write https://account.blob.core.windows.net/container/folder"
                )
            return BlobSource(host, head, folder)


def file_size(text: str | None, name: str) -> int:
    """Return a file's size in a listing. Raises LaunchRefusedError if it is invalid."""
    if text is None or _SIZE.fullmatch(text) is None:
        raise refused(f"{name}: the listing has a file without a valid size")
    return int(text)


def _check_address(text: str) -> None:
    try:
        address = urlsplit(text)
        host, _ = address.hostname or "", address.port
    except ValueError:
        host = ""
    labels = host.removesuffix(".").split(".")
    if len(host) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise refused(f"{text} is not a valid URL; use https://account.blob.core.windows.net/container/folder")
