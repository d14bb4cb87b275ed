"""AWS: spot notices; an instance shuts itself down.

That stops the instance, or terminates it where it was launched so. A stopped one keeps its disk until the control
plane's garbage collection deletes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from shared.agent.node.clock import NodeClock, parse_time
from shared.agent.node.clouds.base import CloudNode, Interruption, MetadataService, Run, shut_down

NO_SESSION = ("", float("-inf"))


class AwsNode(CloudNode):
    is_virtual_machine = True

    def __init__(self, metadata: MetadataService, clock: NodeClock, run: Run) -> None:
        self._metadata, self._clock, self._run = metadata, clock, run
        self._session = NO_SESSION

    def interruption(self) -> Interruption | None:
        """The notice two minutes before a spot instance ends."""
        token, since = self._session
        if self._clock.ticks() - since > 3600:
            lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}
            _, token = self._metadata.ask("/latest/api/token", lifetime, "PUT")
            self._session = (token, self._clock.ticks())
        status, text = self._metadata.ask("/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token})
        if status == 401:
            self._session = NO_SESSION
        if status != 200:
            return None
        return Interruption(max(0.0, parse_time(json.loads(text)["time"]) - self._clock.now()))

    def endings(self) -> Sequence[Callable[[], bool]]:
        return [self.shut_down]

    def shut_down(self) -> bool:
        return shut_down(self._run)
