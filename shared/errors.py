"""The errors of the program, all under one base.

GpulaunchError
├── SettingsError            a setting is missing or wrong; stops the app
├── StoreError
│   ├── StaleRecordError     somebody else changed the record first (ETag)
│   ├── StaleLedgerError     somebody else changed the ledger first (ETag)
│   ├── AlreadyExistsError   an insert met an existing row
│   ├── RowTooLargeError     no row can hold the document
│   ├── ForeignTokenError    a continuation token that no listing returned
│   ├── UnreadableRowError   a row that this version cannot read
│   │   └── UnreadableRecordError  a record's row; see shared.storage.base
│   └── StoreUnavailableError storage did not answer; try again
├── MessageError             a queue message that can never be understood
├── CatalogError             see shared.domain.catalog
├── ProviderError            see shared.backends.base
└── NodeError                see shared.backends.base
Problems of the HTTP interface live in shared.api.problems.
"""

from gpulaunch.errors import GpulaunchError


class SettingsError(GpulaunchError):
    """A setting is missing or has a value that can't be used. The message is one line for the operator."""


class StoreError(GpulaunchError):
    """Base of storage errors."""


class StaleRecordError(StoreError):
    """The record changed since it was read; whoever changed it carries on, this caller stops or reads again."""


class StaleLedgerError(StoreError):
    """The ledger changed since it was read; nothing was written, and the same may be tried on it as it is now."""


class AlreadyExistsError(StoreError):
    """A row that was to be inserted is there already."""


class RowTooLargeError(StoreError):
    """A document is larger than a row can be; with less text it may fit."""


class ForeignTokenError(StoreError):
    """A continuation token that no listing of ours returned."""


class UnreadableRowError(StoreError):
    """A row that this version cannot read: damaged, or written by a later version. No retry will help."""


class StoreUnavailableError(StoreError):
    """Storage did not answer in time or refused for load; the write may or may not have happened."""
