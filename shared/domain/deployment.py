"""The identity of a deployment: a random name that every node of it carries, and no node of another.

Settings and names can be the same in two environments, on a laptop and in production, in a copied template. So the
identity is made by chance, once, and kept in the deployment's table.
"""

import base64
import hashlib
import re

RANDOM_BYTES = 10
"""80 bits: of a million deployments no two collide, with odds of one to a million million."""
_IDENTITY = re.compile(r"[a-z2-7]{16}")


def identity_of(chance: bytes) -> str:
    """The identity made of RANDOM_BYTES random bytes: 16 characters that every cloud takes as a label's value."""
    return base64.b32encode(chance).decode().lower()


def is_identity(text: str) -> bool:
    return _IDENTITY.fullmatch(text) is not None


def skypilot_user(identity: str) -> str:
    """SkyPilot's user id for a deployment whose settings name none: eight hexadecimal digits."""
    return hashlib.sha256(identity.encode()).hexdigest()[:8]
