"""SkyPilot with Azure's own libraries, in an environment of its own, that takes the stand-in for Azure."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.stack.packages import SEARCH
from tests.e2e.stack.processes import Processes, run
from tests.e2e.stack.skypilot import CATALOG_VERSION, CATALOGS, CERTIFICATES, CONFIG, SkyPilot, node_variables
from tests.standins.azure import SUBSCRIPTION
from tests.standins.azure.credential import TOKEN

TENANT = "22222222-3333-4444-5555-666666666666"
NAME = "management.azure.com"
ADDRESS = "127.0.0.3"
"""Where that name leads in this run."""
PINS = (
    # What skypilot[azure] resolves to, less azure-cli itself: SkyPilot imports its core alone and otherwise calls `az`.
    "skypilot==0.14.1",
    "azure-cli-core==2.76.0",
    "azure-common==1.1.28",
    "azure-core==1.41.0",
    "azure-identity==1.25.1",
    "azure-mgmt-authorization==4.0.0",
    "azure-mgmt-compute==34.1.0",
    "azure-mgmt-msi==7.0.0",
    "azure-mgmt-network==33.1.0",
    "azure-mgmt-resource==23.3.0",
    "azure-mgmt-storage==23.0.0",
    "azure-storage-blob==12.31.1",
    "msgraph-sdk==1.58.0",
    "msrestazure==0.6.4.post1",
)
_AZ = """#!/bin/sh
case "$*" in
  *--version*) echo "azure-cli 2.86.0";;
  *get-access-token*) cat {answer};;
  *) echo "az $*: not in this run" >&2; exit 2;;
esac
"""


def install(cache: Path, uv: Path) -> Path:
    """The environment's folder, made when it is not there or not of these pins."""
    folder = cache / "skypilot-azure"
    stamp = folder / "complete"
    with (cache / "skypilot-azure.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != "\n".join(PINS):
            shutil.rmtree(folder, ignore_errors=True)
            trusting = {**os.environ, **node_variables()}
            run([uv, "venv", "-q", "--seed", "--python", sys.executable, folder], env=trusting, seconds=120)
            run([uv, "pip", "install", "-q", "--python", folder / "bin" / "python", *PINS], env=trusting, seconds=900)
            stamp.write_text("\n".join(PINS))
    return folder


@dataclass
class Inside(Processes):
    """Starts the programs that talk to Azure in a mount namespace in which Azure's name leads to the stand-in."""

    hosts: Path = Path()
    inside: tuple[str, ...] = ("skypilot", "app")

    def start(
        self, name: str, argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.Popen[bytes]:
        if name in self.inside:
            bound = 'mount --bind "$0" /etc/hosts && exec "$@"'
            argv = ["unshare", "--mount", "sh", "-c", bound, self.hosts, *argv]
        return super().start(name, argv, env=env, cwd=cwd)


@dataclass
class AzureSky(SkyPilot):
    """The API server, logged in to Azure as far as it looks."""

    venv: Path = Path()
    bundle: Path = Path()

    def prepare_azure(self, ca: Path) -> None:
        """Write the HOME folder: catalogs and images, the login's files, `az`, the certificates."""
        catalogs = self.home / ".sky" / "catalogs" / CATALOG_VERSION
        shutil.copytree(CATALOGS, catalogs, dirs_exist_ok=True)
        images = ["custom-gpu-ubuntu-v2-grid", "custom-gpu-ubuntu-v2", "custom-cpu-ubuntu-v2", "gpu-ubuntu-2204"]
        lines = [f"skypilot:{tag},,ubuntu,22.04,/CommunityGalleries/x/Images/y,20260101" for tag in images]
        head = "Tag,Region,OS,OSVersion,ImageId,CreationDate"
        (catalogs / "azure" / "images.csv").write_text("\n".join([head, *lines]) + "\n")
        (self.home / "tmp").mkdir(exist_ok=True)
        (self.home / ".sky" / "config.yaml").write_text(CONFIG)
        login = self.home / ".azure"
        login.mkdir()
        account = {
            "id": SUBSCRIPTION,
            "name": "Tests",
            "state": "Enabled",
            "user": {"name": "00000000-1111-2222-3333-444444444444", "type": "servicePrincipal"},
            "isDefault": True,
            "tenantId": TENANT,
            "environmentName": "AzureCloud",
        }
        (login / "azureProfile.json").write_text(json.dumps({"subscriptions": [account]}))
        (login / "msal_token_cache.json").write_text("{}")
        (login / "clouds.config").touch()
        (login / "config").write_text("[cloud]\nname = AzureCloud\n")
        token = {
            "accessToken": TOKEN,
            "expiresOn": "2100-01-01 00:00:00.000000",
            "expires_on": 4102444800,
            "subscription": SUBSCRIPTION,
            "tenant": TENANT,
            "tokenType": "Bearer",
        }
        programs = self.home / "bin"
        programs.mkdir()
        (programs / "token.json").write_text(json.dumps(token))
        (programs / "az").write_text(_AZ.format(answer=programs / "token.json"))
        (programs / "az").chmod(0o755)
        self.bundle.write_bytes(Path(CERTIFICATES).read_bytes() + b"\n" + ca.read_bytes())

    def environment(self) -> dict[str, str]:
        """As SkyPilot's, with Azure's libraries, the fake login and the certificates."""
        certificates = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "PIP_CERT")
        return {
            **super().environment(),
            **dict.fromkeys(certificates, str(self.bundle)),
            "PATH": f"{self.home / 'bin'}:{self.venv / 'bin'}:{SEARCH}",
            "AZURE_TOKEN_CREDENTIALS": "AzureCliCredential",
        }

    def start(self) -> None:
        command = [self.venv / "bin" / "sky", "api", "start", "--foreground", "--port", str(self.port)]
        self._server = self.processes.start("skypilot", command, env=self.environment(), cwd=self.home)
        self.wait_healthy()

    def cli(self, *arguments: str, seconds: float = 120) -> str:
        return run([self.venv / "bin" / "sky", *arguments], env=self.environment(), seconds=seconds)
