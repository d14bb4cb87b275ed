"""The identity of a deployment: made once in its table, whoever begins first; the same for every process after that."""

import re

import pytest

from shared.adapters import identity, with_user
from shared.domain.deployment import RANDOM_BYTES, identity_of, is_identity, skypilot_user
from shared.errors import SettingsError, StoreError, StoreUnavailableError
from shared.storage.base import DEPLOYMENT, Marker
from tests.functional.world import settings
from tests.twins.clock import START, ManualClock
from tests.twins.store import MemoryInstanceStore

CLOCK = ManualClock()


def test_a_table_should_have_one_identity_and_another_table_another() -> None:
    one, other = MemoryInstanceStore(), MemoryInstanceStore()
    made = identity(one, CLOCK)
    assert is_identity(made)
    assert identity(one, CLOCK) == made
    assert identity(other, CLOCK) != made


def test_an_identity_should_be_a_valid_label_of_every_cloud() -> None:
    for chance in (b"\x00" * RANDOM_BYTES, b"\xff" * RANDOM_BYTES):
        assert re.fullmatch(r"[a-z0-9]{16}", identity_of(chance))


def test_a_lost_table_should_begin_with_the_identity_that_is_set() -> None:
    store = MemoryInstanceStore()
    assert identity(store, CLOCK, "a" * 16) == "a" * 16
    assert identity(store, CLOCK) == "a" * 16


def test_another_identity_than_the_tables_should_be_refused() -> None:
    store = MemoryInstanceStore()
    made = identity(store, CLOCK)
    with pytest.raises(SettingsError, match=made):
        identity(store, CLOCK, "a" * 16)


def test_storage_without_an_answer_should_be_no_new_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryInstanceStore()

    def silent(_: Marker) -> Marker:
        raise StoreUnavailableError("no answer")

    monkeypatch.setattr(store, "claim_marker", silent)
    with pytest.raises(StoreUnavailableError):
        identity(store, CLOCK)


@pytest.mark.parametrize("text", ["", "default", "A" * 16])
def test_a_damaged_identity_should_stop_the_app_rather_than_be_replaced(text: str) -> None:
    store = MemoryInstanceStore()
    store.put_marker(Marker(kind=DEPLOYMENT, key="identity", at=START, text=text))
    with pytest.raises(StoreError, match="identity"):
        identity(store, CLOCK)


def test_skypilots_user_should_follow_the_identity_unless_it_is_set() -> None:
    derived = with_user(settings(), "a" * 16).skypilot_user_id
    assert re.fullmatch(r"[0-9a-f]{8}", derived)
    assert derived == skypilot_user("a" * 16) != skypilot_user("b" * 16)
    assert with_user(settings(SKYPILOT_USER_ID="67706c61"), "a" * 16).skypilot_user_id == "67706c61"
