"""AWS."""

import re

from shared.clouds.base import CloudCredentials, CloudPlugin, LabelRules
from shared.clouds.labels import without_spaces
from shared.domain.cloud import CloudTraits

AWS = CloudPlugin(
    name="aws",
    traits=CloudTraits(
        title="AWS",
        rents_machines=True,
        type_style=re.compile(r"^[a-z][a-z0-9-]*\.(\d*x?large|metal|nano|micro|small|medium)", re.IGNORECASE),
        gpu_by_type={
            "g4dn.": "T4",
            "g5.": "A10",
            "p3dn.": "V100-32GB",
            "p4d.": "A100",
            "p4de.": "A100-80GB",
            "p5.": "H100",
        },
    ),
    credentials=CloudCredentials(
        files=((".aws/credentials",), (".aws/config",)),
        variables=("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"),
        advice="run `aws configure`",
    ),
    labels=LabelRules(without_spaces, without_spaces),
    skypilot_autodown=True,  # by an instance profile
)
