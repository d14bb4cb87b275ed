"""Every alert that is due reaches its receiver, and none comes without a reason (docs/alerts.md)."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from tests.simulation.oracles.facts import Alert, Event, Oracle, Record, World, name
from tests.simulation.oracles.promises import ALERT_AGAIN, RELEASE_ALERT, THRESHOLDS, late
from tests.simulation.oracles.spending import MICRO, held, month

_WRITE = 120.0
"""Seconds that a write may take while things go wrong: a decision is that much older than what is seen of it."""
_AT_ALL = 3600.0
"""Seconds after which some step of a release has come to a decision, whatever goes wrong."""
_REDELIVERY = 700.0
"""Seconds after which the host delivers the message of a worker that died, and the receiver has it."""


class ReleaseAlerts(Oracle):
    """A node that is not confirmed deleted in time may burn money: an alert, and another every four hours."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._since: dict[str, datetime] = {}
        self._raised: dict[str, list[datetime]] = {}
        """When the timeline of its instance said so, by cluster, while it is so."""
        self._owed: set[str] = set()
        """Clusters whose alert has to arrive, although their release is over."""
        self._received: dict[str, list[datetime]] = {}

    def changed(self, before: Record, record: Record, events: Sequence[Event]) -> None:
        now = self.world.now()
        for event in events:
            if event.type == "alert" and event.data.get("alert") == "release":
                self._raised.setdefault(str(event.data["cluster_name"]), []).append(now)
        if not record.attempts:
            return
        last = record.attempts[-1]
        if last.state == "releasing":
            self._since.setdefault(last.cluster_name, now)
        for attempt in record.attempts[-2:]:
            since = self._since.pop(attempt.cluster_name, None) if attempt.state == "gone" else None
            if since is not None:
                self._is_over(attempt.cluster_name, since)

    def _is_over(self, cluster: str, since: datetime) -> None:
        """Its timeline has all alerts, whatever went wrong meanwhile; what it said in time is on its way."""
        now, raised = self.world.now(), self._raised.pop(cluster, [])
        lasted = (now - since).total_seconds() - RELEASE_ALERT - _AT_ALL
        due = 0 if lasted < 0 else 1 + int(lasted // ALERT_AGAIN)
        if len(raised) < due and not self._was_unreadable(cluster):
            self.world.violated(
                f"{cluster} was not deleted for {now - since}, and {len(raised)} of {due} alerts said so"
            )
        if raised and self.world.calm_seconds(raised[-1]) > late(self.world) and not self._received.get(cluster):
            self._owed.add(cluster)

    def _was_unreadable(self, cluster: str) -> bool:
        """What cannot be read has alerts of its own."""
        return any(instance_id[5:].lower() in cluster for instance_id in self.world.unreadable)

    def alerted(self, alert: Alert) -> None:
        data = alert.body["data"]
        if alert.body["type"] != "instance.alert" or data["details"].get("alert") != "release":
            return
        cluster, at = str(data["details"]["cluster_name"]), datetime.fromisoformat(alert.body["timestamp"])
        known = self._received.setdefault(cluster, [])
        if any(abs((at - one).total_seconds()) < ALERT_AGAIN for one in known):
            self.world.violated(f"a second alert about {cluster} within four hours")
        known.append(at)
        self._owed.discard(cluster)
        began = self._since.get(cluster)
        if began is not None and (at - began).total_seconds() < RELEASE_ALERT - _WRITE:
            self.world.violated(f"an alert says that {cluster} is not deleted, after {at - began}")

    def look(self) -> None:
        if self.world.alerts_may_be_lost:
            return
        for cluster, since in self._since.items():
            last = max(self._received.get(cluster, []), default=None)
            due = since + timedelta(seconds=RELEASE_ALERT) if last is None else last + timedelta(seconds=ALERT_AGAIN)
            raised = max(self._raised.get(cluster, []), default=None)
            # What was raised while things went wrong may be on its way for as long as a worker that died holds it.
            delayed = raised is not None and raised < self.world.calm_at
            if (passed := self.world.calm_seconds(due)) > late(self.world) + (_REDELIVERY if delayed else 0.0):
                self.world.violated(f"no alert {passed:.0f} s after it was due: {cluster} is not deleted since {since}")

    def waits(self) -> bool:
        return bool(self._owed) and not self.world.alerts_may_be_lost

    def close(self) -> None:
        if self.waits():
            self.world.violated(f"alerts never arrived, that {sorted(self._owed)} were not deleted in time")


class BudgetAlerts(Oracle):
    """Each threshold of a month's budget is announced once, with the launch that reaches it."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._announced: dict[str, int] = {}
        self._refused = False
        """A launch was refused, or may have been: that counts as 100 %."""
        self._unannounced: dict[str, datetime] = {}
        """What a refusal would explain whose answer is still on its way, and since when."""
        self._notices: dict[str, int] = {}

    def launch_unanswered(self) -> None:
        self._refused = True
        self._unannounced.clear()

    def launch_refused(self, status: int, asked: Any, since: datetime) -> None:
        self._refused = True
        self._unannounced.clear()

    def look(self) -> None:
        for what, since in self._unannounced.items():
            if (self.world.now() - since).total_seconds() > _REDELIVERY:
                self.world.violated(what)

    def created(self, record: Record, events: Sequence[Event]) -> None:
        budget, of = self.world.terms.monthly_budget_usd, month(record)
        announced = [int(event.data["threshold_percent"]) for event in events if event.data.get("alert") == "budget"]
        if budget is None:
            return
        used = held(self.world.records(), of)
        passed = [percent for percent in THRESHOLDS if used * 100 >= round(budget * MICRO) * percent]
        known = self._announced.get(of, 0)
        for percent in announced:
            if percent not in passed or percent <= known:
                self.world.violated(
                    f"{name(record)} is said to reach {percent} % of {of}'s budget: {used / MICRO} of {budget}"
                )
        if passed and passed[-1] > known and passed[-1] not in announced and not self._refused:
            what = f"{name(record)} reaches {passed[-1]} % of {of}'s budget, and no alert says so"
            self._unannounced.setdefault(what, self.world.now())
        self._announced[of] = max([known, *announced])

    def alerted(self, alert: Alert) -> None:
        if alert.body["type"] != "budget.refused":
            return
        data = alert.body["data"]
        of = str(data["month"])
        if data["used_usd"] + data["asked_usd"] <= data["budget_usd"]:
            self.world.violated(f"an alert says that {data['asked_usd']} USD do not fit, and they do: {data}")
        self._notices[of] = self._notices.get(of, 0) + 1
        if self._notices[of] > 1:
            self.world.violated(f"the {self._notices[of]}. alert about the first launch that did not fit {of}'s budget")


class OtherAlerts(Oracle):
    """Rows that cannot be read, and steps that keep failing."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._received: dict[str, datetime] = {}

    def alerted(self, alert: Alert) -> None:
        kind, data = alert.body["type"], alert.body["data"]
        instance_id = str(data.get("instance_id", ""))
        if kind == "instance.unreadable":
            self._received[instance_id] = datetime.fromisoformat(alert.body["timestamp"])
            if instance_id not in self.world.unreadable:
                self.world.violated(f"{instance_id[-4:]} is said to be unreadable, which it is not")
        elif kind == "instance.poisoned" and self.world.given_up[instance_id] <= self.world.terms.poisoned:
            self.world.violated(
                f"{instance_id[-4:]} is said to keep failing: {self.world.given_up[instance_id]} messages"
            )

    def look(self) -> None:
        if self.world.alerts_may_be_lost:
            return
        for instance_id, since in sorted(self.world.unreadable.items()):
            if instance_id in self.world.readable_again:
                continue
            last = self._received.get(instance_id)
            due = since if last is None or last < since else last + timedelta(seconds=ALERT_AGAIN)
            if self.world.calm_seconds(due) > late(self.world) + _REDELIVERY:
                self.world.violated(f"{instance_id[-4:]} cannot be read since {since}, and no alert says so")
