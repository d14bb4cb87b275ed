"""A one-node Slurm with four pretended A10 GPUs, reached over an sshd of its own; nothing of the machine is changed.

All daemons run in one mount and process namespace ("the node"): there root's home is a folder of this run, the login
shell's PATH begins with a folder of this run, and the end of the namespace's first process ends everything in it.
"""

from __future__ import annotations

import os
import shlex
import socket
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.stack.packages import SEARCH
from tests.e2e.stack.processes import MARK, Processes, StackError, free_port, port_open, run, wait_until

GPUS = 4
# What SkyPilot asks for with one A10 is 4 CPUs and 16 GiB; the pretended node has room for four of them.
CPUS = 32
MEMORY_MIB = 131072
# munged, slurmctld, slurmd and sshd are up in about two seconds; thirty leave room for a busy two-core machine.
START_SECONDS = 30

# Slurm's linuxproc follows parent links only: what outlives its parent outlives the job, which no cgroup would allow.
# As on clusters without cgroups, an epilog ends what is left of a job. Slurm's KillWait gives 30 s between SIGTERM and
# SIGKILL; ten are enough to see a clean end, and a job that ignores SIGTERM does not hold up the tests.
_EPILOG = """#!/bin/bash
# Without the job's variables, or these commands would find themselves.
exec env -i "JOB=$SLURM_JOB_ID" "PATH=$PATH" bash -c '
  left() { grep -lzxs "SLURM_JOB_ID=$JOB" /proc/[0-9]*/environ | cut -d/ -f3; }
  pids=$(left)
  [ -z "$pids" ] || kill -TERM $pids
  for _ in $(seq 20); do [ -z "$(left)" ] && exit 0; sleep 0.5; done
  kill -KILL $(left)
  exit 0
' 2>/dev/null
"""


@dataclass(frozen=True)
class Job:
    """One line of squeue: job id, name (SkyPilot's name of the cluster on the cloud), state such as RUNNING."""

    job_id: int
    name: str
    state: str


@dataclass
class Slurm:
    """The running cluster. `host` is SkyPilot's name for it: `infra: slurm/<host>`."""

    host: str
    folder: Path
    ssh_port: int
    processes: Processes
    # What every login shell and job of the node gets: programs in front of PATH, and environment variables.
    programs: Path
    variables: dict[str, str]
    _node: subprocess.Popen[bytes] | None = None

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def key(self) -> Path:
        return self.folder / "ssh" / "client"

    def ssh_config(self) -> str:
        """The text of ~/.slurm/config, by which SkyPilot finds this cluster."""
        return (
            f"Host {self.host}\n"
            "    HostName 127.0.0.1\n"
            f"    Port {self.ssh_port}\n"
            "    User root\n"
            f"    IdentityFile {self.key}\n"
            "    IdentitiesOnly yes\n"
        )

    def environment(self) -> dict[str, str]:
        return {"PATH": SEARCH, "SLURM_CONF": str(self.folder / "slurm.conf"), "LC_ALL": "C.UTF-8"}

    def start(self) -> None:
        """Write the configuration, start all daemons and wait until the node is idle."""
        self._write()
        node = self.processes.start(
            "node",
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", self.folder / "node.sh"],
            env={**self.environment(), **self.variables},
        )
        self._node = node

        def idle() -> bool:
            if node.poll() is not None:
                raise StackError(f"the Slurm node ended at once: {self.processes.last_words('node')}")
            if not port_open(self.ssh_port):
                return False
            try:
                return run(["sinfo", "-h", "-o", "%T"], env=self.environment(), seconds=10).strip() == "idle"
            except StackError:
                return False  # slurmctld answers only after it has heard of slurmd

        wait_until(idle, seconds=START_SECONDS, what=f"an idle Slurm node, see {self.folder}/log")

    def stop(self) -> None:
        """End the node's namespace and with it every daemon and job."""
        if self._node is not None:
            self.processes.stop(self._node, grace_seconds=5)
            self._node = None

    def squeue(self) -> list[Job]:
        """All jobs that Slurm has not forgotten and that are not at an end."""
        lines = run(["squeue", "-h", "-o", "%i|%j|%T"], env=self.environment(), seconds=20).splitlines()
        parts = [line.strip().split("|") for line in lines if line.strip()]
        return [Job(int(job_id), name, state) for job_id, name, state in parts]

    def cancel(self, job_id: int, *, abruptly: bool = True) -> None:
        """Take a job away behind SkyPilot's back; `abruptly` as a failing machine does, else as `scancel` asks for."""
        if abruptly:
            run(["scancel", "--signal=KILL", "--full", str(job_id)], env=self.environment(), seconds=20)
        run(["scancel", str(job_id)], env=self.environment(), seconds=20)
        wait_until(
            lambda: all(job.job_id != job_id for job in self.squeue()),
            # KillWait, 30 s by default, lies between Slurm's two signals.
            seconds=60,
            what=f"the end of Slurm job {job_id}",
        )

    def _write(self) -> None:
        for name in ("home", "ssh", "spool", "state", "log", "dev", "munge", "scratch"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            (self.folder / name).chmod(0o700)
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's own, fixed at its compilation
        self._write_gpus()
        self._write_munge_key()
        self._write_ssh()
        self._write_logins()
        hostname = socket.gethostname().split(".")[0]
        controller_port, node_port = free_port(), free_port()
        (self.folder / "slurm.conf").write_text(
            f"""ClusterName={self.host}
SlurmctldHost={hostname}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={self.folder}/munge/socket
CredType=cred/munge
StateSaveLocation={self.folder}/state
SlurmdSpoolDir={self.folder}/spool
TmpFS={self.folder}/scratch
SlurmctldPidFile={self.folder}/slurmctld.pid
SlurmdPidFile={self.folder}/slurmd.pid
SlurmctldLogFile={self.folder}/log/slurmctld.log
SlurmdLogFile={self.folder}/log/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
Epilog={self.folder}/epilog.sh
TaskPlugin=task/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=5,batch_sched_delay=1
GresTypes=gpu
NodeName={hostname} NodeAddr=127.0.0.1 CPUs={CPUS} RealMemory={MEMORY_MIB} Gres=gpu:a10:{GPUS} State=UNKNOWN
PartitionName=gpus Nodes={hostname} Default=YES MaxTime=1-00:00:00 State=UP
"""
        )
        # slurmd looks for cgroups even when nothing uses them, and gives up in a container that has none mounted.
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
        (self.folder / "gres.conf").write_text(
            f"NodeName={hostname} Name=gpu Type=a10 File={self.folder}/dev/a10_[0-{GPUS - 1}]\n"
        )
        (self.folder / "node.sh").write_text(self._script())
        epilog = self.folder / "epilog.sh"
        epilog.write_text(_EPILOG)
        epilog.chmod(0o755)

    def _write_gpus(self) -> None:
        for number in range(GPUS):
            path = self.folder / "dev" / f"a10_{number}"
            if not path.exists():
                try:
                    os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
                except PermissionError as error:
                    raise StackError("device nodes can't be made here (a container without CAP_MKNOD?)") from error

    def _write_munge_key(self) -> None:
        key = self.folder / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)

    def _write_ssh(self) -> None:
        ssh = self.folder / "ssh"
        for name in ("host", "client"):
            if not (ssh / name).exists():
                run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ssh / name], seconds=30)
        (self.home / ".ssh").mkdir(mode=0o700, exist_ok=True)
        (self.home / ".ssh" / "authorized_keys").write_text((ssh / "client.pub").read_text())
        variables = {**self.variables, "SLURM_CONF": str(self.folder / "slurm.conf"), MARK: self.processes.run_id}
        settings = " ".join(f'"{name}={value}"' for name, value in variables.items())
        (ssh / "sshd_config").write_text(
            f"""ListenAddress 127.0.0.1
Port {self.ssh_port}
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

    def _write_logins(self) -> None:
        # `~root` has to lead here too, which HOME alone would not do.
        root = f"root:x:0:0:root:{self.home}:/bin/bash"
        lines = Path("/etc/passwd").read_text().splitlines()
        here = [root if line.startswith("root:") else line for line in lines]
        (self.folder / "passwd").write_text("\n".join(here) + "\n")
        # Debian's own /etc/profile sets PATH anew in every login shell.
        profile = Path("/etc/profile").read_text()
        (self.folder / "profile").write_text(f"{profile}\nexport PATH={shlex.quote(str(self.programs))}:$PATH\n")
        (self.home / ".bashrc").touch()

    def _script(self) -> str:
        folder = shlex.quote(str(self.folder))
        return f"""set -eu
mount --bind {folder}/passwd /etc/passwd
mount --bind {folder}/profile /etc/profile
cd {folder}
export HOME={folder}/home PATH={shlex.quote(str(self.programs))}:$PATH
munged --foreground --force --key-file={folder}/munge/key --socket={folder}/munge/socket \\
  --pid-file={folder}/munge/pid --log-file={folder}/munge/log --seed-file={folder}/munge/seed &
for _ in $(seq 100); do [ -S {folder}/munge/socket ] && break; sleep 0.1; done
slurmctld -D -f {folder}/slurm.conf &
slurmd -D -f {folder}/slurm.conf &
/usr/sbin/sshd -D -f {folder}/ssh/sshd_config -E {folder}/log/sshd.log &
# The first process of the namespace: as soon as one daemon ends, the node is broken, and all of it ends.
trap 'exit 0' TERM
wait -n
exit 1
"""
