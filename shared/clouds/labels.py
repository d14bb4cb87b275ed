"""Labels on nodes: ours, and which of a user's a cloud takes. Labels are for people and bills; none fails a launch."""

import re
from collections.abc import Mapping

from shared.clouds.base import LabelRules
from shared.domain.labels import is_reserved

INSTANCE_LABEL, ATTEMPT_LABEL = "gpulaunch-instance", "gpulaunch-attempt"
WORKSPACE_LABEL = "gpulaunch-workspace"
DEPLOYMENT_LABEL = "gpulaunch-deployment"
"""The identity of the deployment that a node belongs to; no other may delete it."""
EXEMPT_LABEL = "gpulaunch-exempt"
"""A user's label of this name with any value but `false`, `no` or `0` protects the node from garbage collection."""


def accepted_labels(labels: Mapping[str, str], rules: LabelRules) -> dict[str, str]:
    """The user's labels in a form that the cloud takes.

    Of two labels that become one the first wins; a label that the cloud can't take at all is dropped.
    """
    accepted: dict[str, str] = {}
    for key, value in labels.items():
        cleaned = "" if is_reserved(key) else rules.key(key)
        if cleaned:
            accepted.setdefault(cleaned, rules.value(value))
    return accepted


def is_gc_protected(labels: Mapping[str, str]) -> bool:
    return labels.get(EXEMPT_LABEL, "false").lower() not in ("false", "no", "0")


def without_spaces(text: str) -> str:
    return re.sub(r"\s", "-", text)
