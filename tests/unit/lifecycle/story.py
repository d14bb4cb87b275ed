"""One instance led through observations at chosen times, and the ways to the states that tests begin in."""

from datetime import datetime, timedelta
from typing import Any

from gpulaunch.models.instances import EventType, Phase, Reason
from gpulaunch.models.offers import Offer
from shared.domain.instance import Attempt, Event, Failure
from shared.domain.node import JobResult, NodeNotice, NodePhase, NodeRegistration, NodeStatus
from shared.domain.provider import Availability, NodeState, NodeView, Probe
from shared.lifecycle.acceptance import accept
from shared.lifecycle.machine import decide, next_act
from shared.lifecycle.observations import (
    Act,
    Checked,
    LaunchRefused,
    Noticed,
    Observation,
    Observed,
    Probed,
    Registered,
    Released,
    Reported,
    Submitted,
    TerminationRequested,
    TimerFired,
)
from shared.lifecycle.timeouts import Timeouts
from shared.lifecycle.transition import Decision
from tests.twins.clock import START
from tests.twins.factories import make_instance_id, make_offer, make_request

SPOT = make_offer()
WEST = make_offer(region="westus", price_per_hour=0.7)
ON_DEMAND = make_offer(use_spot=False, price_per_hour=3.2)
OFFERS = (SPOT, WEST, ON_DEMAND)
LIMITS = Timeouts()

TICK = TimerFired()
ENABLED = Checked(Availability(enabled=True, reason="SkyPilot's azure is enabled."))
TAKEN = Submitted("req-1")
GONE = Released(gone=True)
STILL_THERE = Released(gone=False)
IDLE = Probe(alive=True, running_requests=0, waiting_requests=0, finished_requests=0)
DEAD = Probe(alive=False, message="no answer in time")
USER = TerminationRequested(Failure(reason=Reason.USER_REQUEST, message="Terminated by a user."))


def failure(reason: Reason, message: str = "it did not work") -> Failure:
    return Failure(reason=reason, message=message)


def refused(reason: Reason) -> LaunchRefused:
    return LaunchRefused(failure(reason))


def looked(state: NodeState, phase: NodePhase | None = None, *, probe: Probe | None = None, **view: Any) -> Observed:
    """A look through the provider and, with `phase`, at a node that says so much."""
    status = None if phase is None else NodeStatus(phase=phase)
    return Observed(NodeView(state=state, **view), status, probe)


def reported(phase: NodePhase, attempt: int = 1, **status: Any) -> Reported:
    return Reported(attempt, NodeStatus(phase=phase, **status))


def completed(code: int = 0, attempt: int = 1) -> Reported:
    return reported(NodePhase.SERVING, attempt, job=JobResult(exit_code=code))


def registered(attempt: int = 1, **registration: Any) -> Registered:
    return Registered(attempt, NodeRegistration.model_validate({"port": 8000, **registration}))


def noticed(notice: NodeNotice = NodeNotice.EVICTION, attempt: int = 1, leaves_at: datetime | None = START) -> Noticed:
    """Of a machine that goes at once, unless told otherwise."""
    return Noticed(attempt, notice, leaves_at)


def probed(probe: Probe = DEAD, state: NodeState | None = None, detail: str = "") -> Probed:
    return Probed(probe, None if state is None else NodeView(state=state, detail=detail))


class Story:
    """An instance and the time; every observation is decided on and taken over."""

    def __init__(
        self, *, offers: tuple[Offer, ...] = OFFERS, lifetime: int = 720, timeouts: Timeouts = LIMITS, **request: Any
    ) -> None:
        self.now = START
        self.timeouts = timeouts
        self.record, events = accept(
            make_request(**request),
            instance_id=make_instance_id(),
            now=START,
            offers=offers,
            mode="real",
            mode_reason="SkyPilot's azure is enabled.",
            lifetime_minutes=lifetime,
            estimated_hourly_usd=0.64,
            worst_case_usd=38.4,
        )
        self.events = list(events)

    def wait(self, seconds: float) -> "Story":
        self.now += timedelta(seconds=seconds)
        return self

    def decide(self, found: Observation) -> Decision:
        """What would follow, without taking it over."""
        return decide(self.record, found, self.now, self.timeouts)

    def see(self, found: Observation) -> Decision:
        decision = self.decide(found)
        self.record = decision.record
        self.events.extend(decision.events)
        return decision

    def tell(self, *observations: Observation) -> "Story":
        """Several observations, each of which has to change something."""
        for found in observations:
            assert self.see(found).changed, found
        return self

    def act(self, *, claimed: bool = False) -> Act:
        return next_act(self.record, self.now, claimed=claimed)

    @property
    def phase(self) -> Phase:
        return self.record.phase

    @property
    def attempt(self) -> Attempt:
        return self.record.attempts[-1]

    def of(self, kind: EventType) -> list[Event]:
        return [event for event in self.events if event.type is kind]

    @property
    def reasons(self) -> list[Reason | None]:
        return [event.reason for event in self.of(EventType.ATTEMPT_FAILED)]

    @property
    def ending(self) -> Reason | None:
        return self.record.ending.reason if self.record.ending else None


def validating(**given: Any) -> Story:
    return Story(**given).tell(TICK)


def submitting(**given: Any) -> Story:
    """The first attempt is written down and its lease taken, nothing else."""
    return validating(**given).tell(ENABLED)


def submitted(**given: Any) -> Story:
    return submitting(**given).tell(TAKEN)


_PHASES = {
    Phase.INSTALLING: NodePhase.INSTALLING,
    Phase.LOADING_MODEL: NodePhase.LOADING_MODEL,
    Phase.STARTING_SERVER: NodePhase.STARTING_SERVER,
    Phase.REGISTERING: NodePhase.SERVING,
}


def node_in(phase: Phase, **given: Any) -> Story:
    """A node was seen in that phase just now."""
    return submitted(**given).tell(looked(NodeState.UP, _PHASES[phase], address="10.0.0.4"))


def ready(**given: Any) -> Story:
    return submitted(**given).tell(looked(NodeState.UP, NodePhase.SERVING, address="10.0.0.4", probe=IDLE))


def recovering(**given: Any) -> Story:
    return ready(**given).tell(noticed())


def releasing(**given: Any) -> Story:
    """In provisioning, the first attempt failed and is being taken away."""
    return submitted(**given).tell(looked(NodeState.PENDING, failure=failure(Reason.NO_CAPACITY)))


def terminating(**given: Any) -> Story:
    return ready(**given).tell(USER)


def terminated(**given: Any) -> Story:
    return terminating(**given).tell(GONE)


def in_phase(phase: Phase, **given: Any) -> Story:
    """A story that stands in that phase."""
    if phase in _PHASES:
        return node_in(phase, **given)
    if phase is Phase.FAILED:
        return submitted(**given).tell(looked(NodeState.UP, failure=failure(Reason.INVALID_TASK)), GONE)
    ways = {
        Phase.QUEUED: Story,
        Phase.VALIDATING: validating,
        Phase.PROVISIONING: submitted,
        Phase.READY: ready,
        Phase.RECOVERING: recovering,
        Phase.TERMINATING: terminating,
        Phase.TERMINATED: terminated,
    }
    return ways[phase](**given)


LIVE = [phase for phase in Phase if not phase.ended]
ON_NODE = list(_PHASES)
"""Phases in which a node is on its way up."""
