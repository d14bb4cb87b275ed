"""Signatures by Standard Webhooks (https://www.standardwebhooks.com), symmetric, version 1. Pure."""

import base64
import hashlib
import hmac
from datetime import datetime

from shared.domain.webhook import signing_key


def signed_headers(secret: str, message_id: str, now: datetime, body: bytes) -> dict[str, str]:
    """Return `webhook-id`, `webhook-timestamp` (seconds) and `webhook-signature` for a body."""
    seconds = str(int(now.timestamp()))
    text = b".".join((message_id.encode(), seconds.encode(), body))
    signature = base64.b64encode(hmac.new(signing_key(secret), text, hashlib.sha256).digest()).decode()
    return {"webhook-id": message_id, "webhook-timestamp": seconds, "webhook-signature": f"v1,{signature}"}
