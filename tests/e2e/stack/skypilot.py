"""SkyPilot's side: a HOME of its own, what its node set-up downloads, and the embedded API server.

SkyPilot's set-up of a node fetches uv with curl from its makers' address and lets uv find or fetch Python 3.10. Where
that address is not reached, a `curl` of this run answers for it, and for nothing else, with PyPI's uv.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.e2e.stack.packages import SEARCH
from tests.e2e.stack.processes import MARK, Processes, StackError, free_port, run, wait_until

UV = "uv==0.13.8"
UV_INSTALLER = "https://astral.sh/uv/install.sh"
CATALOGS = Path(__file__).parent.parent / "catalogs"
CATALOG_VERSION = "v8"
# Healthy 5 s after the start on two idle cores; the rest is for a machine that builds something at the same time.
START_SECONDS = 120
# Debian's path, in this order the first is taken; a machine's own certificates may lie elsewhere.
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
CONFIG = """\
aws: &nothing
  remote_identity: NO_UPLOAD
azure: *nothing
gcp: *nothing
kubernetes: *nothing
"""


def install_uv(cache: Path) -> Path:
    """Put the pinned uv into `cache` unless it is there, and return the path of its program."""
    folder = cache / UV.replace("==", "-")
    program = folder / "bin" / "uv"
    if not program.exists():
        run([sys.executable, "-m", "pip", "install", "-q", "--target", folder, UV], seconds=300)
    return program


def find_python310() -> Path | None:
    """A Python 3.10 that runs: on PATH, or among pyenv's; None when the machine has none."""
    on_path = [Path(folder) / "python3.10" for folder in os.environ.get("PATH", SEARCH).split(":") if folder]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for candidate in [*on_path, *sorted(pyenv.glob("3.10.*/bin/python3.10"))]:
        if not candidate.exists():
            continue
        ask = [candidate, "-c", "import sys; print(sys.executable)"]
        said = subprocess.run(ask, capture_output=True, text=True, check=False)
        # A shim of pyenv is there for every version that is installed, and fails unless that version is switched on.
        if said.returncode == 0:
            return Path(said.stdout.strip())
    return None


def write_programs(folder: Path, uv: Path, python: Path | None) -> None:
    """Fill `folder`, which the node has in front of its PATH, with curl and python3.10.

    Without a Python 3.10 the installed uv is one that takes the running Python (SkyPilot's runtime needs one below
    3.12) where 3.10 is asked for: uv itself looks at a program's version, not at its name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    curl = shutil.which("curl", path=SEARCH)
    if curl is None:
        raise StackError("curl is missing")
    node_uv = uv
    if python is not None:
        _script(folder / "python3.10", f'exec {shlex.quote(str(python))} "$@"\n')
    else:
        node_uv = folder / "uv-any-python"
        _script(
            node_uv,
            'for word in "$@"; do shift\n'
            f'  [ "$word" = 3.10 ] && word={shlex.quote(sys.executable)}\n'
            '  set -- "$@" "$word"\n'
            f'done\nexec {shlex.quote(str(uv))} "$@"\n',
        )
    installer = folder / "uv-installer"
    installer.write_text(
        f'#!/bin/sh\nset -e\nmkdir -p "$UV_INSTALL_DIR"\nln -sf {shlex.quote(str(node_uv))} "$UV_INSTALL_DIR/uv"\n'
    )
    _script(
        folder / "curl",
        'for word in "$@"; do\n'
        f'  if [ "$word" = {UV_INSTALLER} ]; then exec cat {shlex.quote(str(installer))}; fi\n'
        f'done\nexec {curl} "$@"\n',
    )


def node_variables() -> dict[str, str]:
    """Environment of the node's shells and jobs: uv and pip are to trust what this machine trusts."""
    variables = {"UV_SYSTEM_CERTS": "true", "UV_NATIVE_TLS": "true"}
    passed_on = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_INDEX_URL", "UV_DEFAULT_INDEX", "HTTPS_PROXY", "NO_PROXY")
    return variables | {name: os.environ[name] for name in passed_on if name in os.environ}


def _script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}")
    path.chmod(0o755)


@dataclass
class SkyPilot:
    """SkyPilot with `home` as its HOME and its API server on the loopback `port`."""

    home: Path
    port: int
    user_id: str
    processes: Processes
    _server: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def prepare(self, slurm_host: str, slurm_config: str, *, node_folder: Path) -> None:
        """Write the HOME folder: catalogs, the way to the Slurm cluster, configuration.

        SkyPilot's runtime on the node goes into `node_folder` instead of /tmp.
        """
        node_folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(CATALOGS, self.home / ".sky" / "catalogs" / CATALOG_VERSION, dirs_exist_ok=True)
        for name in (".slurm", "tmp"):
            (self.home / name).mkdir(exist_ok=True)
        (self.home / ".slurm" / "config").write_text(slurm_config)
        (self.home / ".sky" / "config.yaml").write_text(
            f"{CONFIG}slurm:\n  cluster_configs:\n    {slurm_host}:\n      tmpdir: {node_folder}\n"
        )

    def environment(self) -> dict[str, str]:
        """The environment for any program that is to use this SkyPilot, the app under test included.

        No credential of the machine's owner gets in: HOME is of this run, and so are the variables.
        """
        return {
            "HOME": str(self.home),
            "TMPDIR": str(self.home / "tmp"),
            "PATH": f"{Path(sys.executable).parent}:{SEARCH}",
            "LC_ALL": "C.UTF-8",
            "SKYPILOT_USER_ID": self.user_id,
            "SKYPILOT_API_SERVER_LOCAL_PORT": str(self.port),
            "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
            "SKYPILOT_DEBUG": "0",
            **node_variables(),
            MARK: self.processes.run_id,
        }

    def start(self) -> None:
        """Start the embedded API server, as `sky api start` does, and wait until it is healthy."""
        for tries_left in (2, 1, 0):
            # SkyPilot keeps the server alive past the end of the program that started it; here it is a child of ours.
            self._server = self.processes.start(
                "skypilot",
                [Path(sys.executable).parent / "sky", "api", "start", "--foreground", "--port", str(self.port)],
                env=self.environment(),
                cwd=self.home,
            )
            try:
                self.wait_healthy()
            except StackError as error:
                # Its queue's port follows from its own and lies where the kernel takes ports for outgoing connections.
                if "already in use" not in str(error) or not tries_left:
                    raise
                self.stop()
                self.port = free_port()
            else:
                return

    def wait_healthy(self) -> None:
        """Wait for the API server, whoever started it; StackError with the end of its log when it does not come up."""

        def healthy() -> bool:
            if self._server is not None and self._server.poll() is not None:
                raise StackError(f"SkyPilot's API server ended: {self.processes.last_words('skypilot')}")
            try:
                return httpx.get(f"{self.endpoint}/api/health", timeout=5).is_success
            except httpx.TransportError:
                return False

        wait_until(healthy, seconds=START_SECONDS, what="SkyPilot's API server to be healthy")

    def kill(self) -> None:
        """SIGKILL for the API server and every process that works for it, as in a power cut."""
        if self._server is not None:
            self.processes.kill(self._server)
            self._server = None
        self.stop()

    def stop(self) -> None:
        """End the API server and every process that works for it, also one that the app under test has started."""
        if self._server is not None:
            self.processes.stop(self._server)
            self._server = None
        self.processes.sweep(f"SKYPILOT_API_SERVER_LOCAL_PORT={self.port}", "IS_SKYPILOT_SERVER=true")

    def cli(self, *arguments: str, seconds: float = 120) -> str:
        return run([Path(sys.executable).parent / "sky", *arguments], env=self.environment(), seconds=seconds)

    def clear(self) -> None:
        """Take every cluster down that the server's books have.

        A server that was just started looks at its clusters by itself; one that it strikes out between the command's
        list and its end makes the command fail although nothing is left of it.
        """
        try:
            self.cli("down", "--yes", "--all", seconds=180)
        except StackError as error:
            if "ClusterDoesNotExist" not in str(error):
                raise
            self.cli("down", "--yes", "--all", seconds=180)
