"""Certificates of nodes: the same each time, and good for one attempt of one deployment."""

import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

from shared.auth import Deriver
from shared.certificates import VALID_FROM, VALID_UNTIL, NodeCertificate, node_name
from tests.standins.certificates import server_context

KEY = SecretStr("k" * 32)
ONE, OTHER = "inst-01K0000000000000000000000A", "inst-01K0000000000000000000000B"


def client(authority: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority)
    # Python 3.13's own choice.
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def shown(of_server: ssl.SSLContext, of_client: ssl.SSLContext, name: str) -> bytes:
    """The certificate, as DER, that a client accepts from a server; raises SSLError where it does not."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    there = of_server.wrap_bio(to_server, to_client, server_side=True)
    here = of_client.wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(4):
        for side in (here, there):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return here.getpeercert(binary_form=True) or b""


def test_a_certificate_should_be_the_same_to_the_byte_every_time() -> None:
    first, again = Deriver(KEY), Deriver(SecretStr("k" * 32))
    assert first.certificate(ONE, 2) == again.certificate(ONE, 2)
    assert first.certificate(ONE, 2).key == again.certificate(ONE, 2).key
    assert first.authority_certificate() == again.authority_certificate()


def test_no_two_attempts_instances_or_deployments_should_share_a_key() -> None:
    made = [
        Deriver(SecretStr(key)).certificate(instance, attempt)
        for key in ("k" * 32, "l" * 32)
        for instance in (ONE, OTHER)
        for attempt in (1, 2, 11)
    ]
    assert len({one.key for one in made}) == len({one.certificate for one in made}) == 12


@pytest.mark.parametrize("name", [node_name(ONE, 1), "127.0.0.1"])
def test_whoever_trusts_the_authority_should_accept_the_node_by_its_name_and_on_itself(
    name: str, tmp_path: Path
) -> None:
    deriver = Deriver(KEY)
    made = deriver.certificate(ONE, 1)
    der = shown(server_context(made, tmp_path), client(deriver.authority_certificate()), name)
    assert der == ssl.PEM_cert_to_DER_cert(made.certificate)


@pytest.mark.parametrize("name", [node_name(ONE, 2), node_name(OTHER, 1), "203.0.113.7", "app.example.com"])
def test_nobody_should_accept_it_by_another_name(name: str, tmp_path: Path) -> None:
    deriver = Deriver(KEY)
    with pytest.raises(ssl.SSLCertVerificationError):
        shown(server_context(deriver.certificate(ONE, 1), tmp_path), client(deriver.authority_certificate()), name)


def test_nobody_should_accept_it_for_another_deployment(tmp_path: Path) -> None:
    node, stranger = Deriver(KEY).certificate(ONE, 1), Deriver(SecretStr("l" * 32))
    with pytest.raises(ssl.SSLCertVerificationError):
        shown(server_context(node, tmp_path), client(stranger.authority_certificate()), node.name)


def forged(node: NodeCertificate, name: str) -> NodeCertificate:
    """A certificate for another name that a node has signed with its own key, and the node's own behind it."""
    own = x509.load_pem_x509_certificate(node.certificate.encode())
    key = serialization.load_pem_private_key(node.key.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    builder = x509.CertificateBuilder(issuer_name=own.subject, subject_name=own.issuer, public_key=key.public_key())
    builder = builder.serial_number(7).not_valid_before(VALID_FROM).not_valid_after(VALID_UNTIL)
    for extension in (
        x509.SubjectAlternativeName([x509.DNSName(name)]),
        x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
        x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()),
    ):
        builder = builder.add_extension(extension, critical=False)
    made = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    return NodeCertificate(name, made + node.certificate, node.key)


@pytest.mark.parametrize("strict", [True, False])
def test_a_node_should_not_be_able_to_vouch_for_others(tmp_path: Path, *, strict: bool) -> None:
    deriver, name = Deriver(KEY), node_name(OTHER, 1)
    trusting = client(deriver.authority_certificate())
    if not strict:
        trusting.verify_flags &= ~ssl.VERIFY_X509_STRICT
    with pytest.raises(ssl.SSLCertVerificationError, match="invalid CA"):
        shown(server_context(forged(deriver.certificate(ONE, 1), name), tmp_path), trusting, name)


def test_its_key_should_not_be_shown_where_it_is_printed() -> None:
    made = Deriver(KEY).certificate(ONE, 1)
    assert made.key.splitlines()[1] not in repr(made)
