from pathlib import Path

import pytest

from devhost.needs_skypilot import needs_skypilot
from shared.settings import Settings


@pytest.mark.parametrize(
    ("settings", "credentials", "needed"),
    [
        ({}, False, False),
        ({}, True, True),
        ({"GPULAUNCH_ORCHESTRATOR": "skypilot"}, False, True),
        ({"GPULAUNCH_ORCHESTRATOR": "simulation"}, True, False),
        ({"SKYPILOT_API_SERVER_ENDPOINT": "https://sky.example"}, True, False),
    ],
)
def test_skypilot_should_be_installed_where_this_machine_can_launch(
    tmp_path: Path, settings: dict[str, str], credentials: bool, needed: bool
) -> None:
    if credentials:
        (tmp_path / ".slurm").mkdir()
        (tmp_path / ".slurm" / "config").touch()
    given = Settings.model_validate({"AZURE_FUNCTIONS_ENVIRONMENT": "Development", **settings})
    assert needs_skypilot(given, {}, tmp_path) == needed
