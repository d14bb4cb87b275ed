"""Azure: Scheduled Events; a VM deletes its own resource group, or deallocates itself.

The VM's managed identity asks for both. A resource group that is not the cluster's own is never deleted: other machines
may be in it. Deallocation ends the cost of the compute and keeps the disk's.
"""

from __future__ import annotations

import email.utils
import json
import urllib.parse
from collections.abc import Callable, Sequence
from typing import Any

from shared.agent.node.clock import NodeClock
from shared.agent.node.clouds.base import SUCCESS, CloudNode, Interruption, MetadataService
from shared.agent.node.config import Config
from shared.agent.node.log import Log
from shared.agent.node.transport import Http

HEADERS = {"Metadata": "true"}
COMPUTE = "/metadata/instance/compute?api-version=2021-02-01"


class AzureNode(CloudNode):
    is_virtual_machine = True

    def __init__(self, config: Config, metadata: MetadataService, transport: Http, clock: NodeClock, log: Log) -> None:
        self._cluster, self._management_url = config.cluster, config.management_url
        self._metadata, self._http, self._clock, self._log = metadata, transport, clock, log

    def interruption(self) -> Interruption | None:
        """A Preempt or Terminate event for this VM."""
        # The first call switches the service on, which may take two minutes.
        path = "/metadata/scheduledevents?api-version=2020-07-01"
        status, text = self._metadata.ask(path, HEADERS, timeout=120)
        events: list[dict[str, Any]] = json.loads(text).get("Events", []) if status == 200 else []
        for event in events:
            # In an availability set events of the other machines are shown as well.
            mine = not event.get("Resources") or self._name() in (None, *event["Resources"])
            if event.get("EventType") in ("Preempt", "Terminate") and mine:
                moment = email.utils.parsedate_to_datetime(event["NotBefore"]) if event.get("NotBefore") else None
                return Interruption(max(0.0, moment.timestamp() - self._clock.now()) if moment else None)
        return None

    def _name(self) -> str | None:
        status, text = self._metadata.ask(COMPUTE, HEADERS)
        return json.loads(text).get("name") if status == 200 else None

    def endings(self) -> Sequence[Callable[[], bool]]:
        return [self.delete_group, self.deallocate]

    def delete_group(self) -> bool:
        """Delete the resource group with everything in it, if it is the cluster's own."""
        compute = self._compute()
        # SkyPilot names a cluster's own group after it; a shared group holds other people's machines.
        if not self._cluster or not compute["resourceGroupName"].lower().startswith(f"{self._cluster}-".lower()):
            return False
        kinds = urllib.parse.quote("Microsoft.Compute/virtualMachines", safe="")
        return self._manage("DELETE", compute, f"?api-version=2021-04-01&forceDeletionTypes={kinds}")

    def deallocate(self) -> bool:
        compute = self._compute()
        machine = f"/providers/Microsoft.Compute/virtualMachines/{compute['name']}"
        return self._manage("POST", compute, f"{machine}/deallocate?api-version=2024-07-01")

    def _compute(self) -> dict[str, str]:
        return json.loads(self._metadata.ask(COMPUTE, HEADERS)[1])

    def _manage(self, method: str, compute: dict[str, str], path: str) -> bool:
        resource = urllib.parse.quote("https://management.azure.com/", safe="")
        token_path = f"/metadata/identity/oauth2/token?api-version=2018-02-01&resource={resource}"
        token = json.loads(self._metadata.ask(token_path, HEADERS)[1])["access_token"]
        group = f"/subscriptions/{compute['subscriptionId']}/resourceGroups/{compute['resourceGroupName']}"
        url = f"{self._management_url}{group}{path}"
        answer = self._http.json(method, url, {"Authorization": f"Bearer {token}", "Content-Length": "0"}, timeout=60)
        self._log(f"{method} {urllib.parse.urlsplit(url).path}: {answer.status}")
        return answer.status in SUCCESS or answer.status == 404
