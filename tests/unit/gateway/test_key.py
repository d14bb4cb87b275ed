"""Where the gateway's key comes from, and where its identity's token goes."""

from collections.abc import Mapping
from typing import Any

import pytest
from azure.core.credentials import AccessToken, TokenCredential
from azure.core.exceptions import ClientAuthenticationError

from gateway.key import KeyUnavailableError, key_of
from tests.standins.azure.shapes import Call, Reply
from tests.standins.azure.transport import Transport

PLACE = "https://kvg-demo.vault.azure.net/secrets/gateway-key"
VAULT = {"GPULAUNCH_GATEWAY_KEY_URL": PLACE}


class Identity:
    def __init__(self) -> None:
        self.scopes: list[str] = []

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        self.scopes += scopes
        return AccessToken("the-identity", 4102444800)


class Nobody:
    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        raise ClientAuthenticationError("no identity here")


def never(_: Mapping[str, str]) -> TokenCredential:
    raise AssertionError("asked for an identity")


def test_a_given_key_should_be_used_without_an_identity() -> None:
    assert key_of(VAULT | {"GPULAUNCH_GATEWAY_KEY": "given"}, never) == "given"


class Vault:
    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.heard: list[Call] = []

    def transport(self) -> Transport:
        def answer(call: Call) -> Reply:
            self.heard.append(call)
            return self.reply

        return Transport(answer)


def test_a_key_in_a_vault_should_be_read_by_the_identity() -> None:
    vault, identity = Vault(Reply(200, {"value": "kept", "id": f"{PLACE}/1"})), Identity()
    assert key_of(VAULT, lambda _: identity, vault.transport()) == "kept"
    (call,) = vault.heard
    assert (call.method, call.base + call.path) == ("GET", PLACE)
    assert call.headers["Authorization"] == "Bearer the-identity"
    assert identity.scopes == ["https://vault.azure.net/.default"]


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, "set GPULAUNCH_GATEWAY_KEY; "),
        ({"GPULAUNCH_GATEWAY_KEY": "", "GPULAUNCH_GATEWAY_KEY_URL": ""}, "set GPULAUNCH_GATEWAY_KEY; "),
        ({"GPULAUNCH_GATEWAY_KEY_URL": PLACE.replace("https", "http")}, "has to be https://"),
        (
            {"GPULAUNCH_GATEWAY_KEY_URL": "https://vault.azure.net.example.org/secrets/gateway-key"},
            "has to be https://",
        ),
        ({"GPULAUNCH_GATEWAY_KEY_URL": f"{PLACE}?x=@example.org"}, "has to be https://"),
    ],
)
def test_what_names_no_vault_should_be_refused_before_a_token_is_asked_for(
    environ: dict[str, str], message: str
) -> None:
    with pytest.raises(KeyUnavailableError, match=message):
        key_of(environ, never)


@pytest.mark.parametrize(
    ("status", "message"),
    [(403, "cannot be read: 403; the identity's role"), (404, "cannot be read: 404; `python -m deploy secrets make`")],
)
def test_a_refusal_should_say_what_is_missing(status: int, message: str) -> None:
    vault = Vault(Reply(status, {"error": {"code": "Refused", "message": "no"}}))
    with pytest.raises(KeyUnavailableError, match=message):
        key_of(VAULT, lambda _: Identity(), vault.transport())


def test_a_vault_that_cannot_be_reached_should_be_one_line() -> None:
    with pytest.raises(KeyUnavailableError, match="cannot be read: no identity here"):
        key_of(VAULT, lambda _: Nobody())
