"""The table is copied each night, and put back: rehearsed on Azurite, with a deployment that goes on afterwards."""

import gzip
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from azure.core.exceptions import ResourceExistsError
from azure.data.tables import EdmType, EntityProperty
from azure.functions.timer import TimerRequest
from typer.testing import CliRunner

from deploy.__main__ import app
from deploy.backup import restore, settings_of
from deploy.secrets import SetupError
from devhost.azurite import Azurite
from shared.settings import Settings
from shared.storage.backup import KEPT, BackupError, TableBackups, clear, dump, load
from shared.storage.connect import backup_container, table_client
from shared.storage.tables import TableInstanceStore
from tests.functional.world import World
from tests.twins.clock import START

NAME = f"nightly/{START:%Y-%m-%d}"


@dataclass
class Account:
    """A storage account with nothing in it."""

    settings: Settings
    connection: str

    def __post_init__(self) -> None:
        self.table: Any = table_client(self.settings)
        self.backups = TableBackups(self.table, backup_container(self.settings))

    def rows(self) -> list[bytes]:
        return [*dump(self.table)]

    def empty(self) -> None:
        try:
            self.table.create_table()
        except ResourceExistsError:
            clear(self.table)
        container = backup_container(self.settings)
        if container.exists():
            for name in self.backups.names():
                container.delete_blob(name)


@pytest.fixture
def account(azurite: Azurite) -> Iterator[Account]:
    connection = azurite.connection_string
    made = Account(settings_of({"AzureWebJobsStorage": connection}), connection)
    made.empty()
    yield made
    made.empty()


@pytest.fixture
def world(account: Account) -> Iterator[World]:
    """A deployment with its records in the account."""
    made = World()
    _connect(made, account)
    yield made
    assert made.errors == []


def _connect(world: World, account: Account) -> None:
    """What a process does that starts."""
    store = TableInstanceStore(account.table, account.settings.workspace)
    world.rebuild(store=store, back_up=account.backups.write_nightly)


def _night(world: World) -> None:
    world.functions["backup"].get_user_function()(TimerRequest(past_due=False))


def test_a_restored_deployment_should_keep_its_nodes_and_go_on(world: World, account: Account) -> None:
    ready, starting = world.to_ready(), world.launch()
    world.run(20)
    _night(world)
    before = account.rows()
    account.table.delete_table()
    world.queues.take("gpulaunch-launches", hide_seconds=3600)  # the messages are lost as well
    account.table.create_table()
    assert account.rows() == []
    world.clock.advance(3600)
    assert restore(account.settings, NAME, world.clock.now(), replace=False) == len(before)
    assert account.rows() == before
    _connect(world, account)
    world.run(300)
    assert [world.show(one)["phase"] for one in (ready, starting)] == ["ready", "ready"]
    assert world.running() == 2
    for one in (ready, starting):
        world.delete(one)
    world.run(120)
    assert world.running() == 0
    assert {world.show(one)["phase"] for one in (ready, starting)} == {"terminated"}


def test_a_node_that_the_copy_does_not_know_should_not_be_deleted(world: World, account: Account) -> None:
    _night(world)
    instance_id = world.to_ready()
    world.clock.advance(600)
    restore(account.settings, NAME, world.clock.now(), replace=True)
    _connect(world, account)
    world.run(1200)
    assert world.call("GET", f"/api/instances/{instance_id}").status == 404
    assert world.running() == 1
    assert world.call("GET", "/api/health").json["garbage_waiting"] == 1


def test_a_running_app_should_not_be_overwritten(world: World, account: Account) -> None:
    _night(world)
    world.run(60)
    before = account.rows()
    with pytest.raises(SetupError, match="swept less than five minutes ago; stop it"):
        restore(account.settings, NAME, world.clock.now(), replace=True)
    assert account.rows() == before


def test_a_table_with_rows_should_be_replaced_only_on_demand_and_copied_before(world: World, account: Account) -> None:
    _night(world)
    copied = account.rows()
    world.launch()
    world.run(60)
    now = world.clock.now() + timedelta(minutes=10)
    present = account.rows()
    with pytest.raises(SetupError, match="not empty; add --replace"):
        restore(account.settings, NAME, now, replace=False)
    assert account.rows() == present
    restore(account.settings, NAME, now, replace=True)
    assert account.rows() == copied
    (before, _) = account.backups.names()
    assert [*account.backups.read(before)] == present


def test_a_copy_that_is_not_there_should_change_nothing(world: World, account: Account) -> None:
    world.launch()
    before = account.rows()
    with pytest.raises(SetupError, match="the copy nightly/2020-01-01 does not exist"):
        restore(account.settings, "nightly/2020-01-01", world.clock.now() + timedelta(hours=1), replace=True)
    assert account.rows() == before
    with pytest.raises(BackupError, match="does not exist"):
        next(account.backups.read("nightly/2020-01-01"))


def test_a_night_should_have_one_copy_and_old_ones_should_go(world: World, account: Account) -> None:
    _night(world)
    world.launch()
    _night(world)
    assert account.backups.names() == [NAME]
    assert [*account.backups.read(NAME)] == account.rows()
    account.backups.write("manual/2026-01-01")
    world.clock.advance(KEPT.total_seconds())
    _night(world)
    assert NAME in account.backups.names()
    world.clock.advance(86_400)
    _night(world)
    later = [f"nightly/{START + KEPT + timedelta(days=days):%Y-%m-%d}" for days in (0, 1)]
    assert account.backups.names() == ["manual/2026-01-01", *later]


def test_many_and_large_rows_of_several_partitions_should_come_back(account: Account) -> None:
    def row(partition: str, number: int, text: str) -> dict[str, object]:
        count = EntityProperty(2**40 + number, EdmType.INT64)
        return {
            "PartitionKey": partition,
            "RowKey": f"{number:04}",
            "Text": text,
            "On": True,
            "N": 7,
            "F": 0.5,
            "C": count,
        }

    rows = [row("a", number, "ü" * 20) for number in range(250)] + [
        row("b", number, "x" * 30_000) for number in range(99)
    ]
    packed = io.BytesIO()
    for one in rows:
        account.table.create_entity(one)
    with gzip.GzipFile(fileobj=packed, mode="wb") as file:
        file.writelines(account.rows())
    clear(account.table)
    packed.seek(0)
    assert load(account.table, gzip.GzipFile(fileobj=packed)) == len(rows)
    assert [dict(one) for one in account.table.list_entities()] == rows


def test_a_type_that_is_not_ours_should_fail_the_copy(account: Account) -> None:
    account.table.create_entity({"PartitionKey": "a", "RowKey": "b", "At": START})
    with pytest.raises(BackupError, match="a row holds At as TablesEntityDatetime"):
        account.rows()


def test_the_command_should_list_make_and_restore(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AzureWebJobsStorage", account.connection)
    account.table.create_entity({"PartitionKey": "a", "RowKey": "b"})
    made = CliRunner().invoke(app, ["backup", "make"])
    assert made.exit_code == 0, made.output
    name = made.stdout.partition(":")[0]
    assert CliRunner().invoke(app, ["backup", "list"]).stdout.split() == [name]
    account.table.delete_entity("a", "b")
    done = CliRunner().invoke(app, ["backup", "restore", name])
    assert (done.exit_code, done.stdout[:6]) == (0, "1 rows")
    assert len(account.rows()) == 1


def test_azds_environment_should_name_the_account() -> None:
    found = settings_of({"GPULAUNCH_APP_NAME": "func-abcdefghijklm", "GPULAUNCH_WORKSPACE": "team"})
    assert (found.storage_account, found.workspace) == ("stabcdefghijklm", "team")
    assert backup_container(found).url == "https://stabcdefghijklm.blob.core.windows.net/gpulaunch-backups"
    with pytest.raises(SetupError, match="azd env get-values"):
        settings_of({})


def test_the_app_should_write_copies_to_the_account_of_its_table() -> None:
    found = Settings.model_validate(
        {
            "AZURE_FUNCTIONS_ENVIRONMENT": "Development",
            "AzureWebJobsStorage__tableServiceUri": "https://st1.table.core.windows.net",
            "AzureWebJobsStorage__clientId": "11111111-2222-3333-4444-555555555555",
        }
    )
    assert backup_container(found).url == "https://st1.blob.core.windows.net/gpulaunch-backups"
