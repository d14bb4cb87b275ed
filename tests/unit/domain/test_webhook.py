"""The secret that webhooks are signed with."""

import base64

import pytest

from shared.domain.webhook import signing_key


@pytest.mark.parametrize("size", [24, 32, 64])
def test_a_secret_should_be_the_key_in_base64_after_its_prefix(size: int) -> None:
    key = bytes(range(size))
    assert signing_key(f"whsec_{base64.b64encode(key).decode()}") == key


@pytest.mark.parametrize(
    "secret",
    [
        f"whsec_{base64.b64encode(bytes(23)).decode()}",
        f"whsec_{base64.b64encode(bytes(65)).decode()}",
        base64.b64encode(bytes(32)).decode(),
        f"whsec_{base64.b64encode(bytes(32)).decode()[:-1]}",
        f"whsec_-{base64.b64encode(bytes(32)).decode()}",  # b64decode leaves out what is not base64 unless it validates
        "whsec_",
    ],
)
def test_any_other_secret_should_be_refused_with_how_to_make_one(secret: str) -> None:
    with pytest.raises(ValueError, match="openssl rand"):
        signing_key(secret)
