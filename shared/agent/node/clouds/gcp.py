"""GCP: preemption; an instance deletes itself as its service account, or else shuts down, which keeps the disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from shared.agent.node.clouds.base import SUCCESS, CloudNode, Interruption, MetadataService, Run, shut_down
from shared.agent.node.transport import Http

COMPUTE = "https://compute.googleapis.com/compute/v1"


class GcpNode(CloudNode):
    is_virtual_machine = True

    def __init__(self, metadata: MetadataService, transport: Http, run: Run) -> None:
        self._metadata, self._http, self._run = metadata, transport, run

    def _ask(self, path: str) -> tuple[int, str]:
        return self._metadata.ask(f"/computeMetadata/v1/{path}", {"Metadata-Flavor": "Google"})

    def interruption(self) -> Interruption | None:
        """The notice 30 seconds before the machine stops."""
        status, text = self._ask("instance/preempted")
        return Interruption(30.0) if status == 200 and text.strip() == "TRUE" else None

    def endings(self) -> Sequence[Callable[[], bool]]:
        return [self.delete, self.shut_down]

    def delete(self) -> bool:
        token = json.loads(self._ask("instance/service-accounts/default/token")[1])["access_token"]
        zone = self._ask("instance/zone")[1].rpartition("/")[2]
        project, name = self._ask("project/project-id")[1], self._ask("instance/name")[1]
        url = f"{COMPUTE}/projects/{project}/zones/{zone}/instances/{name}"
        return self._http.json("DELETE", url, {"Authorization": f"Bearer {token}"}).status in SUCCESS

    def shut_down(self) -> bool:
        return shut_down(self._run)
