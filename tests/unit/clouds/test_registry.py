"""A cloud is a folder and a line in the registry."""

import re
from pathlib import Path
from typing import get_args

from gpulaunch.models.requests import ProviderName
from shared.clouds.registry import CLOUDS, TRAITS, configured_clouds
from tests.functional.world import settings
from tests.twins.clock import ManualClock

ROOT = Path(__file__).parents[3]
NAMES = get_args(ProviderName)
SUBSCRIPTION = "12345678-1234-1234-1234-123456789abc"


def test_every_provider_should_have_a_plugin_of_its_name() -> None:
    assert tuple(CLOUDS) == tuple(TRAITS) == NAMES
    assert all(name == cloud.name for name, cloud in CLOUDS.items())


def test_the_name_of_a_cloud_should_stand_in_its_folder_and_in_the_request_model_only() -> None:
    literal = re.compile(rf"""["']({"|".join(NAMES)})["']""")
    allowed = {"gpulaunch/models/requests.py", "shared/agent/node/host.py"}
    allowed |= {f"shared/clouds/{name}/plugin.py" for name in NAMES}
    found = {
        str(path.relative_to(ROOT))
        for folder in ("gpulaunch", "shared", "functions")
        for path in (ROOT / folder).rglob("*.*")
        if path.suffix in (".py", ".html") and literal.search(path.read_text("utf-8"))
    }
    assert found <= allowed


def test_a_cloud_should_be_asked_where_its_account_is_set_and_machines_may_be_in_it() -> None:
    clock = ManualClock()
    assert configured_clouds(settings(GPULAUNCH_ORCHESTRATOR="skypilot"), clock) == {}
    given = settings(GPULAUNCH_ORCHESTRATOR="skypilot", AZURE_SUBSCRIPTION_ID=SUBSCRIPTION)
    assert [(name, cloud.provider) for name, cloud in configured_clouds(given, clock).items()] == [("azure", "azure")]
    given = settings(GPULAUNCH_ORCHESTRATOR="simulation", AZURE_SUBSCRIPTION_ID=SUBSCRIPTION)
    assert configured_clouds(given, clock) == {}
