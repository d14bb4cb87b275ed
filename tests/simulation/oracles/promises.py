"""The oracles' own numbers, from what the documentation promises and what the simulator sets; none is imported.

Bounds hold in the calm, when nothing goes wrong any more, and count from its beginning for what began before.
"""

from tests.simulation.oracles.facts import ENDED, World

SLACK = 60.0
"""What a sweep, a queue and a slow call that began in the faults may add."""

# docs/internals/lifecycle.md, "Timeouts", with the shorter phases that the simulator sets.
PHASES = {"provisioning": 240.0, "installing": 240.0, "loading_model": 300.0, "starting_server": 240.0}
"""Seconds that a phase before the last one may take."""
REGISTERING = 120.0
TIMEOUTS = {
    "provisioning_timeout": PHASES["provisioning"],
    "install_timeout": PHASES["installing"],
    "model_timeout": PHASES["loading_model"],
    "server_timeout": PHASES["starting_server"],
    "registration_timeout": REGISTERING,
}
"""Seconds of a phase after which a node may be given up for that reason."""
SUBMIT_LEASE = 90.0
FAILED_PROBES = 3
SAME_OFFER = 3
"""Tries in a row of one offer, where the failure has nothing to do with the offer."""
LATER = frozenset({"gpu_on_fire"})
"""Reasons that only a later version knows."""
SAME_OFFER_REASONS = frozenset({"port_taken", "provider_unavailable"})
HOPELESS = frozenset({"invalid_task", "install_failed", "model_fetch_failed", "server_failed"})
"""Another attempt would fail as well (docs/internals/lifecycle.md, "Reasons")."""
_ON_A_NODE = ("installing", "loading_model", "starting_server", "registering")
FOLLOWED_BY = {
    "queued": ("validating", "terminating"),
    "validating": ("provisioning", "terminating"),
    "provisioning": (*_ON_A_NODE, "terminating"),
    "installing": (*_ON_A_NODE[1:], "provisioning", "terminating"),
    "loading_model": (*_ON_A_NODE[2:], "provisioning", "terminating"),
    "starting_server": ("registering", "provisioning", "terminating"),
    "registering": ("ready", "provisioning", "terminating"),
    "ready": ("recovering", "terminating"),
    "recovering": ("provisioning", "terminating"),
    "terminating": ENDED,
    "terminated": (),
    "failed": (),
}
"""docs/internals/lifecycle.md, "Phases"."""
EARLY = 1.0
"""Seconds by which a message may come before its step is due: queues count in whole ones."""
DEFAULT_LIFETIME_MINUTES = 720
"""docs/settings.md: GPULAUNCH_DEFAULT_LIFETIME_MINUTES."""

# README and docs/internals/lifecycle.md, "Release and termination".
TEARDOWN = 300.0
"""A teardown takes seconds to five minutes, SkyPilot's own part; calls to it are repeated every 30 s at the latest."""
TEARDOWN_IN_AZURE = 420.0
"""Azure takes up to four minutes more for a group, and a deletion that did not succeed is tried again."""

# docs/alerts.md
RELEASE_ALERT = 150.0
"""Ten minutes in life; what the simulator sets."""
ALERT_AGAIN = 4 * 3600.0
STAYING = 15 * 60.0
UNLABELLED = 30 * 60.0
THRESHOLDS = (50, 80, 100)

# docs/deployments.md, "What is deleted as garbage"
UNSEEN = 1200.0
"""A node without a record: marked five minutes after its creation, deleted five minutes later, by passes two minutes
apart that may take a minute; what waits for a person is reported by then."""

# docs/costs.md
SWEEPS_LATE = 2
"""A lifetime, a budget and an idle time are enforced by the next sweep, which sends lost messages again, too; the one
that is under way when they are due has passed by."""
USD_PER_HOUR = {True: 0.80, False: 3.20}
"""What the simulated cloud asks for its one machine type, Standard_NV36ads_A10_v5, by whether it is spot."""
CREATION_KNOWN = 120.0
"""Azure's listing is at most 20 s old and a starting node is polled every 30 s: by then its creation is known."""

# docs/README and the API's description: Idempotency-Key
KEY_KEPT_DAYS = 7
KEY_EXPIRY_LATE = 2 * 3600.0
"""Expired keys go once an hour."""

# docs/endpoints.md
SURGE = 1
"""Replicas beyond those asked for, while others are replaced."""
FAILED_STARTS = 3
"""In a row, of a generation that has never served, before it is stopped."""
LONGEST_PAUSE = 900.0
"""Between two starts after failed ones."""
KEY_REVOKED = 30.0
"""After which no gateway that reads the table takes a key that is revoked."""
SEEN_IN_USE = 100.0
"""Of two probes, every 30 s: after which the program knows that a node is used by its own address."""
HOLD, HOLD_STREAM = 200.0, 600.0
"""For which a request waits for a node at most."""
CIRCUIT = 120.0
"""For which a node rests at most that has failed."""
NODES_TRIED = 3


def late(world: World) -> float:
    """Seconds within which the sweep notices what is due, and its step is done."""
    return SWEEPS_LATE * world.terms.sweep_seconds + SLACK


def teardown(world: World) -> float:
    """Seconds in which what is to be deleted is deleted; a submission's lease has to be over before."""
    azure = TEARDOWN_IN_AZURE if world.terms.asks_azure else 0.0
    return TEARDOWN + azure + SUBMIT_LEASE + late(world)


def unseen(world: World) -> float:
    """Seconds in which the garbage collection has deleted or reported what no record knows."""
    azure = TEARDOWN_IN_AZURE if world.terms.asks_azure else 0.0
    passes = 4 * max(0.0, world.terms.sweep_seconds - 30.0)
    return UNSEEN + azure + passes


def start(world: World) -> float:
    """Seconds in which a replica that is missing serves: a pause after a failed start, and all that one may take."""
    return LONGEST_PAUSE + SUBMIT_LEASE + sum(PHASES.values()) + REGISTERING + teardown(world) + 2 * late(world)
