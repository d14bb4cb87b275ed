"""What is stored about how an endpoint scales: what is asked for, and what its scaler remembers between decisions."""

from gpulaunch.models.base import Kept, UtcTime


class Scaling(Kept):
    """The bounds within which an endpoint's number of replicas follows its load."""

    min_replicas: int
    max_replicas: int
    preset: str
    """`thrifty`, `balanced`, `quick`, or the name of a later version's, which is read as `balanced`."""
    target_concurrency: int | None = None
    """Requests that a replica is to work on at once; None: 0.7 of its vLLM's `--max-num-seqs`."""


class Peak(Kept):
    """A number of replicas that was called for, and until when."""

    replicas: int
    until: UtcTime | None = None
    """None: it still is."""


class ScalerState(Kept):
    """What the scaler remembers. It changes when decisions do, not with each look, so an endpoint at rest costs no
    writes; and it is in the endpoint's row, so a restart decides as if there had been none."""

    service_seconds: float | None = None
    """How long a request takes on a replica that is not crowded."""
    first_at: UtcTime | None = None
    """When the first request was seen."""
    steady: list[Peak] = []
    """What the load has called for lately: descending, the last one now."""
    planned: list[Peak] = []
    """What the requests that waited have called for lately: descending, the last one now."""
    releasable: int = 0
    """How many starts that are no longer needed may be given up."""
