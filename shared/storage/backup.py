"""Copies of the table in the account's blobs: one a night, and the way back.

A line of a copy is one row, in JSON. Rows are read page by page while the app works: of one that changes meanwhile, a
copy has either version. The app bears that, as it bears any older table.
"""

import gzip
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from azure.data.tables import EdmType, EntityProperty, UpdateMode

from shared.table_errors import translated

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

KEPT: Final = timedelta(days=35)
"""How long a nightly copy is kept: whoever misses something at the end of a month still finds it."""
_PAGE: Final = 1000
_BATCH_ROWS: Final = 100
_BATCH_BYTES: Final = 2_000_000
"""Of the 4 MiB that the service takes in one transaction."""
_INT64: Final = "Edm.Int64"
_NIGHTLY: Final = "nightly/"
Table = Any
"""A TableClient; the SDK types half of its methods."""


class BackupError(Exception):
    """A copy cannot be made or put back; the message is one line."""


def dump(table: Table) -> Iterator[bytes]:
    """Yield every row of a table as a line.

    Raises:
        StoreUnavailableError: Storage did not answer.
        BackupError: A row holds a type that no version of ours writes.
    """
    with translated("read the table for a copy"):
        for entity in table.list_entities(results_per_page=_PAGE):
            yield json.dumps(dict(_encoded(entity)), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def load(table: Table, lines: Iterable[bytes]) -> int:
    """Write the rows of a copy, in place of rows with their keys; return how many.

    Raises:
        StoreUnavailableError: Storage did not answer; to begin again does no harm.
    """
    count, size, batch = 0, 0, list[Mapping[str, Any]]()
    for line in lines:
        row = _decoded(json.loads(line))
        full = len(batch) == _BATCH_ROWS or size + len(line) > _BATCH_BYTES
        if batch and (full or row["PartitionKey"] != batch[0]["PartitionKey"]):
            _submit(table, [("upsert", one, {"mode": UpdateMode.REPLACE}) for one in batch])
            size, batch = 0, []
        batch.append(row)
        size += len(line)
        count += 1
    if batch:
        _submit(table, [("upsert", one, {"mode": UpdateMode.REPLACE}) for one in batch])
    return count


def clear(table: Table) -> int:
    """Delete every row; return how many.

    Raises:
        StoreUnavailableError: Storage did not answer.
    """
    count, batch = 0, list[Mapping[str, Any]]()
    with translated("read the table"):
        keys = [*table.list_entities(results_per_page=_PAGE, select=["PartitionKey", "RowKey"])]
    for row in keys:
        if batch and (len(batch) == _BATCH_ROWS or row["PartitionKey"] != batch[0]["PartitionKey"]):
            _submit(table, [("delete", one) for one in batch])
            batch = []
        batch.append(row)
        count += 1
    if batch:
        _submit(table, [("delete", one) for one in batch])
    return count


def is_empty(table: Table) -> bool:
    """Whether a table has no row.

    Raises:
        StoreUnavailableError: Storage did not answer.
    """
    with translated("read the table"):
        return next(iter(table.list_entities(results_per_page=1)), None) is None


class TableBackups:
    """Copies of one table in one container of blobs."""

    def __init__(self, table: Table, container: "ContainerClient") -> None:
        self._table = table
        self._container = container

    def write_nightly(self, now: datetime) -> int:
        """Write the day's copy, in place of an earlier one of that day, and delete those that are too old.

        Raises:
            StoreUnavailableError: Storage did not answer.
        """
        rows = self.write(f"{_NIGHTLY}{now:%Y-%m-%d}")
        oldest = f"{_NIGHTLY}{now - KEPT:%Y-%m-%d}"
        with translated("delete old copies of the table"):
            for name in [name for name in self.names() if name.startswith(_NIGHTLY) and name < oldest]:
                self._container.delete_blob(name)
        return rows

    def write(self, name: str) -> int:
        """Write a copy; return how many rows it has.

        Raises:
            StoreUnavailableError: Storage did not answer.
        """
        rows = 0
        with tempfile.TemporaryFile() as file:
            with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6, mtime=0) as packed:
                for line in dump(self._table):
                    packed.write(line)
                    rows += 1
            file.seek(0)
            with translated("write a copy of the table"):
                if not self._container.exists():
                    self._container.create_container()
                self._container.upload_blob(name, file, overwrite=True)
        return rows

    def names(self) -> list[str]:
        """The copies that there are, oldest first.

        Raises:
            StoreUnavailableError: Storage did not answer.
        """
        with translated("list the copies of the table"):
            return sorted(self._container.list_blob_names()) if self._container.exists() else []

    def read(self, name: str) -> Iterator[bytes]:
        """Yield the lines of a copy.

        Raises:
            BackupError: The copy does not exist.
            StoreUnavailableError: Storage did not answer.
        """
        if name not in self.names():
            raise BackupError(f"the copy {name} does not exist")
        with tempfile.TemporaryFile() as file:
            with translated("read a copy of the table"):
                self._container.download_blob(name).readinto(file)
            file.seek(0)
            with gzip.GzipFile(fileobj=file, mode="rb") as packed:
                yield from packed


def _encoded(entity: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for name, value in entity.items():
        if isinstance(value, EntityProperty):
            if value.edm_type is not EdmType.INT64:
                raise BackupError(f"a row holds {name} as {value.edm_type}")
            yield name, {_INT64: str(value.value)}
        elif isinstance(value, str | bool | int | float):
            yield name, value
        else:
            raise BackupError(f"a row holds {name} as {type(value).__name__}")


def _decoded(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        name: EntityProperty(int(value[_INT64]), EdmType.INT64) if isinstance(value, dict) else value  # pyright: ignore[reportUnknownArgumentType]
        for name, value in row.items()
    }


def _submit(table: Table, operations: list[Any]) -> None:
    with translated("write rows of a copy"):
        table.submit_transaction(operations)
