"""One suite for every EndpointStore: the twin in memory and the table, on Azurite and its stand-in."""

from typing import Any

import pytest
from azure.data.tables import TableServiceClient

from gpulaunch.models.endpoints import EndpointSpec
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
    return TableEndpointStore(account_of(request).table, unique("endpoints"))


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


def test_a_record_of_a_later_version_is_never_written(endpoints: EndpointStore) -> None:
    with pytest.raises(StoreError):
        endpoints.create(make_endpoint(schema_version=ENDPOINT_SCHEMA + 1))


def test_endpoints_are_not_instances_and_workspaces_do_not_see_each_other(standin: Account) -> None:
    here, there = unique("here"), unique("there")
    TableEndpointStore(standin.table, here).create(make_endpoint())
    assert TableEndpointStore(standin.table, there).all() == []
    instances = TableInstanceStore(standin.table, here)
    assert list(instances.live()) == []
    assert instances.page(InstanceFilter(), 10, None).records == []


def test_a_write_whose_answer_is_lost_is_stale_or_there_when_it_is_repeated(standin: Account) -> None:
    store = TableEndpointStore(standin.table, unique("lost"))
    standin.transport.answers.append(503)
    with pytest.raises(AlreadyExistsError):
        store.create(make_endpoint())
    before = loaded(store)
    standin.transport.answers.append(503)
    with pytest.raises(StaleRecordError):
        store.commit(before, before.record.model_copy(update={"replicas": 2}))
    assert loaded(store).record.replicas == 2


def test_a_write_without_an_answer_is_unavailable(standin: Account) -> None:
    store = TableEndpointStore(standin.table, unique("silent"))
    standin.transport.answers.extend([timed_out()] * 8)
    with pytest.raises(StoreUnavailableError):
        store.create(make_endpoint())


def test_each_call_is_one_request(standin: Account) -> None:
    store = TableEndpointStore(standin.table, unique("count"))
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
    with pytest.raises(StoreUnavailableError):
        TableEndpointStore(service.get_table_client("nosuchtable"), "endpoints").load("chat")
