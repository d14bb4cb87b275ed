"""The rows of what keys use: as gateways write them, and as both gateways and the control plane read them."""

import asyncio
from datetime import timedelta

import pytest

from gateway.balance import Balancer
from gateway.key_limits import KeyLimits
from gateway.key_usage import KeyUsages, TableUsageRows
from gateway.report import TableReportRow
from gpulaunch.models.gateways import GatewayReport
from gpulaunch.models.key_usage import GatewayUse, KeyUsage, Use
from gpulaunch.models.routes import EndpointKey
from shared.storage.endpoint_tables import TableEndpointStore
from tests.contract.conftest import ACCOUNTS, Account, account_of, unique
from tests.twins.clock import START

KEY = EndpointKey(key_id="key-a", name="app", key_hash="h", created_at=START)


@pytest.fixture(params=ACCOUNTS)
def account(request: pytest.FixtureRequest) -> Account:
    return account_of(request)


def usage(key_id: str = "key-a", tokens: int = 1, gateways: int = 1) -> KeyUsage:
    use = GatewayUse(requests=1, tokens=tokens, at=START)
    return KeyUsage(key_id=key_id, gateways={f"{number:032d}": use for number in range(gateways)})


def test_rows_are_read_as_they_were_written_by_month(account: Account) -> None:
    workspace = unique("usage")
    rows, store = TableUsageRows(account.table, workspace), TableEndpointStore(account.table, workspace, account.table)
    assert rows.write("2026-01", None, usage("key-a", gateways=600))
    assert rows.write("2026-01", None, usage("key-b", 5))
    assert rows.write("2026-02", None, usage("key-a", 7))
    assert [row.usage for row in rows.read("2026-01")] == [usage("key-a", gateways=600), usage("key-b", 5)]
    assert store.key_usage("2026-01") == {"key-a": usage("key-a", gateways=600), "key-b": usage("key-b", 5)}
    assert store.key_usage("2026-02") == {"key-a": usage("key-a", 7)}
    assert (store.key_usage("2026-0"), store.key_usage("2026-03"), store.all(), store.gateways()) == ({}, {}, [], {})
    store.forget_gateways(START + timedelta(days=400))
    assert len(rows.read("2026-01")) == 2


def test_a_row_is_written_under_its_etag_alone(account: Account) -> None:
    rows = TableUsageRows(account.table, unique("usage"))
    assert rows.write("2026-01", None, usage(tokens=1))
    assert not rows.write("2026-01", None, usage(tokens=2))
    [before] = rows.read("2026-01")
    assert rows.write("2026-01", before, usage(tokens=3))
    assert not rows.write("2026-01", before, usage(tokens=4))
    [after] = rows.read("2026-01")
    assert after.usage == usage(tokens=3)


def test_a_row_that_cannot_be_read_costs_its_own_key_alone_and_is_kept(standin: Account) -> None:
    workspace = unique("usage")
    rows, store = TableUsageRows(standin.table, workspace), TableEndpointStore(standin.table, workspace, standin.table)
    rows.write("2026-01", None, usage("key-b"))
    standin.table.upsert_entity({"PartitionKey": workspace, "RowKey": "usage|2026-01|key-a", "doc": "{"})  # pyright: ignore
    assert [row.usage.key_id for row in rows.read("2026-01")] == ["key-b"]
    assert set(store.key_usage("2026-01")) == {"key-b"}
    assert not rows.write("2026-01", None, usage("key-a"))


@pytest.mark.parametrize("name", ["azurite_alone", "standin"])
def test_gateways_share_a_month_and_know_of_each_other(request: pytest.FixtureRequest, name: str) -> None:
    account: Account = request.getfixturevalue(name)
    workspace = unique("usage")
    rows = TableUsageRows(account.table, workspace)
    for gateway_id in ("one", "two"):
        TableReportRow(account.table, workspace, gateway_id).write(GatewayReport(gateway_id=gateway_id, at=START))
        limits = KeyLimits(lambda: 0.0, lambda: START)
        assert limits.take(KEY) is None
        limits.used("key-a", 10)
        asyncio.run(KeyUsages(limits, gateway_id, rows, Balancer(lambda: 0.0)).turn())
        assert limits.unwritten() == {}
    [row] = rows.read("2026-01")
    assert row.usage.total == Use(requests=2, tokens=20)
    assert {one.gateway_id for one in rows.reports()} == {"one", "two"}


def test_a_write_whose_answer_is_lost_counts_once(standin: Account) -> None:
    rows, limits = TableUsageRows(standin.table, unique("usage")), KeyLimits(lambda: 0.0, lambda: START)
    usages = KeyUsages(limits, "one", rows, Balancer(lambda: 0.0))
    limits.used("key-a", 10)
    asyncio.run(usages.turn())
    limits.used("key-a", 5)
    standin.transport.answers.append(503)
    asyncio.run(usages.turn())
    asyncio.run(usages.turn())
    [row] = rows.read("2026-01")
    assert (row.usage.total.tokens, limits.unwritten()) == (15, {})
