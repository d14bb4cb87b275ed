"""How records and the rest become rows of the table, and the keys and ranges of these rows. Pure.

One partition per workspace. Row keys, with `<inv>` the instance's ULID turned round so that newer sorts first:

| row key | row |
|---|---|
| `live|<inv>` | record of an instance that has not ended |
| `done|<inv>` | record of an instance that has |
| `ev|<inv>|<sequence, six digits>` | event |
| `idem|<SHA-256 of token and key>` | idempotency entry |
| `endpoint|<name>` | record of an endpoint |
| `decisions|<name>` | the latest decisions about its number of replicas |
| `note|<kind>|<SHA-256 of the key>` | marker |
| `ledger` | money reserved and spent, and what is counted |
| `cost|<yyyy-mm-dd>|<inv>|<attempt, two digits>` | what an attempt has cost that ended on that day |
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from pydantic import BaseModel
from ulid import ULID

from gpulaunch.models.instances import INSTANCE_ID
from gpulaunch.models.times import iso
from shared.domain.instance import InstanceRecord
from shared.domain.money import CostEntry
from shared.errors import ForeignTokenError, RowTooLargeError
from shared.storage.base import IdempotencyEntry, InstanceFilter

TableRow = dict[str, str]
"""A row's properties; all of them are strings."""

LIVE: Final = "live"
DONE: Final = "done"

CHUNK_UNITS: Final = 30_000
"""UTF-16 units in one property; the service allows 32,768."""
MAX_DOC_UNITS: Final = 500_000
"""UTF-16 units in one document: the service allows 1 MiB in a row, two bytes a unit, names and keys included."""
ENDING_UNITS: Final = 12_000
"""Further units for a record on its way to the end: it must never fail for want of room."""
MAX_EVENTS: Final = 97
"""Events and costs in one transaction, which holds at most 100 rows; at most three others are written with them."""
LEDGER_KEY: Final = "ledger"

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TURN: Final = str.maketrans(_ALPHABET, _ALPHABET[::-1])
_ID: Final = re.compile(INSTANCE_ID)
_PREFIX: Final = "inst-"
_TIME_DIGITS: Final = 10
"""Digits of a ULID that are its time, in milliseconds."""


@dataclass(frozen=True, kw_only=True)
class KeyRange:
    """Row keys from `first` up to `last`; each end is in or out of it."""

    first: str
    last: str
    with_first: bool = True
    with_last: bool = False

    def filter(self) -> str:
        """The range as an OData filter with the parameters `first` and `last`."""
        low, high = "ge" if self.with_first else "gt", "le" if self.with_last else "lt"
        return f"RowKey {low} @first and RowKey {high} @last"


def is_instance_id(text: str) -> bool:
    """Whether a text has the form of an instance id."""
    return _ID.fullmatch(text) is not None


def inverted_ulid(instance_id: str) -> str:
    """The ULID of an instance with each of its Crockford digits v replaced by 31-v, so that newer sorts first.

    Raises:
        ValueError: It is not an instance id.
    """
    if not is_instance_id(instance_id):
        raise ValueError("not an instance id")
    return instance_id.removeprefix(_PREFIX).translate(_TURN)


def upright(inverted: str) -> str:
    """The instance id of which `inverted_ulid` made this."""
    return _PREFIX + inverted.translate(_TURN)


def record_key(instance_id: str, ended: bool) -> str:
    """Row key of a record."""
    return f"{DONE if ended else LIVE}|{inverted_ulid(instance_id)}"


def event_key(instance_id: str, sequence: int) -> str:
    """Row key of an event."""
    return f"ev|{inverted_ulid(instance_id)}|{sequence:06d}"


def idempotency_key(key_hash: str) -> str:
    """Row key of an idempotency entry."""
    return f"idem|{key_hash}"


def idempotency_row(partition: str, entry: IdempotencyEntry) -> TableRow:
    """Row of an idempotency entry; the property `created_at` is for the query of those that expire."""
    row = row_of(partition, idempotency_key(entry.key_hash), entry)
    return {**row, "created_at": iso(entry.created_at)}


def idempotency_range() -> KeyRange:
    """All idempotency entries."""
    return KeyRange(first="idem|", last=_end("idem"))


def marker_key(kind: str, key: str) -> str:
    """Row key of a marker; hashed, since a row key can't hold every character."""
    return f"note|{kind}|{hashlib.sha256(key.encode()).hexdigest()}"


def marker_range(kind: str) -> KeyRange:
    """The markers of a kind."""
    return KeyRange(first=f"note|{kind}|", last=_end(f"note|{kind}"))


def cost_key(entry: CostEntry) -> str:
    """Row key of what an attempt has cost."""
    return f"cost|{entry.day.isoformat()}|{inverted_ulid(entry.instance_id)}|{entry.attempt:02d}"


def cost_range(first: date) -> KeyRange:
    """What ended on a day or later."""
    return KeyRange(first=f"cost|{first.isoformat()}|", last=_end("cost"))


def record_range(area: str, newest: str | None = None, oldest: str | None = None, after: str | None = None) -> KeyRange:
    """The records of `live` or `done`, from `newest`, or what is older than `after`, down to `oldest`, included."""
    begin = newest if after is None else after
    first = f"{area}|" if begin is None else f"{area}|{inverted_ulid(begin)}"
    last = _end(area) if oldest is None else f"{area}|{inverted_ulid(oldest)}"
    return KeyRange(first=first, last=last, with_first=after is None, with_last=oldest is not None)


def conditions(wanted: InstanceFilter) -> tuple[list[str], dict[str, str]]:
    """What a record's row has to meet in a listing, as OData conditions, and the values that they speak of."""
    asked = {"phase": wanted.phase, "provider": wanted.provider}
    values = {name: str(value) for name, value in asked.items() if value is not None}
    made = [f"{name} eq @{name}" for name in values]
    if wanted.label is not None:
        key, value = wanted.label
        # a row without the label has no such property, and meets no condition about it
        made.append(f"{label_column(key)} {'ge' if value is None else 'eq'} @label")
        values["label"] = value or ""
    return made, values


def page_token(instance_id: str) -> str:
    """The opaque mark of a listing that has come down to an instance."""
    return base64.urlsafe_b64encode(f"older:{instance_id}".encode()).decode().rstrip("=")


def read_page_token(token: str) -> str:
    """The instance at which a listing stopped.

    Raises:
        ForeignTokenError: `page_token` did not make it.
    """
    try:
        instance_id = base64.urlsafe_b64decode(token + "==").decode().removeprefix("older:")
    except ValueError:
        instance_id = ""
    if not is_instance_id(instance_id) or page_token(instance_id) != token:
        raise ForeignTokenError("not a continuation token of this listing")
    return instance_id


def label_column(key: str) -> str:
    """The property that holds the value of a label; hashed, since its name can't hold every character."""
    return f"label_{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def event_range(instance_id: str, after: int) -> KeyRange:
    """The events of an instance with a sequence above `after`."""
    area = f"ev|{inverted_ulid(instance_id)}"
    return KeyRange(first=f"{area}|{max(after + 1, 0):06d}", last=_end(area))


def events_launched_before(moment: datetime, after: str | None = None) -> KeyRange:
    """The events of instances launched before a moment, newest first; `after`: of those that are older than it."""
    first = f"ev|{str(ULID.from_datetime(moment))[:_TIME_DIGITS].translate(_TURN)}"
    return KeyRange(first=first if after is None else _end(f"ev|{inverted_ulid(after)}"), last=_end("ev"))


def owner_of_event(key: str) -> str:
    """The id of the instance that an event's row key belongs to."""
    return upright(key.split("|")[1])


def _end(area: str) -> str:
    # `}` is the character after `|`: the first key that is past all of `area|…`
    return area + "}"


def row_of(partition: str, key: str, model: BaseModel, limit: int = MAX_DOC_UNITS) -> TableRow:
    """The row of a model, whose document has at most `limit` UTF-16 units.

    Raises:
        RowTooLargeError: No row can hold it.
    """
    return {"PartitionKey": partition, "RowKey": key, **_split(model, limit)}


def record_row(partition: str, record: InstanceRecord, writer: str) -> TableRow:
    """The row of a record; `writer` is unlike any other write's, so that a writer can recognise its own."""
    limit = MAX_DOC_UNITS + (ENDING_UNITS if record.ending is not None else 0)
    row = {
        **row_of(partition, record_key(record.instance_id, record.ended), record, limit),
        "phase": record.phase.value,
        "provider": record.request.provider,
        "mode": record.mode,
        "writer": writer,
        **{label_column(key): value for key, value in record.request.labels.items()},
    }
    if record.due_at is not None:
        row["due_at"] = iso(record.due_at)
    return row


def _split(model: BaseModel, limit: int) -> TableRow:
    """The document in `doc`, or, where one property can't hold it, in `doc0`, `doc1` and so on."""
    text = model.model_dump_json()
    # characters outside the basic plane are two units, so units are counted in the encoding that the service counts in
    units = text.encode("utf-16-le")
    size = len(units) // 2
    if size > limit:
        raise RowTooLargeError(f"{type(model).__name__} of {size} UTF-16 units; a row holds {limit}")
    if size <= CHUNK_UNITS:
        return {"doc": text}
    row: TableRow = {}
    start = 0
    while start < len(units):
        end = min(start + 2 * CHUNK_UNITS, len(units))
        if end < len(units) and 0xD8 <= units[end - 1] <= 0xDB:
            end -= 2  # don't part the two halves of a surrogate pair
        row[f"doc{len(row)}"] = units[start:end].decode("utf-16-le")
        start = end
    return row


def document(row: Mapping[str, Any]) -> str:
    """The document of a row as it was written, JSON unless somebody else wrote it; empty where there is none."""
    whole = row.get("doc")
    if whole is not None:
        return whole if isinstance(whole, str) else ""
    parts: list[str] = []
    while isinstance(part := row.get(f"doc{len(parts)}"), str):
        parts.append(part)
    return "".join(parts)
