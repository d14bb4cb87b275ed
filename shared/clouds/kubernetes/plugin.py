"""Kubernetes: clusters of the user's own; a region is a context of the kubeconfig."""

import re

from shared.clouds.base import CloudCredentials, CloudPlugin, LabelRules
from shared.domain.cloud import CloudTraits

# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set


def _label_key(text: str) -> str:
    return re.sub(r"^[^a-z0-9]+|[^a-z0-9]+$", "", re.sub(r"[^a-z0-9_.-]", "-", text.lower())[:63])


def _label_value(text: str) -> str:
    return re.sub(r"^[^A-Za-z0-9]+|[^A-Za-z0-9]+$", "", re.sub(r"[^A-Za-z0-9_.-]", "-", text)[:63])


KUBERNETES = CloudPlugin(
    name="kubernetes",
    traits=CloudTraits(title="Kubernetes", rents_machines=False, region_word="Context"),
    credentials=CloudCredentials(
        files=((".kube/config",),),
        variables=("KUBECONFIG", "KUBERNETES_SERVICE_HOST"),
        advice="put a kubeconfig at ~/.kube/config",
    ),
    labels=LabelRules(_label_key, _label_value),
    skypilot_autodown=True,  # by the pod's service account
)
