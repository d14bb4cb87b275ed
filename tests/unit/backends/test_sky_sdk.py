"""SkyPilot's own client and tables against ours: the stand-in speaks its protocol, and our constants are its."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.backends.skypilot.http import API_VERSION
from shared.backends.skypilot.local import ALWAYS_COPIED
from shared.backends.skypilot.task import NO_UPLOAD
from tests.standins.sky_server import SkyServer


def run(code: str, home: Path, **environ: str) -> Any:
    """What `code` prints as JSON last, run with the real SkyPilot and a home folder of its own."""
    clean = {"HOME": str(home), "PATH": os.environ["PATH"], "SKYPILOT_DISABLE_USAGE_COLLECTION": "1", **environ}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean, cwd=home, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


SDK = """
import json, sky
from sky.client import sdk
resources = {"infra": "slurm/e2e", "accelerators": "A10:1"}
task = sky.Task.from_yaml_config({"name": "t", "resources": resources, "run": "true"})
enabled = sdk.get(sdk.enabled_clouds())
launch = sdk.launch(task, cluster_name="from-the-sdk")
listed = [(one.name, one.status, one.cluster_name) for one in sdk.api_status(request_ids=[launch])]
import urllib.request
urllib.request.urlopen(urllib.request.Request(URL + "/settle", method="POST", data=b"{}"))
job, _ = sdk.get(launch)
status = [(one["name"], one["status"].value) for one in sdk.get(sdk.status(["from-the-sdk"]))]
gone = sdk.down("nothing-of-this-name")
urllib.request.urlopen(urllib.request.Request(URL + "/settle", method="POST", data=b"{}"))
try:
    sdk.get(gone)
except sky.exceptions.ClusterDoesNotExist as error:
    refused = str(error)
print(json.dumps({"enabled": enabled, "listed": listed, "job": job, "status": status, "refused": refused}))
"""


def test_the_real_sdk_gets_along_with_the_stand_in(tmp_path: Path) -> None:
    with SkyServer() as server:
        said = run(SDK.replace("URL", repr(server.url)), tmp_path, SKYPILOT_API_SERVER_ENDPOINT=server.url)
    assert said == {
        "enabled": ["azure", "slurm"],
        "listed": [["sky.launch", "PENDING", "from-the-sdk"]],
        "job": 1,
        "status": [["from-the-sdk", "UP"]],
        "refused": "Cluster 'nothing-of-this-name' does not exist.",
    }


TABLES = """
import json, os
from sky.server import constants
from sky.utils import registry, schemas
properties = schemas.get_config_schema()["properties"]
configurable = [name for name, kind in properties.items() if "remote_identity" in (kind.get("properties") or {})]
copied = []
for name, cloud in registry.CLOUD_REGISTRY.items():
    if name not in configurable:
        paths = cloud.get_credential_file_mounts().values()
        copied += [os.path.relpath(os.path.expanduser(path), os.path.expanduser("~")) for path in paths]
print(json.dumps({"version": constants.API_VERSION, "configurable": configurable, "copied": sorted(set(copied))}))
"""


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Any:
    home = tmp_path_factory.mktemp("home")
    for path in ALWAYS_COPIED:
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text("{}")
    return run(TABLES, home)


def test_our_version_of_the_interface_is_the_pinned_skypilot_s(tables: Any) -> None:
    assert tables["version"] == API_VERSION


def test_every_cloud_that_can_be_told_to_copy_nothing_is_told(tables: Any) -> None:
    assert set(tables["configurable"]) == set(NO_UPLOAD)


def test_every_file_that_is_copied_regardless_is_known(tables: Any) -> None:
    assert [
        path for path in tables["copied"] if not any(Path(path).parent == Path(known).parent for known in ALWAYS_COPIED)
    ] == []


def test_no_module_of_ours_loads_skypilot(tmp_path: Path) -> None:
    code = """
import json, sys
sys.path.insert(0, ROOT)
import shared.backends.skypilot.provider, shared.backends.nodes
print(json.dumps(sorted({"sky", "psutil", "pandas", "boto3"} & set(sys.modules))))
"""
    assert run(code.replace("ROOT", repr(str(Path(__file__).parents[3]))), tmp_path) == []
