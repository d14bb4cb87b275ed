import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from devhost.config import HostError, load_host_config, load_local_settings


def write(folder: Path, name: str, content: object) -> None:
    (folder / name).write_text(json.dumps(content), "utf-8")


def test_local_settings_should_not_overwrite_the_environment(tmp_path: Path) -> None:
    write(tmp_path, "local.settings.json", {"IsEncrypted": False, "Values": {"A": "file", "B": "file"}})
    environment = {"A": "mine"}
    load_local_settings(tmp_path, environment)
    assert environment == {"A": "mine", "B": "file"}


def test_no_local_settings_should_not_be_a_fault(tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    load_local_settings(tmp_path, environment)
    assert environment == {}


@pytest.mark.parametrize("content", [{"IsEncrypted": True}, {"Values": {"A": {}}}, []])
def test_wrong_local_settings_should_be_refused(tmp_path: Path, content: object) -> None:
    write(tmp_path, "local.settings.json", content)
    with pytest.raises(HostError, match=r"local\.settings\.json"):
        load_local_settings(tmp_path, {})


def host(folder: Path, queues: dict[str, Any] | None = None, **http: str | int) -> Any:
    write(folder, "host.json", {"version": "2.0", "extensions": {"http": http, "queues": queues or {}}})
    return load_host_config(folder).extensions


def test_defaults_should_be_those_of_the_real_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    config = host(tmp_path)
    queues = config.queues
    assert (config.http.route_prefix, config.http.max_outstanding_requests) == ("api", -1)
    assert (queues.batch_size, queues.new_batch_threshold, queues.max_dequeue_count) == (16, 16, 5)
    assert (queues.max_polling_interval, queues.visibility_timeout) == (timedelta(minutes=1), timedelta(0))


def test_settings_should_be_read(tmp_path: Path) -> None:
    config = host(tmp_path, {"batchSize": 8, "visibilityTimeout": "00:00:05"}, routePrefix="", maxConcurrentRequests=9)
    assert (config.queues.batch_size, config.queues.visibility_timeout.total_seconds()) == (8, 5)
    assert (config.http.route_prefix, config.http.max_concurrent_requests) == ("", 9)


@pytest.mark.parametrize(
    "queues",
    [
        {"batchSize": 33},
        {"batchSize": "many"},
        {"maxDequeueCount": 0},
        {"maxPollingInterval": "00:00:00.05"},
        {"visibilityTimeout": "soon"},
        {"messageEncoding": "none"},
    ],
)
def test_wrong_queue_settings_should_be_refused_by_name(tmp_path: Path, queues: dict[str, Any]) -> None:
    with pytest.raises(HostError, match=f"extensions.queues.{next(iter(queues))}"):
        host(tmp_path, queues)


def test_a_folder_without_host_json_should_be_refused(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"no host\.json"):
        load_host_config(tmp_path)
    write(tmp_path, "host.json", {})
    with pytest.raises(HostError, match="version"):
        load_host_config(tmp_path)
