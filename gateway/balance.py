"""Which node gets a request: fewest outstanding, ties in turn, none beyond its slots, none that has just failed. Pure.

Outstanding is what this gateway has on a node, and what the others reported last. Their figures are seconds old, so
each gateway may fill its share of a node's slots whatever they say; a node has more for such moments alone.

A request holds a lease on its node until it is released, which happens exactly once, whatever becomes of it. Leases are
counted by instance and attempt, so that a node that takes over an address starts at zero.
"""

from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.snapshot import Node

FIRST_PAUSE, LONGEST_PAUSE = 10.0, 120.0
"""Seconds for which a node that failed gets no requests: doubled each time, until one succeeds."""
ERRORS, WITHIN = 3, 10.0
"""So many answers of 5xx within so many seconds count as a failure; a refused connection counts at once."""

OLD_SECONDS = 30.0
"""Age at which a report of other gateways is ignored; they report every ten seconds."""

Name = tuple[str, int]


@dataclass
class NodeLease:
    """A request's place on a node."""

    node: Node
    _release: Callable[[Name], None]
    _held: bool = True

    def release(self) -> None:
        """Give the place back; further calls do nothing."""
        if self._held:
            self._held = False
            self._release(self.node.name)


@dataclass
class _Circuit:
    errors: deque[float] = field(default_factory=deque[float])
    pause: float = FIRST_PAUSE
    until: float = 0.0
    answers: bool = True
    """It was paused for its answers; False: it could not be reached."""


def _nothing() -> None:
    pass


class Balancer:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.on_release: Callable[[], None] = _nothing
        """Called when a place is free again."""
        self._outstanding: Counter[Name] = Counter()
        self._circuits: dict[Name, _Circuit] = {}
        self._turns: dict[Name, int] = {}
        self._turn = 0
        self._elsewhere: Mapping[str, int] = {}
        self._gateways, self._learned_at = 1, 0.0

    def learn(self, elsewhere: Mapping[str, int], gateways: int) -> None:
        """Take into account what the other gateways have under way, by instance id; `gateways` counts this one, too."""
        self._elsewhere, self._gateways, self._learned_at = elsewhere, gateways, self._clock()
        self.on_release()

    def outstanding(self, node: Node) -> int:
        return self._outstanding[node.name]

    def by_instance(self) -> dict[str, int]:
        """Requests under way, by instance id; those without any are left out."""
        counts: Counter[str] = Counter()
        for (instance_id, _), count in self._outstanding.items():
            counts[instance_id] += count
        return dict(+counts)

    @property
    def in_flight(self) -> int:
        return self._outstanding.total()

    def lease(self, nodes: Sequence[Node], excluded: Collection[Name] = ()) -> NodeLease | None:
        """A place on the best of the nodes, or None if none has room. `excluded` have failed this very request."""
        rested = self._rested([one for one in nodes if one.name not in excluded])
        open_ones = [one for one in rested if self._outstanding[one.name] < self._slots(one)]
        if not open_ones:
            return None
        best = min(
            open_ones, key=lambda one: (self._outstanding[one.name] + self._others(one), self._turns.get(one.name, 0))
        )
        self._turn += 1
        self._turns[best.name] = self._turn
        self._outstanding[best.name] += 1
        return NodeLease(best, self._given_back)

    def free(self, nodes: Sequence[Node]) -> int:
        """How many requests the nodes have room for now."""
        return sum(max(0, self._slots(one) - self._outstanding[one.name]) for one in self._rested(nodes))

    def succeeded(self, node: Node) -> None:
        self._circuits.pop(node.name, None)

    def failed(self, node: Node, *, connection: bool) -> None:
        """Count a failure; `connection`: it could not be reached, or broke the connection before it answered.

        One that could not be reached is not chosen before its pause is over."""
        now = self._clock()
        circuit = self._circuits.setdefault(node.name, _Circuit())
        circuit.errors.append(now)
        while circuit.errors[0] < now - WITHIN:
            circuit.errors.popleft()
        if now >= circuit.until and (connection or len(circuit.errors) >= ERRORS):
            circuit.until = now + circuit.pause
            circuit.pause = min(2 * circuit.pause, LONGEST_PAUSE)
            circuit.answers = not connection
            circuit.errors.clear()
        elif connection:
            circuit.answers = False

    def forget_others(self, known: Collection[Name]) -> None:
        """Forget nodes that no longer exist, once nothing is outstanding on them."""
        for names in (self._circuits, self._turns):
            for name in [one for one in names if one not in known and not self._outstanding[one]]:
                del names[name]
        for name in [one for one, count in self._outstanding.items() if not count]:
            del self._outstanding[name]

    def _others(self, node: Node) -> int:
        """How many requests other gateways have on a node, as far as is known."""
        if not self._elsewhere:
            return 0
        if self._clock() - self._learned_at > OLD_SECONDS:
            self._elsewhere = {}
        return self._elsewhere.get(node.instance_id, 0)

    def _slots(self, node: Node) -> int:
        """How many requests this gateway may have on a node."""
        others = self._others(node)
        return max(node.slots - others, -(-node.slots // self._gateways)) if others else node.slots

    def _rested(self, nodes: Sequence[Node]) -> list[Node]:
        """The nodes that may be chosen: those that are not paused; if all are, those that answer at least.

        So requests that only get errors don't close an endpoint to others.
        """
        living = [one for one in nodes if not one.draining]
        if not self._circuits:
            return living
        now = self._clock()
        paused = {one.name: self._circuits[one.name] for one in living if self._is_paused(one, now)}
        rested = [one for one in living if one.name not in paused]
        return rested or [one for one in living if paused[one.name].answers]

    def _is_paused(self, node: Node, now: float) -> bool:
        circuit = self._circuits.get(node.name)
        return circuit is not None and now < circuit.until

    def _given_back(self, name: Name) -> None:
        self._outstanding[name] -= 1
        self.on_release()
