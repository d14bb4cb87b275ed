"""Time limits and retry counts, each with its reason."""

from dataclasses import dataclass, replace

from gpulaunch.models.instances import Phase
from shared.domain.instance import OFFERS_PER_ROUND


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """Time limits in seconds, and counts. The defaults are for real clouds."""

    submit_lease: float = 150.0
    """Only the step that claimed it may submit meanwhile. Longer than the longest submission (a starting API server, 5
    s, a 30 s HTTP timeout and one retry) by the minute that the clocks of two workers may be apart. Short, since a
    crash in between costs this much time."""
    submit: float = 65.0
    """The time that all calls of a submission to SkyPilot have together, whatever the server does: health check 3 s,
    four answers of 10 s, one result of 20 s. The launch itself begins only while there are 10 s left."""
    provisioning: float = 1500.0
    """Azure answers within 10 minutes or not at all; SkyPilot's set-up of a machine adds up to 5; the rest is slack for
    a queue in the API server. No report is known of a longer request that ever returned."""
    installing: float = 1800.0
    """vLLM with its CUDA wheels is 8 GB; at 10 MB/s from PyPI that is 14 minutes."""
    loading_model: float = 5400.0
    """70B in bfloat16 is 140 GB; at 50 MB/s that is 47 minutes, doubled for a slow start."""
    starting_server: float = 1800.0
    """Loading 140 GB of weights from a cloud disk at 200 MB/s takes 12 minutes; compiling CUDA graphs up to 5 more."""
    registering: float = 300.0
    """The server already answers on its own node; this is for the address to become reachable."""
    unhealthy_after: int = 3
    """Failed probes in a row before a node is given up: one may be a network hiccup, two a long garbage collection."""
    heard_every: float = 180.0
    """How often it is written down that a node's agent was heard: it is, each minute, and a write costs money."""
    heard_lately: float = 300.0
    """A node that was written down as heard so lately is alive: two beats more than `heard_every`."""
    silent: float = 600.0
    """Without a word from a node's agent, for at least seven minutes, another machine may have its address."""
    silence_observed: float = 120.0
    """How long probes have to find that before the node is given up: after an outage of the app, agents are back within
    the 30 s between two of their tries, or the two minutes that a server may ask them to wait."""
    silence_vouched: float = 1800.0
    """The same while the provider says that the machine runs: what answers is the node, but without an agent it sees no
    interruption, ends no job and keeps no deadline. If the agent is only cut off, its lease ends it before."""
    stalled: float = 600.0
    """A busy vLLM reads or writes a token every few milliseconds; the longest step, a prefill of a million tokens,
    takes minutes."""
    first_report: float = 600.0
    """An agent reports in its first second, within a minute after SkyPilot calls its node up."""
    flapping_quiet: float = 900.0
    """Between two events of a node that keeps failing and coming back: at most eight an hour, whatever it does."""
    poll_min: float = 3.0
    """Shortest interval between polls of an attempt: the first changes come within seconds."""
    poll_max: float = 15.0
    """Longest interval: 15 s in 10 minutes go unnoticed, and every poll costs a call."""
    reporting_poll: float = 30.0
    """Interval while the node reports by itself: a poll only detects its loss, as often as a sweep would."""
    registering_poll: float = 1.0
    """The server is up and only its reachability is missing; the user is waiting."""
    unanswered_poll: float = 15.0
    """After a provider did not answer: it needs time, not more requests."""
    release_poll_max: float = 30.0
    """Longest interval between release calls; at worst half a minute is paid in vain."""
    release_alert: float = 600.0
    """A teardown takes seconds (Kubernetes, Slurm) to five minutes (Azure's group deletion); twice that is too long."""
    release_alert_again: float = 14400.0
    """While it lasts: a node that burns money is worth a reminder every few hours, also to the next shift."""
    same_offer: int = 3
    """Tries in a row of an offer that fails for unrelated reasons, such as a port in use: a third failure is not an
    accident, and each may have cost a set-up and a model's download."""
    poisoned: int = 2
    """Messages of one step, each tried five times, that may be given up and sent again: killed hosts or unavailable
    storage use up the tries of a healthy step. The third one is the step's own fault."""
    max_attempts: int = OFFERS_PER_ROUND
    """Offers tried in one round, a plan's number: a recovery begins a new round, and another try of the same offer does
    not count, so that every planned offer has its turn."""
    max_recoveries: int = 5
    """A node lost six times in one lifetime will be lost again, and its owner has to know."""

    def with_lease(self, seconds: float) -> "Timeouts":
        """The same where nodes beat as their lease has it: one is silent after two thirds of it at the earliest."""
        return replace(self, silent=max(self.silent, seconds * 2 / 3))

    @property
    def allowed(self) -> dict[Phase, float]:
        """Time limit of each phase before ready, in seconds."""
        return {
            Phase.PROVISIONING: self.provisioning,
            Phase.INSTALLING: self.installing,
            Phase.LOADING_MODEL: self.loading_model,
            Phase.STARTING_SERVER: self.starting_server,
            Phase.REGISTERING: self.registering,
        }

    def poll(self, elapsed: float) -> float:
        """Return the seconds until the next poll of something that began `elapsed` seconds ago."""
        return min(self.poll_max, max(self.poll_min, elapsed / 12))
