"""The node's certificate: what vLLM answers with, and what the launch's job trusts."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

KEY_FILE = "node.key"
BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
"""Where Debian and Red Hat keep the certificates that are trusted everywhere."""


def server_arguments(tls: Mapping[str, Any] | None, work: Path) -> list[str]:
    """Write certificate and key, which no other user of the machine may read; vLLM's arguments for them."""
    if tls is None:
        return []
    certificate, key = _write(work / "node.crt", tls["certificate"]), _write(work / KEY_FILE, tls["key"])
    return ["--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)]


def job_environment(tls: Mapping[str, Any] | None, work: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """What lets a program trust the node's own address beside all that it trusts already."""
    if tls is None:
        return {}
    authority, bundle = _write(work / "node-ca.crt", tls["authority"]), work / "trusted.crt"
    _write(bundle, "\n".join([*_trusted(environ), tls["authority"]]))
    names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    return {**dict.fromkeys(names, str(bundle)), "NODE_EXTRA_CA_CERTS": str(authority)}


def _trusted(environ: Mapping[str, str]) -> Iterator[str]:
    """The text of the first bundle that is there: the user's, or the system's."""
    for name in (environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile, *BUNDLES):
        if name and Path(name).is_file():
            yield Path(name).read_text("utf-8", errors="replace")
            return


def _write(path: Path, text: str) -> Path:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    return path
