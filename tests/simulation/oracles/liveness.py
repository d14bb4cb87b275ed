"""Nothing hangs: each state has a bound, which counts from the calm on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tests.simulation.oracles.facts import ENDED, Event, Oracle, Record, World, name
from tests.simulation.oracles.promises import PHASES, REGISTERING, SUBMIT_LEASE, late, teardown

_QUICK = ("queued", "validating")


@dataclass(frozen=True)
class State:
    phase: str
    attempt: int
    state: str
    """Of the attempt."""


def state_of(record: Record) -> State:
    last = record.attempts[-1] if record.attempts else None
    return State(record.phase, 0 if last is None else last.number, "" if last is None else last.state)


def bound(state: State, world: World) -> float | None:
    """Seconds in which something else follows; None: this may last."""
    if state.phase == "ready" or state.phase in ENDED:
        return None
    if state.phase in ("terminating", "recovering") or state.state == "releasing":
        return teardown(world)
    if state.phase in _QUICK:
        return 2 * late(world)
    limit = REGISTERING if state.phase == "registering" else PHASES[state.phase]
    # A submission that hangs is given up when its lease is over, which may outlast the phase.
    return limit + (SUBMIT_LEASE if state.state == "submitting" else 0.0) + late(world)


class Liveness(Oracle):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._states: dict[str, tuple[State, datetime]] = {}

    def changed(self, before: Record, record: Record, events: Sequence[Event]) -> None:
        self._follow(record)

    def look(self) -> None:
        for record in self.world.records():
            state, since = self._follow(record)
            most = bound(state, self.world)
            if most is not None and (lasts := self.world.calm_seconds(since)) > most:
                self.world.violated(
                    f"{name(record)} hangs in {state.phase}, attempt {state.attempt} {state.state}, for {lasts:.0f} s"
                )

    def _follow(self, record: Record) -> tuple[State, datetime]:
        state = state_of(record)
        known = self._states.get(record.instance_id)
        if known is None or known[0] != state:
            known = self._states[record.instance_id] = (state, self.world.now())
        return known
