"""Alerts that money may be burning: sent before they are noted, repeated while it is so, and lost by no refusal."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from gpulaunch.models.instances import Phase
from shared.control.garbage_report import GarbageReport, GarbageReports, WaitingCluster
from shared.control.sweep.base import Cadence
from shared.control.sweep.burning import (
    EVERY,
    ORPHAN_ALERTED,
    ORPHAN_LATE,
    RELEASE_ALERTED,
    LateReleases,
    StayingOrphans,
)
from shared.domain.instance import AttemptState, InstanceRecord
from shared.domain.messages import GarbageNotice
from shared.errors import StaleRecordError, StoreUnavailableError
from shared.storage.base import ORPHAN, Marker
from tests.twins.clock import START
from tests.twins.factories import DEPLOYMENT, make_attempt
from tests.unit.control.test_sweep_tasks import AWAY, SECOND, Deployment


@pytest.fixture
def deployment() -> Deployment:
    return Deployment()


class TestLateReleases:
    def task(self, deployment: Deployment, send: Callable[[InstanceRecord, int], None]) -> LateReleases:
        return LateReleases(deployment.store, deployment.records, send)

    def releasing(self, deployment: Deployment, **given_attempt: Any) -> None:
        released: dict[str, Any] = {"state": AttemptState.RELEASING, "release_since": START}
        attempt = make_attempt(**released | given_attempt)
        given: dict[str, Any] = {"attempts": [attempt], "ends_as": "terminated"}
        deployment.create(phase=Phase.TERMINATING, due_at=START + timedelta(days=1), **given)
        timeouts = deployment.records.lifecycle.timeouts
        deployment.wait(timedelta(seconds=timeouts.release_alert))

    def test_an_alert_should_be_sent_before_it_is_noted_and_once(self, deployment: Deployment) -> None:
        self.releasing(deployment)
        sent: list[tuple[int, dict[str, str]]] = []
        task = self.task(deployment, lambda _, number: sent.append((number, deployment.marked(RELEASE_ALERTED))))
        assert [deployment.sweep(task), deployment.sweep(task)] == [1, 0]
        name = deployment.record().attempts[-1].cluster_name
        assert sent == [(1, {})]
        assert deployment.marked(RELEASE_ALERTED) == {name: "1"}

    def test_one_that_is_refused_should_be_sent_by_the_next_sweep(self, deployment: Deployment) -> None:
        self.releasing(deployment)

        def refuse(record: InstanceRecord, number: int) -> None:
            raise AWAY

        with pytest.raises(StoreUnavailableError):
            deployment.sweep(self.task(deployment, refuse))
        assert deployment.marked(RELEASE_ALERTED) == {}
        sent: list[int] = []
        assert deployment.sweep(self.task(deployment, lambda _, number: sent.append(number))) == 1
        assert sent == [1]

    def test_it_should_be_repeated_after_some_hours_while_it_is_so(self, deployment: Deployment) -> None:
        self.releasing(deployment)
        sent: list[int] = []
        task = self.task(deployment, lambda _, number: sent.append(number))
        deployment.sweep(task)
        again = deployment.records.lifecycle.timeouts.release_alert_again
        deployment.wait(timedelta(seconds=again) - SECOND)
        deployment.sweep(task)
        assert sent == [1]
        deployment.wait(SECOND)
        deployment.sweep(task)
        assert sent == [1, 2]

    @pytest.mark.parametrize(("complete", "left"), [(True, 0), (False, 1)])
    def test_a_marker_should_go_with_its_release_and_only_where_all_were_seen(
        self, deployment: Deployment, complete: bool, left: int
    ) -> None:
        assert Cadence(EVERY).take(deployment.clock.now())
        deployment.store.put_marker(Marker(kind=RELEASE_ALERTED, key="gl-ended-01", at=START, text="3"))
        deployment.sweep(self.task(deployment, lambda _, __: None), complete=complete)
        assert len(deployment.marked(RELEASE_ALERTED)) == left

    def test_a_node_that_is_gone_should_cause_none_whatever_its_release_took(self, deployment: Deployment) -> None:
        self.releasing(deployment, state=AttemptState.GONE, gone_at=START, alert_event=1)
        assert deployment.sweep(self.task(deployment, lambda _, __: None)) == 0

    def test_before_its_time_nothing_should_be_sent_or_counted(self, deployment: Deployment) -> None:
        self.releasing(deployment)
        deployment.clock.set(START + timedelta(seconds=1))
        assert deployment.sweep(self.task(deployment, lambda _, __: None)) == 0

    def test_one_that_changes_all_the_time_should_be_left_to_the_next_sweep(self, deployment: Deployment) -> None:
        self.releasing(deployment)
        for _ in range(8):
            deployment.store.calls.fail_next("commit", StaleRecordError("another was first"))
        task = self.task(deployment, lambda _, __: None)
        assert [deployment.sweep(task), deployment.sweep(task)] == [0, 1]


class TestStayingOrphans:
    NAMES = ("gl-01k0000000000000000000000a-01", "gl-01k0000000000000000000000b-01")
    AGAIN = timedelta(hours=4)

    def task(self, deployment: Deployment, send: Callable[[GarbageNotice], None]) -> StayingOrphans:
        reports = GarbageReports(deployment.store, deployment.clock, DEPLOYMENT)
        return StayingOrphans(deployment.store, reports, send, self.AGAIN)

    def mark(self, deployment: Deployment, *names: str) -> None:
        for name in names:
            deployment.store.put_marker(Marker(kind=ORPHAN, key=name, at=deployment.clock.now()))

    def test_an_alert_should_be_sent_late_before_it_is_noted_and_again_after_hours(
        self, deployment: Deployment
    ) -> None:
        self.mark(deployment, *self.NAMES)
        sent: list[tuple[int, int]] = []
        task = self.task(deployment, lambda notice: sent.append((notice.count, len(deployment.marked(ORPHAN_ALERTED)))))
        deployment.wait(timedelta(minutes=10))
        assert deployment.sweep(task) == 0
        deployment.wait(timedelta(minutes=10))
        assert deployment.clock.now() - START >= ORPHAN_LATE
        assert [deployment.sweep(task), deployment.sweep(task)] == [2, 0]
        deployment.wait(self.AGAIN)
        assert deployment.sweep(task) == 2
        assert sent == [(2, 0), (2, 2)]

    @pytest.mark.parametrize(("age", "sent"), [(ORPHAN_LATE - SECOND, 0), (ORPHAN_LATE, 1)])
    def test_an_orphan_should_be_late_from_a_quarter_of_an_hour_on(
        self, deployment: Deployment, age: timedelta, sent: int
    ) -> None:
        deployment.store.put_marker(Marker(kind=ORPHAN, key=self.NAMES[0], at=START - age))
        assert deployment.sweep(self.task(deployment, lambda _: None)) == sent

    def test_one_that_is_refused_should_not_be_noted(self, deployment: Deployment) -> None:
        self.mark(deployment, *self.NAMES)
        deployment.wait(timedelta(minutes=20))

        def refuse(notice: GarbageNotice) -> None:
            raise AWAY

        with pytest.raises(StoreUnavailableError):
            deployment.sweep(self.task(deployment, refuse))
        assert deployment.marked(ORPHAN_ALERTED) == {}

    def test_one_that_waits_for_a_person_should_have_no_second_alert(self, deployment: Deployment) -> None:
        self.mark(deployment, *self.NAMES)
        deployment.wait(timedelta(minutes=20))
        task = self.task(deployment, lambda _: None)
        waiting = (WaitingCluster(cluster_name=self.NAMES[0], since=START, why="many at once"),)
        task.reports.write(GarbageReport(), GarbageReport(waiting=waiting), deployment.clock.now())
        assert deployment.sweep(task) == 1
        assert set(deployment.marked(ORPHAN_ALERTED)) == {self.NAMES[1]}

    def test_where_all_wait_for_a_person_none_should_be_sent(self, deployment: Deployment) -> None:
        self.mark(deployment, *self.NAMES)
        deployment.wait(timedelta(minutes=20))
        sent: list[GarbageNotice] = []
        task = self.task(deployment, sent.append)
        waiting = tuple(WaitingCluster(cluster_name=name, since=START, why="many at once") for name in self.NAMES)
        task.reports.write(GarbageReport(), GarbageReport(waiting=waiting), deployment.clock.now())
        assert (deployment.sweep(task), sent, deployment.marked(ORPHAN_ALERTED)) == (0, [], {})

    def test_without_a_late_orphan_the_report_should_not_be_read(self, deployment: Deployment) -> None:
        assert deployment.sweep(self.task(deployment, lambda _: None)) == 0
        assert deployment.store.calls.count("markers") == 2, "the orphans and their alerts"

    def test_the_note_should_go_with_the_orphan(self, deployment: Deployment) -> None:
        self.mark(deployment, *self.NAMES)
        deployment.wait(timedelta(minutes=20))
        task = self.task(deployment, lambda _: None)
        deployment.sweep(task)
        deployment.store.drop_marker(ORPHAN, self.NAMES[0])
        deployment.wait(EVERY)
        deployment.sweep(task)
        assert set(deployment.marked(ORPHAN_ALERTED)) == {self.NAMES[1]}
