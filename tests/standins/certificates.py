"""Servers with a node's certificate."""

import ssl
from pathlib import Path

from shared.certificates import NodeCertificate


def server_context(made: NodeCertificate, folder: Path) -> ssl.SSLContext:
    """For a server that shows it; the pair stands in a file meanwhile, since `ssl` reads no other."""
    pair = folder / "pair.pem"
    pair.write_text(made.certificate + made.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    return context
