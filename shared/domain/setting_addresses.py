"""Addresses as people copy them: with a page, a bucket or a version behind or before what belongs into the setting.

All of them are valid URLs, and would fail far from here: on a node, in a client, or as a store's 404.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import SplitResult, urlsplit

from gpulaunch.models.pages import is_page

_OF_SKYPILOT: Final = re.compile(r"(.*/)?(dashboard|api)(/.*)?")
_HUB: Final = frozenset({"huggingface.co", "www.huggingface.co", "hf.co"})
_JURISDICTIONS: Final = frozenset({"eu", "fedramp"})
_R2: Final = ".r2.cloudflarestorage.com"
_BUCKET: Final = "leave the bucket out of the URL: launches name it, as in s3://bucket/folder"
_STORES: Final[Sequence[tuple[re.Pattern[str], str]]] = (
    (re.compile(r"(?!.*\.vpce\.).+\.s3([.-][a-z0-9-]+)*\.amazonaws\.com(\.cn)?"), _BUCKET),
    (re.compile(r".+\.storage\.googleapis\.com"), _BUCKET),
    (re.compile(r".+\..+\.digitaloceanspaces\.com"), _BUCKET),
    (re.compile(r"console\..*|.*\.console\.aws\.amazon\.com"), "this is a page for people; use the S3 API's endpoint"),
)
_WITHOUT_PATH: Final = re.compile(r".*\.amazonaws\.com(\.cn)?|storage\.googleapis\.com|.*\.digitaloceanspaces\.com")


def _of_app(url: SplitResult) -> str:
    return "remove the path from the URL: it is a page's, and nodes add their own" if is_page(url.path) else ""


def _of_gateway(url: SplitResult) -> str:
    parts = url.path.strip("/").split("/")
    return "remove /v1 and what follows from the URL; addresses of endpoints add it" if "v1" in parts else ""


def _of_skypilot(url: SplitResult) -> str:
    page = _OF_SKYPILOT.fullmatch(url.path)
    return "remove /dashboard or /api, and what follows, from the URL: it is a page's of the server" if page else ""


def _of_hub(url: SplitResult) -> str:
    path = url.path.strip("/")
    if url.hostname in _HUB and path:
        return "remove the path from the URL: launches name the model"
    api = re.fullmatch(r"(.*/)?(api|models|api/models)", path)
    return "remove /api or /models from the URL; they are added" if api else ""


def _of_r2(url: SplitResult) -> str:
    host = url.hostname or ""
    if host.endswith(".r2.dev") or host == "dash.cloudflare.com":
        return f"this is not the S3 API; use https://<account>{_R2}"
    labels = host.removesuffix(_R2).split(".") if host.endswith(_R2) else [""]
    if len(labels) > 2 or (len(labels) == 2 and labels[1] not in _JURISDICTIONS):
        return "leave the bucket out of the URL: launches name it, as in r2://bucket/folder"
    return ""


def _of_s3(url: SplitResult) -> str:
    host = url.hostname or ""
    if url.path.strip("/") and _WITHOUT_PATH.fullmatch(host):
        return _BUCKET
    return next((message for pattern, message in _STORES if pattern.fullmatch(host)), "")


def _of_storage(service: str) -> Callable[[SplitResult], str]:
    def check(url: SplitResult) -> str:
        host = url.hostname or ""
        if not re.search(r"\.core\.(windows\.net|chinacloudapi\.cn|usgovcloudapi\.net)$", host):
            return ""
        if f".{service}.core." not in host:
            return f"this is another service's URL; use https://<account>.{service}.core.windows.net"
        return "remove the path from the URL" if url.path.strip("/") else ""

    return check


_CHECKS: Final[Mapping[str, Callable[[SplitResult], str]]] = {
    "public_url": _of_app,
    "gateway_url": _of_gateway,
    "skypilot_endpoint": _of_skypilot,
    "hub_endpoint": _of_hub,
    "r2_endpoint": _of_r2,
    "s3_endpoint": _of_s3,
    "storage_queue_uri": _of_storage("queue"),
    "storage_table_uri": _of_storage("table"),
}


def check_place(field: str, text: str) -> None:
    """Raise ValueError for a valid URL that is not what this setting means."""
    wrong = _CHECKS[field](urlsplit(text))
    if wrong:
        raise ValueError(wrong)


def checked_region(text: str) -> str:
    """Return a store's region. Raises ValueError for a zone, and for what can be no part of a host's name."""
    if re.fullmatch(r"[a-z]{2}(-[a-z]+)+-[0-9][a-z]", text):
        raise ValueError("this is a zone; leave its last letter out")
    if not re.fullmatch(r"[A-Za-z0-9-]{1,40}", text):
        raise ValueError("write the region's code, such as us-east-1")
    return text
