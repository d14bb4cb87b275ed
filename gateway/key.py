"""The gateway's key: given in its environment or, on Azure, kept in a vault that its identity may read."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from azure.core import PipelineClient
from azure.core.credentials import TokenCredential
from azure.core.exceptions import AzureError, HttpResponseError
from azure.core.pipeline.policies import BearerTokenCredentialPolicy, RetryPolicy
from azure.core.rest import HttpRequest

from gpulaunch.deadlines import within

KEY, KEY_URL = "GPULAUNCH_GATEWAY_KEY", "GPULAUNCH_GATEWAY_KEY_URL"
_VAULT_VERSION = "7.4"
_SCOPE = "https://vault.azure.net/.default"
_PLACE = re.compile(r"https://[a-z0-9-]+\.vault\.azure\.net/secrets/[A-Za-z0-9-]+")
CALL_SECONDS = 30.0
"""For the identity's token and the secret, with repetitions; whoever runs the gateway starts it again."""


class KeyUnavailableError(Exception):
    """The key is missing or cannot be read; the message is written for people."""


def key_of(
    environ: Mapping[str, str], identity: Callable[[Mapping[str, str]], TokenCredential], transport: Any = None
) -> str:
    """Return the key that unseals nodes' keys.

    Args:
        identity: Of where the gateway runs; asked for only if the key is in a vault.
        transport: In place of the SDK's own, for a vault.

    Raises:
        KeyUnavailableError: None is given, or the vault refuses or does not answer.
    """
    if key := environ.get(KEY):
        return key
    place = environ.get(KEY_URL)
    if not place:
        raise KeyUnavailableError(f"set {KEY}; `python -m deploy secrets gateway-key` derives it")
    if not _PLACE.fullmatch(place):
        raise KeyUnavailableError(
            f"{KEY_URL} has to be https://….vault.azure.net/secrets/…; the identity's token is sent there"
        )
    try:
        return within(CALL_SECONDS, lambda: _read(place, identity(environ), transport))
    except (AzureError, TimeoutError) as error:
        raise KeyUnavailableError(f"{place} cannot be read: {_why(error)}") from error


def _read(place: str, credential: TokenCredential, transport: Any) -> str:
    client: Any = PipelineClient(
        place,
        policies=[RetryPolicy(retry_total=3), BearerTokenCredentialPolicy(credential, _SCOPE)],
        **({} if transport is None else {"transport": transport}),
    )
    with client:
        response = client.send_request(HttpRequest("GET", place, params={"api-version": _VAULT_VERSION}))
        if response.status_code != 200:
            raise HttpResponseError(response=response)
        return str(response.json()["value"])


def _why(error: Exception) -> str:
    match error:
        case HttpResponseError(status_code=403):
            return "403; the identity's role may take some minutes"
        case HttpResponseError(status_code=404):
            return "404; `python -m deploy secrets make` makes it"
        case _:
            return (str(error) or "no answer").splitlines()[0]
