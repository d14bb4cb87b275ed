"""The lifecycle's two questions, asked at the present time."""

from dataclasses import dataclass, field

from shared.clock import Clock
from shared.domain.instance import InstanceRecord
from shared.lifecycle import machine
from shared.lifecycle.observations import Act, Observation
from shared.lifecycle.provision import in_time_to_submit
from shared.lifecycle.timeouts import Timeouts
from shared.lifecycle.transition import Decision


@dataclass(frozen=True)
class Lifecycle:
    """The pure lifecycle with a clock and the deployment's timeouts."""

    clock: Clock
    timeouts: Timeouts = field(default_factory=Timeouts)

    def next_act(self, record: InstanceRecord, *, claimed: bool) -> Act:
        """What to do for an instance whose step message came; `claimed`: this step wrote the submit lease."""
        return machine.next_act(record, self.clock.now(), claimed=claimed)

    def decide(self, record: InstanceRecord, observed: Observation) -> Decision:
        """What follows from an observation."""
        return machine.decide(record, observed, self.clock.now(), self.timeouts)

    def in_time_to_submit(self, record: InstanceRecord) -> bool:
        """Whether a submission that begins now is over before its lease."""
        return in_time_to_submit(record, self.clock.now(), self.timeouts)
