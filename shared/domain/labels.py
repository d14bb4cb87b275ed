"""Names of labels that are not the user's to give to a machine."""

import re

_RESERVED = re.compile(r"^(aws:|microsoft|azure|windows|skypilot-|ray-|gpulaunch-(?!exempt$))", re.IGNORECASE)


def is_reserved(key: str) -> bool:
    """Whether a cloud, SkyPilot or gpulaunch keeps a label's prefix for itself."""
    return _RESERVED.match(key) is not None
