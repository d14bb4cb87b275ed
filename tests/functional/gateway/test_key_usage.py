"""What keys use, in rows that gateways share: two gateways, restarts, months, a table that fails."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
from azure.core.exceptions import AzureError

from gateway.balance import Balancer
from gateway.key_limits import KeyLimits
from gateway.key_usage import ENDED, LIVE, KeyUsages, UsageRow
from gpulaunch.models.gateways import GatewayReport
from gpulaunch.models.key_usage import KeyUsage, Use, month_of
from gpulaunch.models.routes import EndpointKey
from tests.functional.gateway.desk import node
from tests.twins.clock import START

MONTH = month_of(START)
LIMITED = EndpointKey(
    key_id="a", name="app", key_hash="h", created_at=START, requests_per_minute=60, tokens_per_month=1000
)


@dataclass
class Rows:
    """The rows of a workspace, and a clock for whoever uses them."""

    now: datetime = START
    rows: dict[tuple[str, str], UsageRow] = field(default_factory=dict[tuple[str, str], UsageRow])
    live: list[GatewayReport] = field(default_factory=list[GatewayReport])
    fails: str = ""
    """`before`: nothing is done; `after`: it is done, and the answer is lost."""
    overtaken: int = 0
    """How many writes meet somebody else's."""

    def date(self) -> datetime:
        return self.now

    def clock(self) -> float:
        return (self.now - START).total_seconds()

    def read(self, month: str) -> Sequence[UsageRow]:
        if self.fails == "before":
            raise AzureError("the table cannot be reached")
        return [row for (one, _), row in self.rows.items() if one == month]

    def write(self, month: str, before: UsageRow | None, usage: KeyUsage) -> bool:
        name = (month, usage.key_id)
        if self.overtaken:
            self.overtaken -= 1
            self.rows[name] = replace(self.rows.get(name, UsageRow(KeyUsage(key_id="a"), "")), etag="theirs")
        if self.rows.get(name) != before:
            return False
        self.rows[name] = UsageRow(usage, f"{before.etag if before else ''}+")
        if self.fails == "after":
            raise AzureError("the answer is lost")
        return True

    def reports(self) -> Sequence[GatewayReport]:
        return self.live

    def total(self, month: str = MONTH) -> Use:
        return self.rows[month, "a"].usage.total


class Copy:
    """One gateway's limits, and what keeps them."""

    def __init__(self, rows: Rows, gateway_id: str) -> None:
        self.limits = KeyLimits(rows.clock, rows.date)
        self.balancer = Balancer(rows.clock)
        self.usages = KeyUsages(self.limits, gateway_id, rows, self.balancer)
        rows.live.append(GatewayReport(gateway_id=gateway_id, at=rows.now))

    def turn(self) -> None:
        asyncio.run(self.usages.turn())

    def use(self, tokens: int) -> bool:
        """Whether a request of so many tokens was let through."""
        if self.limits.take(LIMITED) is not None:
            return False
        self.limits.used("a", tokens)
        return True


def test_a_month_should_outlive_the_gateways_that_counted_it() -> None:
    rows = Rows()
    for number in range(4):
        one = Copy(rows, f"gateway-{number}")
        one.turn()
        assert one.use(250)
        asyncio.run(one.usages.end())
    assert rows.total() == Use(requests=4, tokens=1000)
    last = Copy(rows, "gateway-5")
    last.turn()
    assert not last.use(1)
    rows.now += timedelta(days=1)
    assert last.use(1)
    last.turn()
    assert (rows.total().tokens, rows.total(month_of(rows.now)).tokens) == (1000, 1)


def test_a_gateway_should_spare_the_nodes_that_others_are_busy_with() -> None:
    rows = Rows()
    first = Copy(rows, "a")
    rows.live[0] = rows.live[0].model_copy(update={"in_flight": {"inst-1": 9}})
    rows.live.append(GatewayReport(gateway_id="b", at=rows.now, in_flight={"inst-1": 2, "inst-2": 1}))
    rows.live.append(GatewayReport(gateway_id="c", at=rows.now, in_flight={"inst-1": 1}))
    rows.live.append(GatewayReport(gateway_id="gone", at=rows.now - 2 * LIVE, in_flight={"inst-1": 200}))
    first.turn()
    nodes = [node(1, slots=12), node(2, slots=12)]
    assert [first.balancer.free([one]) for one in nodes] == [9, 11], "its own report is not one of others"
    got = [first.balancer.lease(nodes) for _ in range(3)]
    assert [one.node.instance_id for one in got if one is not None] == ["inst-2", "inst-2", "inst-1"]


def test_gateways_should_learn_of_each_other_with_their_next_turns() -> None:
    rows = Rows()
    first, second = Copy(rows, "a"), Copy(rows, "b")
    for one in (first, second):
        one.turn()
    assert sum(first.use(20) for _ in range(60)) == 30, "half of the minute is its share"
    first.turn()
    assert second.use(399)
    second.turn()
    first.turn()
    assert first.use(1)
    first.turn()
    second.turn()
    assert not second.use(1)
    assert rows.total() == Use(requests=32, tokens=1000)


def test_a_gateway_that_has_not_reported_for_half_a_minute_should_have_no_share() -> None:
    rows = Rows()
    first, _ = Copy(rows, "a"), Copy(rows, "b")
    rows.now += timedelta(seconds=31)
    first.turn()
    assert sum(first.use(0) for _ in range(70)) == 60


@pytest.mark.parametrize("fails", ["before", "after"])
def test_what_could_not_be_written_should_be_counted_once(fails: str) -> None:
    rows = Rows()
    one = Copy(rows, "a")
    assert one.use(10)
    rows.fails = fails
    with pytest.raises(AzureError):
        one.turn()
    assert one.use(5)
    rows.fails = ""
    one.turn()
    one.turn()
    assert rows.total() == Use(requests=2, tokens=15)


def test_a_write_that_meets_another_gateways_should_be_repeated_over_it() -> None:
    rows = Rows()
    first, second = Copy(rows, "a"), Copy(rows, "b")
    assert first.use(10)
    first.turn()
    assert second.use(20)
    rows.overtaken = 1
    second.turn()
    assert rows.total().tokens == 10
    second.turn()
    assert rows.total() == Use(requests=2, tokens=30)


def test_parts_of_gateways_that_ended_should_be_added_up_and_kept() -> None:
    rows = Rows()
    for number in range(5):
        one = Copy(rows, f"old-{number}")
        assert one.use(10)
        one.turn()
    rows.now += ENDED + timedelta(seconds=1)
    last = Copy(rows, "last")
    assert last.use(1)
    last.turn()
    usage = rows.rows[MONTH, "a"].usage
    assert (set(usage.gateways), usage.ended, usage.total.tokens) == ({"last"}, Use(requests=5, tokens=50), 51)


def test_a_gateway_that_was_taken_for_ended_should_not_be_counted_twice() -> None:
    rows = Rows()
    silent, other = Copy(rows, "silent"), Copy(rows, "other")
    assert silent.use(10)
    silent.turn()
    rows.now += ENDED + timedelta(seconds=1)
    assert other.use(1)
    other.turn()
    assert silent.use(5)
    silent.turn()
    silent.turn()
    assert rows.total() == Use(requests=3, tokens=16)


def test_fields_of_a_later_version_should_be_kept() -> None:
    rows = Rows()
    rows.rows[MONTH, "a"] = UsageRow(KeyUsage.model_validate({"key_id": "a", "later": 1}), "x")
    one = Copy(rows, "a")
    assert one.use(10)
    one.turn()
    assert rows.rows[MONTH, "a"].usage.model_dump()["later"] == 1


def test_a_table_that_fails_should_be_logged_once_and_the_limits_go_on(caplog: pytest.LogCaptureFixture) -> None:
    rows = Rows(fails="before")
    one = Copy(rows, "a")

    async def play(monkeypatch: pytest.MonkeyPatch) -> None:
        turns = 0

        async def sleep(seconds: float) -> None:
            nonlocal turns
            turns += 1
            if turns == 4:
                raise asyncio.CancelledError
            rows.fails = "" if turns == 3 else "before"

        monkeypatch.setattr("gateway.key_usage.asyncio.sleep", sleep)
        with pytest.raises(asyncio.CancelledError):
            await one.usages.keep()

    assert one.use(10)
    with pytest.MonkeyPatch.context() as monkeypatch, caplog.at_level(logging.WARNING):
        asyncio.run(play(monkeypatch))
    assert [record.getMessage() for record in caplog.records] == [
        "what keys use cannot be shared with other gateways: the table cannot be reached"
    ]
    assert rows.total().tokens == 10


def test_what_cannot_be_written_at_the_end_should_be_said(caplog: pytest.LogCaptureFixture) -> None:
    rows = Rows(fails="before")
    with caplog.at_level(logging.WARNING):
        asyncio.run(Copy(rows, "a").usages.end())
    assert "cannot be written, and is not counted" in caplog.text
