"""What a step may do, and what it can observe."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from shared.domain.instance import Failure
from shared.domain.model import ModelFacts
from shared.domain.node import NodeNotice, NodeRegistration, NodeStatus
from shared.domain.provider import Availability, NodeView, Probe

# What to do.


@dataclass(frozen=True)
class Nothing:
    """No step is due: the record has ended, or the message came too early."""


@dataclass(frozen=True)
class Decide:
    """Decide by time alone, without observing anything."""


@dataclass(frozen=True)
class CheckProvider:
    """Check whether the provider can be used."""


@dataclass(frozen=True)
class Submit:
    """Submit the latest attempt."""


@dataclass(frozen=True)
class Describe:
    """Observe the latest attempt."""


@dataclass(frozen=True)
class Release:
    """Release the latest attempt's node."""


Act = Nothing | Decide | CheckProvider | Submit | Describe | Release

# What was found.


@dataclass(frozen=True)
class TimerFired:
    """Time has passed."""


@dataclass(frozen=True)
class Checked:
    availability: Availability
    model: ModelFacts | None = None
    """What was found of the model; None: nothing was inspected."""
    unfit: Mapping[str, str] = field(default_factory=dict[str, str])
    """Offers whose machines cannot serve it: reason by key."""
    advice: str = ""
    """What would fit, for people."""
    note: str = ""
    """What could not be inspected or is overridden, for people."""


@dataclass(frozen=True)
class Submitted:
    request_id: str | None


@dataclass(frozen=True)
class LaunchRefused:
    failure: Failure


@dataclass(frozen=True)
class NotEnabled:
    message: str


@dataclass(frozen=True)
class ProviderUnavailable:
    """The provider did not answer, so nothing is known."""

    message: str
    lost: bool = False
    """It answers, and has lost its records of the node: waiting for it may be in vain."""


@dataclass(frozen=True)
class Observed:
    """The latest attempt as the provider describes it, and the node's own report if it could be asked."""

    view: NodeView
    status: NodeStatus | None = None
    probe: Probe | None = None


@dataclass(frozen=True)
class Released:
    gone: bool
    asked_at: datetime | None = None
    """When the release was requested; None for the time of the decision."""
    created_at: datetime | None = None
    """When the cloud created the machine, by its own account; None: unknown."""
    never_launched: bool = False
    """The provider remembers neither a launch nor a node, and no release had anything to delete."""
    listed: bool = False
    """The provider's records had the node before."""


@dataclass(frozen=True)
class Probed:
    """A health probe of a ready node, with the provider's view if the node did not answer."""

    probe: Probe
    view: NodeView | None = None


@dataclass(frozen=True)
class Reported:
    attempt: int
    status: NodeStatus


@dataclass(frozen=True)
class Registered:
    """An attempt's node has registered: its server is up."""

    attempt: int
    registration: NodeRegistration


@dataclass(frozen=True)
class Heard:
    """An attempt's node has renewed its lease; only a serving one does so without a report."""

    attempt: int
    port: int | None = None
    """Where its server listens, as far as the settings say."""


@dataclass(frozen=True)
class Noticed:
    """An attempt's node is about to shut down."""

    attempt: int
    notice: NodeNotice
    leaves_at: datetime | None


@dataclass(frozen=True)
class TerminationRequested:
    """A request to terminate the instance: by a user, or because a month's budget is spent."""

    failure: Failure


@dataclass(frozen=True)
class StillReleasing:
    """The sweep found a release that takes too long."""


@dataclass(frozen=True)
class Poisoned:
    """The host gave up a step's message: the step failed every time, or its process was killed."""

    epoch: int
    """The epoch in the message."""
    message_id: str
    """The same when the message comes again, since storage did not delete it."""


Observation = (
    TimerFired
    | Checked
    | Submitted
    | LaunchRefused
    | NotEnabled
    | ProviderUnavailable
    | Observed
    | Released
    | Probed
    | Reported
    | Registered
    | Heard
    | Noticed
    | TerminationRequested
    | StillReleasing
    | Poisoned
)
