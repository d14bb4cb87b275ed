"""One run of the command: its client, its output, and how errors end it."""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, cast

import httpx
import typer
from pydantic import BaseModel
from rich.console import Console
from typer.core import TyperGroup

from gpulaunch.cli.connection import Connection, find_connection
from gpulaunch.cli.exits import Exit, FileError, exit_of
from gpulaunch.cli.format import clean, option_of, with_options
from gpulaunch.client.errors import (
    AccessError,
    ApiError,
    ClientError,
    EndedError,
    NoAnswerError,
    NotFoundError,
    WaitTimeoutError,
)
from gpulaunch.client.synchronous import GpuLaunch

PIPED_WIDTH = 240
"""Columns of a table in a pipe or a file: wide enough that no cell is cut."""


def console(*, stderr: bool) -> Console:
    """A console that prints text unchanged: no markup, no guessed colours, no cut tables in a pipe."""
    made = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not made.is_terminal:
        made.width = PIPED_WIDTH
    return made


@dataclass
class Session:
    as_json: bool = False
    transport: httpx.BaseTransport | None = None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    out: Console = field(default_factory=lambda: console(stderr=False))
    err: Console = field(default_factory=lambda: console(stderr=True))

    @cached_property
    def connection(self) -> Connection:
        """The app's address and token. Raises ClientError."""
        return find_connection()

    @cached_property
    def gpu(self) -> GpuLaunch:
        found = self.connection
        return GpuLaunch(
            found.url,
            found.token.get_secret_value() if found.token else None,
            on_retry=self._report_retry,
            transport=self.transport,
            sleep=self.sleep,
            clock=self.clock,
        )

    on_retry: Callable[[str], None] | None = None
    """Shows that a request is sent again, and why; None: a line on standard error."""

    def _report_retry(self, error: Exception, seconds: float) -> None:
        if self.on_retry is not None:
            # One line that may be cut: what matters most comes first.
            self.on_retry(f"trying again in {seconds:g} s: {error}")
        else:
            self.note(f"{error} (trying again in {seconds:g} s)", "dim")

    def answer(self, value: BaseModel | Iterable[BaseModel], show: Callable[[], None]) -> None:
        """Print an answer as one JSON document, or call `show`."""
        if not self.as_json:
            show()
        elif isinstance(value, BaseModel):
            typer.echo(value.model_dump_json(indent=2))
        else:
            many = [one.model_dump(mode="json") for one in value]
            typer.echo(json.dumps(many, indent=2, ensure_ascii=False))

    def line(self, value: BaseModel | dict[str, Any], text: str, style: str = "") -> None:
        """Print one line of a stream: JSON or text."""
        if self.as_json:
            typer.echo(json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value.model_dump_json())
        else:
            self.say(text, style)

    def say(self, text: str, style: str = "") -> None:
        self.out.print(clean(text), style=style or None, soft_wrap=True)

    def note(self, text: str, style: str = "") -> None:
        """Print a remark on standard error; silent with --json."""
        if not self.as_json:
            self.err.print(clean(text), style=style or None, soft_wrap=True)

    def complain(self, error: ClientError) -> Exit:
        """Print an error on standard error; return the exit code."""
        code = exit_of(error)
        if self.as_json:
            document: dict[str, Any] = {"code": error.code, "detail": str(error), "exit_code": int(code)}
            if isinstance(error, ApiError):
                document |= error.problem.model_dump(mode="json", exclude_none=True)
            if isinstance(error, FileError):
                document |= {"file": error.path, "errors": [asdict(one) for one in error.mistakes]}
            if isinstance(error, EndedError | WaitTimeoutError):
                document |= {"instance": error.instance.model_dump(mode="json")}
            typer.echo(json.dumps({"error": document}, ensure_ascii=False), err=True)
            return code
        if isinstance(error, FileError):
            self.note(str(error), "red")  # as compilers do, for editors: file:line: what is wrong
        elif isinstance(error, ApiError) and error.errors:
            self.note(f"error: {error.problem.title}", "red")
            for wrong in error.errors:
                nearest = f" Nearest: {', '.join(wrong.nearest)}." if wrong.nearest else ""
                self.note(f"  {option_of(wrong.field)}: {with_options(wrong.message).removesuffix('.')}.{nearest}")
        else:
            self.note(f"error: {with_options(str(error))}", "red")
        if hint := self._hint(error):
            self.note(hint)
        return code

    def _hint(self, error: ClientError) -> str:
        if isinstance(error, AccessError):
            if self.connection.token is None:
                return "No token is set. Run `gpulaunch config set-token`, or set GPULAUNCH_TOKEN."
            source = f"The token comes from {self.connection.token_from}."
            unknown = (
                f" The app at {self.connection.url} does not know it; set another with `gpulaunch config set-token`."
            )
            return source + (unknown if error.status == 401 else "")
        if isinstance(error, NotFoundError):
            return "`gpulaunch ls` lists live instances, `gpulaunch ls --all` ended ones as well."
        if isinstance(error, NoAnswerError) and self.connection.url_from == "default":
            return (
                "No address is set, so this machine was tried. Start an app here with `make run`, or set the address "
                "of another with `gpulaunch config set-url`."
            )
        if isinstance(error, ApiError) and error.status >= 500 and error.problem.request_id:
            return f"See the app's log for request {error.problem.request_id}."
        return ""


def session_of(context: typer.Context, *, as_json: bool = False) -> Session:
    """The run's session; every command that prints passes its --json on to it."""
    session = cast("Session", context.find_root().obj)
    session.as_json = session.as_json or as_json
    return session


class Guarded(TyperGroup):
    """Turns the client's errors into messages and exit codes."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ClientError as error:
            raise typer.Exit(session_of(ctx).complain(error)) from error


Json = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON; streams print one object per line.")]
