"""A resource manager for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.arm import Arm
from tests.standins.azure import AzureServer, ResourceManager, StaticCredential


@pytest.fixture
def server(tmp_path: Path) -> Iterator[AzureServer]:
    with AzureServer(ResourceManager(), tmp_path) as running:
        yield running
        assert running.manager.unknown == []


@pytest.fixture
def manager(server: AzureServer) -> ResourceManager:
    return server.manager


@pytest.fixture
def arm(server: AzureServer) -> Iterator[Arm]:
    credential = StaticCredential()
    yield Arm(credential, server.endpoint, str(server.ca))
    assert credential.scopes <= {"https://management.azure.com/.default"}
