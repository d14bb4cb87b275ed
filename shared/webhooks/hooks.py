"""Webhooks as the operator names them. Nothing here shows an address: Slack's and Teams' are secrets in themselves."""

import base64
import binascii
import json
from typing import Any, Literal, cast, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr

Format = Literal["json", "slack", "teams"]
_PREFIX = "whsec_"


class Webhook(BaseModel):
    """One receiver."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Format = "json"
    url: SecretStr

    @property
    def host(self) -> str:
        """What may be said of the address."""
        return urlsplit(self.url.get_secret_value()).hostname or ""


def read_hooks(text: str) -> tuple[Webhook, ...]:
    """Receivers from `format|url`, separated by spaces or commas, or from a JSON list of objects.

    Raises ValueError, without any part of an address.
    """
    if text.lstrip().startswith("["):
        try:
            return tuple(Webhook.model_validate(one) for one in cast("list[Any]", json.loads(text)))
        except ValueError:
            raise ValueError('as JSON it is a list such as [{"format": "slack", "url": "https://…"}]') from None
    return tuple(_read_hook(part) for part in text.replace(",", " ").split())


def _read_hook(part: str) -> Webhook:
    kind, bar, url = part.partition("|")
    if not bar:
        kind, url = "json", part
    if kind not in get_args(Format):
        raise ValueError(f"a webhook is written format|url, with one of the formats {', '.join(get_args(Format))}")
    return Webhook(format=cast("Format", kind), url=SecretStr(url))


def check_address(hook: Webhook, plain_http: bool) -> None:
    """Raises ValueError for an address that is none, or would be called without encryption."""
    try:
        address = urlsplit(hook.url.get_secret_value())
        host, _ = address.hostname, address.port
    except ValueError:
        raise ValueError("a webhook's address is no address") from None
    schemes = ("https", "http") if plain_http else ("https",)
    if address.scheme not in schemes or not host:
        raise ValueError("a webhook's address begins with https:// (http:// is for one's own machine)")


def signing_key(secret: str) -> bytes:
    """The key in a Standard Webhooks secret: `whsec_` and 24 to 64 bytes in base64. Raises ValueError."""
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(_PREFIX) or not 24 <= len(key) <= 64:
        raise ValueError("a webhook secret is whsec_ and base64; `echo whsec_$(openssl rand -base64 32)` makes one")
    return key
