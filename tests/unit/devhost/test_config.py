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


QUEUES: dict[str, Any] = {
    "batchSize": 8, "newBatchThreshold": 4, "maxPollingInterval": "00:00:01", "visibilityTimeout": "00:00:05",
    "maxDequeueCount": 5,
}  # fmt: skip
HTTP: dict[str, Any] = {"routePrefix": "", "maxOutstandingRequests": 9, "maxConcurrentRequests": 7}


def host(folder: Path, queues: dict[str, Any], http: dict[str, Any]) -> Any:
    write(
        folder,
        "host.json",
        {"version": "2.0", "functionTimeout": "00:10:00", "extensions": {"http": http, "queues": queues}},
    )
    return load_host_config(folder).extensions


def test_settings_should_be_read(tmp_path: Path) -> None:
    config = host(tmp_path, QUEUES, HTTP)
    queues = config.queues
    assert (queues.batch_size, queues.new_batch_threshold, queues.max_dequeue_count) == (8, 4, 5)
    assert (queues.max_polling_interval, queues.visibility_timeout) == (timedelta(seconds=1), timedelta(seconds=5))
    assert (config.http.max_outstanding_requests, config.http.max_concurrent_requests) == (9, 7)


@pytest.mark.parametrize("name", [*QUEUES, *HTTP])
def test_a_missing_setting_should_be_refused_since_the_real_hosts_defaults_vary(tmp_path: Path, name: str) -> None:
    queues, http = ({key: value for key, value in given.items() if key != name} for given in (QUEUES, HTTP))
    with pytest.raises(HostError, match=name):
        host(tmp_path, queues, http)


@pytest.mark.parametrize(
    "queues",
    [
        {"batchSize": 33},
        {"batchSize": "many"},
        {"maxDequeueCount": 0},
        {"maxPollingInterval": "00:00:00.05"},
        {"visibilityTimeout": "soon"},
        {"messageEncoding": "none"},
        {"batchsize": 8},
    ],
)
def test_wrong_queue_settings_should_be_refused_by_name(tmp_path: Path, queues: dict[str, Any]) -> None:
    with pytest.raises(HostError, match=f"extensions.queues.{next(iter(queues))}"):
        host(tmp_path, QUEUES | queues, HTTP)


@pytest.mark.parametrize("http", [{"routePrefix": "api"}, {"maxConcurrentRequests": -1}, {"hsts": {}}])
def test_http_settings_that_devhost_does_not_know_should_be_refused(tmp_path: Path, http: dict[str, Any]) -> None:
    with pytest.raises(HostError, match=f"extensions.http.{next(iter(http))}"):
        host(tmp_path, QUEUES, HTTP | http)


def test_a_folder_without_host_json_should_be_refused(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"no host\.json"):
        load_host_config(tmp_path)
    write(tmp_path, "host.json", {})
    with pytest.raises(HostError, match="version"):
        load_host_config(tmp_path)
