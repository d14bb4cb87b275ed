"""What `make doctor` reports about a machine that is to run the app."""

import socket
from pathlib import Path

import pytest

from devhost.doctor import local_checks, needs_skypilot
from gpulaunch.cli.check import CheckResult
from shared.settings import Settings


def checks(home: Path) -> dict[str, CheckResult]:
    return {check.name: check for check in local_checks(home)}


def _nowhere(name: str) -> None:
    """As importlib's find_spec for a package that is not installed."""


def test_a_missing_skypilot_should_be_reported_with_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", _nowhere)
    found = checks(tmp_path)["skypilot"]
    assert (found.state, found.advice) == ("note", "For real launches from this machine, `make run SKYPILOT=1`.")


def test_credentials_should_be_found_where_skypilot_looks(tmp_path: Path) -> None:
    assert checks(tmp_path)["providers"].state == "note"
    (tmp_path / ".slurm").mkdir()
    (tmp_path / ".slurm" / "config").touch()
    assert checks(tmp_path)["providers"].detail == "credentials for slurm"


def test_a_port_in_use_should_be_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PORT", str(taken.getsockname()[1]))
        assert checks(tmp_path)["port"].state == "ok"
        taken.listen()
        assert checks(tmp_path)["port"].state == "note"


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
    assert needs_skypilot(given, tmp_path) == needed
