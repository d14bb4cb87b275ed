"""Who may do what: admin tokens, and the tokens and keys that are derived for nodes."""

import base64
import hashlib
import hmac
from collections.abc import Iterable
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

from pydantic import SecretStr

from gpulaunch.operations import Scope

if TYPE_CHECKING:
    from shared.certificates import Authority, NodeCertificate


class Purpose(StrEnum):
    """What a derived secret is for; one derived for one purpose is worthless for another."""

    NODE = "node"
    """The node's bearer token towards the control plane."""
    AGENT = "agent"
    """The control plane's bearer token towards the node's agent."""
    ENDPOINT = "endpoint"
    """The API key of the node's vLLM."""
    SESSION = "session"
    """The key that signs the web UI's cookies; belongs to the deployment, not to an attempt."""
    GATEWAY = "gateway"
    """The key that unseals nodes' keys in the gateway; belongs to the deployment."""
    AUTHORITY = "authority"
    """What nodes' certificates follow from; belongs to the deployment."""
    CALLER = "caller"
    """Stands for a caller's token in the hash of an idempotency key."""


def _bytes(text: str) -> bytes:
    """Text as bytes; a header's bytes beyond ASCII may come as lone surrogates, which UTF-8 cannot hold."""
    return text.encode("utf-8", "surrogatepass")


def _matches(token: str, candidates: Iterable[SecretStr]) -> bool:
    """Compare with every candidate, each in constant time, so that time tells nothing."""
    found = False
    for candidate in candidates:
        found |= hmac.compare_digest(_bytes(token), candidate.get_secret_value().encode())
    return found


def scope_of(token: str, admin: Iterable[SecretStr], read: Iterable[SecretStr]) -> Scope | None:
    is_admin, is_reader = _matches(token, admin), _matches(token, read)
    if is_admin:
        return Scope.ADMIN
    return Scope.READ if is_reader else None


class Deriver:
    """Derives secrets from the master key, so that none has to be stored."""

    def __init__(self, master_key: SecretStr) -> None:
        self._key = master_key.get_secret_value().encode()

    def derive(self, instance_id: str, attempt: int, purpose: Purpose) -> str:
        """The secret of one attempt for one purpose: 43 URL-safe characters (HMAC-SHA-256)."""
        text = f"gpulaunch/1|{instance_id}|{attempt}|{purpose.value}".encode()
        digest = hmac.new(self._key, text, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def endpoint_key(self, instance_id: str, attempt: int) -> str:
        return "gl-" + self.derive(instance_id, attempt, Purpose.ENDPOINT)

    def gateway_key(self) -> str:
        """The gateway's only secret: with it nodes' keys are unsealed, and no other secret can be derived."""
        return self.derive("gateway", 0, Purpose.GATEWAY) + "="

    def sealed(self, key: str) -> str:
        """A node's key as only the gateway reads it: what stands in a row opens nothing by itself."""
        from cryptography.fernet import Fernet

        return Fernet(self.gateway_key()).encrypt(key.encode()).decode()

    @cached_property
    def _authority(self) -> "Authority":
        from shared.certificates import Authority

        return Authority(self.derive("nodes", 0, Purpose.AUTHORITY).encode())

    def authority_certificate(self) -> str:
        """What vouches for all nodes' certificates: PEM, no secret."""
        return self._authority.certificate

    def certificate(self, instance_id: str, attempt: int) -> "NodeCertificate":
        """The certificate with which the vLLM of an attempt's node answers, and its key."""
        return self._authority.issue(instance_id, attempt)

    def is_node(self, token: str, instance_id: str, attempt: int) -> bool:
        return hmac.compare_digest(_bytes(token), self.derive(instance_id, attempt, Purpose.NODE).encode())
