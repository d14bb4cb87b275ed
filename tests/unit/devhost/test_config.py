import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from devhost.config import HostError, load_host_config, load_local_settings, resolve, timespan


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("00:00:02", timedelta(seconds=2)),
        ("00:00:00.1", timedelta(milliseconds=100)),
        ("1.02:03:04", timedelta(days=1, hours=2, minutes=3, seconds=4)),
        ("02:30", timedelta(hours=2, minutes=30)),
        ("24:00:00", timedelta(days=24)),
        ("3", timedelta(days=3)),
    ],
)
def test_a_time_span_should_read_as_in_dotnet(text: str, expected: timedelta) -> None:
    assert timespan(text) == expected


@pytest.mark.parametrize("text", ["", "2s", "00:60:00", "00:00:61", "1:2:3:4", "-00:00:01"])
def test_a_time_span_should_not_read_what_dotnet_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="time span"):
        timespan(text)


def test_percent_names_should_resolve_from_the_settings() -> None:
    assert resolve("%A%-%B%", {"A": "x", "B": "y"}) == "x-y"


def test_an_unknown_percent_name_should_be_refused() -> None:
    with pytest.raises(HostError, match="'%GONE%'"):
        resolve("%GONE%", {})


def write(folder: Path, name: str, content: object) -> None:
    (folder / name).write_text(json.dumps(content), "utf-8")


def test_local_settings_should_not_overwrite_the_environment(tmp_path: Path) -> None:
    write(tmp_path, "local.settings.json", {"IsEncrypted": False, "Values": {"A": "file", "B": "file", "C": True}})
    environment = {"A": "mine"}
    load_local_settings(tmp_path, environment)
    assert environment == {"A": "mine", "B": "file", "C": "true"}


def test_no_local_settings_should_be_no_fault(tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    load_local_settings(tmp_path, environment)
    assert environment == {}


@pytest.mark.parametrize("content", [{"IsEncrypted": True}, {"Values": {"A": {}}}, []])
def test_wrong_local_settings_should_be_refused(tmp_path: Path, content: object) -> None:
    write(tmp_path, "local.settings.json", content)
    with pytest.raises(HostError, match=r"local\.settings\.json"):
        load_local_settings(tmp_path, {})


def host(
    folder: Path, queues: dict[str, Any] | None = None, settings: dict[str, str] | None = None, **http: str | int
) -> Any:
    write(folder, "host.json", {"version": "2.0", "extensions": {"http": http, "queues": queues or {}}})
    return load_host_config(folder, settings or {}, cores=2)


def test_defaults_should_be_those_of_the_real_host(tmp_path: Path) -> None:
    config = host(tmp_path)
    queues = config.queues
    assert config.route_prefix == "api"
    assert (queues.batch_size, queues.new_batch_threshold, queues.max_dequeue_count) == (16, 16, 5)
    assert (queues.max_polling_interval, queues.visibility_timeout, queues.base64, queues.lease) == (60, 0, True, 600)


def test_development_should_poll_every_two_seconds_at_most(tmp_path: Path) -> None:
    development = {"AZURE_FUNCTIONS_ENVIRONMENT": "Development"}
    assert host(tmp_path, settings=development).queues.max_polling_interval == 2
    assert host(tmp_path, {"maxPollingInterval": "00:00:00.5"}, development).queues.max_polling_interval == 0.5


def test_request_limits_should_be_read_and_minus_one_be_none(tmp_path: Path) -> None:
    limited = host(tmp_path, maxOutstandingRequests=200, maxConcurrentRequests=-1)
    assert (limited.max_outstanding, limited.max_concurrent) == (200, None)
    with pytest.raises(HostError, match="maxConcurrentRequests"):
        host(tmp_path, maxConcurrentRequests="many")


def test_an_empty_route_prefix_should_stay_empty(tmp_path: Path) -> None:
    assert host(tmp_path, routePrefix="").route_prefix == ""


def test_app_settings_should_override_host_json(tmp_path: Path) -> None:
    override = {"AzureFunctionsJobHost__extensions__queues__BATCHSIZE": "4"}
    assert host(tmp_path, {"batchSize": 8}, override).queues.batch_size == 4


@pytest.mark.parametrize(
    "queues",
    [
        {"batchSize": 33},
        {"batchSize": "many"},
        {"maxDequeueCount": 0},
        {"maxPollingInterval": "00:00:00.05"},
        {"visibilityTimeout": "soon"},
        {"messageEncoding": "utf-16"},
    ],
)
def test_wrong_queue_settings_should_be_refused_by_name(tmp_path: Path, queues: dict[str, Any]) -> None:
    with pytest.raises(HostError, match=next(iter(queues))):
        host(tmp_path, queues)


def test_a_folder_without_host_json_should_be_refused(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"no host\.json"):
        load_host_config(tmp_path, {})
    write(tmp_path, "host.json", {})
    with pytest.raises(HostError, match="version"):
        load_host_config(tmp_path, {})
