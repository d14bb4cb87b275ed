"""`gpulaunch config`: the address and the token, saved in a file that only its owner can read."""

from typing import Annotated
from urllib.parse import urlsplit

import typer
from pydantic import BaseModel

from gpulaunch.cli.connection import ConfigFile, config_path, read_config, same_address, write_config
from gpulaunch.cli.session import Json, session_of
from gpulaunch.client.exchange import checked

config = typer.Typer(no_args_is_help=True, help="Show and set the app's address and token.")


class Shown(BaseModel):
    """What `config show` prints; never the token itself."""

    url: str
    url_from: str
    token_set: bool
    token_from: str
    file: str


@config.command("show")
def show(context: typer.Context, as_json: Json = False) -> None:
    """Show the address, and where address and token were found."""
    session = session_of(context, as_json=as_json)
    found = session.connection
    shown = Shown(
        url=found.url,
        url_from=found.url_from,
        token_set=found.token is not None,
        token_from=found.token_from,
        file=str(config_path()),
    )

    def text() -> None:
        session.say(f"address  {shown.url}  ({shown.url_from})")
        session.say(f"token    {'set' if shown.token_set else 'not set'}  ({shown.token_from})")
        session.say(f"file     {shown.file}")

    session.answer(shown, text)


@config.command("set-url")
def set_url(
    context: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="Such as https://my-app.azurewebsites.net.")],
) -> None:
    """Save the app's address. A token saved for another address is deleted."""
    session = session_of(context)
    address, _ = checked(url, None)
    path = config_path()
    saved = read_config(path)
    same = saved.url is not None and same_address(saved.url, address)
    write_config(path, ConfigFile(url=address, token=saved.token if same else None))
    session.say(f"Saved {address} in {path}.")
    parts = urlsplit(address)
    if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        session.note("This address is not encrypted: anyone on the network path can read the token.", "yellow")
    if saved.token is not None and not same:
        session.note("The previous address's token was deleted. Set one with `gpulaunch config set-token`.", "yellow")


@config.command("set-token")
def set_token(context: typer.Context) -> None:
    """Save the token for the address: prompted for without echo, or read from standard input."""
    session = session_of(context)
    path = config_path()
    saved = read_config(path)
    url = saved.url or session.connection.url
    stdin = typer.get_text_stream("stdin")
    if stdin.isatty():
        token = str(typer.prompt(f"Token for {url}", hide_input=True)).strip()
    else:
        token = stdin.readline().strip()
    checked(url, token)
    write_config(path, ConfigFile(url=url, token=token))
    session.say(f"Saved the token for {url} in {path}.")
