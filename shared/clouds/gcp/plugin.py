"""Google Cloud."""

import re

from shared.clouds.base import CloudCredentials, CloudPlugin, LabelRules
from shared.domain.cloud import CloudTraits


def _label(text: str) -> str:
    # https://cloud.google.com/resource-manager/docs/labels-overview#requirements
    return re.sub(r"[^a-z0-9_-]", "-", text.lower())[:63]


GCP = CloudPlugin(
    name="gcp",
    traits=CloudTraits(
        title="Google Cloud",
        rents_machines=True,
        type_style=re.compile(r"^[a-z]\d[a-z]?-(standard|(high|mega|ultra|max|edge)gpu|highmem|highcpu|custom)-?"),
        gpu_by_type={"a2-highgpu": "A100", "a2-ultragpu": "A100-80GB", "a3-": "H100"},
    ),
    credentials=CloudCredentials(
        files=((".config/gcloud/application_default_credentials.json",),),
        variables=("GOOGLE_APPLICATION_CREDENTIALS",),
        advice="run `gcloud auth application-default login`",
    ),
    labels=LabelRules(_label, _label),
    skypilot_autodown=True,  # by a service account
)
