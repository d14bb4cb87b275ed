"""What `make doctor` reports about a machine that is to run the app."""

import socket
from pathlib import Path

import pytest

from devhost.doctor import local_checks
from gpulaunch.cli.check import CheckResult


def checks(clone: Path, home: Path) -> dict[str, CheckResult]:
    return {check.name: check for check in local_checks(clone, home)}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    return tmp_path


def _nowhere(name: str) -> None:
    """As importlib's find_spec for a package that is not installed."""


def test_a_missing_azurite_should_be_reported(clone: Path) -> None:
    assert checks(clone, clone)["node.js"].state == "warning"
    (clone / "node_modules" / "azurite").mkdir(parents=True)
    assert checks(clone, clone)["node.js"].state == "ok"


def test_a_missing_node_should_be_reported_with_the_fix(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(clone))
    monkeypatch.setattr("importlib.util.find_spec", _nowhere)
    found = checks(clone, clone)
    assert (found["node.js"].detail, found["node.js"].advice) == ("not installed; Azurite needs it", "`make install`")
    assert found["packages"].state == "warning"


def test_credentials_should_be_found_where_skypilot_looks(clone: Path) -> None:
    assert checks(clone, clone)["providers"].state == "note"
    (clone / ".slurm").mkdir()
    (clone / ".slurm" / "config").touch()
    assert checks(clone, clone)["providers"].detail == "credentials for slurm"


def test_a_port_in_use_should_be_reported(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PORT", str(taken.getsockname()[1]))
        assert checks(clone, clone)["port"].state == "ok"
        taken.listen()
        assert checks(clone, clone)["port"].state == "note"
