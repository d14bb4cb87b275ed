"""How the control plane and an agent that it asks prove themselves to each other; no key is sent.

Each shows that it has the attempt's agent token by a MAC over the asker's nonce. Whoever else answers on the address,
or reads the line, learns nothing of value: an answer counts for one nonce, and a nonce counts once.
"""

from __future__ import annotations

import hashlib
import hmac

NONCE_HEADER = "X-Gpulaunch-Nonce"
PROOF_HEADER = "X-Gpulaunch-Proof"
SCHEME = "Gpulaunch-Hmac"


def _mac(token: str, purpose: str, nonce: str, body: bytes = b"") -> str:
    return hmac.new(token.encode(), f"{purpose}|{nonce}|".encode() + body, hashlib.sha256).hexdigest()


def authorization(token: str, nonce: str) -> str:
    """The value of the Authorization header of a question."""
    return f"{SCHEME} {_mac(token, 'ask', nonce)}"


def proof(token: str, nonce: str, body: bytes) -> str:
    """The proof that an answer comes from the agent, and to this question."""
    return _mac(token, "answer", nonce, body)
