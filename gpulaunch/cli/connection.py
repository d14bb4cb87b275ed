"""Where the app is, and the token for it: from the environment, the configuration file, or `make run` of this clone.

None of it can be given as an argument, where the shell's history and the list of processes would keep it.
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
"""Where `make run` serves."""
CLONE = Path(__file__).resolve().parents[2]
"""The folder that holds `gpulaunch/`; of an installed package that is no clone of the project."""


class ConfigFile(BaseModel):
    """What `gpulaunch config` keeps."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = None
    token: str | None = None
    """For `url` only."""


@dataclass(frozen=True)
class Connection:
    """An address and its token, and where each was found."""

    url: str
    url_from: str
    token: SecretStr | None
    token_from: str


def config_path(environment: Mapping[str, str] = os.environ) -> Path:
    """The configuration file's place by the XDG base directory rules; it need not exist."""
    base = environment.get("XDG_CONFIG_HOME", "")
    folder = Path(base) if base.startswith("/") else Path.home() / ".config"
    return folder / "gpulaunch" / "config.json"


def read_config(path: Path) -> ConfigFile:
    """The file's content, empty where there is none. Raises ConfigError for one that others can read, or nobody."""
    try:
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise ConfigError(f"{path} is open to others (mode {mode:04o}); say `chmod 600 {path}`")
            return ConfigFile.model_validate_json(file.read())
    except FileNotFoundError:
        return ConfigFile()
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from error
    except (ValidationError, UnicodeDecodeError) as error:
        # Pydantic's message would show what it read, and so perhaps the token.
        raise ConfigError(f"{path} is damaged; delete it and say `gpulaunch config set-url` again") from error


def write_config(path: Path, config: ConfigFile) -> None:
    """Replace the file in one go; nobody but its owner can read it at any time. Raises ConfigError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(config.model_dump_json(indent=2, exclude_none=True) + "\n")
        beside.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror}") from error


def find_connection(environment: Mapping[str, str] = os.environ, clone: Path = CLONE) -> Connection:
    """The connection to use. A token is only ever sent to the address that it was kept for.

    Raises ConfigError for a file that can't be used, AddressError for an address or token that can't be one.
    """
    path = config_path(environment)
    kept = read_config(path)
    if environment.get("GPULAUNCH_URL"):
        url, url_from = environment["GPULAUNCH_URL"], "GPULAUNCH_URL"
    elif kept.url is not None:
        url, url_from = kept.url, str(path)
    else:
        url, url_from = LOCAL, "default"
    local_token = clone / ".local" / "admin-token"
    token, token_from = None, "not set"
    if environment.get("GPULAUNCH_TOKEN"):
        token, token_from = environment["GPULAUNCH_TOKEN"], "GPULAUNCH_TOKEN"
    elif kept.token is not None and same_address(url, kept.url or LOCAL):
        token, token_from = kept.token, str(path)
    elif same_address(url, LOCAL) and os.access(local_token, os.R_OK):
        token, token_from = local_token.read_text("ascii").strip() or None, str(local_token)
    checked(url, token)
    return Connection(url, url_from, SecretStr(token) if token else None, token_from)


def same_address(one: str, other: str) -> bool:
    """Whether two addresses are the same but for a slash at the end."""
    return one.rstrip("/") == other.rstrip("/")
