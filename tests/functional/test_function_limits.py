"""Every function ends before the host's functionTimeout, which would end its neighbours in the worker, too."""

import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import azure.functions as func
import pytest
from azure.functions.timer import TimerRequest

from functions import limits, queues
from gpulaunch.client import exchange
from gpulaunch.deadlines import time_left
from shared import app
from shared.adapters import Adapters
from shared.azure_transport import RESOURCE_MANAGER, STORAGE
from shared.control import step
from shared.control.sweep import sweep
from shared.errors import StoreUnavailableError
from shared.turns import Turns
from tests.functional.world import functions
from tests.unit.infra.templates import ROOT

QUEUES = ("provisioning", "teardown", "health", "alerts")


def limit_of(name: str) -> float:
    if name in QUEUES:
        return limits.STEP_SECONDS
    return {"sweep": limits.SWEEP_SECONDS, "backup": limits.BACKUP_SECONDS}.get(name, limits.ANSWER_SECONDS)


def test_the_limits_should_be_below_the_hosts() -> None:
    host = json.loads((ROOT / "host.json").read_text("utf-8"))
    hours, minutes, seconds = map(int, host["functionTimeout"].split(":"))
    timeout = 3600 * hours + 60 * minutes + seconds
    for limit in (limits.STEP_SECONDS, limits.SWEEP_SECONDS, limits.BACKUP_SECONDS, limits.ANSWER_SECONDS):
        # A pause that began before the limit, and what is done without a call.
        assert limit + STORAGE.pause + 60 < timeout
    assert RESOURCE_MANAGER.call < step.ACT_SECONDS <= limits.STEP_SECONDS / 2
    assert RESOURCE_MANAGER.call < sweep.TASK_SECONDS <= limits.SWEEP_SECONDS / 4


def test_an_answer_should_come_before_its_caller_gives_up() -> None:
    assert exchange.TIMEOUT.read is not None
    assert limits.ANSWER_SECONDS + STORAGE.pause < exchange.TIMEOUT.read < 230


def test_callers_should_not_wait_for_each_others_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, over = threading.Event(), threading.Event()

    def silent(_: object) -> Adapters:
        begun.set()
        over.wait(30)
        raise StoreUnavailableError("storage is silent")

    app.use(None)
    monkeypatch.setattr(app, "connect", silent)
    monkeypatch.setattr(app, "read_settings", lambda: None)
    monkeypatch.setattr(app, "_lock", Turns(1, 0.05, "the app's connection to storage"))
    with ThreadPoolExecutor(1) as other:
        first = other.submit(app.runtime)
        assert begun.wait(5)
        with pytest.raises(StoreUnavailableError, match="in use by others"):
            app.runtime()
        over.set()
        assert isinstance(first.exception(5), StoreUnavailableError)


@pytest.mark.parametrize("name", sorted({*functions(), "alerts"}))
def test_a_function_should_have_its_limit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[float] = []

    def start() -> None:
        left.append(time_left())
        raise StoreUnavailableError("storage is silent")

    monkeypatch.setattr(app, "runtime", start)
    given: Any = func.HttpRequest("GET", "http://test/", body=b"")
    if name in QUEUES:
        given = func.QueueMessage(id="m", body=b"{}")
    elif name in ("sweep", "backup"):
        given = TimerRequest(past_due=False)
    # The function for alerts is bound only where the environment names a receiver.
    handler = queues.alerts if name == "alerts" else functions()[name].get_user_function()
    with suppress(StoreUnavailableError):
        handler(given)
    # Files and documents are the same whatever the settings: they need no program.
    same = ("web_static", "web_docs", "show_openapi", "show_endpoint_file_schema")
    assert left == [pytest.approx(limit_of(name), abs=5)] or name in same
    assert time_left() == math.inf
