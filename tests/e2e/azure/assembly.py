"""The environment of these tests: the resource manager, the machine it boots, SkyPilot, vLLM, a model, the app."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tests.e2e.azure import machine as node
from tests.e2e.azure.machine import NodeMachine
from tests.e2e.azure.sky import ADDRESS, NAME, AzureSky, Inside, install
from tests.e2e.stack import model, packages, skypilot, vllm
from tests.e2e.stack.app import App
from tests.e2e.stack.assembly import USER_ID, Stack
from tests.e2e.stack.azurite import ROOT, Azurite
from tests.e2e.stack.processes import free_port
from tests.e2e.stack.s3 import S3
from tests.standins.azure import SUBSCRIPTION, AzureServer, ResourceManager
from tests.standins.azure.shapes import Resource
from tests.standins.hub import HubServer, Repository

LOGS = ROOT / ".cache" / "e2e" / "logs-azure"
QUOTA = {"cores": (0, 720), "lowPriorityCores": (0, 720), "StandardNVADSA10v5Family": (0, 720)}
"""Of each region in SkyPilot's catalog; enough for every test."""
SEED_MODEL = "meta-llama/Llama-3.1-8B-Instruct"
"""What the seed's request names: on the Hub of this run a tiny model of that name, gated as the real one is."""
HUB_TOKEN = "hf_TokenOfTheEndToEndTest"


@dataclass
class AzureStack:
    folder: Path
    processes: Inside
    manager: ResourceManager
    machine: NodeMachine
    sky: AzureSky
    s3: S3
    hub: HubServer
    azurite: Azurite
    vllm: vllm.Vllm
    model_source: str
    """The same model in the S3 server, as a launch names it."""

    def app(self, **settings: str) -> App:
        running = App(cast("Stack", self))
        running.start(
            {
                **settings,
                "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION,
                "SKYPILOT_USER_ID": USER_ID,
                "GPULAUNCH_NODE_PORT": str(free_port()),
                "GPULAUNCH_VLLM_EXECUTABLE": str(self.machine.programs / "vllm"),
                "HF_ENDPOINT": self.hub.endpoint,
                "HF_TOKEN": HUB_TOKEN,
            }
        )
        return running


@contextmanager
def azure_stack(cache: Path = ROOT / ".cache" / "e2e") -> Generator[AzureStack]:
    """Install, make and start everything; ended and removed afterwards, with the logs kept. Raises StackError."""
    packages.require_root()
    folder = Path(tempfile.mkdtemp(prefix="gpulaunch-az-", dir="/tmp"))
    hosts = folder / "hosts"
    hosts.write_text(f"{Path('/etc/hosts').read_text()}\n{ADDRESS} {NAME}\n")
    processes = Inside(run_id=uuid.uuid4().hex, logs=folder / "logs", hosts=hosts)
    try:
        packages.install()
        uv = skypilot.install_uv(cache)
        environment = vllm.build(cache)
        tiny = model.make(cache / model.NAME, environment.python)
        programs = folder / "bin"
        skypilot.write_programs(programs, uv, skypilot.find_python310())
        node.write_tools(programs, environment.executable)
        s3 = S3(processes)
        s3.start()
        source = s3.upload(tiny, model.NAME)
        azurite = Azurite(folder / "azurite", processes)
        azurite.start()
        variables = skypilot.node_variables() | environment.variables()
        booting = NodeMachine(folder / "machine", processes, programs, variables)
        manager = ResourceManager(address_of=lambda _: node.ADDRESS, operation_seconds=1.0)
        manager.usages = {region: dict(QUOTA) for region in ("eastus", "eastus2", "westus2", "centralus")}

        def boot(resource: Resource) -> None:
            keys = resource.properties["osProfile"]["linuxConfiguration"]["ssh"]["publicKeys"]
            booting.boot(resource.name, keys[0]["keyData"])

        manager.on_boot = boot
        manager.on_halt = lambda resource: booting.halt(resource.name)
        certificates = folder / "certificates"
        certificates.mkdir()
        names = [path.name for path in model.files(tiny)]
        repositories = {SEED_MODEL: Repository.of_folder(tiny, *names, gated=True)}
        with (
            HubServer(repositories, HUB_TOKEN) as hub,
            AzureServer(manager, certificates, address=ADDRESS, port=443, names=(NAME,)) as server,
        ):
            sky = AzureSky(
                folder / "sky", free_port(), USER_ID, processes, venv=install(cache, uv), bundle=folder / "bundle.pem"
            )
            sky.prepare_azure(server.ca)
            sky.start()
            try:
                yield AzureStack(folder, processes, manager, booting, sky, s3, hub, azurite, environment, source)
            finally:
                sky.stop()
    finally:
        left = processes.close()
        _keep_logs(folder)
        shutil.rmtree(folder, ignore_errors=True)
    assert not left, f"the tests left these processes running: {left}"


def _keep_logs(folder: Path) -> None:
    shutil.rmtree(LOGS, ignore_errors=True)
    for part in ("logs", "sky/sky_logs", "sky/.sky/api_server"):
        if (folder / part).exists():
            shutil.copytree(folder / part, LOGS / part, ignore=shutil.ignore_patterns("*.db*", "clients"))
