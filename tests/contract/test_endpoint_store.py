"""One suite for every EndpointStore: the twin in memory and the table, on Azurite and its stand-in."""

from datetime import timedelta
from typing import Any

import pytest
from azure.data.tables import TableServiceClient

from gateway.report import TableReportRow, row_of
from gpulaunch.models.decisions import ScalingDecision
from gpulaunch.models.endpoints import EndpointSpec
from gpulaunch.models.gateways import ARRIVAL_WINDOWS, EndpointReport, GatewayReport
from shared.domain.endpoint import ENDPOINT_SCHEMA, EndpointRecord, new_endpoint
from shared.errors import AlreadyExistsError, StaleRecordError, StoreError, StoreUnavailableError, UnreadableRowError
from shared.storage.base import InstanceFilter
from shared.storage.endpoint_tables import TableEndpointStore
from shared.storage.endpoints import EndpointStore, UnreadableEndpoint, VersionedEndpoint, checked_endpoint
from shared.storage.tables import TableInstanceStore
from tests.contract.conftest import ACCOUNTS, Account, account_of, timed_out, unique
from tests.twins.clock import START
from tests.twins.endpoints import MemoryEndpointStore
from tests.twins.factories import make_request


def make_endpoint(name: str = "chat", **changes: Any) -> EndpointRecord:
    launch = make_request().model_dump(exclude_unset=True)
    made = new_endpoint(name, f"ep-{name}", EndpointSpec.model_validate({"launch": launch}), START)
    return made.model_copy(update=changes)


@pytest.fixture(params=["twin", *ACCOUNTS])
def endpoints(request: pytest.FixtureRequest) -> EndpointStore:
    """Each EndpointStore in its turn, empty."""
    if request.param == "twin":
        return MemoryEndpointStore()
    return TableEndpointStore(account_of(request).table, unique("endpoints"), account_of(request).table)


def put_row(store: EndpointStore, name: str, document: str) -> None:
    """Write a row behind the program's back."""
    row = {**checked_endpoint("", make_endpoint(name)), "doc": document}
    if isinstance(store, MemoryEndpointStore):
        store.rows[row["RowKey"]] = ('W/"foreign"', row)
    else:
        assert isinstance(store, TableEndpointStore)
        store._table.upsert_entity({**row, "PartitionKey": store._partition})  # pyright: ignore[reportPrivateUsage]


def loaded(store: EndpointStore, name: str = "chat") -> VersionedEndpoint:
    found = store.load(name)
    assert found is not None
    return found


def test_an_endpoint_comes_back_as_it_was_written(endpoints: EndpointStore) -> None:
    assert endpoints.load("chat") is None
    made = make_endpoint()
    etag = endpoints.create(made)
    assert endpoints.load("chat") == VersionedEndpoint(made, etag)


def test_a_name_is_given_once(endpoints: EndpointStore) -> None:
    endpoints.create(make_endpoint())
    with pytest.raises(AlreadyExistsError):
        endpoints.create(make_endpoint(replicas=3))
    assert loaded(endpoints).record.replicas == 1


def test_a_change_is_written_under_its_etag_alone(endpoints: EndpointStore) -> None:
    endpoints.create(make_endpoint())
    before = loaded(endpoints)
    etag = endpoints.commit(before, before.record.model_copy(update={"replicas": 2}))
    assert loaded(endpoints) == VersionedEndpoint(make_endpoint(replicas=2), etag)
    with pytest.raises(StaleRecordError):
        endpoints.commit(before, before.record.model_copy(update={"replicas": 5}))
    assert loaded(endpoints).record.replicas == 2


def test_an_endpoint_is_removed_under_its_etag_alone(endpoints: EndpointStore) -> None:
    endpoints.create(make_endpoint())
    before = loaded(endpoints)
    endpoints.commit(before, before.record.model_copy(update={"replicas": 2}))
    with pytest.raises(StaleRecordError):
        endpoints.remove(before)
    endpoints.remove(loaded(endpoints))
    assert endpoints.load("chat") is None
    with pytest.raises(StaleRecordError):
        endpoints.commit(before, before.record)


def test_all_are_listed_by_name_and_those_of_a_later_version_as_such(endpoints: EndpointStore) -> None:
    for name in ("b-2", "a", "b"):
        endpoints.create(make_endpoint(name))
    put_row(
        endpoints, "later", make_endpoint("later").model_dump_json().replace('"schema_version":1', '"schema_version":9')
    )
    put_row(endpoints, "torn", "{")
    put_row(endpoints, "other", make_endpoint("another").model_dump_json())
    found = endpoints.all()
    readable = [one.record.name for one in found if isinstance(one, VersionedEndpoint)]
    unreadable = {one.name: one.why for one in found if isinstance(one, UnreadableEndpoint)}
    assert readable == ["a", "b", "b-2"]
    assert set(unreadable) == {"later", "torn", "other"}
    assert "later version" in unreadable["later"]
    with pytest.raises(UnreadableRowError):
        endpoints.load("later")


def test_fields_of_a_later_version_are_kept(endpoints: EndpointStore) -> None:
    text = make_endpoint().model_dump_json()
    put_row(endpoints, "chat", text[:-1] + ',"later":{"a":1}}')
    before = loaded(endpoints)
    endpoints.commit(before, before.record.model_copy(update={"replicas": 2}))
    assert loaded(endpoints).record.model_dump()["later"] == {"a": 1}


def put_report(store: EndpointStore, gateway_id: str, minutes: int, **more: Any) -> None:
    """Write a report as a gateway does."""
    at = START + timedelta(minutes=minutes)
    report = GatewayReport(gateway_id=gateway_id, at=at, **more)
    if isinstance(store, MemoryEndpointStore):
        row = {name: str(value) for name, value in row_of("", report).items()}
        store.rows[row["RowKey"]] = ('W/"gateway"', row)
    else:
        assert isinstance(store, TableEndpointStore)
        table, workspace = store._table, store._partition  # pyright: ignore[reportPrivateUsage]
        TableReportRow(table, workspace, gateway_id).write(report)


def test_reports_of_gateways_are_read_as_they_were_written_and_are_no_endpoints(endpoints: EndpointStore) -> None:
    assert endpoints.gateways() == {}
    served = [EndpointReport(endpoint_id=f"ep-{number:040d}", version=number, held=1) for number in range(600)]
    put_report(endpoints, "a", 0, endpoints=served, in_flight={"inst-1": 2})
    put_report(endpoints, "b", 1)
    assert endpoints.gateways() == {
        "a": GatewayReport(gateway_id="a", at=START, endpoints=served, in_flight={"inst-1": 2}),
        "b": GatewayReport(gateway_id="b", at=START + timedelta(minutes=1)),
    }
    assert endpoints.all() == []


def test_reports_are_forgotten_that_are_older_and_those_alone(endpoints: EndpointStore) -> None:
    put_row(endpoints, "chat", "{}")
    for minutes in range(3):
        put_report(endpoints, f"gateway-{minutes}", minutes)
    endpoints.forget_gateways(START + timedelta(minutes=1))
    assert list(endpoints.gateways()) == ["gateway-1", "gateway-2"]
    assert len(endpoints.all()) == 1


def test_a_gateway_removes_its_own_report_and_may_do_so_again(standin: Account) -> None:
    store = TableEndpointStore(standin.table, unique("gateways"), standin.table)
    put_report(store, "a", 0)
    put_report(store, "b", 0)
    for _ in range(2):
        TableReportRow(standin.table, store._partition, "a").remove()  # pyright: ignore[reportPrivateUsage]
    assert list(store.gateways()) == ["b"]


def test_a_report_that_cannot_be_read_is_named_and_kept(standin: Account) -> None:
    store = TableEndpointStore(standin.table, unique("gateways"), standin.table)
    standin.table.upsert_entity({"PartitionKey": store._partition, "RowKey": "gateway|a", "doc": "{}"})  # pyright: ignore
    store.forget_gateways(START)
    assert store.gateways() == {"a": None}


def test_a_record_of_a_later_version_is_never_written(endpoints: EndpointStore) -> None:
    with pytest.raises(StoreError):
        endpoints.create(make_endpoint(schema_version=ENDPOINT_SCHEMA + 1))


def test_endpoints_are_not_instances_and_workspaces_do_not_see_each_other(standin: Account) -> None:
    here, there = unique("here"), unique("there")
    TableEndpointStore(standin.table, here, standin.table).create(make_endpoint())
    assert TableEndpointStore(standin.table, there, standin.table).all() == []
    instances = TableInstanceStore(standin.table, here)
    assert list(instances.live()) == []
    assert instances.page(InstanceFilter(), 10, None).records == []


def test_a_write_whose_answer_is_lost_is_stale_or_there_when_it_is_repeated(standin: Account) -> None:
    store = TableEndpointStore(standin.table, unique("lost"), standin.table)
    standin.transport.answers.append(503)
    with pytest.raises(AlreadyExistsError):
        store.create(make_endpoint())
    before = loaded(store)
    standin.transport.answers.append(503)
    with pytest.raises(StaleRecordError):
        store.commit(before, before.record.model_copy(update={"replicas": 2}))
    assert loaded(store).record.replicas == 2


def test_a_write_without_an_answer_is_unavailable(standin: Account) -> None:
    store = TableEndpointStore(standin.table, unique("silent"), standin.table)
    standin.transport.answers.extend([timed_out()] * 8)
    with pytest.raises(StoreUnavailableError):
        store.create(make_endpoint())


def test_each_call_is_one_request(standin: Account) -> None:
    store = TableEndpointStore(standin.table, unique("count"), standin.table)
    store.create(make_endpoint())
    standin.start_counting()
    before = loaded(store)
    store.commit(before, before.record)
    store.all()
    assert len(standin.requests) == 3


def test_what_could_not_be_read_again_is_not_written(endpoints: EndpointStore) -> None:
    endpoints.create(make_endpoint())
    before = loaded(endpoints)
    with pytest.raises(StoreError, match="could not be read again"):
        endpoints.commit(before, before.record.model_copy(update={"generations": []}))
    assert loaded(endpoints) == before


def test_a_missing_table_is_no_missing_endpoint(azurite_alone: Account) -> None:
    connection = azurite_alone.settings.storage_connection
    assert connection is not None
    service = TableServiceClient.from_connection_string(connection.get_secret_value(), retry_total=0)
    missing = service.get_table_client("nosuchtable")
    with pytest.raises(StoreUnavailableError):
        TableEndpointStore(missing, "endpoints", missing).load("chat")


def decision(number: int) -> ScalingDecision:
    return ScalingDecision(
        at=START + timedelta(seconds=number),
        before=0,
        replicas=number,
        reason="50.0 requests run at once, 12.00 come each second, 179 fit on a replica; `max_replicas` is 100",
        ready=0,
        starting=0,
        running=50.0,
        held=number,
        arrivals=dict.fromkeys(ARRIVAL_WINDOWS, 100_000),
        service_seconds=9.5,
        start_seconds=240.0,
        concurrency=179.0,
    )


class TestDecisions:
    def test_they_are_written_with_the_endpoint_latest_first_and_a_hundred_are_kept(
        self, endpoints: EndpointStore
    ) -> None:
        endpoints.create(make_endpoint())
        assert endpoints.decisions("chat") == []
        for number in range(102):
            endpoints.commit(loaded(endpoints), make_endpoint(), decision(number))
        assert endpoints.decisions("chat") == [decision(number) for number in range(101, 1, -1)]
        assert endpoints.decisions("other") == []

    def test_none_is_written_over_somebody_else_s_change_and_a_commit_without_one_keeps_them(
        self, endpoints: EndpointStore
    ) -> None:
        endpoints.create(make_endpoint())
        first = loaded(endpoints)
        endpoints.commit(first, make_endpoint(), decision(1))
        with pytest.raises(StaleRecordError):
            endpoints.commit(first, make_endpoint(), decision(2))
        endpoints.commit(loaded(endpoints), make_endpoint())
        assert endpoints.decisions("chat") == [decision(1)]

    def test_they_go_with_the_endpoint_and_are_no_endpoints(self, endpoints: EndpointStore) -> None:
        endpoints.create(make_endpoint())
        endpoints.commit(loaded(endpoints), make_endpoint(), decision(1))
        assert len(endpoints.all()) == 1
        endpoints.remove(loaded(endpoints))
        endpoints.create(make_endpoint())
        assert endpoints.decisions("chat") == []
