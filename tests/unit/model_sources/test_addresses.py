"""What a source may point to is decided by address, in whatever form it is written."""

import pytest

from gpulaunch.models.requests import LaunchRequest
from shared.domain.provider import LaunchRefusedError
from shared.model_sources.addresses import check_source, is_public

INWARD = ("127.0.0.1", "10.1.2.3", "169.254.169.254", "168.63.129.16", "192.0.0.192", "100.100.100.200")
EMBEDDED = (
    "::ffff:{}",  # mapped
    "::{}",  # compatible, obsolete
    "::ffff:0:{}",  # translated
    "64:ff9b::{}",  # NAT64
    "64:ff9b:1::{}",  # NAT64 of a network of its own
    "2001:4860:4860::5efe:{}",  # ISATAP
    "2001:4860:4860:0:200:5efe:{}",
)


@pytest.mark.parametrize("address", INWARD)
@pytest.mark.parametrize("form", ["{}", *EMBEDDED])
def test_an_inward_address_should_be_so_in_every_form(form: str, address: str) -> None:
    assert not is_public(form.format(address))


@pytest.mark.parametrize(
    "address",
    [
        "::", "::1", "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b:1::8.8.8.8", "fec0::1", "feff::1", "fe80::1%eth0",
        "fc00::1", "fd00:ec2::254", "fd20:ce::254", "ff02::1", "100::1", "2001:db8::1", "2001:10::1", "2001:2::1",
        "5f00::1", "2002:7f00:1::", "2002:a83f:8110::", "2002:a9fe:a9fe::1", "192.88.99.1", "198.18.0.1", "4000::2",
        "203.0.113.1", "198.51.100.1", "3fff::1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "172.31.255.255",
        "192.168.0.1", "4000::1", "::2",
    ],
)  # fmt: skip
def test_reserved_addresses_should_not_be_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "20.60.1.1",
        "2603:1030::1",
        "2a00:1450:4001::1",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
    ],
)
def test_public_addresses_should_be_public(address: str) -> None:
    assert is_public(address)


def check(source: str, public_only: bool = True) -> None:
    check_source(LaunchRequest(model_name="org/name", gpu="A10", model_source=source), public_only)


@pytest.mark.parametrize(
    "source",
    [
        "https://169.254.169.254/latest/meta-data",
        "https://127.0.0.1:8443/c/m",
        "https://127.1/c/m",
        "https://0x7f.1/c/m",
        "https://2130706433/c/m",
        "https://localhost/c/m",
        "https://localhost./c/m",
        "https://storage/c/m",
        "https://metadata.google.internal/c/m",
        "https://files.corp/c/m",
        "https://a.localhost/c/m",
    ],
)
def test_a_source_that_points_inwards_should_be_refused_at_once_but_on_a_developers_machine(source: str) -> None:
    with pytest.raises(LaunchRefusedError, match="not a public address"):
        check(source)
    check(source, public_only=False)


@pytest.mark.parametrize(
    "source", ["s3://b/../../x", "r2://b/a//x", "hf://a/b/c/d", "https://host.example.com", "s3://b/./x"]
)
def test_a_source_that_can_never_be_read_should_be_refused_at_once(source: str) -> None:
    with pytest.raises(LaunchRefusedError):
        check(source, public_only=False)


@pytest.mark.parametrize(
    "source",
    [
        "hf://org/model", "hf://org/model@main", "s3://bucket/models/a", "r2://bucket", "https://8.8.8.8/c/m",
        "https://account.blob.core.windows.net/models/llama", "https://internal.example.com/c/m",
    ],
)  # fmt: skip
def test_other_sources_should_be_accepted(source: str) -> None:
    check(source)
