"""Where Slurm nodes are."""

from pathlib import Path

import pytest

from shared.clouds.slurm.address import slurm_address

CONFIG = """
Host other
    HostName 10.9.9.9
Host e2e alias   # ours
    User root
    HostName = {host}
    IdentityFile "/with space/key"
Host last
    HostName 10.8.8.8
"""


@pytest.mark.parametrize(
    ("host", "cluster", "nodes", "expected"),
    [
        ("127.0.0.1", "e2e", "job2-vm", "127.0.0.1"),
        ("localhost", "e2e", "job2-vm", "localhost"),
        ("gpu-box.example.com", "alias", "job2-gpu-box", "gpu-box.example.com"),
        ("login.example.com", "e2e", "job12-gpu-03", "gpu-03"),
        ("login.example.com", "e2e", "job12-gpu-03,job12-gpu-04", "gpu-03"),
        ("login.example.com", "e2e", None, "login.example.com"),
        ("login.example.com", "e2e", "something else", "login.example.com"),
        ("10.1.1.1", "unknown", "job1-n1", "n1"),
        ("$(reboot)", "e2e", None, None),
    ],
)
def test_the_address(tmp_path: Path, host: str, cluster: str, nodes: str | None, expected: str | None) -> None:
    config = tmp_path / ".slurm" / "config"
    config.parent.mkdir()
    config.write_text(CONFIG.format(host=host))
    assert slurm_address(tmp_path, cluster, nodes) == expected


def test_without_a_config_the_node_s_name_is_all_there_is(tmp_path: Path) -> None:
    assert slurm_address(tmp_path, "e2e", "job2-vm") == "vm"
    assert slurm_address(tmp_path, "e2e", None) is None
