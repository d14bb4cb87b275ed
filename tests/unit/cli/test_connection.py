"""Where address and token come from, and to whom a token is never sent."""

import stat
from pathlib import Path

import pytest

from gpulaunch.cli.connection import (
    LOCAL,
    ConfigFile,
    Connection,
    config_path,
    find_connection,
    read_config,
    write_config,
)
from gpulaunch.cli.exits import ConfigError
from gpulaunch.client.errors import AddressError


def found(folder: Path, clone: Path | None = None, **environment: str) -> Connection:
    return find_connection({"XDG_CONFIG_HOME": str(folder), **environment}, clone or folder / "no-clone")


def secret(connection: Connection) -> str | None:
    return connection.token.get_secret_value() if connection.token else None


def keep(folder: Path, url: str | None, token: str | None) -> Path:
    path = config_path({"XDG_CONFIG_HOME": str(folder)})
    write_config(path, ConfigFile(url=url, token=token))
    return path


def test_the_file_should_be_private_and_replaced_atomically(tmp_path: Path) -> None:
    keep(tmp_path, "https://one.test", "first")
    path = keep(tmp_path, "https://one.test", "second")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [one.name for one in path.parent.iterdir()] == ["config.json"]
    assert read_config(path) == ConfigFile(url="https://one.test", token="second")


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644, 0o602])
def test_a_file_open_to_other_users_should_be_refused(tmp_path: Path, mode: int) -> None:
    path = keep(tmp_path, "https://one.test", "secret")
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"chmod 600 {path}"):
        found(tmp_path)


@pytest.mark.parametrize("text", ["", "{", '{"token": ["hidden"]}', '{"url": "https://x", "tokn": "hidden"}'])
def test_a_damaged_file_should_be_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    path = keep(tmp_path, None, None)
    path.write_text(text)
    with pytest.raises(ConfigError, match="is damaged") as caught:
        found(tmp_path)
    assert "hidden" not in str(caught.value)


def test_without_settings_this_machine_should_be_tried_without_a_token(tmp_path: Path) -> None:
    assert found(tmp_path) == Connection(LOCAL, "default", None, "not set")


def test_the_environment_should_come_before_the_file(tmp_path: Path) -> None:
    path = keep(tmp_path, "https://kept.test", "kept")
    kept = found(tmp_path)
    assert (kept.url, kept.url_from, secret(kept), kept.token_from) == (
        "https://kept.test", str(path), "kept", str(path),
    )  # fmt: skip
    both = found(tmp_path, GPULAUNCH_URL="https://env.test", GPULAUNCH_TOKEN="given")
    assert (both.url, secret(both)) == ("https://env.test", "given")
    assert secret(found(tmp_path, GPULAUNCH_TOKEN="given")) == "given"


def test_a_saved_token_should_not_be_sent_to_another_address(tmp_path: Path) -> None:
    keep(tmp_path, "https://kept.test", "kept")
    assert secret(found(tmp_path, GPULAUNCH_URL="https://other.test")) is None
    assert secret(found(tmp_path, GPULAUNCH_URL="https://kept.test/")) == "kept"


def test_the_token_of_a_clone_should_be_used_for_this_machine_only(tmp_path: Path) -> None:
    token = tmp_path / ".local" / "admin-token"
    token.parent.mkdir()
    token.write_text("local\n")
    assert secret(found(tmp_path, tmp_path)) == "local"
    assert secret(found(tmp_path, tmp_path, GPULAUNCH_URL="https://other.test")) is None
    keep(tmp_path, "https://kept.test", None)
    assert secret(found(tmp_path, tmp_path)) is None


def test_a_run_on_another_port_should_be_found_with_its_token(tmp_path: Path) -> None:
    local = tmp_path / ".local"
    local.mkdir()
    (local / "admin-token").write_text("local\n")
    (local / "address").write_text("http://localhost:40404\n")
    connection = found(tmp_path, tmp_path)
    assert (connection.url, secret(connection)) == ("http://localhost:40404", "local")
    assert secret(found(tmp_path, tmp_path, GPULAUNCH_URL=LOCAL)) is None


def test_an_invalid_address_or_token_should_be_refused(tmp_path: Path) -> None:
    with pytest.raises(AddressError):
        found(tmp_path, GPULAUNCH_URL="app.test")
    with pytest.raises(AddressError):
        found(tmp_path, GPULAUNCH_TOKEN="two\nlines")


@pytest.mark.parametrize("base", ["", "relative"])
def test_the_file_should_be_in_the_home_folder_unless_xdg_says_otherwise(base: str) -> None:
    assert config_path({"XDG_CONFIG_HOME": base}) == Path.home() / ".config" / "gpulaunch" / "config.json"


def test_a_failed_write_should_be_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "gpulaunch").write_text("in the way")
    with pytest.raises(ConfigError, match="Cannot write "):
        keep(tmp_path, None, "x")
