"""Why a store refuses, in words, from its own code: one status stands for many reasons."""

import re
from collections.abc import Mapping

_WORDS: Mapping[str, str] = {
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
    "AllAccessDisabled": "the provider has closed the bucket",
    "UserProjectMissing": "the bucket's readers pay, which is not supported",
}
_CONTAINER: Mapping[str, str] = {
    "ContainerNotFound": "the account has no such container",
    "ResourceNotFound": "the account has no such container, or it does not allow anonymous listing",
    "PublicAccessNotPermitted": "the account allows no anonymous access",
    "NoAuthenticationInformation": "the container does not allow anonymous listing",
    "AuthorizationFailure": "the account's firewall does not let the control plane in",
    "AuthenticationFailed": "the container does not allow anonymous listing",
    "AccountIsDisabled": "the account is disabled",
    "InvalidUri": "it is not the address of a container",
    "OutOfRangeInput": "it is not the address of a container",
    "InvalidResourceName": "it is not the name of a container",
}
"""Azure Blob Storage's codes."""
PASSING = frozenset({"RequestTimeout", "SlowDown", "InternalError", "OperationAborted", "ServiceUnavailable"})
"""Codes that pass whatever their status: S3 answers 400 where a request came in too slowly."""
_TEMPORARY = "the store does not know the temporary access key; it may have expired, or belong to another endpoint"


def store_code(body: bytes) -> str:
    """The code in an S3 error's XML; empty if there is none."""
    found = re.search(rb"<Code>([A-Za-z0-9]{1,60})</Code>", body[:8192])
    return found[1].decode() if found else ""


def explain_container(status: int, code: str) -> str:
    """What Azure Blob Storage answered, and what that means."""
    said = f"the store answered {status} {code}".rstrip()
    return f"{said}: {_CONTAINER.get(code, 'only containers that allow anonymous listing can be read')}"


def explain(status: int, code: str, *, temporary: bool = False) -> str:
    """What the store answered, and what that means."""
    words = _TEMPORARY if temporary and code == "InvalidAccessKeyId" else _WORDS.get(code, "")
    said = f"the store answered {status} {code}".rstrip()
    return f"{said}: {words}" if words else said
