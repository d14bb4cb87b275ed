"""How long things may take and how often they are tried. Every number says why."""

from dataclasses import dataclass

from gpulaunch.models.instances import Phase


@dataclass(frozen=True)
class Timeouts:
    """Time limits in seconds and counts; the defaults are for real clouds."""

    submit_lease: float = 90.0
    """While it lasts only the step that claimed it may submit. Longer than the longest submit: an API server that is
    starting (5 s), a 30 s HTTP time-out and one retry; short, since a crash in between costs this much."""
    submit: float = 65.0
    """The longest submit of SkyPilot's: its health in 3 s, four answers of 10 s and one result of 20 s."""
    provisioning: float = 1500.0
    """Azure answers within 10 minutes or not at all; SkyPilot's set-up of a machine adds up to 5; the rest is slack for
    a queue in the API server. A request that hangs longer never came back in anybody's report."""
    installing: float = 1800.0
    """vLLM with its CUDA wheels is 8 GB; at 10 MB/s from PyPI that is 14 minutes."""
    loading_model: float = 5400.0
    """70B in bfloat16 is 140 GB; at 50 MB/s that is 47 minutes, doubled for a slow start."""
    starting_server: float = 1800.0
    """Loading 140 GB of weights from a cloud disk at 200 MB/s takes 12 minutes; compiling CUDA graphs up to 5 more."""
    registering: float = 300.0
    """The server answers its own node already; five minutes are for the address to become reachable."""
    unhealthy_after: int = 3
    """Failed probes in a row before a node is given up: one may be a network hiccup, two a long garbage collection."""
    poll_min: float = 3.0
    """Between two looks at an attempt: the first changes come within seconds."""
    poll_max: float = 15.0
    """Later looks may be further apart: nobody notices 15 s in 10 minutes, and every look costs a call."""
    reporting_poll: float = 30.0
    """While the node tells of its changes by itself, a look only finds that it is gone: as often as a sweep would."""
    registering_poll: float = 1.0
    """The node serves; only its reachability is awaited, and the user waits for it."""
    unanswered_poll: float = 15.0
    """After a provider that did not answer: it needs time, not more questions."""
    release_poll_max: float = 30.0
    """Between two calls for a teardown that takes its time; at worst half a minute more is paid than needed."""
    release_alert: float = 600.0
    """A teardown takes seconds (Kubernetes, Slurm) to five minutes (Azure's group deletion); twice that is too long."""
    same_offer: int = 3
    """Tries of one offer in a row that fails for reasons of its surroundings, such as a port in use: a third failure
    is no accident any more, and each may have cost a set-up and a model's download."""
    poisoned: int = 2
    """Messages of one step, each tried five times, that may be given up and are sent again: hosts that are killed, or
    storage that is away, use up the tries of a step that has no fault. A third one is the step's own."""
    max_attempts: int = 12
    """Bounds what a launch can burn on a model that fails everywhere."""
    max_recoveries: int = 5
    """A node lost six times in one lifetime will be lost again; its owner has to know."""

    @property
    def allowed(self) -> dict[Phase, float]:
        """Seconds that each phase on the way up may take."""
        return {
            Phase.PROVISIONING: self.provisioning,
            Phase.INSTALLING: self.installing,
            Phase.LOADING_MODEL: self.loading_model,
            Phase.STARTING_SERVER: self.starting_server,
            Phase.REGISTERING: self.registering,
        }

    def poll(self, elapsed: float) -> float:
        """Seconds until the next look at something that began `elapsed` seconds ago."""
        return min(self.poll_max, max(self.poll_min, elapsed / 12))
