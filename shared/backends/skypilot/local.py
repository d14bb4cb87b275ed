"""The SkyPilot API server on this machine, started when it is first needed.

It takes about 5 s to start and 1 GiB of memory, so credentials are looked for first: where a provider has none, no
server is started to learn that.
"""

import importlib.util
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from gpulaunch.models.requests import ProviderName
from shared.clouds.registry import CLOUDS
from shared.domain.provider import ProviderUnavailableError

DEFAULT_PORT = 46580
"""SkyPilot's own default; SKYPILOT_API_SERVER_LOCAL_PORT changes it, for SkyPilot and for us."""

_PASSED_ON = frozenset(
    {"HOME", "PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR", "USER", "LOGNAME", "SHELL", "SSH_AUTH_SOCK", "KUBECONFIG"}
    | {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"}
    | {"CURL_CA_BUNDLE", "VIRTUAL_ENV", "LD_LIBRARY_PATH"}
)
_PASSED_ON_PREFIXES = ("LC_", "SKYPILOT_", "SKY_", "AWS_", "AZURE_", "GOOGLE_", "CLOUDSDK_", "KUBERNETES_", "SLURM_")
_KEPT_BACK = frozenset({"SKYPILOT_SERVICE_ACCOUNT_TOKEN", "SKYPILOT_API_SERVER_ENDPOINT"})
"""AZURE_FUNCTIONS_* and the like are harmless; the rest of the app's environment holds its own secrets (master key,
admin tokens, Hub token, R2 keys, storage), and SkyPilot copies a Hub token that it finds to every node."""

ALWAYS_COPIED = (
    ".cloudflare/r2.credentials",
    ".config/cudo/cudo.yml",
    ".config/doctl/config.yaml",
    ".coreweave/cw.credentials",
    ".fluidstack/api_key",
    ".hyperbolic/api_key",
    ".ibm/credentials.yaml",
    ".lambda_cloud/lambda_keys",
    ".mithril/config.yaml",
    ".paperspace/config.json",
    ".prime/config.json",
    ".runpod/config.toml",
    ".scp/scp_credential",
    ".seeweb_cloud/seeweb_keys",
    ".shadeform/api_key",
    ".vastdata/vastdata.credentials",
    ".verda/config.json",
    ".vsphere/credential.yaml",
    ".yotta/credentials",
)
"""Credential files below the home folder that SkyPilot copies to every node and has no setting against."""
_HUB_TOKENS = (".cache/huggingface/token", ".huggingface/token")
"""Copied as well, but only where the server can import huggingface_hub."""


def local_port(environ: Mapping[str, str]) -> int:
    """Port at which a server of this machine is, or will be."""
    port = environ.get("SKYPILOT_API_SERVER_LOCAL_PORT", "")
    return int(port) if port.isdecimal() else DEFAULT_PORT


def local_endpoint(environ: Mapping[str, str]) -> str:
    return f"http://127.0.0.1:{local_port(environ)}"


class LocalServer:
    """Starts the local API server and knows what it would find in `home` and `environ`."""

    def __init__(self, environ: Mapping[str, str], user_id: str, home: Path) -> None:
        self._environ = environ
        self._user_id = user_id
        self._home = home
        self._lock = threading.Lock()
        self._starting: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return local_endpoint(self._environ)

    def ever_ran(self) -> bool:
        return self._is_file(".sky/state.db")

    def copied(self) -> str | None:
        """Why no node must be started from this machine: a credential file would be copied to it; None: none would."""
        hub = _HUB_TOKENS if importlib.util.find_spec("huggingface_hub") is not None else ()
        path = next((path for path in (*ALWAYS_COPIED, *hub) if self._is_file(path)), None)
        if path is None:
            return None
        return (
            f"SkyPilot would copy ~/{path} to every node and has no setting against it: move the file away, "
            "or use a SkyPilot server of its own (SKYPILOT_API_SERVER_ENDPOINT)"
        )

    def not_installed(self) -> str | None:
        """Why no server can be started by this app: it runs without SkyPilot; None: it can."""
        if importlib.util.find_spec("sky") is not None:
            return None
        return (
            "SkyPilot is not installed here: start with `make run SKYPILOT=1`, "
            "or name a server (SKYPILOT_API_SERVER_ENDPOINT)"
        )

    def start(self) -> None:
        """See to it that the server is being started. Returns at once; repeat until it is healthy.

        Raises ProviderUnavailableError when the last try to start it failed; the next call tries again.
        """
        with self._lock:
            if self._starting is not None:
                code = self._starting.poll()
                if code is None:
                    return
                self._starting = None
                if code != 0:
                    raise ProviderUnavailableError(
                        "The SkyPilot server could not be started; see ~/.sky/api_server/server.log"
                    )
            # Imported here: only a machine with a server of its own needs it.
            from shared.backends.skypilot.orphans import end_orphans

            end_orphans(self._home, local_port(self._environ))
            # SkyPilot's own start holds a lock between processes, waits until the server is healthy and then ends.
            self._starting = subprocess.Popen(
                [sys.executable, "-c", "from sky.client import sdk; sdk.api_start()"],
                env=self.environment(),
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def environment(self) -> dict[str, str]:
        """The environment that the server gets: what finds clouds and the network, none of the app's own secrets."""
        kept = {
            name: value
            for name, value in self._environ.items()
            if (name.upper() in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)) and name not in _KEPT_BACK
        }
        usage = {"SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
        return {**usage, **kept, "HOME": str(self._home), "SKYPILOT_USER_ID": self._user_id}

    def has_credentials(self, provider: ProviderName) -> bool:
        """Whether there are credentials that a provider could be enabled with, by what lies on the disk alone."""
        return CLOUDS[provider].credentials.found(self._home, self._environ)

    def _is_file(self, path: str) -> bool:
        return (self._home / path).is_file()


def set_up_advice(provider: ProviderName) -> str:
    return f"{CLOUDS[provider].credentials.advice}, then `sky check {provider}`"
