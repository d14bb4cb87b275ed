"""What goes wrong, how often, and the one place where an I/O operation meets it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime
from random import Random
from typing import TypeVar

from azure.core.exceptions import ServiceResponseError

from shared.domain.provider import ProviderUnavailableError
from shared.errors import StoreUnavailableError
from tests.simulation.scheduler import Died, Scheduler

T = TypeVar("T")


@dataclass(frozen=True)
class Rates:
    """How often something goes wrong, each time that it could."""

    die: float = 0.0
    """Any operation of a worker: its whole process dies, before or after the operation took effect."""
    slow: float = 0.0
    """Any operation takes seconds."""
    storage_before: float = 0.0
    storage_after: float = 0.0
    """A storage time-out whose write did not happen, or did."""
    stale: float = 0.0
    """A read gives the version before."""
    message_lost: float = 0.0
    message_doubled: float = 0.0
    message_late: float = 0.0
    call_lost: float = 0.0
    """A request, or the answer to it, of a user or a node."""
    call_doubled: float = 0.0
    """A node's call comes a second time, up to minutes later."""
    sky_before: float = 0.0
    sky_after: float = 0.0
    """SkyPilot's server does not answer; what was asked for did not happen, or did."""
    sky_refuses: float = 0.0
    """The server refuses to talk to us."""
    sky_invalid: float = 0.0
    """A launch is refused at its submission."""
    launch_fails: float = 0.0
    launch_hangs: float = 0.0
    down_fails: float = 0.0
    restart: float = 0.0
    """Per simulated minute: the server forgets its requests."""
    sky_leaves: float = 0.0
    """A teardown or a failed launch leaves in Azure what is not the machine."""
    sky_forgets: float = 0.0
    """The server loses a cluster from its books, and the machine runs on."""
    azure_before: float = 0.0
    azure_after: float = 0.0
    """Azure does not answer; what was asked for did not happen, or did."""
    azure_throttles: float = 0.0
    """Azure answers nothing for some time."""
    azure_keeps: float = 0.0
    """A deletion that was taken does not succeed."""
    quota_short: float = 0.0
    """A region's quota has no room for spot machines."""
    release_lies: float = 0.0
    """A release, once for each node: says that it is gone, and nothing was done."""
    node_silent: float = 0.0
    node_fails: float = 0.0
    node_stuck: float = 0.0
    node_dies: float = 0.0
    node_hiccups: float = 0.0
    evicted: float = 0.0
    delete: float = 0.0
    """Per launch: its user deletes it, at any time."""
    wire: float = 0.0
    """Storage is the real clients over a simulated wire, and fails request by request."""
    newer: float = 0.0
    """One of the workers is of a later version: it writes fields that this one does not know."""
    older: float = 0.0
    """One of the workers is of an earlier version: the attempts that it begins lack fields."""
    clocks: float = 0.0
    """Seconds by which the clocks of two workers are apart at most."""
    crawls: float = 0.0
    """A question to SkyPilot's server or to Azure takes up to a minute and a half."""
    books_lost: float = 0.0
    """Per simulated minute: the SkyPilot server's books lose all that they listed; minutes later they are back."""
    table_restored: float = 0.0
    """The table goes back to what it was minutes ago, or is emptied; such a seed is judged by rules of its own."""
    unreadable: float = 0.0
    """Per simulated minute: a live record cannot be read for some time."""
    busy: float = 0.0
    """Per simulated minute: the host takes no message for minutes, so that they wait for their turn."""
    bad_item: float = 0.0
    """Per simulated minute: a task of the sweep fails for some time, at one record or altogether."""
    gateway_dies: float = 0.0
    """Per simulated minute: a gateway is killed, and another one started after a while."""
    gateway_ends: float = 0.0
    """The same of one that is asked to end, and finishes what is under way."""
    table_away: float = 0.0
    """Per simulated minute: a gateway, or all of them, cannot reach the table for some time."""

    def __str__(self) -> str:
        named = ((field.name, getattr(self, field.name)) for field in fields(self))
        return ", ".join(f"{name} {rate:.3g}" for name, rate in named if rate) or "none"


KINDS = tuple(field.name for field in fields(Rates))
_AZURE: dict[str, tuple[float, float, float]] = {
    "sky_leaves": (0.5, 0.05, 0.8),
    "sky_forgets": (0.4, 0.05, 0.6),
    "azure_before": (0.4, 0.01, 0.3),
    "azure_after": (0.4, 0.01, 0.3),
    "azure_throttles": (0.3, 0.01, 0.1),
    "azure_keeps": (0.4, 0.1, 0.9),
    "quota_short": (0.2, 0.1, 0.9),
}
_RANGES: dict[str, tuple[float, float, float]] = {
    "die": (0.6, 0.002, 0.06),
    "slow": (0.5, 0.005, 0.2),
    "storage_before": (0.4, 0.003, 0.3),
    "storage_after": (0.4, 0.003, 0.3),
    "stale": (0.4, 0.01, 0.3),
    "message_lost": (0.4, 0.01, 0.4),
    "message_doubled": (0.5, 0.02, 0.5),
    "message_late": (0.4, 0.02, 0.4),
    "call_lost": (0.5, 0.02, 0.3),
    "call_doubled": (0.5, 0.05, 0.5),
    "sky_before": (0.4, 0.003, 0.1),
    "sky_after": (0.5, 0.005, 0.2),
    "sky_refuses": (0.15, 0.001, 0.02),
    "sky_invalid": (0.3, 0.02, 0.4),
    "launch_fails": (0.5, 0.05, 0.7),
    "launch_hangs": (0.25, 0.02, 0.3),
    "down_fails": (0.3, 0.05, 0.6),
    "restart": (0.3, 0.02, 0.3),
    "node_silent": (0.3, 0.05, 0.3),
    "node_fails": (0.3, 0.05, 0.4),
    "node_stuck": (0.25, 0.05, 0.3),
    "node_dies": (0.4, 0.05, 0.5),
    "node_hiccups": (0.3, 0.05, 0.5),
    "evicted": (0.5, 0.1, 0.95),
    "delete": (0.6, 0.2, 0.9),
}
"""By rate: how often a seed has it at all, and from where to where it is drawn."""
_APART: dict[str, tuple[float, float, float]] = {
    # Such a seed takes four times as long.
    "wire": (0.06, 1.0, 1.0),
    "newer": (0.1, 1.0, 1.0),
    "older": (0.1, 1.0, 1.0),
    "clocks": (0.12, 5.0, 60.0),
    "crawls": (0.15, 0.3, 0.9),
    "books_lost": (0.1, 0.1, 0.5),
    "table_restored": (0.05, 1.0, 1.0),
    "unreadable": (0.2, 0.1, 0.6),
    "bad_item": (0.15, 0.1, 0.8),
    "busy": (0.15, 0.1, 0.5),
}
"""The same of kinds with draws of their own: a seed without any of them runs as it did before there were such."""
_OF_ENDPOINTS: dict[str, tuple[float, float, float]] = {
    "gateway_dies": (0.4, 0.05, 0.5),
    "gateway_ends": (0.3, 0.05, 0.3),
    "table_away": (0.4, 0.05, 0.4),
}
"""The same of kinds that only seeds with endpoints have."""


def draw_apart(seed: int, *, endpoints: bool = False) -> dict[str, float]:
    """The rates of the kinds with draws of their own."""
    drawn: dict[str, float] = {}
    for name, (chance, low, high) in (_APART | _OF_ENDPOINTS if endpoints else _APART).items():
        random = Random(f"{name} {seed}")
        drawn[name] = math.exp(random.uniform(math.log(low), math.log(high))) if random.random() < chance else 0.0
    if drawn["newer"]:
        drawn["older"] = 0.0
    if endpoints:
        drawn["wire"] = 0.0  # its stand-in is slow, and gateways read all the time
    if drawn["table_restored"]:
        drawn |= dict.fromkeys(("newer", "older", "unreadable"), 0.0)
    return drawn


def draw(random: Random, *, azure: bool) -> Rates:
    """The rates of a seed: many kinds are left out, so that each meets the others in every combination."""
    drawn: dict[str, float] = {}
    for name, (chance, low, high) in (_RANGES | _AZURE if azure else _RANGES).items():
        here, rate = random.random() < chance, math.exp(random.uniform(math.log(low), math.log(high)))
        drawn[name] = rate if here else 0.0
    here, rate = random.random() < 0.4, random.uniform(0.1, 0.8)
    drawn["release_lies"] = rate if here else 0.0
    return Rates(**drawn)


CRAWL = 90.0
"""Seconds that a question to a slow server takes at most."""


@dataclass(frozen=True)
class _Silence:
    """How often one kind of operation gets no answer, without and with its effect."""

    before: float
    after: float
    error: type[StoreUnavailableError | ProviderUnavailableError | ServiceResponseError]


class Chaos:
    """Lets operations fail, for as long as it is on.

    Parameters
    ----------
    until
        Seconds since the start after which nothing goes wrong any more.
    """

    def __init__(self, scheduler: Scheduler, rates: Rates, until: float) -> None:
        self.scheduler = scheduler
        self.random = scheduler.random
        self.rates = rates
        self.until = until
        self.restarted_at: datetime | None = None
        """When the app last began anew, and forgot what it kept in memory."""
        self._storage = _Silence(rates.storage_before, rates.storage_after, StoreUnavailableError)
        self._sky = _Silence(rates.sky_before, rates.sky_after, ProviderUnavailableError)
        self._wire = _Silence(rates.storage_before, rates.storage_after, ServiceResponseError)
        self._azure = _Silence(rates.azure_before, rates.azure_after, ServiceResponseError)
        self.ambushes: dict[str, tuple[str, Callable[[], None]]] = {}
        """By the end of an instance's name: the operation that is to be slow, and what is to happen meanwhile."""

    @property
    def on(self) -> bool:
        return self.scheduler.milliseconds < self.until * 1000

    def strikes(self, rate: float) -> bool:
        return rate > 0.0 and self.on and self.random.random() < rate

    def storage(self, what: str, effect: Callable[[], T]) -> T:
        """One request to storage; with the SDK's own repetitions it may take a minute."""
        longest = 60.0 if self.random.random() < 0.1 else 5.0
        return self._operation(what, effect, self._storage, longest)

    def wire(self, what: str, effect: Callable[[], T]) -> T:
        """One try of a request to storage, which takes no longer than the SDK waits."""
        longest = 15.0 if self.random.random() < 0.1 else 5.0
        return self._operation(what, effect, self._wire, longest)

    def sky(self, what: str, effect: Callable[[], T], longest: float = 10.0) -> T:
        """One request to the SkyPilot server, or to any other provider."""
        # The launch itself is given up by the client after ten seconds.
        crawls = not what.startswith("launch ") and self.strikes(self.rates.crawls)
        return self._operation(what, effect, self._sky, max(longest, CRAWL) if crawls else longest, slow=crawls)

    def azure(self, what: str, effect: Callable[[], T]) -> T:
        """One request to Azure's resource manager."""
        crawls = self.strikes(self.rates.crawls)
        return self._operation(f"Azure: {what}", effect, self._azure, CRAWL if crawls else 15.0, slow=crawls)

    def other(self, what: str, effect: Callable[[], T]) -> T:
        """Any other operation; it is slow or its process dies, nothing else."""
        return self._operation(what, effect, _Silence(0.0, 0.0, StoreUnavailableError), 3.0)

    def _operation(
        self, what: str, effect: Callable[[], T], silence: "_Silence", longest: float, *, slow: bool = False
    ) -> T:
        scheduler, rates = self.scheduler, self.rates
        if scheduler.current is None:
            return effect()
        draw = self.random.random
        # Of a slow operation one part passes before it takes effect, the rest before its answer is there.
        hit = bool(self.ambushes) and self.on and self._ambushed(what)
        lasts = draw() * longest if slow or hit or self.strikes(rates.slow) else 0.0
        part = draw() * lasts
        scheduler.pause(part + draw() * 0.03)
        # One draw decides: death (half of it after the effect), no answer with or without the effect, or nothing.
        fate = draw() if self.on else 1.0
        if fate < rates.die / 2:
            self._die(f"before {what}")
        fate -= rates.die / 2
        if 0 <= fate < silence.before:
            scheduler.note(f"{what}: no answer, not done")
            scheduler.pause(lasts - part)
            raise silence.error(f"{what}: no answer")
        fate -= silence.before
        scheduler.detail(what)
        result = effect()
        if lasts > part:
            scheduler.pause(lasts - part)
        if 0 <= fate < silence.after:
            scheduler.note(f"{what}: no answer, done")
            raise silence.error(f"{what}: no answer")
        fate -= silence.after
        if 0 <= fate < rates.die / 2:
            self._die(f"after {what}")
        return result

    def _ambushed(self, what: str) -> bool:
        lower = what.lower()
        for tail, (word, act) in self.ambushes.items():
            if tail in lower and lower.startswith(word):
                del self.ambushes[tail]
                act()
                return True
        return False

    def _die(self, when: str) -> None:
        task = self.scheduler.current
        if task is None or not task.process.name.startswith(("worker", "gateway")):
            return
        self.scheduler.note(f"dies {when}")
        self.scheduler.kill(task.process)
        raise Died
