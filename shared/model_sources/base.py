"""Model sources: their kinds and what the control plane knows about each.

Errors are those of `shared.domain.provider`: LaunchRefusedError (reason `model_fetch_failed`) when a source can't be
read as things are, ProviderUnavailableError when a store did not answer and may do so later.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, Protocol
from urllib.parse import unquote, urlsplit

from gpulaunch.models.instances import Reason
from gpulaunch.models.option_values import last_values
from gpulaunch.models.requests import MODEL_NAME, LaunchRequest
from shared.domain.instance import Failure
from shared.domain.node import ModelFile
from shared.domain.provider import LaunchRefusedError
from shared.domain.references import Reference


@dataclass(frozen=True)
class HubSource:
    """A model on the Hugging Face Hub."""

    model: str
    """`org/model`."""
    revision: str = "main"
    """A branch, tag or commit."""

    @property
    def name(self) -> str:
        return f"hf://{self.model}" if self.revision == "main" else f"hf://{self.model}@{self.revision}"


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

_HUB_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
"""Pages of the Hub, which people copy from their browser."""
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_SIZE = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True)
class ModelListing:
    """What the node downloads."""

    files: list[ModelFile]
    hub_model: str | None = None
    """The model's name on the Hub today, if it comes from there."""
    commit: str | None = None
    """Of the Hub: the commit that all files are of."""
    parameters: Mapping[str, int] = field(default_factory=dict[str, int])
    """By stored type, as far as the source itself has read the files' headers."""
    newest: datetime | None = None
    """Of a bucket: when the newest of its files was stored, by the store's clock."""
    skipped: Sequence[str] = ()
    """Files that have no place in a folder: their names leave it, or no file can have them."""


class ModelFiles(Protocol):
    """Lists a model's files with URLs for the node."""

    def list_files(self, request: LaunchRequest, until: datetime | None = None) -> ModelListing:
        """Return the files of the request's model that a node fetches, with sizes and URLs, signed where needed.

        A bucket that keeps versions gives those that were current `until` then.

        Raises LaunchRefusedError (the source can't be read) and ProviderUnavailableError (no answer now).
        """
        ...


class SourceListings(ModelFiles, Protocol):
    """Lists also what a model's arguments name beside it."""

    def beside(self, reference: Reference, name: str, revision: str) -> tuple[HubSource, ModelListing]:
        """The files of what an argument names, from the Hub's repository `name` at a revision.

        Raises as `list_files`.
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
        and not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in path)
        and "\\" not in path
        and re.match(r"[A-Za-z]:", path) is None
        and all(part not in ("", ".", "..") and len(part.encode()) <= 255 for part in parts)
    )


def parse_source(request: LaunchRequest) -> Source:
    """Return the request's source; by default the Hub's model of that name.

    Raises LaunchRefusedError when the source names too little or leaves its folder.
    """
    source = parse_address(request.model_source or f"hf://{request.model_name}")
    asked = last_values(request.vllm_args).get("revision")
    if isinstance(source, HubSource) and asked and source.revision == "main":
        return replace(source, revision=asked)
    return source


def parse_address(text: str) -> Source:
    """Return the source that an address names.

    Raises LaunchRefusedError when it names too little or leaves its folder.
    """
    scheme, _, rest = text.partition("://")
    if scheme == "https":
        _check_address(text)
        if urlsplit(text).hostname in _HUB_HOSTS:
            return _hub(text, unquote(urlsplit(text).path).strip("/").replace("/tree/", "@", 1))
    if scheme == "hf":
        return _hub(text, rest)
    # A bucket's keys are taken literally; only URLs are percent-encoded.
    head, _, tail = (unquote(urlsplit(text).path).lstrip("/") if scheme == "https" else rest).partition("/")
    prefix = tail.strip("/")
    if prefix and not is_safe_path(prefix):
        raise refused(f"{text} is not a valid folder: remove empty, `.` and `..` parts")
    folder = f"{prefix}/" if prefix else ""
    match scheme:
        case "r2" | "s3":
            return BucketSource(scheme, head, folder)
        case _:
            host = urlsplit(text).netloc
            if not host or not head:
                raise refused(
                    f"{text} names no container; write https://account.blob.core.windows.net/container/folder"
                )
            return BlobSource(host, head, folder)


def _hub(text: str, rest: str) -> HubSource:
    model, at, revision = rest.partition("@")
    model = model.strip("/")
    valid = re.fullmatch(MODEL_NAME, model) is not None
    if not valid or (at and (not is_safe_path(revision) or re.fullmatch(r"[^\s?#%]{1,200}", revision) is None)):
        raise refused(f"{text} is not a Hugging Face model; use hf://org/model or hf://org/model@revision")
    return HubSource(model, revision if at else "main")


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
