"""Run vLLM: load it ahead, start it, ask for its health and load, stop it."""

from __future__ import annotations

import json
import os
import pkgutil
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.agent.node.cause import excerpt, of_server
from shared.agent.node.clock import NodeClock
from shared.agent.node.config import Config
from shared.agent.node.errors import NETWORK_ERRORS, FatalError
from shared.agent.node.guard import KEY, Guard
from shared.agent.node.process import Child, free_port, lines_since, port_is_free, size_of
from shared.agent.node.state import SERVING, State
from shared.agent.node.tls import server_arguments
from shared.agent.node.transport import Http

PORT_PATIENCE_SECONDS = 15.0
"""The vLLM of a killed agent needs a moment to release its port."""
GUARD = "gpulaunch_guard"
"""Name under which vLLM imports guard.py."""

_KEPT_BACK = re.compile(
    r"^GPULAUNCH_(?!CLUSTER$)|^SKYPILOT_|PASSW(OR)?D|(^|_)(TOKEN|KEY|SECRET|CREDENTIALS?|JWT|PAT)(_|$)", re.IGNORECASE
)
"""Variables of the node that are not vLLM's business, nor that of code which comes with a model: the agent's own, and
secrets of whoever logs in here. The cluster's name stays: it tells whose process this is."""

# A vLLM that has done its imports (7 s of CPU, more from a cold disk) and reads its arguments from one line.
_PRELOADED = """
import json, os, runpy, sys
script = sys.argv[1]
sys.path[0] = os.path.dirname(script)
sys.argv = [script, "serve"]
for name in ("vllm.entrypoints.cli.main", "vllm.entrypoints.cli.serve"):
    try:
        __import__(name)
    except Exception as error:
        print(f"{name} cannot be loaded ahead: {error}", flush=True)
        break
line = sys.stdin.readline()
if not line:
    sys.exit()
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
sys.argv = [script, *json.loads(line)]
runpy.run_path(script, run_name="__main__")
"""


class VllmServer:
    """The vLLM of this node. Everything but `load` belongs to the main thread."""

    def __init__(self, config: Config, transport: Http, clock: NodeClock, state: State) -> None:
        self._config, self._http, self._clock, self._state = config, transport, clock, state
        self._child: Child | None = None
        self._loaded: Child | None = None
        self._patience_until: float | None = None
        self._starts = 0
        self._began = 0
        """Where in the log its latest run begins."""
        self._proof: Mapping[str, str] = {}
        """Headers that the guard lets pass."""
        self._plan: tuple[Path, Mapping[str, Any], Mapping[str, str]] | None = None
        self.output = config.work / "vllm.log"

    def prepare(self, vllm: Path, assignment: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        """Set what to start, and load vLLM's program at once, while the model may still be on its way."""
        if self._plan is not None:
            return
        path = f"{vllm.parent}{os.pathsep}{environ.get('PATH', os.defpath)}"
        # For what a model's own code fetches: as the deployment may, from the mirror that it uses.
        hub = {"HF_TOKEN": assignment.get("hub_token"), "HF_ENDPOINT": assignment.get("hub_endpoint")}
        known = {name: value for name, value in hub.items() if value}
        modules = os.pathsep.join(filter(None, (str(self._write_guard()), environ.get("PYTHONPATH"))))
        # vLLM's front end in Rust knows no middleware.
        extra = {
            "PATH": path,
            "PYTHONPATH": modules,
            KEY: assignment["api_key"],
            "VLLM_USE_RUST_FRONTEND": "0",
            # vLLM closes what is idle for 5 s, just when a gateway that keeps connections for 30 s may use it again.
            "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "75",
        } | known
        if assignment.get("tls"):
            self._http.trust(assignment["tls"]["authority"])
        self._proof = {"Authorization": f"Bearer {assignment['api_key']}"}
        self._plan = (vllm, assignment, {"VLLM_NO_USAGE_STATS": "1", **passed_on(environ), **extra})
        found = sorted(vllm.resolve().parent.parent.glob("lib/python*/site-packages/vllm-*.dist-info"))
        self._state.version = found[-1].name[len("vllm-") : -len(".dist-info")][:60] if found else None
        python = vllm.parent / "python"
        if python.exists() and is_command_of_vllm(vllm):
            command = [str(python), "-c", _PRELOADED, str(vllm)]
            self._loaded = self._run(command, subprocess.PIPE)

    def _write_guard(self) -> Path:
        """Write the guard into a folder of its own, and return the folder."""
        folder = self._config.work / "guard"
        folder.mkdir(exist_ok=True)
        # The shipped file is a zip: modules have to be read by their loader.
        (folder / f"{GUARD}.py").write_bytes(pkgutil.get_data(Guard.__module__, "guard.py") or b"")
        return folder

    def _run(self, command: Sequence[str], stdin: int = subprocess.DEVNULL) -> Child:
        self._began = size_of(self.output)
        environ: Mapping[str, str] = {} if self._plan is None else self._plan[2]
        return Child(command, environ, self.output, signal.SIGTERM, self._config.work, stdin=stdin)

    def advance(self) -> bool:
        """Start it once its port is free; return whether it is healthy.

        Raises:
            FatalError: It ended, its port is taken, or it answers without the endpoint's key.
        """
        if self._child is None:
            self._start()
        if self._child is None:
            return False
        code = self._child.poll()
        if code is not None:
            self._ended(code)
            return False
        if self._state.phase == SERVING:
            return True
        return self._healthy()

    def _healthy(self) -> bool:
        url = f"{self._address}/health"
        try:
            if self._http.json("GET", url, self._proof, timeout=2).status != 200:
                return False
            without = self._http.json("GET", url, {}, timeout=2).status
        except NETWORK_ERRORS:
            return False
        if without != 401:
            detail = f"vLLM answers {without} without the endpoint's key; it has to be one that takes --middleware"
            raise FatalError("server_failed", detail)
        return True

    @property
    def _address(self) -> str:
        return local_address(self._state.port, {} if self._plan is None else self._plan[1])

    def _start(self) -> None:
        if self._plan is None:
            raise FatalError("server_failed", "nothing to start")
        vllm, assignment, _ = self._plan
        port = assignment.get("port") or free_port()
        if not port_is_free(port):
            until = self._patience_until = self._patience_until or self._clock.ticks() + PORT_PATIENCE_SECONDS
            if self._clock.ticks() >= until:
                raise FatalError("port_taken", f"port {port} is taken by another program")
            return
        self._state.port = port
        self._starts += 1
        work = self._config.work
        command = ["serve", str(work / "model")]
        command += ["--served-model-name", assignment["model_name"], "--host", "0.0.0.0", "--port", str(port)]  # noqa: S104 - clients connect from outside
        command += ["--middleware", f"{GUARD}.{Guard.__name__}"]
        command += server_arguments(assignment.get("tls"), work)
        if not any(arg.partition("=")[0].replace("_", "-") == "--max-model-len" for arg in assignment["vllm_args"]):
            # A model's own context is often longer than fits beside its weights, and vLLM then exits after minutes that
            # are paid for. `auto` is the longest that fits.
            command += ["--max-model-len", "auto"]
        command += local_arguments(assignment, work)
        if assignment.get("chat_template"):
            template = work / "chat_template.jinja"
            template.write_text(assignment["chat_template"], "utf-8")
            command += ["--chat-template", str(template)]
        loaded, self._loaded = self._loaded, None
        if loaded is not None and loaded.poll() is None and loaded.send_line(json.dumps(command)):
            self._child = loaded
        else:
            self._child = self._run([str(vllm), *command])

    def _ended(self, code: int) -> None:
        lines = lines_since(self.output, self._began)
        taken = any("address already in use" in line.lower() for line in lines[-50:])
        if taken and self._plan is not None and not self._plan[1].get("port") and self._starts < 3:
            self._child = None
            return
        if taken:
            raise FatalError("port_taken", f"port {self._state.port} is taken by another program")
        why, place = of_server(lines, code)
        raise FatalError("server_failed", f"vLLM ended with {code}: {why}", excerpt(lines, place))

    def load(self) -> dict[str, float]:
        """Running and waiting requests by vLLM's own metrics; empty while it does not answer."""
        try:
            answer = self._http.read("GET", f"{self._address}/metrics", self._proof, timeout=3)
        except NETWORK_ERRORS:
            return {}
        return parse_load(answer.body.decode(errors="replace")) if answer.status == 200 else {}

    def stop(self, patience: float = 10.0) -> None:
        for child in (self._child, self._loaded):
            if child is not None:
                child.stop(patience)


def passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """What of the node's environment reaches vLLM: paths, GPUs, libraries, proxies, and the image's own wishes."""
    return {name: value for name, value in environ.items() if not _KEPT_BACK.search(name)}


def local_address(port: int | None, assignment: Mapping[str, Any]) -> str:
    """The address of vLLM on the node itself."""
    return f"{'https' if assignment.get('tls') else 'http'}://127.0.0.1:{port}"


def local_arguments(assignment: Mapping[str, Any], work: Path) -> list[str]:
    """vLLM's arguments with the paths of what was fetched."""
    args: list[str] = assignment.get("local_args") or assignment["vllm_args"]
    return [re.sub(r"\{(model|extra-\d+)\}", lambda found: str(work / found[1]), arg) for arg in args]


def is_command_of_vllm(script: Path) -> bool:
    """Whether this is vLLM's own command and not a wrapper around it."""
    try:
        with script.open("rb") as file:
            return b"from vllm.entrypoints.cli.main import main" in file.read(4096)
    except OSError:
        return False


def parse_load(text: str) -> dict[str, float]:
    """The sums over all models and engines of vLLM's gauges of running and waiting requests."""
    load: dict[str, float] = {}
    for kind in ("running", "waiting"):
        found = re.findall(rf"^vllm:num_requests_{kind}(?:\{{[^}}]*\}})? ([0-9.eE+]+)\s*$", text, re.MULTILINE)
        if found:
            load[f"{kind}_requests"] = sum(map(float, found))
    return load
