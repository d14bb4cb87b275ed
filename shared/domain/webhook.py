"""Parse webhook receivers. No error contains a URL: Slack's and Teams' are secrets."""

import base64
import binascii
import json
from typing import Any, Literal, cast, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr

from gpulaunch.models.instances import Phase

Format = Literal["json", "slack", "teams"]
_PREFIX = "whsec_"

WORDS = frozenset({"alert", "poison", "phase", *(phase.value for phase in Phase)})
"""Valid words of GPULAUNCH_WEBHOOK_EVENTS: `phase` is every change of phase, a phase's name the change to it."""


class Webhook(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Format = "json"
    url: SecretStr

    @property
    def host(self) -> str:
        """The part of the URL that may be shown."""
        return urlsplit(self.url.get_secret_value()).hostname or ""


def read_hooks(text: str) -> tuple[Webhook, ...]:
    """Parse receivers from `format|url`, separated by spaces or commas, or from a JSON list of objects.

    Raises:
        ValueError: The text is invalid; the message has no part of a URL.
    """
    if text.lstrip().startswith("["):
        try:
            return tuple(Webhook.model_validate(one) for one in cast("list[Any]", json.loads(text)))
        except ValueError:
            raise ValueError('a JSON value must be a list such as [{"format": "slack", "url": "https://…"}]') from None
    return tuple(_read_hook(part) for part in text.replace(",", " ").split())


def _read_hook(part: str) -> Webhook:
    kind, bar, url = part.partition("|")
    if not bar:
        kind, url = "json", part
    if kind not in get_args(Format):
        raise ValueError(f"write a webhook as format|url, with one of the formats {', '.join(get_args(Format))}")
    return Webhook(format=cast("Format", kind), url=SecretStr(url))


def check_address(hook: Webhook, plain_http: bool) -> None:
    """Raise ValueError for an invalid or unencrypted URL."""
    try:
        address = urlsplit(hook.url.get_secret_value())
        host, _ = address.hostname, address.port
    except ValueError:
        raise ValueError("invalid webhook URL") from None
    schemes = ("https", "http") if plain_http else ("https",)
    if "@" in address.netloc:
        raise ValueError("remove the user and the password from the webhook URL")
    if address.scheme not in schemes or not host:
        raise ValueError("a webhook URL must start with https:// (http:// is allowed for localhost only)")


def signing_key(secret: str) -> bytes:
    """Return the key of a Standard Webhooks secret: `whsec_` and 24 to 64 bytes in base64. Raises ValueError."""
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(_PREFIX) or not 24 <= len(key) <= 64:
        raise ValueError(
            "a webhook secret is whsec_ followed by base64; create one with `echo whsec_$(openssl rand -base64 32)`"
        )
    return key
