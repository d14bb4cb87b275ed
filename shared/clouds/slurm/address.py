"""Where a Slurm node is reached: SkyPilot opens no ports there and gives no address."""

import ipaddress
import re
import shlex
from pathlib import Path

_JOB = re.compile(r"^job\d+-(?P<node>[A-Za-z0-9][A-Za-z0-9.-]*)$")
"""SkyPilot lists a Slurm node as `job<id>-<node>`."""
_NAME = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?$")


def _host_name(config: str, host: str) -> str:
    """`HostName` of `host` in a text in ssh_config's form; the host itself where it has none."""
    inside = False
    for line in config.splitlines():
        words = shlex.split(line.replace("=", " ", 1), comments=True) if line.count('"') % 2 == 0 else []
        if len(words) < 2:
            continue
        key = words[0].lower()
        if key == "host":
            inside = host in words[1:]
        elif key == "hostname" and inside:
            return words[1]
    return host


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def slurm_address(home: Path, cluster: str, node_names: str | None) -> str | None:
    """Host name or IP address of a Slurm node; None when that can't be told.

    Where the login host is this machine, or is the node itself, its `HostName` is the address: Slurm's own names of
    nodes need not mean anything outside. Otherwise the node's name is, which hosts near the cluster can resolve; where
    they can't, the node's own registration has to say its address.
    """
    try:
        text = (home / ".slurm" / "config").read_text(encoding="utf-8")
    except OSError:
        text = ""
    login = _host_name(text, cluster)
    first = (node_names or "").split(",")[0].strip()
    found = _JOB.match(first)
    node = found["node"] if found is not None else None
    known = text != ""
    if known and (node is None or _is_loopback(login) or login.split(".")[0] == node.split(".")[0]):
        return login if _NAME.match(login) else None
    return node
