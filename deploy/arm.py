"""Azure's resource manager, for the commands that set a deployment up; Microsoft's pipeline signs in and retries."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.mgmt.compute import ComputeManagementClient

PUBLIC: Final = "https://management.azure.com"


def signed_in() -> "TokenCredential":
    """Who is signed in on this machine, by `az login` or `azd auth login`; no request is made."""
    import logging

    from azure.identity import AzureCliCredential, AzureDeveloperCliCredential, ChainedTokenCredential

    # It logs a page about each way in that was not open; the commands say the same in a line.
    logging.getLogger("azure.identity").setLevel(logging.CRITICAL)
    return ChainedTokenCredential(AzureCliCredential(), AzureDeveloperCliCredential())


class Arm:
    """Reads and writes resources by their paths.

    Every call raises what azure.core raises: ClientAuthenticationError (nobody is signed in), HttpResponseError,
    ServiceRequestError (no network).

    Parameters
    ----------
    credential
        Who asks.
    endpoint, ca
        Another address than Azure's own, and the file of the authority that its certificate is checked against.
    """

    def __init__(self, credential: "TokenCredential", endpoint: str = PUBLIC, ca: str | None = None) -> None:
        from azure.core.pipeline.policies import HeadersPolicy, RetryPolicy, UserAgentPolicy
        from azure.mgmt.core import ARMPipelineClient
        from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy

        self._credential = credential
        self._endpoint = endpoint
        self._scope = f"{PUBLIC}/.default"
        self._options: dict[str, Any] = {} if ca is None else {"connection_verify": ca}
        self._client: ARMPipelineClient[Any, Any] = ARMPipelineClient(
            endpoint,
            policies=[
                HeadersPolicy({"Accept": "application/json"}),
                UserAgentPolicy("gpulaunch"),
                # Throttling is waited out as Azure says (Retry-After); five tries bridge a minute.
                RetryPolicy(retry_total=5),
                ARMChallengeAuthenticationPolicy(credential, self._scope),
            ],
            **self._options,
        )

    def get(self, path: str, version: str) -> Any:
        """A resource or an answer; None: there is none."""
        return self._send("GET", path, version)

    def every(self, path: str, version: str) -> Iterator[Any]:
        """All items of a list, page after page."""
        page = self._send("GET", path, version)
        while page is not None:
            yield from page.get("value", [])
            following = page.get("nextLink")
            page = self._send("GET", following, "") if following else None

    def put(self, path: str, version: str, body: object) -> Any:
        """Make or change a resource."""
        return self._send("PUT", path, version, body)

    def post(self, path: str, version: str) -> Any:
        """Do something to a resource."""
        return self._send("POST", path, version)

    def compute(self, subscription: str) -> "ComputeManagementClient":
        """Microsoft's client for machines, with the same sign-in."""
        from azure.mgmt.compute import ComputeManagementClient

        return ComputeManagementClient(
            self._credential,
            subscription,
            base_url=self._endpoint,
            credential_scopes=[self._scope],
            **self._options,
        )

    def _send(self, method: str, path: str, version: str, body: object = None) -> Any:
        from azure.core.exceptions import HttpResponseError
        from azure.core.rest import HttpRequest

        address = path if path.startswith("http") else self._endpoint + path
        request = HttpRequest(method, address, params={"api-version": version} if version else None, json=body)
        response = self._client.send_request(request)
        if method == "GET" and response.status_code == 404:
            return None
        if response.status_code >= 400:
            raise HttpResponseError(response=response)
        return response.json() if response.content else None
