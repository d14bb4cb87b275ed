"""Azure's resource manager for one subscription: the calls that the program makes, with translated errors.

Throttling is obeyed without waiting: after a 429 nothing is asked until Azure's Retry-After is over, and calls
meanwhile fail at once. No call is repeated here: the next sweep or step repeats what failed.
Everything of azure is imported on first use; the app's start does not pay for it.
"""

import logging
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from shared.azure_transport import LOGIN, RESOURCE_MANAGER, bounded_transport
from shared.clock import Clock
from shared.domain.provider import ProviderUnavailableError
from shared.domain.quota import QuotaUsage

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.core.exceptions import HttpResponseError
    from azure.core.rest import HttpResponse
    from azure.mgmt.compute import ComputeManagementClient
    from azure.mgmt.compute.models import VirtualMachine

log = logging.getLogger("gpulaunch.azure")

_THROTTLED_SECONDS = 30.0
"""How long nothing is asked after a 429 without Retry-After: Azure's buckets fill up again within a minute."""
_GROUPS_VERSION = "2021-04-01"
_DELETE_VERSIONS: Mapping[str, str] = {
    "microsoft.compute/virtualmachines": "2024-11-01",
    "microsoft.compute/disks": "2024-03-02",
    "microsoft.managedidentity/userassignedidentities": "2023-01-31",
}
_NETWORK_VERSION = "2024-05-01"
_IN_USE = 409


class AzureClient:
    """The management calls. All raise ProviderUnavailableError, with a sentence that says what to do where one can.

    The credential is azure-identity's DefaultAzureCredential unless one is given. `endpoint` and `ca` name another
    address than Azure's own, and the file of the authority that its certificate is checked against.
    """

    def __init__(
        self,
        subscription_id: str,
        clock: Clock,
        *,
        credential: "TokenCredential | None" = None,
        endpoint: str | None = None,
        ca: str | None = None,
    ) -> None:
        self.subscription_id = subscription_id
        self._clock = clock
        self._credential = credential
        self._endpoint = endpoint
        self._ca = ca
        self._lock = threading.Lock()
        self._made: ComputeManagementClient | None = None
        self._not_before: datetime | None = None

    def close(self) -> None:
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made.close()

    def machines(self, *, status_only: bool) -> "Iterator[VirtualMachine]":
        """All machines of the subscription, page by page: whole, or with little but their state."""
        with self._errors("list the machines"):
            pages = self._client().virtual_machines.list_all(status_only="true" if status_only else None).by_page()
            # One page is one call: a throttled listing stops at the page where it was throttled.
            for page in pages:
                yield from page

    def groups(self) -> list[dict[str, Any]]:
        """All resource groups: id, name, location, tags, properties.provisioningState."""
        return self._pages("list the resource groups", "/resourcegroups", {"api-version": _GROUPS_VERSION})

    def group(self, name: str) -> dict[str, Any] | None:
        """One resource group; None when there is none of that name."""
        query = {"api-version": _GROUPS_VERSION}
        found = self._call("read a resource group", "GET", self._at(f"/resourcegroups/{name}"), query)
        return None if found is None else cast("dict[str, Any]", found.json())

    def resources_named(self, part: str) -> list[dict[str, Any]]:
        """All resources with that in their name: id, name, type, tags, createdTime."""
        query = {
            "api-version": _GROUPS_VERSION,
            "$filter": f"substringof('{part}', name)",
            "$expand": "createdTime",
        }
        return self._pages("list the resources", "/resources", query)

    def usage(self, region: str) -> list[QuotaUsage]:
        with self._errors(f"read the quota of {region}"):
            return [
                QuotaUsage(item.name.value, item.current_value, item.limit)
                for item in self._client().usage.list(region)
                if item.name.value
            ]

    def delete_group(self, name: str) -> None:
        """Begin to delete a resource group and all in it; its machines at once, without a shutdown of their own."""
        # A machine that is asked to shut down first takes minutes longer, and everything on it is lost anyway.
        query = {"api-version": _GROUPS_VERSION, "forceDeletionTypes": "Microsoft.Compute/virtualMachines"}
        self._call("delete a resource group", "DELETE", self._at(f"/resourcegroups/{name}"), query)

    def delete(self, resource_id: str, kind: str) -> bool:
        """Begin to delete a resource; False when another one still needs it."""
        version = _DELETE_VERSIONS.get(kind.casefold(), _NETWORK_VERSION)
        try:
            self._call("delete a resource", "DELETE", f"{{endpoint}}{resource_id}", {"api-version": version})
        except _StillNeededError as error:
            log.info("%s is not deleted yet: %s", resource_id, error)
            return False
        return True

    def _at(self, path: str) -> str:
        return f"{{endpoint}}/subscriptions/{self.subscription_id}{path}"

    def _pages(self, what: str, path: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        url, params = self._at(path), dict(query)
        while True:
            answer = self._call(what, "GET", url, params)
            body = cast("dict[str, Any]", answer.json()) if answer is not None else {}
            found += body.get("value", [])
            url, params = body.get("nextLink") or "", {}
            if not url:
                return found

    def _call(self, what: str, method: str, url: str, query: Mapping[str, str]) -> "HttpResponse | None":
        """One call; None when there is no such thing."""
        from azure.core.exceptions import HttpResponseError
        from azure.core.rest import HttpRequest

        with self._errors(what):
            response = self._client().send_request(HttpRequest(method, url, params=query or None))
            if response.status_code == 404:
                return None
            if response.status_code >= 400:
                raise HttpResponseError(response=response)
            return response

    def _client(self) -> "ComputeManagementClient":
        with self._lock:
            if self._not_before is not None and self._clock.now() < self._not_before:
                message = f"Azure throttles us; the next call is allowed at {self._not_before:%H:%M:%S} UTC"
                raise ProviderUnavailableError(message)
            if self._made is None:
                self._made = self._make()
            return self._made

    def _make(self) -> "ComputeManagementClient":
        from azure.mgmt.compute import ComputeManagementClient

        if self._credential is None:
            from azure.identity import DefaultAzureCredential

            self._credential = DefaultAzureCredential(transport=bounded_transport(LOGIN))
        options: dict[str, Any] = {} if self._ca is None else {"connection_verify": self._ca}
        return ComputeManagementClient(
            self._credential,
            self.subscription_id,
            self._endpoint,
            retry_total=0,
            transport=bounded_transport(RESOURCE_MANAGER, **options),
        )

    @contextmanager
    def _errors(self, what: str) -> Generator[None]:
        from azure.core.exceptions import AzureError, HttpResponseError

        try:
            yield
        except HttpResponseError as error:
            raise self._refused(what, error) from error
        except AzureError as error:
            raise ProviderUnavailableError(f"Azure did not answer when asked to {what}: {_brief(error)}") from error

    def _refused(self, what: str, error: "HttpResponseError") -> ProviderUnavailableError:
        status = error.status_code
        if status == 429:
            wait = _seconds(error)
            with self._lock:
                self._not_before = self._clock.now() + timedelta(seconds=wait)
            return ProviderUnavailableError(f"Azure throttles us and asks for {wait:.0f} s without calls")
        if error.response is None:
            # No token could be had: the resource manager was not even asked.
            return ProviderUnavailableError(f"No login to Azure works here: {_brief(error)}")
        if status in (401, 403):
            return ProviderUnavailableError(
                f"Azure does not allow us to {what}: {_brief(error)}. The app's identity needs the role of infra/ "
                f"(gpulaunch watcher) on subscription {self.subscription_id}, or Reader, and Contributor to delete"
            )
        if status == _IN_USE or (status == 400 and "InUse" in _brief(error)) or "CannotBeDeleted" in _brief(error):
            return _StillNeededError(f"Azure cannot {what} yet: {_brief(error)}")
        return ProviderUnavailableError(f"Azure answered {status} when asked to {what}: {_brief(error)}")


class _StillNeededError(ProviderUnavailableError):
    """Not now: another resource needs it, or it is being worked on."""


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _seconds(error: "HttpResponseError") -> float:
    said: Mapping[str, str] = getattr(error.response, "headers", {})
    try:
        return max(1.0, float(said.get("Retry-After", _THROTTLED_SECONDS)))
    except ValueError:
        return _THROTTLED_SECONDS
