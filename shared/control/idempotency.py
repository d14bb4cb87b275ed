"""Idempotent launches: the same key with the same body gives the same answer and launches nothing twice.

A key belongs to the caller's token: two callers who use the same key share nothing. It is kept for a week.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from gpulaunch.models.problems import FieldError
from gpulaunch.models.requests import LaunchRequest
from gpulaunch.models.responses import LaunchAnswer
from shared.domain.errors import InvalidFieldsError, KeyReusedError, RefusalError
from shared.errors import AlreadyExistsError
from shared.storage.base import IdempotencyEntry, InstanceStore

MAX_KEY = 255
"""Characters of an Idempotency-Key; a UUID has 36."""


@dataclass(frozen=True)
class LaunchKey:
    """A caller's key and body, as hashes."""

    key_hash: str
    body_hash: str
    bare_hash: str
    """Of the key alone, as versions write it that do not tell callers apart."""
    shared: bool = True
    """The entry is for those versions, too; False: another caller's is there already."""

    @classmethod
    def of(cls, key: str, request: LaunchRequest, caller: str = "") -> "LaunchKey":
        """The key of a request; `caller` stands for the caller's token, empty where there are none.

        Raises:
            InvalidFieldsError: The key is empty, too long or not printable.
        """
        if not 1 <= len(key) <= MAX_KEY or not key.isprintable():
            message = f"1 to {MAX_KEY} printable characters, such as a UUID."
            raise InvalidFieldsError([FieldError(field="Idempotency-Key", message=message)])
        body = json.dumps(request.model_dump(mode="json", exclude_unset=True), sort_keys=True, separators=(",", ":"))
        return cls(_hash(f"{caller}|{key}" if caller else key), _hash(body), _hash(key))

    def entry(self, answer: LaunchAnswer, now: datetime) -> IdempotencyEntry:
        return IdempotencyEntry(
            key_hash=self.key_hash,
            body_hash=self.body_hash,
            instance_id=answer.instance_id,
            answer=answer.model_dump_json(),
            created_at=now,
            bare_hash=self.bare_hash if self.shared and self.bare_hash != self.key_hash else None,
        )


Launch = Callable[[LaunchRequest, LaunchKey | None, str | None, str | None], LaunchAnswer]
"""A launch that stores its answer under the key: request, key, the caller's traceparent, the plan that was shown."""


class IdempotentLauncher:
    """Launches once per key; without a key, every time."""

    def __init__(self, store: InstanceStore, launch: Launch) -> None:
        self._store = store
        self._launch = launch

    def launch(
        self,
        request: LaunchRequest,
        key: str | None = None,
        trace: str | None = None,
        caller: str = "",
        shown: str | None = None,
    ) -> LaunchAnswer:
        """Accept a launch, if it is as was `shown`, or answer a repeated one as before.

        The key is looked up first: a replay is answered alike even where prices, limits or providers have changed.

        Raises:
            RefusalError: The launch is not accepted; `KeyReusedError` where the key came with another body.
            StoreUnavailableError: The record could not be written; with a key the caller may safely repeat.
        """
        if key is None:
            return self._launch(request, None, trace, shown)
        hashed = LaunchKey.of(key, request, caller)
        found = self._store.idempotency(hashed.key_hash) or self._earlier(hashed)
        if found is not None:
            return _replay(found, hashed)
        try:
            return self._launch(request, hashed, trace, shown)
        except (AlreadyExistsError, RefusalError) as error:
            # The same key came twice at once, and the other call was first; it may have used up a budget.
            found = self._store.idempotency(hashed.key_hash) or self._earlier(hashed)
            if found is not None:
                return _replay(found, hashed)
            if isinstance(error, RefusalError) or self._store.idempotency(hashed.bare_hash) is None:
                raise
            # Another caller has used the same key.
            return self._launch(request, replace(hashed, shared=False), trace, shown)

    def _earlier(self, key: LaunchKey) -> IdempotencyEntry | None:
        """What an earlier version stored under the key alone, for a launch that is repeated across an upgrade.

        Only with the same body, since another caller may have used the key, and not what this version stored there.
        """
        found = None if key.bare_hash == key.key_hash else self._store.idempotency(key.bare_hash)
        return found if found is not None and found.bare_hash is None and found.body_hash == key.body_hash else None


def _replay(found: IdempotencyEntry, key: LaunchKey) -> LaunchAnswer:
    if found.body_hash != key.body_hash:
        raise KeyReusedError
    return LaunchAnswer.model_validate_json(found.answer)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
