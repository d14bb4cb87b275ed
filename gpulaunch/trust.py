"""Whom a caller of a node believes: whoever shows a certificate of the deployment, by the node's name."""

import ssl
from functools import lru_cache


@lru_cache(64)
def node_context(authority: str) -> ssl.SSLContext:
    """For calls of nodes by TLS 1.2 or later, with `server_name` as the name to check.

    The same object for the same authority: HTTP clients keep connections open for as long as their context is the same.

    Args:
        authority: What vouches for the nodes' certificates, PEM (`ca_certificate` of an instance's credentials).

    Raises:
        ssl.SSLError: That is not a certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=authority)
    return context
