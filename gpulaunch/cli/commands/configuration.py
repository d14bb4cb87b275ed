"""`gpulaunch config`: the address and the token, kept in a file that only its owner can read."""

from typing import Annotated
from urllib.parse import urlsplit

import typer
from pydantic import BaseModel

from gpulaunch.cli.connection import ConfigFile, config_path, read_config, same_address, write_config
from gpulaunch.cli.session import Json, session_of
from gpulaunch.client.exchange import checked

config = typer.Typer(no_args_is_help=True, help="Show and set the app's address and token.")


class Shown(BaseModel):
    """What `config show` tells; the token itself never."""

    url: str
    url_from: str
    token_set: bool
    token_from: str
    file: str


@config.command("show")
def show(context: typer.Context, as_json: Json = False) -> None:
    """Show the address, and where address and token come from."""
    session = session_of(context, as_json=as_json)
    found = session.connection
    shown = Shown(
        url=found.url,
        url_from=found.url_from,
        token_set=found.token is not None,
        token_from=found.token_from,
        file=str(config_path()),
    )

    def tell() -> None:
        session.say(f"address  {shown.url}  ({shown.url_from})")
        session.say(f"token    {'set' if shown.token_set else 'not set'}  ({shown.token_from})")
        session.say(f"file     {shown.file}")

    session.answer(shown, tell)


@config.command("set-url")
def set_url(
    context: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="Such as https://my-app.azurewebsites.net.")],
) -> None:
    """Keep the app's address. A token that was kept for another one is forgotten."""
    session = session_of(context)
    address, _ = checked(url, None)
    path = config_path()
    kept = read_config(path)
    same = kept.url is not None and same_address(kept.url, address)
    write_config(path, ConfigFile(url=address, token=kept.token if same else None))
    session.say(f"{address} is kept in {path}.")
    parts = urlsplit(address)
    if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        session.note("This address is not encrypted: everybody on the way can read the token.", "yellow")
    if kept.token is not None and not same:
        session.note("The token of the address before is forgotten; `gpulaunch config set-token` sets one.", "yellow")


@config.command("set-token")
def set_token(context: typer.Context) -> None:
    """Keep the token of the address: asked for without echo, or read from standard input."""
    session = session_of(context)
    path = config_path()
    kept = read_config(path)
    url = kept.url or session.connection.url
    stdin = typer.get_text_stream("stdin")
    if stdin.isatty():
        token = str(typer.prompt(f"Token for {url}", hide_input=True)).strip()
    else:
        token = stdin.readline().strip()
    checked(url, token)
    write_config(path, ConfigFile(url=url, token=token))
    session.say(f"The token for {url} is kept in {path}.")
