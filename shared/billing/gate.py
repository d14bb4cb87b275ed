"""Changes to the ledger, the one row that all admissions of a workspace compete for."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, stop_after_delay, wait_random_exponential

from shared.errors import StaleLedgerError, StoreUnavailableError
from shared.storage.base import InstanceStore, VersionedLedger
from shared.turns import Turns

T = TypeVar("T")

_TRIES = 40
"""Admissions of one process queue up, so each process has one caller at the ETag: forty outlast a hundred processes."""

_LOCK_SECONDS = 15.0
"""How long a caller waits for the others of its process, each of which takes tens of milliseconds. Where storage is so
slow that they take seconds, the rest are refused rather than answered long after their users have left."""
_SECONDS = 60.0
"""After which no other try begins; HTTP itself ends at 230 s."""


class LedgerGate:
    """Runs changes against the newest ledger.

    Within a process a lock makes callers queue, which costs less than retrying on ETag conflicts with a neighbour.
    """

    def __init__(
        self,
        store: InstanceStore,
        sleep: Callable[[float], None],
        lock: AbstractContextManager[object] | None = None,
    ) -> None:
        self._store = store
        self._sleep = sleep
        self._lock = Turns(1, _LOCK_SECONDS, "the ledger") if lock is None else lock

    def change(self, attempt: Callable[[VersionedLedger], T]) -> T:
        """Run `attempt` on the newest ledger, again whenever another writer was first.

        Raises:
            StoreUnavailableError: Others kept changing the ledger, or held it for too long.
        """

        try:
            for trial in Retrying(
                retry=retry_if_exception_type(StaleLedgerError),
                stop=stop_after_attempt(_TRIES) | stop_after_delay(_SECONDS),
                wait=wait_random_exponential(multiplier=0.01, max=0.5),
                sleep=self._sleep,
                reraise=True,
            ):
                with trial, self._lock:
                    return attempt(self._store.ledger())
        except StaleLedgerError as error:
            raise StoreUnavailableError("others kept changing the ledger") from error
        raise AssertionError("unreachable: the last try returns or raises")
