"""Starting the app is cheap, and indexes everything that the documentation promises."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpulaunch.operations import OPERATIONS

ROOT = Path(__file__).parents[2]

_INDEX = """
import json, sys
import function_app
functions = function_app.app.get_functions()
print(json.dumps({
    "functions": [[f.get_function_name(), f.get_trigger().get_dict_repr()] for f in functions],
    "heavy": sorted(m for m in sys.modules if m.split(".")[0] in ("sky", "boto3", "botocore", "ray", "pandas")
                    or m.startswith(("azure.mgmt", "azure.identity", "azure.monitor", "opentelemetry"))),
}, default=str))
"""


@pytest.fixture(scope="module")
def index() -> Any:
    done = subprocess.run([sys.executable, "-c", _INDEX], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_starting_should_load_none_of_the_heavy_libraries(index: Any) -> None:
    assert index["heavy"] == []


def test_storage_should_be_connected_without_the_queues_library_where_no_queue_is_used() -> None:
    """It takes a quarter of a second; the gateway reads tables alone."""
    code = "import sys, shared.storage.connect; print('azure.storage.queue' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_operation_should_be_a_function_with_its_route_and_method(index: Any) -> None:
    found = {
        name: (trigger["route"], str(trigger["methods"]))
        for name, trigger in index["functions"]
        if trigger["type"] == "httpTrigger"
    }
    for operation in OPERATIONS:
        route, methods = found[operation.name]
        assert route == operation.route
        assert operation.method in methods


def test_no_name_or_route_should_be_one_that_the_host_refuses(index: Any) -> None:
    for name, trigger in index["functions"]:
        route = trigger.get("route") or ""
        assert re.fullmatch(r"[a-z][a-z0-9_-]{0,127}", name)
        assert not name.startswith(("admin", "runtime"))
        assert not route.startswith(("admin", "runtime"))


def test_importing_the_app_should_take_at_most_three_times_the_library_alone() -> None:
    def seconds(module: str) -> float:
        code = f"import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        return float(done.stdout)

    # The quickest of several runs, taken in turn: what else the machine does only ever makes them slower.
    pairs = [(seconds("azure.functions"), seconds("function_app")) for _ in range(5)]
    library, app = (min(times) for times in zip(*pairs, strict=True))
    assert app <= 3 * library, f"function_app {app * 1000:.0f} ms, azure.functions {library * 1000:.0f} ms"
