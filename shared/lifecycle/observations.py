"""What the shell may be asked to do for one step, and what it can find."""

from dataclasses import dataclass
from datetime import datetime

from shared.domain.instance import Failure
from shared.domain.node import NodeNotice, NodeRegistration, NodeStatus
from shared.domain.provider import Availability, NodeView, Probe

# What to do.


@dataclass(frozen=True)
class Nothing:
    """No step is due: an ended record, or a message that came too early."""


@dataclass(frozen=True)
class Decide:
    """Nothing has to be looked at; time alone decides."""


@dataclass(frozen=True)
class Check:
    """Ask whether the provider can be used."""


@dataclass(frozen=True)
class Submit:
    """Submit the latest attempt."""


@dataclass(frozen=True)
class Describe:
    """Look at the latest attempt."""


@dataclass(frozen=True)
class Release:
    """Take the latest attempt's node away."""


Act = Nothing | Decide | Check | Submit | Describe | Release

# What was found.


@dataclass(frozen=True)
class TimerFired:
    """Time passed."""


@dataclass(frozen=True)
class Checked:
    """The provider can or can't be used."""

    availability: Availability


@dataclass(frozen=True)
class Submitted:
    """The provider took the attempt."""

    request_id: str | None


@dataclass(frozen=True)
class LaunchRefused:
    """The provider won't start this attempt."""

    failure: Failure


@dataclass(frozen=True)
class NotEnabled:
    """The provider can't be used as things are set up."""

    message: str


@dataclass(frozen=True)
class ProviderUnavailable:
    """The provider did not answer; nothing is known."""

    message: str


@dataclass(frozen=True)
class Observed:
    """One look at the latest attempt: through the provider and, where that was possible, at the node itself."""

    view: NodeView
    status: NodeStatus | None = None
    probe: Probe | None = None


@dataclass(frozen=True)
class Released:
    """The answer to a release."""

    gone: bool
    asked_at: datetime | None = None
    """When it was asked for; None: at the very moment of the decision."""


@dataclass(frozen=True)
class Probed:
    """A health probe of a ready node; with what the provider says when the node did not answer."""

    probe: Probe
    view: NodeView | None = None


@dataclass(frozen=True)
class Reported:
    """The node of one attempt told us how it stands."""

    attempt: int
    status: NodeStatus


@dataclass(frozen=True)
class Registered:
    """The node of one attempt serves."""

    attempt: int
    registration: NodeRegistration


@dataclass(frozen=True)
class Noticed:
    """The node of one attempt expects to go away."""

    attempt: int
    notice: NodeNotice
    leaves_at: datetime | None


@dataclass(frozen=True)
class TerminationRequested:
    """Somebody, or something, wants the instance ended: the user, or a budget that is used up."""

    failure: Failure


@dataclass(frozen=True)
class Poisoned:
    """The host gave a step's message up: the step failed each time, or its process was killed."""

    epoch: int
    """The message's."""


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
    | Noticed
    | TerminationRequested
    | Poisoned
)
