"""The month's account: what is reserved, what is spent, what an admission may take, and what a report shows."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from tests.simulation.oracles.facts import ENDED, Event, Oracle, Record, World
from tests.simulation.oracles.promises import DEFAULT_LIFETIME_MINUTES, USD_PER_HOUR
from tests.simulation.oracles.spending import MICRO, held, micro_cost, month


class Admissions(Oracle):
    """No launch is accepted for which there is no room, and none refused for which there was."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._states: list[tuple[datetime, Mapping[str, int], int]] = [(world.now(), {}, 0)]
        """When something changed: what counted against each month from then on, and how many lived."""

    def created(self, record: Record, events: Sequence[Event]) -> None:
        records = self.world.records()
        self._remember(records)
        terms, of = self.world.terms, month(record)
        counted = held(records, of)
        budget = terms.monthly_budget_usd
        if budget is not None and counted > round(budget * MICRO):
            self.world.violated(f"{counted / MICRO} USD of {budget} are taken by {record.instance_id[-4:]} in {of}")
        live = sum(one.phase not in ENDED for one in records)
        if terms.max_instances is not None and live > terms.max_instances:
            self.world.violated(f"{record.instance_id[-4:]} is the {live}th instance of {terms.max_instances}")

    def changed(self, before: Record, record: Record, events: Sequence[Event]) -> None:
        if record.phase in ENDED:
            self._remember(self.world.records())

    def launch_refused(self, status: int, asked: Mapping[str, Any], since: datetime) -> None:
        """A refusal needs a moment between the call and its answer at which there was no room."""
        terms = self.world.terms
        states = self._states_since(since)
        if status == 403 and terms.max_instances is not None and max(live for _, live in states) < terms.max_instances:
            self.world.violated(f"a launch is refused, and there never were {terms.max_instances} instances")
        budget = terms.monthly_budget_usd
        if status != 402 or budget is None:
            return
        minutes = asked.get("max_lifetime_minutes") or DEFAULT_LIFETIME_MINUTES
        highest = USD_PER_HOUR[asked["use_spot"] and not asked.get("spot_fallback", True)]
        needs = min(minutes / 60 * highest + 0.01, asked.get("budget_usd") or float("inf"))
        of = {f"{moment:%Y-%m}" for moment in (since, self.world.now())}
        most = max(counted.get(one, 0) for counted, _ in states for one in of)
        if most + needs * MICRO <= budget * MICRO:
            self.world.violated(
                f"a launch of {needs} USD is refused, and {most / MICRO} of {budget} were taken at most"
            )

    def _states_since(self, since: datetime) -> list[tuple[Mapping[str, int], int]]:
        later = [(counted, live) for at, counted, live in self._states if at >= since]
        before = [(counted, live) for at, counted, live in self._states if at < since][-1:]
        return before + later

    def _remember(self, records: Sequence[Record]) -> None:
        if self.world.terms.monthly_budget_usd is None:
            return
        months = {month(one) for one in records}
        live = sum(one.phase not in ENDED for one in records)
        self._states.append((self.world.now(), {one: held(records, one) for one in months}, live))


class Report(Oracle):
    """`GET /api/costs` adds up to what the meters say, and so does each day of it."""

    def reported(self, answer: Mapping[str, Any], begun: datetime) -> None:
        """All of the run is in the report, which was asked for by day."""
        records = self.world.records()
        least, most = (
            sum(micro_cost(one, one.ended_at or moment) for one in records) for moment in (begun, self.world.now())
        )
        total = round(answer["total"]["actual_usd"] * MICRO)
        if not least <= total <= most:
            self.world.violated(f"the report has {total} micro-USD, not {least} to {most}")
        for group in answer["groups"]:
            day = datetime.fromisoformat(f"{group['key']}T00:00:00+00:00")
            low, high = (sum(_on_day(one, day, moment) for one in records) for moment in (begun, self.world.now()))
            rounding = sum(len(one.attempts) for one in records)
            if not low - rounding <= round(group["actual_usd"] * MICRO) <= high + rounding:
                self.world.violated(f"the report has {group['actual_usd']} USD for {group['key']}, not {low / MICRO}")
        for view in answer["budgets"]:
            taken = round((view["spent_usd"] + view["reserved_usd"]) * MICRO)
            if taken != held(records, view["month"]):
                self.world.violated(
                    f"the report has {taken} micro-USD taken in {view['month']}, not {held(records, view['month'])}"
                )


def _on_day(record: Record, day: datetime, now: datetime) -> int:
    total = 0.0
    for attempt in record.attempts:
        if attempt.billed_from is None:
            continue
        begin = max(attempt.billed_from, day)
        end = min(attempt.gone_at or now, day + timedelta(days=1))
        total += max(0.0, (end - begin).total_seconds()) / 3600 * attempt.offer.price_per_hour * MICRO
    return round(total)
