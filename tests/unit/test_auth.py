"""Tokens, scopes and derived secrets."""

from pydantic import SecretStr

from gpulaunch.operations import Scope
from shared.auth import Deriver, Purpose, scope_of

ADMIN = (SecretStr("admin-token-number-one"), SecretStr("admin-token-number-two"))
READ = (SecretStr("reader-token-number-one"),)
KEY = SecretStr("k" * 32)
ONE, OTHER = "inst-01K0000000000000000000000A", "inst-01K0000000000000000000000B"


def test_every_configured_token_should_grant_its_scope() -> None:
    assert [scope_of(token.get_secret_value(), ADMIN, READ) for token in (*ADMIN, *READ)] == [
        Scope.ADMIN,
        Scope.ADMIN,
        Scope.READ,
    ]


def test_other_tokens_should_grant_none() -> None:
    for token in ("", "admin-token-number-on", "admin-token-number-one ", "ADMIN-TOKEN-NUMBER-ONE", "ü"):
        assert scope_of(token, ADMIN, READ) is None
    assert scope_of("anything", (), ()) is None


def test_a_derived_secret_should_be_the_same_every_time() -> None:
    assert Deriver(KEY).derive(ONE, 1, Purpose.NODE) == Deriver(KEY).derive(ONE, 1, Purpose.NODE)


def test_a_derived_secret_should_differ_by_key_instance_attempt_and_purpose() -> None:
    secrets = {
        Deriver(SecretStr(key)).derive(instance, attempt, purpose)
        for key in ("k" * 32, "l" * 32)
        for instance in (ONE, OTHER)
        for attempt in (1, 2, 11)
        for purpose in Purpose
    }
    assert len(secrets) == 2 * 2 * 3 * len(Purpose)


def test_a_node_token_should_open_its_own_attempt_only() -> None:
    deriver = Deriver(KEY)
    token = deriver.derive(ONE, 1, Purpose.NODE)
    assert deriver.is_node(token, ONE, 1)
    assert not deriver.is_node(token, ONE, 2)
    assert not deriver.is_node(token, OTHER, 1)
    assert not deriver.is_node(deriver.derive(ONE, 1, Purpose.AGENT), ONE, 1)
    assert not deriver.is_node("", ONE, 1)


def test_an_endpoint_key_should_be_told_by_its_form() -> None:
    key = Deriver(KEY).endpoint_key(ONE, 1)
    assert key.startswith("gl-")
    assert len(key) == 46
