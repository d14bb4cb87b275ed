"""Keys with which applications call an endpoint: named, shown once, stored as hashes, revoked everywhere at once."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from gpulaunch.models.endpoints import KeyRequest
from gpulaunch.models.problems import FieldError
from gpulaunch.models.routes import EndpointKey, hash_of_key
from shared.clock import Clock
from shared.control.endpoints import Endpoints
from shared.domain.endpoint import EndpointRecord
from shared.domain.errors import InvalidFieldsError, KeyExistsError

MOST_KEYS = 100
"""Of an endpoint; each takes 330 of the 500,000 characters of its row."""


@dataclass(frozen=True)
class EndpointKeys:
    endpoints: Endpoints
    clock: Clock
    random: Callable[[int], str] = secrets.token_urlsafe

    def create(self, name: str, wanted: KeyRequest) -> tuple[EndpointKey, str]:
        """Make a key; the second value is the key itself, which is stored nowhere.

        Raises:
            KeyExistsError: The endpoint has a key of that name.
            RefusalError: The endpoint does not exist, is being deleted, or has the maximum number of keys.
        """
        key = f"gl-{self.random(32)}"
        made = EndpointKey(
            key_id=f"key-{self.random(9)}",
            name=wanted.name,
            key_hash=hash_of_key(key),
            created_at=self.clock.now(),
            requests_per_minute=wanted.requests_per_minute,
            tokens_per_minute=wanted.tokens_per_minute,
            tokens_per_month=wanted.tokens_per_month,
            requests_at_once=wanted.requests_at_once,
        )

        def add(record: EndpointRecord) -> EndpointRecord:
            if any(one.key_hash == made.key_hash for one in record.keys):
                return record  # an earlier try was written, and its answer lost
            if any(one.name == wanted.name for one in record.keys):
                raise KeyExistsError(wanted.name)
            if len(record.keys) >= MOST_KEYS:
                message = f"An endpoint has at most {MOST_KEYS} keys; revoke one that is not used."
                raise InvalidFieldsError([FieldError(field="body", message=message)])
            added = record.model_copy(update={"keys": [*record.keys, made]})
            return added.noted(self.clock.now(), f"Key {made.key_id} made for {made.name}.")

        self.endpoints.change(name, add)
        return made, key

    def revoke(self, name: str, key_id: str) -> EndpointRecord:
        """Revoke a key; harmless if it is not there.

        That it is not there counts only once a write has proved the reading current: whoever revokes a key believes
        that it opens nothing any more.
        """

        def drop(record: EndpointRecord) -> EndpointRecord:
            kept = [one for one in record.keys if one.key_id != key_id]
            if len(kept) == len(record.keys):
                return record.model_copy(update={"updated_at": self.clock.now()})
            return record.model_copy(update={"keys": kept}).noted(self.clock.now(), f"Key {key_id} revoked.")

        return self.endpoints.change(name, drop)
