"""Which hosts a user may name as a store: none of this machine, its network or its cloud's metadata services."""

import ipaddress
import socket
from typing import Final

from gpulaunch.models.requests import LaunchRequest
from shared.model_sources.base import BlobSource, parse_source, refused

_UNICAST: Final = ipaddress.ip_network("2000::/3")
"""All that is public in IPv6; what is outside of it and holds an IPv4 address is judged by that one."""
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_PRIVATE: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "192.0.0.0/24",  # protocol assignments, metadata services among them
        "192.88.99.0/24",  # relays of 6to4
        "168.63.129.16/32",  # a public address, but inside Azure the platform's host
        "2001::/23",  # protocol assignments
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
    )
)
"""What Python 3.11 takes for public, or may take for it."""
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})
_LOCAL_NAMES: Final = ("localhost", "local", "internal", "lan", "home.arpa", "intranet", "corp")


def is_public(address: str) -> bool:
    """Return whether an address is public: not this machine, its network or its metadata service."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        # An address that embeds an IPv4 address is as private as that one.
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if inner is None and (found in _NAT64 or (int(found) >> 32) & 0xFFFFFFFF in _ISATAP):
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None and not is_public(str(inner)):
            return False
        if found.ipv4_mapped is not None or found.teredo is not None or found in _NAT64:
            return True
        if found not in _UNICAST:
            return False
    return found.is_global and not found.is_multicast and not any(found in network for network in _PRIVATE)


def check_source(request: LaunchRequest, public_only: bool) -> None:
    """Refuse a source that can never be read, without calling it: a malformed one, or one that points inwards.

    Names are resolved, and their addresses checked, when the store is called.

    Raises:
        LaunchRefusedError: With what is wrong.
    """
    source = parse_source(request)
    if public_only and isinstance(source, BlobSource) and _is_inward(source.host):
        raise refused(f"{source.name} is not a public address")


def _is_inward(netloc: str) -> bool:
    host = netloc.rpartition("@")[2]
    host = (host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]).removesuffix(".").lower()
    try:
        return not is_public(host)
    except ValueError:
        pass
    try:
        # 127.1, 0x7f.1 and 2130706433 are addresses too.
        return not is_public(socket.inet_ntoa(socket.inet_aton(host)))
    except (OSError, UnicodeError):
        return "." not in host or host.endswith(tuple(f".{name}" for name in _LOCAL_NAMES))
