"""The local SkyPilot server: what is looked at before it is started, and how."""

import importlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import psutil
import pytest

from gpulaunch.models.requests import ProviderName
from shared.backends.skypilot.local import LocalServer
from shared.backends.skypilot.orphans import end_orphans
from shared.backends.skypilot.provider import SkyPilotProvider
from shared.domain.provider import ProviderUnavailableError
from shared.redaction import Redactor
from shared.settings import Settings
from tests.twins.clock import ManualClock

FILES: dict[ProviderName, list[str]] = {
    "azure": [".azure/azureProfile.json", ".azure/msal_token_cache.json"],
    "aws": [".aws/credentials"],
    "gcp": [".config/gcloud/application_default_credentials.json"],
    "kubernetes": [".kube/config"],
    "slurm": [".slurm/config"],
}


def local(home: Path, environ: dict[str, str] | None = None) -> LocalServer:
    return LocalServer(environ or {}, "67706c61", home)


def put(home: Path, path: str) -> None:
    (home / path).parent.mkdir(parents=True, exist_ok=True)
    (home / path).write_text("x")


def test_an_app_without_skypilot_should_say_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert local(tmp_path).not_installed() is None
    # As where the package was never installed.
    monkeypatch.setattr("sys.path", [])
    monkeypatch.delitem(sys.modules, "sky", raising=False)
    importlib.invalidate_caches()
    assert "`make run SKYPILOT=1`" in str(local(tmp_path).not_installed())


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str]]]:
    """Commands that would have been started; `false` runs in their place."""
    found: list[list[str]] = []
    real = subprocess.Popen

    def popen(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        found.append(command)
        processes.append(real(["false"], cwd=str(options["cwd"])))
        return processes[-1]

    processes: list[subprocess.Popen[bytes]] = []
    monkeypatch.setattr("shared.backends.skypilot.local.subprocess.Popen", popen)
    yield found
    for process in processes:
        process.wait(10)


@pytest.mark.parametrize("provider", get_args(ProviderName))
def test_credentials_are_found_by_their_files(tmp_path: Path, provider: ProviderName) -> None:
    assert not local(tmp_path).has_credentials(provider)
    for path in FILES[provider]:
        assert not local(tmp_path).has_credentials(provider)
        put(tmp_path, path)
    assert local(tmp_path).has_credentials(provider)
    others = [other for other in get_args(ProviderName) if other != provider]
    assert not any(local(tmp_path).has_credentials(other) for other in others)


@pytest.mark.parametrize(
    ("provider", "variable"),
    [("aws", "AWS_ACCESS_KEY_ID"), ("gcp", "GOOGLE_APPLICATION_CREDENTIALS"), ("kubernetes", "KUBECONFIG")],
)
def test_credentials_are_found_in_the_environment(tmp_path: Path, provider: ProviderName, variable: str) -> None:
    assert local(tmp_path, {variable: "x"}).has_credentials(provider)
    assert not local(tmp_path, {variable: ""}).has_credentials(provider)


def test_the_server_gets_none_of_the_app_s_secrets(tmp_path: Path) -> None:
    secret = (
        "GPULAUNCH_MASTER_KEY",
        "GPULAUNCH_ADMIN_TOKENS",
        "HF_TOKEN",
        "R2_SECRET_ACCESS_KEY",
        "AzureWebJobsStorage",
    )
    kept_back = ("SKYPILOT_SERVICE_ACCOUNT_TOKEN", "SKYPILOT_API_SERVER_ENDPOINT", "HUGGING_FACE_HUB_TOKEN")
    passed_on = {"PATH": "/bin", "https_proxy": "http://p", "AWS_PROFILE": "me"}
    environ = dict.fromkeys((*secret, *kept_back), "x") | passed_on
    given = local(tmp_path, environ).environment()
    assert not {*secret, *kept_back} & set(given)
    assert (given["PATH"], given["https_proxy"], given["AWS_PROFILE"]) == ("/bin", "http://p", "me")
    assert (given["HOME"], given["SKYPILOT_USER_ID"]) == (str(tmp_path), "67706c61")
    assert given["SKYPILOT_DISABLE_USAGE_COLLECTION"] == "1"


def test_usage_reports_can_be_switched_on(tmp_path: Path) -> None:
    given = local(tmp_path, {"SKYPILOT_DISABLE_USAGE_COLLECTION": "0"}).environment()
    assert given["SKYPILOT_DISABLE_USAGE_COLLECTION"] == "0"


def test_a_file_that_would_be_copied_to_every_node_is_named(tmp_path: Path) -> None:
    assert local(tmp_path).copied() is None
    put(tmp_path, ".lambda_cloud/lambda_keys")
    assert "~/.lambda_cloud/lambda_keys" in str(local(tmp_path).copied())


def test_the_port_is_skypilot_s_own_setting(tmp_path: Path) -> None:
    assert local(tmp_path).endpoint == "http://127.0.0.1:46580"
    assert local(tmp_path, {"SKYPILOT_API_SERVER_LOCAL_PORT": "47000"}).endpoint == "http://127.0.0.1:47000"


def test_a_start_that_fails_is_said_and_tried_again(tmp_path: Path, starts: list[list[str]]) -> None:
    server = local(tmp_path)
    server.start()
    deadline = time.monotonic() + 10
    with pytest.raises(ProviderUnavailableError, match=r"server\.log"):
        while time.monotonic() < deadline:
            server.start()
            time.sleep(0.01)
    assert len(starts) == 1
    server.start()
    assert len(starts) == 2


def nobody_there() -> dict[str, str]:
    """An environment that names a port on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return {"SKYPILOT_API_SERVER_LOCAL_PORT": str(one.getsockname()[1])}


def provider(home: Path, environ: dict[str, str]) -> SkyPilotProvider:
    settings = Settings.model_validate({"AZURE_FUNCTIONS_ENVIRONMENT": "Development"})
    return SkyPilotProvider(settings, ManualClock(), Redactor(), environ=environ, home=home, script=lambda: "true")


def test_without_credentials_no_server_is_started_and_the_answer_says_what_to_do(
    tmp_path: Path, starts: list[list[str]]
) -> None:
    ours = provider(tmp_path, nobody_there())
    answer = ours.availability("azure", 0.0)
    assert (answer.enabled, answer.wait_seconds) == (False, 0.0)
    assert "az login" in answer.reason
    assert ours.clusters() == []
    assert starts == []


def test_with_credentials_the_server_is_started_and_the_step_does_not_wait(
    tmp_path: Path, starts: list[list[str]]
) -> None:
    put(tmp_path, ".slurm/config")
    ours = provider(tmp_path, nobody_there())
    started = time.monotonic()
    answer = ours.availability("slurm", 0.0)
    assert (answer.enabled, answer.wait_seconds > 0) == (False, True)
    assert time.monotonic() - started < 3.0
    assert starts == [[sys.executable, "-c", "from sky.client import sdk; sdk.api_start()"]]


def test_a_machine_whose_files_would_be_copied_is_not_enabled(tmp_path: Path, starts: list[list[str]]) -> None:
    put(tmp_path, ".slurm/config")
    put(tmp_path, ".runpod/config.toml")
    ours = provider(tmp_path, nobody_there())
    answer = ours.availability("slurm", 0.0)
    assert not answer.enabled
    assert "~/.runpod/config.toml" in answer.reason
    assert starts == []


def test_where_skypilot_has_books_they_are_read_before_anything_is_said_of_clusters(
    tmp_path: Path, starts: list[list[str]]
) -> None:
    put(tmp_path, ".sky/state.db")
    ours = provider(tmp_path, nobody_there())
    with pytest.raises(ProviderUnavailableError, match="starting"):
        ours.clusters()
    assert len(starts) == 1


def sleeper(home: Path, port: str, *, parent: bool = False) -> subprocess.Popen[bytes]:
    """A process with the marks of a server's worker; with a living server as its parent, or without."""
    environ = {
        "HOME": str(home),
        "IS_SKYPILOT_SERVER": "true",
        "SKYPILOT_API_SERVER_LOCAL_PORT": port,
        "PATH": os.defpath,
    }
    child = "import time; time.sleep(60)"
    if not parent:
        return subprocess.Popen([sys.executable, "-c", child], env=environ)
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    return subprocess.Popen([sys.executable, "-c", code, "sky.server.server"], env=environ, start_new_session=True)


def test_workers_of_a_dead_server_are_ended_and_no_others(tmp_path: Path) -> None:
    orphan = sleeper(tmp_path, "46999")
    elsewhere = sleeper(tmp_path / "other", "46999")
    neighbour = sleeper(tmp_path, "47999")
    server = sleeper(tmp_path, "46999", parent=True)
    try:
        deadline = time.monotonic() + 10
        ended = 0
        while ended == 0 and time.monotonic() < deadline:
            ended = end_orphans(tmp_path, 46999)
        assert ended == 1
        assert not psutil.pid_exists(orphan.pid)
        assert end_orphans(tmp_path, 46999) == 0
        assert [process.poll() for process in (elsewhere, neighbour, server)] == [None, None, None]
    finally:
        for process in (orphan, elsewhere, neighbour):
            process.kill()
            process.wait()
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
