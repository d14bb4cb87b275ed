"""`python -m devhost`: starts the host and stops it gracefully."""

import argparse
import asyncio
import errno
import logging
import os
import secrets
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import cast

from aiohttp import web

from devhost import app as apps
from devhost.config import HostConfig, HostError, load_host_config, load_local_settings
from devhost.invoke import Invoker, thread_count
from devhost.queues import QueueListener, service_client
from devhost.timers import StateFile, TimerListener, zone
from devhost.web import HttpHost, Keys

log = logging.getLogger("devhost")


@dataclass(slots=True)
class Options:
    """Command line. Times in seconds."""

    app: Path
    host: str
    port: int
    enable_auth: bool
    lease: float
    grace: float
    timer_state: Path | None
    log_level: str


def _options(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser("devhost", description="Run a function_app.py by the rules of the Functions host.")
    parser.add_argument("--app", type=Path, default=Path(), help="folder of function_app.py and host.json")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=7071)
    parser.add_argument(
        "--enable-auth",
        action="store_true",
        help="ask for function keys (DEVHOST_FUNCTION_KEY, DEVHOST_MASTER_KEY; made up and printed where not set)",
    )
    parser.add_argument(
        "--lease",
        type=float,
        default=600.0,
        help="how long a queue message stays hidden after a crash, in seconds; the real host's 600 is the default, "
        "less is for crash tests only",
    )
    parser.add_argument("--grace", type=float, default=5.0, help="seconds for running functions to end at a stop")
    parser.add_argument("--timer-state", type=Path, help="file that remembers timers over restarts (for IsPastDue)")
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    options = cast(Options, parser.parse_args(arguments, argparse.Namespace()))
    if options.lease < 1:
        parser.error("--lease must be at least 1")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM; return the exit status: 0 after a stop, 1 if the host could not start."""
    options = _options(arguments)
    _log_to_console(options.log_level)
    options.app = options.app.resolve()
    if options.timer_state is not None:
        options.timer_state = options.timer_state.resolve()
    settings = os.environ
    try:
        load_local_settings(options.app, settings)
        settings.setdefault("AZURE_FUNCTIONS_ENVIRONMENT", "Development")
        config = load_host_config(options.app, settings, lease=options.lease)
        app = apps.load(options.app, settings)
        return asyncio.run(_serve(options, config, app, settings))
    except HostError as error:
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        for line in str(error).splitlines():
            print(f"devhost: {line}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _log_to_console(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    log.setLevel(level)
    # One line for each request to storage is of no use here.
    logging.getLogger("azure").setLevel(logging.WARNING)


def _keys(options: Options, settings: Mapping[str, str]) -> Keys | None:
    if not options.enable_auth:
        return None
    keys = Keys(
        function=settings.get("DEVHOST_FUNCTION_KEY") or secrets.token_urlsafe(24),
        master=settings.get("DEVHOST_MASTER_KEY") or secrets.token_urlsafe(24),
    )
    print(f"Function key: {keys.function}\nMaster key:   {keys.master}", flush=True)
    return keys


def _address(options: Options) -> str:
    name = "localhost" if options.host in {"127.0.0.1", "0.0.0.0"} else options.host  # noqa: S104 - only compared
    return f"http://{name}:{options.port}"


def _print_functions(options: Options, config: HostConfig, app: apps.App) -> None:
    prefix = f"{config.route_prefix}/" if config.route_prefix else ""
    base = f"{_address(options)}/{prefix}"
    rows = [
        (one.name, f"[{','.join(sorted(one.methods)) or 'any method'}] {base}{one.route.strip('/')}")
        for one in app.http
    ]
    rows += [(one.name, f"queue '{one.queue}' ({one.connection})") for one in app.queues]
    rows += [(one.name, f"timer '{one.expression}'") for one in app.timers]
    width = max(len(name) for name, _ in rows)
    print(f"{len(rows)} functions:", *(f"  {name:<{width}}  {text}" for name, text in rows), sep="\n", flush=True)


async def _serve(options: Options, config: HostConfig, app: apps.App, settings: Mapping[str, str]) -> int:
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    invoker = Invoker(thread_count(settings), str(options.app))
    async with AsyncExitStack() as stack:
        queues: list[QueueListener] = []
        for function in app.queues:
            service = await stack.enter_async_context(service_client(function.connection, settings))
            queues.append(QueueListener.open(function, service, config.queues, invoker))
        timer_zone, state = zone(settings), StateFile(options.timer_state)
        timers = [TimerListener(one, invoker, state, lambda: datetime.now(timer_zone)) for one in app.timers]
        http = HttpHost(
            app.http,
            config.route_prefix,
            invoker,
            keys=_keys(options, settings),
            homepage=settings.get("AzureWebJobsDisableHomepage", "").lower() not in {"1", "true"},
            max_outstanding=config.max_outstanding,
            max_concurrent=config.max_concurrent,
        )
        runner = await _listen(options, http)
        _print_functions(options, config, app)
        listeners = [*queues, *timers]
        tasks = [asyncio.create_task(listener.run()) for listener in listeners]
        log.info("host started on %s", _address(options))
        stopped = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        crashed = [task for task in done if task is not stopped]
        for task in crashed:
            log.error("a listener broke; the host stops", exc_info=task.exception())
        log.info("stopping: running functions have %g s to end", options.grace)
        for task in tasks:
            task.cancel()
        await asyncio.wait({stopped, *tasks})
        await asyncio.gather(runner.cleanup(), *(listener.drain(options.grace) for listener in listeners))
    log.info("host stopped")
    if invoker.busy:
        log.warning("%d functions did not end in time", invoker.busy)
        logging.shutdown()
        sys.stdout.flush()
        # A thread cannot be stopped, and the interpreter would wait for it.
        os._exit(1 if crashed else 0)
    return 1 if crashed else 0


async def _listen(options: Options, http: HttpHost) -> web.AppRunner:
    runner = web.AppRunner(http.application(), access_log=None, auto_decompress=False, shutdown_timeout=options.grace)
    await runner.setup()
    try:
        await web.TCPSite(runner, options.host, options.port).start()
    except OSError as error:
        await runner.cleanup()
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be opened: {error.strerror}"
        raise HostError(f"port {options.port} on {options.host} {reason}") from None
    return runner
