"""The certificates by which nodes are known: of an authority that is derived from the master key, so none is stored.

The same master key, instance and attempt give the same certificate to the byte: ECDSA without chance (RFC 6979), and
fixed dates. So a node whose record was lost is still known. What bounds a certificate is its name: it stands for one
attempt, and whoever calls the node looks for that one alone.
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

DOMAIN = "node.gpulaunch.internal"
"""Of nodes' names; `.internal` is kept for private use (ICANN, 2024)."""
VALID_FROM, VALID_UNTIL = datetime(2026, 1, 1, tzinfo=UTC), datetime(2046, 1, 1, tzinfo=UTC)
_ORDER = 0xFFFFFFFF_00000000_FFFFFFFF_FFFFFFFF_BCE6FAAD_A7179E84_F3B9CAC2_FC632551
"""Of the group of P-256 (FIPS 186-5, SP 800-186): private keys are from 1 to one less."""


@dataclass(frozen=True)
class NodeCertificate:
    name: str
    """The host name that it holds for; it holds on the node itself for 127.0.0.1 as well."""
    certificate: str
    """PEM."""
    key: str = field(repr=False)
    """PEM, PKCS #8."""


def node_name(instance_id: str, attempt: int) -> str:
    """The host name of an attempt's node, in no name server; unique within a deployment."""
    return f"a{attempt}.{instance_id.lower()}.{DOMAIN}"


class Authority:
    """Issues the certificates of a deployment's nodes."""

    def __init__(self, seed: bytes) -> None:
        """`seed`: a secret of at least 32 bytes; everything follows from it."""
        self._seed = seed
        self._key = self._private_key("authority")
        # The same name in every deployment would let a client with two of them try the wrong one.
        self._name = f"gpulaunch nodes {hashlib.sha256(seed).hexdigest()[:12]}"
        self._certificate = self._signed(self._name, self._key, authority=True)
        self.certificate = _pem(self._certificate)
        """PEM, for those who call nodes directly."""

    def issue(self, instance_id: str, attempt: int) -> NodeCertificate:
        from cryptography.hazmat.primitives import serialization

        name = node_name(instance_id, attempt)
        key = self._private_key(name)
        made = self._signed(name, key, authority=False)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return NodeCertificate(name, _pem(made), private.decode())

    def _private_key(self, label: str) -> "ec.EllipticCurvePrivateKey":
        from cryptography.hazmat.primitives.asymmetric import ec

        # 512 bits for 256: the remainder is even enough (FIPS 186-5, A.2.1 asks for 64 more than needed).
        wide = hmac.new(self._seed, f"P-256|{label}".encode(), hashlib.sha512).digest()
        return ec.derive_private_key(int.from_bytes(wide, "big") % (_ORDER - 1) + 1, ec.SECP256R1())

    def _signed(self, name: str, key: "ec.EllipticCurvePrivateKey", *, authority: bool) -> "x509.Certificate":
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes

        public, issuer = key.public_key(), self._key.public_key()
        usage = x509.KeyUsage(
            digital_signature=not authority,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=authority,
            crl_sign=authority,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(_named(name[:64]))
            .issuer_name(_named(self._name))
            .public_key(public)
            .serial_number(int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "big") + 1)
            .not_valid_before(VALID_FROM)
            .not_valid_after(VALID_UNTIL)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
            .add_extension(usage, critical=True)
            # Both key identifiers: Python 3.13 insists on them.
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
        )
        if not authority:
            names = [x509.DNSName(name), x509.IPAddress(ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
            server = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH])
            builder = builder.add_extension(server, critical=False)
        return builder.sign(self._key, hashes.SHA256(), ecdsa_deterministic=True)


def _named(name: str) -> "x509.Name":
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _pem(certificate: "x509.Certificate") -> str:
    from cryptography.hazmat.primitives import serialization

    return certificate.public_bytes(serialization.Encoding.PEM).decode()
