"""Where models come from: the kinds of source, and what the control plane has to know of each.

Errors are those of `shared.backends.base`: LaunchRefusedError (reason `model_fetch_failed`) when a source can't be
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
    """A model on the Hugging Face Hub, which the node lists and fetches itself."""

    model: str
    """`org/model`."""


@dataclass(frozen=True)
class BucketSource:
    """A folder in an S3-compatible bucket."""

    store: Literal["r2", "s3"]
    bucket: str
    prefix: str
    """Empty, or ending with a slash."""

    @property
    def name(self) -> str:
        """As the user wrote it."""
        return f"{self.store}://{self.bucket}/{self.prefix}".rstrip("/")


@dataclass(frozen=True)
class BlobSource:
    """A folder in a public container of Azure Blob storage."""

    host: str
    """Host and, if given, port."""
    container: str
    prefix: str
    """Empty, or ending with a slash."""

    @property
    def name(self) -> str:
        """As the user wrote it."""
        return f"https://{self.host}/{self.container}/{self.prefix}".rstrip("/")


Source = HubSource | BucketSource | BlobSource

MOST_FILES = 5000
"""More files than that are no model; the assignment has to stay small enough to travel."""
MOST_PAGES = 100
"""Answers of one listing; stores give a thousand entries in each, and one that never ends is given up."""
LONGEST_LISTING = 120.0
"""Seconds that one listing may take altogether: an honest one takes a few, and a queue function has ten minutes."""
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_SIZE = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True)
class ModelListing:
    """What the node is told to fetch: files, or a model of the Hub."""

    files: list[ModelFile]
    hub_model: str | None = None


class ModelFiles(Protocol):
    """Lists a model's files with addresses from which a node can GET them."""

    def list_files(self, request: LaunchRequest) -> ModelListing:
        """The files of the request's model, with sizes and signed URLs; never empty unless it is a model of the Hub.

        Raises LaunchRefusedError (the source can't be read) and ProviderUnavailableError (no answer now).
        """
        ...


def refused(message: str) -> LaunchRefusedError:
    """The error for a source that can't be read, whatever offer is tried."""
    return LaunchRefusedError(Failure(reason=Reason.MODEL_FETCH_FAILED, message=message))


def is_safe_path(path: str) -> bool:
    """Whether a path stays below the folder that it is relative to, on every system."""
    parts = path.split("/")
    return (
        0 < len(path) <= 1024
        and path.isprintable()
        and "\\" not in path
        and ":" not in parts[0]
        and all(part not in ("", ".", "..") for part in parts)
    )


def parse_source(request: LaunchRequest) -> Source:
    """The request's source, typed; without one it is the Hub's model of the model's name.

    Raises LaunchRefusedError when the source names too little or leaves its folder.
    """
    text = request.model_source or f"hf://{request.model_name}"
    scheme, _, rest = text.partition("://")
    if scheme == "https":
        _check_address(text)
    # Keys of a bucket are taken as they are written; only addresses are percent-encoded.
    head, _, tail = (unquote(urlsplit(text).path).lstrip("/") if scheme == "https" else rest).partition("/")
    prefix = tail.strip("/")
    if prefix and not is_safe_path(prefix):
        raise refused(f"{text} is no folder: a path has no empty, `.` or `..` parts")
    folder = f"{prefix}/" if prefix else ""
    match scheme:
        case "hf":
            if "/" in prefix or not head:
                raise refused(f"{text} is no model of the Hub; write hf://org/model")
            return HubSource(f"{head}/{prefix}" if prefix else head)
        case "r2" | "s3":
            return BucketSource("r2" if scheme == "r2" else "s3", head, folder)
        case _:
            host = urlsplit(text).netloc
            if not host or not head:
                raise refused(
                    f"{text} names no container; write https://account.blob.core.windows.net/container/folder"
                )
            return BlobSource(host, head, folder)


def file_size(text: str | None, name: str) -> int:
    """The bytes that a listing says a file has. Raises LaunchRefusedError when that is no number of bytes."""
    if text is None or _SIZE.fullmatch(text) is None:
        raise refused(f"{name}: the listing gives a file no size")
    return int(text)


def _check_address(text: str) -> None:
    try:
        address = urlsplit(text)
        host, _ = address.hostname or "", address.port
    except ValueError:
        host = ""
    labels = host.removesuffix(".").split(".")
    if len(host) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise refused(f"{text} is no address; write https://account.blob.core.windows.net/container/folder")
