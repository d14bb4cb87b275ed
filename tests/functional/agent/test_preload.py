"""vLLM's program is loaded while the model is still on its way."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.functional.agent.processes import HERE, Nodes, eventually
from tests.functional.agent.servers import Store

MAIN = f"""
import os, runpy
print("loaded by", os.getpid(), flush=True)

def main():
    runpy.run_path({str(HERE / "fake_vllm.py")!r}, None, "__main__")
"""
SCRIPT = "#!{python}\nimport sys\nfrom vllm.entrypoints.cli.main import main\nsys.exit(main())\n"


@pytest.fixture
def installed(nodes: Nodes) -> dict[str, Any]:
    """Environment with a vLLM whose command and modules are laid out like the real one's."""
    folder = nodes.folder / "env"
    command = folder / "bin" / "vllm"
    modules = folder / "lib" / "vllm" / "entrypoints" / "cli"
    modules.mkdir(parents=True)
    command.parent.mkdir()
    (command.parent / "python").symlink_to(Path(sys.executable).resolve())
    command.write_text(SCRIPT.format(python=sys.executable))
    command.chmod(0o755)
    (modules / "main.py").write_text(MAIN)
    (modules / "serve.py").touch()
    return {"GPULAUNCH_VLLM_EXECUTABLE": str(command), "PYTHONPATH": str(folder / "lib")}


def serve(nodes: Nodes) -> Path:
    return nodes.folder / "env" / "lib" / "vllm" / "entrypoints" / "cli" / "serve.py"


def running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def loader(log: Path) -> int:
    lines = log.read_text().splitlines() if log.exists() else []
    return next((int(line.split()[-1]) for line in lines if line.startswith("loaded by")), 0)


def test_vllm_is_loaded_while_the_model_is_fetched_and_then_serves_it(
    nodes: Nodes, store: Store, installed: dict[str, Any]
) -> None:
    store.hold_after = 0
    node = nodes.start(pull=nodes.assignment([store.file("config.json", b"{}")], vllm_args=["--a b"]), **installed)
    pid = eventually(lambda: loader(node.work / "vllm.log"))
    status = node.reaches("loading_model")
    assert f"loaded by {pid}" in status.log_tail
    assert not (node.work / "vllm.argv").exists()
    store.resume.set()
    port = node.reaches("serving").port
    assert node.vllm_pid() == pid
    argv = json.loads((node.work / "vllm.argv").read_text())
    assert argv[1:3] == ["serve", str(node.work / "model")]
    assert argv[argv.index("--port") + 1] == str(port)
    assert argv[-1] == "--a b"
    assert Path(f"/proc/{pid}/fd/0").readlink() == Path(os.devnull)


def test_a_model_that_does_not_come_leaves_no_loaded_vllm_behind(
    nodes: Nodes, store: Store, installed: dict[str, Any]
) -> None:
    store.hold_after = 0
    node = nodes.start(pull=nodes.assignment([store.file("config.json", b"{}", size=3)]), **installed)
    pid = eventually(lambda: loader(node.work / "vllm.log"))
    store.resume.set()
    assert node.reaches("failed").failure == "model_fetch_failed"
    eventually(lambda: not running(pid))


@pytest.mark.parametrize("trouble", ["raise RuntimeError('not so early')", "import os; os._exit(3)"])
def test_a_vllm_that_can_not_be_loaded_ahead_is_started_all_the_same(
    nodes: Nodes, store: Store, installed: dict[str, Any], trouble: str
) -> None:
    serve(nodes).write_text(trouble)
    store.hold_after = 0
    node = nodes.start(pull=nodes.assignment([store.file("config.json", b"{}")]), **installed)
    pid = eventually(lambda: loader(node.work / "vllm.log"))
    if "exit" in trouble:
        eventually(lambda: Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z")
    store.resume.set()
    node.reaches("serving")
    assert (node.vllm_pid() == pid) == ("raise" in trouble)
