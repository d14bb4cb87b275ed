"""The gateway as a process, on Azurite: its report is there while it runs, and gone once it has ended."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from azure.data.tables import TableServiceClient
from cryptography.fernet import Fernet

from devhost.azurite import Azurite, free_ports
from gateway.__main__ import loop_factory
from gateway.table import REPORTS, TABLE

ROOT = Path(__file__).parents[3]


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_gateway_should_report_while_it_runs_and_be_forgotten_when_it_ends(azurite: Azurite) -> None:
    service: Any = TableServiceClient.from_connection_string(azurite.connection_string)
    for name in (TABLE, REPORTS):
        service.create_table_if_not_exists(name)
    (port,) = free_ports(1)
    environment = os.environ | {
        "AzureWebJobsStorage": azurite.connection_string,
        "GPULAUNCH_GATEWAY_KEY": Fernet.generate_key().decode(),
        "GPULAUNCH_WORKSPACE": "process",
        "GATEWAY_PORT": str(port),
    }

    def reports() -> int:
        rows = service.get_table_client(REPORTS).query_entities("PartitionKey eq 'process'")
        return len(list(rows))

    process = subprocess.Popen([sys.executable, "-m", "gateway"], cwd=ROOT, env=environment)
    try:
        wait_for(lambda: reports() == 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    assert reports() == 0


def test_it_should_run_on_the_loop_that_is_installed_for_it() -> None:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        assert type(runner.get_loop()).__module__ == "uvloop"
