"""Table Storage as its clients see it: tables, entities, ETags, queries in pages, transactions.

What is refused carries the service's own codes, which the program acts on. Azurite and this stand-in pass the same
contract suites.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from tests.standins.storage import batch
from tests.standins.storage.odata import condition
from tests.standins.storage.shapes import Call, RefusedError, Reply

JSON: Final = "application/json;odata=minimalmetadata;charset=utf-8"
PAGE: Final = 1000
"""Rows in one answer, at most."""
_ROWS: Final = 100
"""Operations in one transaction, at most."""
_PROPERTY_UNITS: Final = 32 * 1024
_ROW_UNITS: Final = 512 * 1024
_BATCH_BYTES: Final = 4 * 1024 * 1024
_ENTITY: Final = re.compile(
    r"(?P<table>\w+)\(PartitionKey='(?P<partition>(?:[^']|'')*)',RowKey='(?P<row>(?:[^']|'')*)'\)"
)
_QUERY: Final = re.compile(r"(?P<table>\w+)\(\)")
Key = tuple[str, str, str]
"""Of an entity: table, partition, row."""
Row = dict[str, Any]
"""Properties as they were sent, with their types beside them (`at@odata.type`), and `Timestamp`."""
Partition = dict[str, tuple[str, Row]]
"""ETag and row by row key."""


@dataclass
class TableService:
    now: Callable[[], datetime]
    page: Callable[[], int] = lambda: PAGE
    """Rows in the next answer at most: the service may end any page early."""
    tables: dict[str, dict[str, Partition]] = field(default_factory=dict[str, dict[str, Partition]])
    """Partitions by their key, by table."""
    _writes: int = field(default=0, init=False)

    def answer(self, call: Call) -> Reply:
        try:
            return self._answer(call)
        except RefusedError as error:
            return _refusal(error)

    def partition(self, table: str, key: str) -> Partition:
        """The rows themselves, by row key."""
        return self.tables.setdefault(table, {}).setdefault(key, {})

    def _answer(self, call: Call) -> Reply:
        if call.path == "$batch":
            return self._transaction(call)
        if call.path == "Tables" and call.method == "POST":
            return self._create_table(str(json.loads(call.body)["TableName"]))
        query = _QUERY.fullmatch(call.path)
        if query is not None and call.method == "GET":
            return self._query(self._table(query["table"]), call.query)
        if call.method == "GET":
            return self._get(_key(call))
        change = _Change(self)
        reply = change.take(call)
        change.write()
        return reply

    def _create_table(self, name: str) -> Reply:
        if name in self.tables:
            raise RefusedError(409, "TableAlreadyExists")
        self.tables[name] = {}
        return Reply(status=201, body=json.dumps({"TableName": name}).encode(), content_type=JSON)

    def _table(self, name: str) -> dict[str, Partition]:
        if name not in self.tables:
            raise RefusedError(404, "TableNotFound")
        return self.tables[name]

    def look(self, key: Key) -> tuple[str, Row] | None:
        """The ETag and the row of a key.

        Raises:
            RefusedError: there is no such table.
        """
        table, partition, row = key
        return self._table(table).get(partition, {}).get(row)

    def _get(self, key: Key) -> Reply:
        found = self.look(key)
        if found is None:
            raise RefusedError(404, "ResourceNotFound")
        return Reply(
            status=200, headers={"ETag": found[0]}, body=json.dumps(_shown(*found)).encode(), content_type=JSON
        )

    def _query(self, table: dict[str, Partition], query: Mapping[str, str]) -> Reply:
        wanted = condition(query["$filter"]) if query.get("$filter") else _any
        begin = query.get("NextPartitionKey", ""), query.get("NextRowKey", "")
        found = sorted(
            key
            for partition, rows in table.items()
            for key in ((partition, row) for row in rows)
            if key >= begin and wanted(rows[key[1]][1])
        )
        size = min(int(query.get("$top", PAGE)), PAGE, self.page())
        select = query["$select"].split(",") if query.get("$select") else None
        shown = [_shown(*table[partition][row], select) for partition, row in found[:size]]
        headers: dict[str, str] = {}
        if len(found) > size:
            partition, row = found[size]
            headers = {"x-ms-continuation-NextPartitionKey": partition, "x-ms-continuation-NextRowKey": row}
        return Reply(status=200, headers=headers, body=json.dumps({"value": shown}).encode(), content_type=JSON)

    def _transaction(self, call: Call) -> Reply:
        if len(call.body) > _BATCH_BYTES:
            raise RefusedError(413, "RequestBodyTooLarge")
        operations = call.operations or batch.operations(call)
        if len(operations) > _ROWS:
            raise RefusedError(400, "InvalidInput", "99:The batch request operation exceeds the maximum 100 changes.")
        change = _Change(self)
        replies: list[Reply] = []
        for number, operation in enumerate(operations):
            try:
                replies.append(change.take(operation))
            except RefusedError as error:
                replies = [_refusal(RefusedError(error.status, error.code, f"{number}:{error}"))]
                break
        else:
            change.write()
        return Reply(status=202, parts=tuple(replies)) if call.operations else batch.answer(replies)

    def stamp(self) -> str:
        """A time in the service's own form, unlike any other: Azure counts in tenths of microseconds."""
        self._writes += 1
        return f"{self.now():%Y-%m-%dT%H:%M:%S.%f}"[:-3] + f"{self._writes % 10_000:04d}Z"


class _Change:
    """What one request changes, all of it or nothing."""

    def __init__(self, service: TableService) -> None:
        self._service = service
        self._staged: dict[Key, tuple[str, Row] | None] = {}

    def take(self, call: Call) -> Reply:
        """Check one operation and keep what it changes.

        Raises:
            RefusedError: it can't be done.
        """
        if call.method == "POST":
            sent: Row = json.loads(call.body)
            key = call.path.removesuffix("()"), str(sent["PartitionKey"]), str(sent["RowKey"])
            there = self._look(key)
            if there is not None:
                raise RefusedError(409, "EntityAlreadyExists")
            return self._put(key, sent, 201 if call.headers.get("prefer") != "return-no-content" else 204)
        key, condition_ = _key(call), call.headers.get("if-match")
        there = self._look(key)
        if condition_ is not None and there is None:
            raise RefusedError(404, "ResourceNotFound")
        if condition_ not in (None, "*") and there is not None and there[0] != condition_:
            raise RefusedError(412, "UpdateConditionNotSatisfied")
        if call.method == "DELETE":
            if there is None:
                raise RefusedError(404, "ResourceNotFound")
            self._staged[key] = None
            return Reply(status=204)
        sent = json.loads(call.body) if call.body else {}
        if call.method in ("PATCH", "MERGE") and there is not None:
            sent = {**there[1], **sent}
        return self._put(key, {**sent, "PartitionKey": key[1], "RowKey": key[2]}, 204)

    def write(self) -> None:
        for (table, partition, row), found in self._staged.items():
            rows = self._service.partition(table, partition)
            if found is None:
                rows.pop(row, None)
            else:
                rows[row] = found

    def _look(self, key: Key) -> tuple[str, Row] | None:
        if key in self._staged:
            raise RefusedError(400, "InvalidDuplicateRow")
        if any(one[:2] != key[:2] for one in self._staged):
            raise RefusedError(400, "CommandsInBatchActOnDifferentPartitions")
        return self._service.look(key)

    def _put(self, key: Key, sent: Row, status: int) -> Reply:
        _check_size(sent)
        stamp = self._service.stamp()
        etag = f"W/\"datetime'{stamp.replace(':', '%3A')}'\""
        row = {name: value for name, value in sent.items() if name != "odata.etag"} | {"Timestamp": stamp}
        self._staged[key] = etag, row
        body = json.dumps(_shown(etag, row)).encode() if status == 201 else b""
        return Reply(status=status, headers={"ETag": etag}, body=body, content_type=JSON if body else "")


def _any(_: Mapping[str, Any]) -> bool:
    return True


def _key(call: Call) -> Key:
    found = _ENTITY.fullmatch(call.path)
    if found is None:
        raise RefusedError(400, "InvalidUri", call.path)
    return found["table"], found["partition"].replace("''", "'"), found["row"].replace("''", "'")


def _check_size(sent: Row) -> None:
    total = 0
    for name, value in sent.items():
        units = len(value.encode("utf-16-le")) // 2 if isinstance(value, str) else 4
        if units > _PROPERTY_UNITS:
            raise RefusedError(400, "PropertyValueTooLarge", name)
        total += len(name) + units
    if total > _ROW_UNITS:
        raise RefusedError(400, "EntityTooLarge")


def _shown(etag: str, row: Row, select: list[str] | None = None) -> Row:
    if select is not None:
        row = {name: value for name, value in row.items() if name.partition("@")[0] in select}
    return {"odata.etag": etag, **row}


def _refusal(error: RefusedError) -> Reply:
    said = {"code": error.code, "message": {"lang": "en-US", "value": str(error)}}
    return Reply(status=error.status, body=json.dumps({"odata.error": said}).encode(), content_type=JSON)
