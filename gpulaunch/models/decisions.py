"""What an endpoint's scaler has decided, and upon which figures."""

from gpulaunch.models.base import Answer, UtcTime


class ScalingDecision(Answer):
    """A change of an endpoint's number of replicas, with all that led to it."""

    at: UtcTime
    """When it was made."""
    before: int
    """How many replicas there were to be until then."""
    replicas: int
    """How many there were to be from then on."""
    reason: str
    """Why, in words."""
    ready: int
    """Replicas that served."""
    starting: int
    """Replicas on their way."""
    running: float
    """Requests that ran at once, as a mean of the last minute."""
    held: int
    """Requests that waited for a replica."""
    arrivals: dict[int, int]
    """Requests that came in the last 30, 60, 120 and 240 seconds."""
    service_seconds: float | None
    """How long a request took on a replica that was not crowded; null: none had ended yet."""
    start_seconds: float
    """How long a start was expected to take."""
    concurrency: float
    """Requests that a replica was to work on at once."""


class DecisionList(Answer):
    """The latest decisions about an endpoint's number of replicas."""

    decisions: list[ScalingDecision]
    """The last 100, latest first. Times at which the number stayed the same are left out."""
    replicas: int
    """How many replicas there are to be now."""
    reason: str
    """Why as many as now, in words; empty where their number is fixed and people decide."""
