"""Why a store refuses, in words, from its own code: one status stands for many reasons."""

import re

_WORDS = {
    "InvalidAccessKeyId": "the store does not know the access key; check it, and the endpoint it belongs to",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key",
    "ExpiredToken": "the temporary credentials have expired; renew them in the settings",
    "InvalidToken": "the session token does not belong to the access key",
    "AccessDenied": "the access key may not read it; it needs ListBucket and GetObject",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
    "NoSuchBucket": "there is no such bucket at this endpoint",
    "PermanentRedirect": "the bucket is in another region; set AWS_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set AWS_REGION",
    "InvalidObjectState": "it is archived; restore it first",
}
_TEMPORARY = "the store does not know the temporary access key; it may have expired, or belong to another endpoint"


def store_code(body: bytes) -> str:
    """The code in an S3 error's XML; empty if there is none."""
    found = re.search(rb"<Code>([A-Za-z0-9]{1,60})</Code>", body[:8192])
    return found[1].decode() if found else ""


def explain(status: int, code: str, *, temporary: bool = False) -> str:
    """What the store answered, and what that means."""
    words = _TEMPORARY if temporary and code == "InvalidAccessKeyId" else _WORDS.get(code, "")
    said = f"the store answered {status} {code}".rstrip()
    return f"{said}: {words}" if words else said
