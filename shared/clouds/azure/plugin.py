"""Azure."""

import re

from shared.clock import Clock
from shared.clouds.azure.corrections import CORRECTIONS
from shared.clouds.base import CloudCompute, CloudCredentials, CloudPlugin, LabelRules
from shared.domain.cloud import CloudTraits
from shared.settings import Settings


def _label_key(text: str) -> str:
    return re.sub(r"[<>%&\\?/\s]", "-", text)


def _connect(settings: Settings, clock: Clock) -> CloudCompute | None:
    if settings.azure_subscription_id is None:
        return None
    from shared.clouds.azure.client import AzureClient
    from shared.clouds.azure.compute import AzureCompute

    client = AzureClient(settings.azure_subscription_id, clock)
    return AzureCompute(client, clock, settings.skypilot_user_id)


AZURE = CloudPlugin(
    name="azure",
    traits=CloudTraits(
        title="Azure",
        rents_machines=True,
        account_setting="AZURE_SUBSCRIPTION_ID",
        type_style=re.compile(r"^(standard|basic)_[a-z]", re.IGNORECASE),
    ),
    credentials=CloudCredentials(
        files=((".azure/azureProfile.json", ".azure/msal_token_cache.json"),), advice="run `az login`"
    ),
    labels=LabelRules(_label_key, str),
    # Its autodown needs the CLI's login, which is not copied to nodes; the agent deletes its resource group itself.
    skypilot_autodown=False,
    corrections=CORRECTIONS,
    connect=_connect,
)
