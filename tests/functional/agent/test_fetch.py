"""How the agent fetches models and installs vLLM, as a real process."""

import json
import os
import shutil
import signal
import sys
import zipfile
from pathlib import Path
from typing import Any, cast

import boto3
import pytest
from moto.server import ThreadedMotoServer

from gpulaunch.models.requests import LaunchRequest
from shared.clock import SystemClock
from shared.domain.node import ModelFolder
from shared.model_sources.files import SourceFiles
from shared.settings import Settings
from tests.functional.agent.processes import Nodes, eventually
from tests.functional.agent.servers import API_KEY, SIGNATURE, ControlPlane, Store
from tests.standins.hub import HubServer, Repository

KEY = "key-of-the-tests-0123456789-abcdef"

MIB = 1024 * 1024
RANGE = 16 * MIB


def test_after_a_kill_only_missing_ranges_are_fetched_again(nodes: Nodes, store: Store) -> None:
    body = os.urandom(5 * RANGE + 1000)
    files = [store.file("config.json", b"{}"), store.file("model.safetensors", body)]
    store.hold_after = 4
    first = nodes.start(pull=nodes.assignment(files))
    done = {"bytes=0-1"}

    def three() -> bool:
        return any(one.read_text().count(",") >= 5 for one in (first.work / "model.parts").glob("*.json"))

    eventually(three)
    first.process.send_signal(signal.SIGKILL)
    first.wait()
    fetched = {asked for path, asked in store.ranges if path == "/model.safetensors"}
    assert len(fetched) == 3
    store.resume.set()
    store.hold_after = None
    store.ranges.clear()
    second = nodes.start(pull=nodes.assignment(files))
    status = second.reaches("serving")
    again = {asked for path, asked in store.ranges if path == "/model.safetensors"}
    assert len(again) == 3
    assert not again & (fetched | done)
    assert not [path for path, _ in store.ranges if path == "/config.json"]
    assert (second.work / "model" / "model.safetensors").read_bytes() == body
    assert status.fetched_bytes == status.total_bytes == len(body) + 2


def test_a_folder_of_an_s3_bucket_arrives_by_presigned_addresses(nodes: Nodes, control: ControlPlane) -> None:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        access = {"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key": "s" * 40}
        client = cast("Any", boto3).client("s3", endpoint_url=url, region_name="us-east-1", **access)
        client.create_bucket(Bucket="models")
        body = os.urandom(RANGE + 1000)
        client.put_object(Bucket="models", Key="tiny/config.json", Body=b"{}")
        client.put_object(Bucket="models", Key="tiny/w 1/ü+(1).safetensors", Body=body)
        values = {"R2_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "R2_SECRET_ACCESS_KEY": "s" * 40}
        values |= {"R2_ENDPOINT": url, "GPULAUNCH_MASTER_KEY": KEY}
        files = SourceFiles(Settings.model_validate(values), SystemClock())
        request = LaunchRequest(model_name="org/tiny", gpu="A10", model_source="r2://models/tiny")
        control.assignment = nodes.assignment(files.list_files(request).files)
        node = nodes.start(push=control)
        eventually(lambda: control.bodies("register"))
        assert (node.work / "model/w 1/ü+(1).safetensors").read_bytes() == body
        assert "X-Amz" not in node.log()
    finally:
        server.stop()


def test_another_size_than_expected_is_a_failure(nodes: Nodes, store: Store) -> None:
    node = nodes.start(pull=nodes.assignment([store.file("model.safetensors", b"x" * 100, size=101)]))
    status = node.reaches("failed")
    assert status.failure == "model_fetch_failed"
    assert status.detail == "model.safetensors: size mismatch: the store has 100 bytes, 101 were expected"
    assert not (node.work / "model" / "model.safetensors").exists()


def test_an_unknown_size_is_asked_for_and_an_empty_file_is_a_file(nodes: Nodes, store: Store) -> None:
    first = store.file("model.safetensors", b"x" * 100).model_copy(update={"size": None})
    empty = store.file("empty.txt", b"").model_copy(update={"size": 0})
    node = nodes.start(pull=nodes.assignment([first, empty]))
    assert node.reaches("serving").total_bytes == 100
    assert (node.work / "model" / "empty.txt").read_bytes() == b""


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a/../../b", "a//b", "a\\b", ""])
def test_a_path_that_leaves_the_folder_is_refused(nodes: Nodes, store: Store, path: str) -> None:
    file = store.file("x", b"x").model_copy(update={"path": path})
    status = nodes.start(pull=nodes.assignment([file])).reaches("failed")
    assert status.failure == "model_fetch_failed"
    assert "would leave" in status.detail
    assert not store.ranges


def test_a_missing_file_is_a_failure_at_once(nodes: Nodes, store: Store) -> None:
    store.troubles = [(404, {})]
    node = nodes.start(pull=nodes.assignment([store.file("model.safetensors", b"x")]))
    assert node.reaches("failed").detail == "model.safetensors: the store answered 404"


def test_expired_addresses_are_refreshed(nodes: Nodes, store: Store, control: ControlPlane) -> None:
    files = [store.file(f"part-{number}.safetensors", os.urandom(1000)) for number in range(3)]
    control.assignment = nodes.assignment(files)
    store.good_signature = "fresh4343"
    fresh = [file.model_copy(update={"url": file.url.replace(SIGNATURE, "fresh4343")}) for file in files]

    def second_time() -> None:
        if any(call.name == "assignment" for call in control.calls):
            control.assignment = nodes.assignment(fresh)

    control.on_assignment = second_time
    nodes.start(push=control)
    eventually(lambda: control.bodies("register"))
    assert len([call for call in control.calls if call.name == "assignment"]) == 2, "one renewal serves all files"


def test_without_a_control_plane_an_expired_address_is_a_failure(nodes: Nodes, store: Store) -> None:
    file = store.file("model.safetensors", b"x")
    store.good_signature = "fresh4343"
    assert nodes.start(pull=nodes.assignment([file])).reaches("failed").detail.endswith("the store answered 403")


def test_a_source_that_the_control_plane_can_not_read_is_a_failure_at_once(nodes: Nodes, control: ControlPlane) -> None:
    nodes.start(push=control)
    failed = eventually(lambda: [body for body in control.bodies("progress") if body.failure])[0]
    assert (failed.failure, failed.detail) == ("model_fetch_failed", "there are no files in r2://m/x")
    assert len([call for call in control.calls if call.name == "assignment"]) == 1


HUB_FILES = {
    "config.json": b"{}",
    "tokenizer.json": b"[]",
    "model.safetensors": os.urandom(5000),
    "pytorch_model.bin": b"x",
    "original/consolidated.00.pth": b"x",
    "model-q4.gguf": b"x",
    "README.md": b"x",
    ".gitattributes": b"x",
}


def test_from_the_hub_come_only_the_files_that_are_needed_and_the_token_stays_there(nodes: Nodes) -> None:
    with HubServer({"org/m": Repository(HUB_FILES, gated=True)}, token="hf_secret") as hub:
        values = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": "hf_secret", "GPULAUNCH_MASTER_KEY": KEY}
        files = SourceFiles(Settings.model_validate(values), SystemClock())
        listed = files.list_files(LaunchRequest(model_name="org/m", gpu="A10")).files
        given = nodes.assignment(listed, hub_model="org/m", hub_endpoint=hub.endpoint, hub_token="hf_secret")
        node = nodes.start(pull=given)
        status = node.reaches("serving")
        folder = node.work / "model"
        assert sorted(path.name for path in folder.rglob("*")) == ["config.json", "model.safetensors", "tokenizer.json"]
        for path in folder.rglob("*"):
            assert path.read_bytes() == HUB_FILES[path.name]
        assert status.total_bytes == 5004
        assert hub.fetched == [("org/m/model.safetensors", None)], "the storage behind the Hub never sees its token"
        assert "hf_secret" not in node.log() + "".join(status.log_tail)
        denied = nodes.assignment(listed, hub_model="org/m", hub_endpoint=hub.endpoint)
        other = nodes.start(pull=denied, GPULAUNCH_WORK_DIR=str(nodes.folder / "other"))
        assert other.reaches("failed").detail.endswith("the store answered 401 GatedRepo")


def test_what_vllm_needs_beside_the_model_is_fetched_before_it_starts(nodes: Nodes, store: Store) -> None:
    folder = ModelFolder(name="extra-1", files=[store.file("adapter_config.json", b"{}")])
    template = "{% for m in messages %}\n{{ m }}\n{% endfor %}"
    given = nodes.assignment(
        [store.file("config.json", b"[]")],
        folders=[folder],
        local_args=["--lora-modules", "a={extra-1}", "--chat-template-file={model}/x"],
        chat_template=template,
        hub_endpoint="https://hub.corp.example",
        hub_token="hf_secret",
    )
    node = nodes.start(pull=given)
    status = node.reaches("serving")
    assert status.total_bytes == status.fetched_bytes == 4
    assert (node.work / "extra-1" / "adapter_config.json").read_bytes() == b"{}"
    argv = json.loads((node.work / "vllm.argv").read_text())
    assert argv[argv.index("--lora-modules") + 1] == f"a={node.work}/extra-1"
    assert f"--chat-template-file={node.work}/model/x" in argv
    assert Path(argv[argv.index("--chat-template") + 1]).read_text() == template
    environ = (Path("/proc") / str(node.vllm_pid()) / "environ").read_bytes().split(b"\0")
    assert {b"HF_TOKEN=hf_secret", b"HF_ENDPOINT=https://hub.corp.example"} <= set(environ)
    assert "hf_secret" not in node.log()


def wheel(folder: Path, source: Path) -> None:
    """A package `vllm` whose command is the stand-in."""
    info = "vllm-9.9.9.dist-info"
    files = {
        "vllm.py": source.read_text(),
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: vllm\nVersion: 9.9.9\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nvllm = vllm:main\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / "vllm-9.9.9-py3-none-any.whl", "w") as archive:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(name, text)


@pytest.fixture
def installing(nodes: Nodes) -> dict[str, Any]:
    """Environment in which pip finds nothing but our wheel, and no uv is there."""
    wheels, tools = nodes.folder / "wheels", nodes.folder / "python-only"
    wheels.mkdir()
    tools.mkdir()
    wheel(wheels, Path(__file__).parent / "fake_vllm.py")
    (tools / "python3.11").symlink_to(Path(sys.executable).resolve())
    base = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    path = os.pathsep.join([str(tools), "/usr/bin", "/bin"])
    return {**base, "PATH": path, "GPULAUNCH_VLLM_EXECUTABLE": "", "GPULAUNCH_VLLM_REQUIREMENT": "vllm==9.9.9"}


@pytest.mark.skipif(shutil.which("uv", path="/usr/bin:/bin") is not None, reason="uv of the system would be used")
def test_vllm_is_installed_once_for_all_attempts_on_a_machine(
    nodes: Nodes, store: Store, control: ControlPlane, installing: dict[str, Any]
) -> None:
    control.assignment = nodes.assignment([store.file("config.json", b"{}")])
    nodes.start(push=control, **installing)
    registered = eventually(lambda: control.bodies("register"), seconds=40)[0]
    assert registered.vllm_version == "9.9.9"
    more: dict[str, Any] = {**installing, "PIP_FIND_LINKS": "/", "GPULAUNCH_WORK_DIR": str(nodes.folder / "other")}
    other = nodes.start(pull=nodes.assignment([]), **more)
    other.reaches("serving")
    assert "running" not in other.log()


UV = """#!/bin/sh
echo "$@" >>{folder}/uv.calls
case "$1 $5" in
  "venv only-managed") exit 1 ;;
  venv*) for last; do :; done; mkdir -p "$last/bin"; touch "$last/bin/python" ;;
  pip*) case "$*" in *broken*) echo "error: no solution found for $5"; exit 1 ;; esac
        cp {folder}/bin/vllm "$(dirname "$4")/vllm" ;;
esac
"""


@pytest.fixture
def uv(nodes: Nodes) -> dict[str, Any]:
    """Environment with a `uv` that has no managed Python to offer."""
    tools = nodes.folder / "uv-only"
    tools.mkdir()
    (tools / "uv").write_text(UV.format(folder=nodes.folder))
    (tools / "uv").chmod(0o755)
    return {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "GPULAUNCH_VLLM_EXECUTABLE": ""}


def test_uv_is_used_where_it_is_and_a_system_python_where_it_brings_none(
    nodes: Nodes, store: Store, uv: dict[str, Any]
) -> None:
    node = nodes.start(pull=nodes.assignment([]), GPULAUNCH_VLLM_REQUIREMENT="vllm==9.9.9", **uv)
    node.reaches("serving")
    calls = (nodes.folder / "uv.calls").read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["venv", "venv", "pip"]
    assert calls[2].endswith(" vllm==9.9.9")


def test_an_installation_that_fails_says_why(nodes: Nodes, store: Store, uv: dict[str, Any]) -> None:
    node = nodes.start(pull=nodes.assignment([]), GPULAUNCH_VLLM_REQUIREMENT="broken==1", **uv)
    status = node.reaches("failed")
    assert status.failure == "install_failed"
    assert status.detail == "cannot install broken==1: error: no solution found for broken==1"
    assert API_KEY not in "".join(status.log_tail)
