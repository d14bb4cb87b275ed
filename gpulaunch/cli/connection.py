"""The app's address and token: from the environment, the configuration file, or `make run` in this clone.

Neither can be an argument: the shell's history and the process list would expose it.
"""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from gpulaunch.cli.exits import ConfigError
from gpulaunch.client.exchange import checked

LOCAL = "http://localhost:7071"
"""Where `make run` serves the app unless that port is taken; a run keeps its address in the clone."""
CLONE = Path(__file__).resolve().parents[2]
"""The folder that holds `gpulaunch/`; a clone of the project unless the package is installed."""


class ConfigFile(BaseModel):
    """What `gpulaunch config` saves."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = None
    token: str | None = None
    """Sent to `url` only."""


@dataclass(frozen=True)
class Connection:
    """An address and its token, and where each was found."""

    url: str
    url_from: str
    token: SecretStr | None
    token_from: str


def config_path(environment: Mapping[str, str] = os.environ) -> Path:
    """The configuration file's path by the XDG base directory rules; it need not exist."""
    base = environment.get("XDG_CONFIG_HOME", "")
    folder = Path(base) if base.startswith("/") else Path.home() / ".config"
    return folder / "gpulaunch" / "config.json"


def read_config(path: Path) -> ConfigFile:
    """The file's content; empty if it does not exist.

    Raises:
        ConfigError: it is unreadable, damaged, or open to other users.
    """
    try:
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise ConfigError(f"Other users can access {path} (mode {mode:04o}). Run `chmod 600 {path}`.")
            return ConfigFile.model_validate_json(file.read())
    except FileNotFoundError:
        return ConfigFile()
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}") from error
    except (ValidationError, UnicodeDecodeError) as error:
        # Pydantic's message would show the input, possibly with the token.
        raise ConfigError(f"{path} is damaged. Delete it and run `gpulaunch config set-url` again.") from error


def write_config(path: Path, config: ConfigFile) -> None:
    """Replace the file atomically; at no time can other users read it.

    Raises:
        ConfigError: it cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(config.model_dump_json(indent=2, exclude_none=True) + "\n")
        beside.replace(path)
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror}") from error


def find_connection(environment: Mapping[str, str] = os.environ, clone: Path = CLONE) -> Connection:
    """Find the connection to use. A saved token is sent only to the address that it was saved for.

    Raises:
        ConfigError: the configuration file cannot be used.
        AddressError: the address or the token is invalid.
    """
    path = config_path(environment)
    saved = read_config(path)
    local = _kept(clone / ".local" / "address") or LOCAL
    if environment.get("GPULAUNCH_URL"):
        url, url_from = environment["GPULAUNCH_URL"], "GPULAUNCH_URL"
    elif saved.url is not None:
        url, url_from = saved.url, str(path)
    else:
        url, url_from = local, "default"
    local_token = clone / ".local" / "admin-token"
    token, token_from = None, "not set"
    if environment.get("GPULAUNCH_TOKEN"):
        token, token_from = environment["GPULAUNCH_TOKEN"], "GPULAUNCH_TOKEN"
    elif saved.token is not None and same_address(url, saved.url or local):
        token, token_from = saved.token, str(path)
    elif same_address(url, local):
        token = _kept(local_token)
        token_from = str(local_token) if token else "not set"
    checked(url, token)
    return Connection(url, url_from, SecretStr(token) if token else None, token_from)


def _kept(path: Path) -> str | None:
    """Return what `make run` wrote to a file, without its line end."""
    return path.read_text("ascii").strip() or None if os.access(path, os.R_OK) else None


def same_address(one: str, other: str) -> bool:
    return one.rstrip("/") == other.rstrip("/")
