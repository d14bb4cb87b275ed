"""What an instance costs is what the cloud's own meter says, by the documentation's rule (docs/costs.md).

An attempt counts from its submission, an upper bound, or from the machine's creation, to the millisecond; from nothing
in between. It counts until its deletion is confirmed: not before the machine ended, not after the record says so. It
counts nothing only if there never was a machine. Its price is that of the machine that really came.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from tests.simulation.oracles.facts import Attempt, Event, Machine, Oracle, Record, World
from tests.simulation.oracles.promises import CREATION_KNOWN, USD_PER_HOUR

_EXACT = timedelta(milliseconds=1)
"""What storage cuts off."""
_CENTS = 0.0002
"""Answers have four decimals."""


class Meter(Oracle):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._exact = _EXACT + world.terms.clocks

    def machine_came(self, machine: Machine) -> None:
        if machine.spot is None:
            return
        for record in self.world.records():
            for attempt in record.attempts:
                offer = attempt.offer
                if attempt.cluster_name == machine.name and offer.price_per_hour != USD_PER_HOUR[machine.spot]:
                    self.world.violated(
                        f"{machine.name} costs {USD_PER_HOUR[machine.spot]}, not {offer.price_per_hour}"
                    )

    def changed(self, before: Record, record: Record, events: Sequence[Event]) -> None:
        earlier = {one.number: one for one in before.attempts}
        for attempt in record.attempts:
            known = earlier.get(attempt.number)
            if known is None or known.billed_from != attempt.billed_from or known.gone_at != attempt.gone_at:
                self._is_rightly_counted(attempt)

    def _is_rightly_counted(self, attempt: Attempt) -> None:
        violated, cluster, since = self.world.violated, attempt.cluster_name, attempt.billed_from
        machine = self.world.machines.get(cluster)
        if since is not None and not self._is_a_beginning(attempt, since, machine):
            violated(f"{cluster} counts from {since}: neither its submission nor its creation")
        until = attempt.gone_at
        if until is None or cluster in self.world.lied:
            return
        if until > self.world.now() + self.world.terms.clocks:
            violated(f"{cluster} counts until {until}, which is yet to come")
        if machine is None:
            return
        ended = machine.lives[-1].ended
        if since is None:
            violated(f"{cluster} had a machine and counts nothing")
        elif ended is None or until + self._exact < ended:
            violated(f"{cluster} counts until {until}, its machine ran until {ended}")
        elif self._is_known(attempt, machine, ended) and abs(since - machine.began) > self._exact:
            violated(f"{cluster} counts from {since}, and Azure knows that it was created {machine.began}")

    def _is_a_beginning(self, attempt: Attempt, since: datetime, machine: Machine | None) -> bool:
        if since == attempt.started_at:
            return machine is None or since <= machine.began + self._exact
        return machine is not None and any(abs(since - life.began) <= self._exact for life in machine.lives[:1])

    def _is_known(self, attempt: Attempt, machine: Machine, ended: datetime) -> bool:
        """Whether Azure could be asked long enough, while nothing went wrong, when the machine was created."""
        calm = attempt.started_at >= self.world.calm_at + self.world.terms.clocks and len(machine.lives) == 1
        return self.world.terms.asks_azure and calm and (ended - machine.began).total_seconds() >= CREATION_KNOWN

    def shown(self, answer: Mapping[str, Any]) -> None:
        """The cost in an answer is the sum of its attempts', each for the time that it counts."""
        end = answer.get("ended_at")
        until = self.world.now() if end is None else datetime.fromisoformat(end)
        # An answer about a live instance is one for its minute.
        earliest = until if end is not None else until - timedelta(minutes=2) - self.world.terms.clocks
        until = until if end is not None else until + self.world.terms.clocks
        least, most = (sum(_usd(one, moment) for one in answer["attempts"]) for moment in (earliest, until))
        if not least - _CENTS <= answer["cost_usd"] <= most + _CENTS:
            self.world.violated(
                f"{answer['instance_id'][-4:]} is said to cost {answer['cost_usd']}, not {least} to {most}"
            )


def _usd(attempt: Mapping[str, Any], until: datetime) -> float:
    if attempt["billed_from"] is None:
        return 0.0
    gone = attempt["gone_at"]
    end = until if gone is None else datetime.fromisoformat(gone)
    seconds = max(0.0, (end - datetime.fromisoformat(attempt["billed_from"])).total_seconds())
    return seconds / 3600 * USD_PER_HOUR[attempt["offer"]["use_spot"]]
