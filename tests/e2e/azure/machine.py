"""The machine that boots when the resource manager makes one: an sshd on 127.0.0.2:22 in namespaces of its own.

Its /etc is a copy, its user's home a new folder, and the end of its first process ends everything that ran in it: a
machine that Azure deallocates or deletes is gone as a whole. One at a time: SkyPilot's runtime takes fixed ports.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.stack.packages import SEARCH
from tests.e2e.stack.processes import MARK, Processes, run

ADDRESS = "127.0.0.2"
USER = "azureuser"
"""The user that SkyPilot logs in as. Here it is root under another name, but what it changes are copies."""


@dataclass
class NodeMachine:
    folder: Path
    processes: Processes
    programs: Path
    """In front of PATH on the node."""
    variables: dict[str, str]
    boots: int = 0
    _running: subprocess.Popen[bytes] | None = None
    _of: str | None = field(default=None)

    def boot(self, name: str, public_key: str) -> None:
        """Boot as the machine of that name, with the key that may log in."""
        self.halt(self._of)
        self.boots += 1
        self._of = name
        place = self.folder / f"boot-{self.boots}"
        home = place / "home"
        (home / ".ssh").mkdir(parents=True)
        (home / ".ssh" / "authorized_keys").write_text(public_key)
        (home / ".bashrc").touch()
        shutil.copytree("/etc", place / "etc", symlinks=True)
        self._write(place, home)
        argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", place / "node.sh"]
        self._running = self.processes.start("machine", argv, env={"PATH": SEARCH, "LC_ALL": "C.UTF-8"})

    def halt(self, name: str | None) -> None:
        """End the machine and everything in it, if it is the one of that name."""
        if self._running is not None and name == self._of:
            self.processes.stop(self._running, grace_seconds=2)
            self._running, self._of = None, None

    def _write(self, place: Path, home: Path) -> None:
        etc, ssh = place / "etc", place / "ssh"
        ssh.mkdir()
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ssh / "host"], seconds=30)
        others = [line for line in Path("/etc/passwd").read_text().splitlines() if not line.startswith(USER)]
        # First of the two with number 0, so that this is its name wherever it is asked for.
        entry = f"{USER}:x:0:0:{USER}:{home}:/bin/bash"
        (etc / "passwd").write_text("\n".join([entry, *others]) + "\n")
        with (etc / "shadow").open("a") as shadow:
            shadow.write(f"{USER}:*:20000:0:99999:7:::\n")
        with (etc / "profile").open("a") as profile:
            profile.write(f"\nexport PATH={shlex.quote(str(self.programs))}:$PATH\n")
        settings = " ".join(
            f'"{key}={value}"' for key, value in {**self.variables, MARK: self.processes.run_id}.items()
        )
        (ssh / "sshd_config").write_text(
            f"""ListenAddress {ADDRESS}
Port 22
HostKey {ssh}/host
PidFile {ssh}/sshd.pid
AuthorizedKeysFile .ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
UseDNS no
PrintMotd no
MaxStartups 200
MaxSessions 200
Subsystem sftp internal-sftp
SetEnv {settings}
"""
        )
        quoted = shlex.quote(str(place))
        (place / "node.sh").write_text(
            f"""set -eu
mount --bind {quoted}/etc /etc
exec /usr/sbin/sshd -D -f {quoted}/ssh/sshd_config -E {quoted}/sshd.log
"""
        )


def write_tools(folder: Path, vllm: Path) -> None:
    """What a cloud's machine has and the node's set-up calls: here they may do nothing beyond the copies.

    `vllm` is the real one; compiling kernels for this CPU takes longer than all the rest, so its image turns that off.
    """
    for name, body in {
        "vllm": f'exec {shlex.quote(str(vllm))} "$@" --enforce-eager\n',
        "sudo": 'while [ "${1#-}" != "$1" ]; do shift; done\nexec "$@"\n',
        "systemctl": "exit 0\n",
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}")
        (folder / name).chmod(0o755)
