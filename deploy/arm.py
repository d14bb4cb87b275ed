"""Azure's resource manager, for the commands that set up a deployment; Microsoft's pipeline signs in and retries."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from azure.core.credentials import TokenCredential
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.policies import HeadersPolicy, RetryPolicy, UserAgentPolicy
from azure.core.rest import HttpRequest
from azure.identity import AzureCliCredential, AzureDeveloperCliCredential, ChainedTokenCredential
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.core import ARMPipelineClient
from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy

from shared.azure_transport import RESOURCE_MANAGER, bounded_transport

PUBLIC: Final = "https://management.azure.com"
_SCOPE: Final = f"{PUBLIC}/.default"
_LIMITS = replace(RESOURCE_MANAGER, pause=60.0)
"""Somebody waits at a terminal, so a throttled call waits as long as Azure asks."""


def signed_in() -> TokenCredential:
    """Whoever is signed in on this machine, by `az login` or `azd auth login`; makes no request."""
    # It logs a page about each credential that it could not use; the commands report the same in one line.
    logging.getLogger("azure.identity").setLevel(logging.CRITICAL)
    return ChainedTokenCredential(AzureCliCredential(), AzureDeveloperCliCredential())


class Arm:
    """Reads and writes resources by their paths; `endpoint` is the resource manager's address.

    Args:
        ca: The file of the authority that checks the certificate of another endpoint than Azure's own.

    Raises:
        ClientAuthenticationError: Not signed in.
        HttpResponseError, ServiceRequestError: every call, if Azure refuses it or cannot be reached.
    """

    def __init__(self, credential: TokenCredential, endpoint: str = PUBLIC, ca: str | None = None) -> None:
        self._credential = credential
        self._endpoint = endpoint
        self._ca: dict[str, Any] = {} if ca is None else {"connection_verify": ca}
        self._client: ARMPipelineClient[Any, Any] = ARMPipelineClient(
            endpoint,
            policies=[
                HeadersPolicy({"Accept": "application/json"}),
                UserAgentPolicy("gpulaunch"),
                # Waits as long as Azure asks (Retry-After); five tries bridge a minute of throttling.
                RetryPolicy(retry_total=5),
                ARMChallengeAuthenticationPolicy(credential, _SCOPE),
            ],
            transport=self._transport(),
        )

    def get(self, path: str, version: str) -> Any:
        """Get a resource; None if it does not exist."""
        return self._send("GET", path, version)

    def every(self, path: str, version: str) -> Iterator[Any]:
        """Yield all items of a list, page by page."""
        page = self._send("GET", path, version)
        while page is not None:
            yield from page.get("value", [])
            following = page.get("nextLink")
            page = self._send("GET", following, "") if following else None

    def put(self, path: str, version: str, body: object) -> None:
        """Create or replace a resource."""
        self._send("PUT", path, version, body)

    def post(self, path: str, version: str) -> None:
        """Run an action of a resource."""
        self._send("POST", path, version)

    def compute(self, subscription: str) -> ComputeManagementClient:
        """Microsoft's client for machines, with the same sign-in."""
        return ComputeManagementClient(
            self._credential,
            subscription,
            base_url=self._endpoint,
            credential_scopes=[_SCOPE],
            transport=self._transport(),
        )

    def _transport(self) -> Any:
        return bounded_transport(_LIMITS, **self._ca)

    def _send(self, method: str, path: str, version: str, body: object = None) -> Any:
        address = path if path.startswith("http") else self._endpoint + path
        request = HttpRequest(method, address, params={"api-version": version} if version else None, json=body)
        response = self._client.send_request(request)
        if method == "GET" and response.status_code == 404:
            return None
        if response.status_code >= 400:
            raise HttpResponseError(response=response)
        return response.json() if response.content else None
