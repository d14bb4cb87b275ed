"""The workflows of GitHub Actions: what they may do, whom they trust, and that what they run is there."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.infra.templates import ROOT

FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CHECKOUT = "actions/checkout@"


def _workflow(path: Path) -> dict[Any, Any]:
    return yaml.safe_load(path.read_text("utf-8"))


def _steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in _workflow(path)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_actions_should_be_pinned_by_commit_with_their_version_beside(path: Path) -> None:
    """A tag is whatever its owner says it is."""
    used = [line for line in path.read_text("utf-8").splitlines() if re.search(r"\buses:", line)]
    assert used
    assert [line for line in used if not re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line)] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_workflow_should_read_the_code_and_hold_no_secret(path: Path) -> None:
    text, workflow = path.read_text("utf-8"), _workflow(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert "secrets." not in text
    assert "pull_request_target" not in text
    checkouts = [step for step in _steps(path) if step.get("uses", "").startswith(CHECKOUT)]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_command_should_hold_text_of_a_caller(path: Path) -> None:
    """What an expression inserts is run by the shell; by way of `env` it is not."""
    assert [step["run"] for step in _steps(path) if "${{" in step.get("run", "")] == []


def test_only_the_deployment_should_sign_in_and_only_by_federation() -> None:
    found = {
        name: job.get("permissions", {}) for path in FILES for name, job in _workflow(path)["jobs"].items()
    }  # fmt: skip
    assert {name for name, granted in found.items() if "id-token" in granted} == {"azure"}
    runs = " ".join(step.get("run", "") for step in _steps(ROOT / ".github" / "workflows" / "azure.yml"))
    assert "--federated-credential-provider github" in runs
    assert "client-secret" not in runs


def test_a_fork_should_get_no_token() -> None:
    job = _workflow(ROOT / ".github" / "workflows" / "azure.yml")["jobs"]["azure"]
    assert "github.event.pull_request.head.repo.full_name == github.repository" in job["if"]


def test_a_pull_request_should_change_nothing() -> None:
    steps = _steps(ROOT / ".github" / "workflows" / "azure.yml")
    changing = [
        step for step in steps if re.search(r"azd (provision(?! --preview)|deploy|up|down)", step.get("run", ""))
    ]
    assert len(changing) == 3
    allowed = {"github.event_name != 'pull_request'"} | {
        f"github.event_name == '{event}'" for event in ("workflow_dispatch", "schedule")
    }
    assert {step["if"] for step in changing} <= allowed


def test_make_should_have_every_target_that_is_run() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = {*re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE), ".venv/.run"}
    run = {found for path in FILES for step in _steps(path) for found in re.findall(r"make (\S+)", step.get("run", ""))}
    assert {"check", "infra", "audit", ".venv/.run"} <= run <= targets


def test_dependabot_should_find_what_it_updates() -> None:
    updates = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text("utf-8"))["updates"]
    folders = {one["package-ecosystem"]: one.get("directories") or [one["directory"]] for one in updates}
    assert set(folders) == {"github-actions", "docker", "npm"}
    assert all((ROOT / folder.strip("/") / "Dockerfile").is_file() for folder in folders["docker"])
    assert (ROOT / "package-lock.json").is_file()
