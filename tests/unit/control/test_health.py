"""What `/api/health` says of the last sweep and of nodes that wait or were lost."""

from datetime import timedelta

import pytest

from shared.control.garbage_report import GarbageReport, GarbageReports, LostCluster, WaitingCluster
from shared.control.queries import SWEEP_LATE, HealthReports
from shared.control.sweep.status import SweepStatus, SweepStatusStore
from tests.twins.clock import START, ManualClock
from tests.twins.factories import DEPLOYMENT
from tests.twins.store import MemoryInstanceStore


class Healthy:
    def __init__(self) -> None:
        self.store, self.clock = MemoryInstanceStore(), ManualClock()
        self.statuses = SweepStatusStore(self.store)
        self.garbage = GarbageReports(self.store, self.clock, DEPLOYMENT)
        self.reports = HealthReports(self.statuses, self.garbage, self.clock)

    def problems(self) -> list[str]:
        answer = self.reports.answer()
        assert answer.status == ("degraded" if answer.problems else "ok")
        return answer.problems


@pytest.mark.parametrize(
    ("count", "waits", "lost"),
    [(1, "1 node waits for", "records of 1 node,"), (2, "2 nodes wait for", "records of 2 nodes,")],
)
def test_nodes_that_wait_or_were_lost_should_be_counted(count: int, waits: str, lost: str) -> None:
    healthy = Healthy()
    healthy.statuses.write(SweepStatus(ended_at=START, live=0))
    names = [f"gl-01k0000000000000000000000{letter}-01" for letter in "ab"[:count]]
    report = GarbageReport(
        waiting=tuple(WaitingCluster(cluster_name=name, since=START, why="too many") for name in names),
        lost=tuple(LostCluster(cluster_name=name, since=START, why="not listed") for name in names),
    )
    healthy.garbage.write(GarbageReport(), report, START)
    first, second = healthy.problems()
    assert first.startswith(waits)
    assert lost in second


@pytest.mark.parametrize(("late", "told"), [(timedelta(0), False), (timedelta(seconds=1), True)])
def test_sweeps_that_stay_away_should_be_told_with_the_last_one_s_time(late: timedelta, *, told: bool) -> None:
    healthy = Healthy()
    healthy.statuses.write(SweepStatus(ended_at=START, live=0))
    healthy.clock.advance((SWEEP_LATE + late).total_seconds())
    said = [f"No sweep has ended since {START:%Y-%m-%d %H:%M:%S} UTC; see the host's log."]
    assert healthy.problems() == (said if told else [])


def test_before_the_first_sweep_nothing_should_be_wrong() -> None:
    assert Healthy().problems() == []
