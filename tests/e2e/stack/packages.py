"""Debian packages of the end-to-end environment."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.stack.processes import StackError, run

# Program that shows the package is there -> package.
NEEDED = {
    "slurmctld": "slurm-wlm",
    "slurmd": "slurm-wlm",
    "munged": "munge",
    "sshd": "openssh-server",
    "ssh-keygen": "openssh-client",
    "rsync": "rsync",
    "curl": "curl",
    "unshare": "util-linux",
}
# Debian keeps daemons in sbin, which a plain user's PATH lacks.
SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


# invoke-rc.d asks this program before it starts a service; 101 forbids the start.
POLICY = Path("/usr/sbin/policy-rc.d")


def require_root() -> None:
    """Raises StackError unless this process is root: Slurm's daemons, namespaces and device nodes need it."""
    if os.geteuid() != 0:
        raise StackError("the end-to-end tests must run as root, because they start Slurm, sshd and munge")


def missing() -> list[str]:
    return sorted({package for program, package in NEEDED.items() if shutil.which(program, path=SEARCH) is None})


@contextmanager
def services_held_back() -> Generator[None]:
    """Keep Debian from starting services while packages are installed; a policy that is there already is left alone."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def install() -> list[str]:
    """Install what is missing with apt-get and return the package names; nothing is done when all is there.

    The packages' own services are not started: this environment starts daemons of its own, with its own settings.
    Raises StackError with apt-get's words when a package can't be had.
    """
    require_root()
    names = missing()
    if not names:
        return []
    apt = shutil.which("apt-get", path=SEARCH)
    if apt is None:
        raise StackError(f"this machine has no apt-get; install these by hand: {' '.join(names)}")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "PATH": f"{SEARCH}:{os.environ.get('PATH', '')}"}
    run([apt, "update", "-q"], env=env, seconds=300)
    with services_held_back():
        run([apt, "install", "-q", "-y", "--no-install-recommends", *names], env=env, seconds=600)
    if still := missing():
        raise StackError(f"apt-get installed {' '.join(names)}, but these are still missing: {' '.join(still)}")
    return names
