"""`python -m devhost`: starts the host and stops it gracefully."""

import argparse
import asyncio
import errno
import logging
import os
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from aiohttp import web

from devhost import app as apps
from devhost.config import HostConfig, HostError, load_host_config, load_local_settings
from devhost.invoke import Invoker, thread_count
from devhost.queues import LEASE, QueueListener, service_client
from devhost.timers import TimerListener
from devhost.web import HttpHost

log = logging.getLogger("devhost")


@dataclass(slots=True)
class Options:
    """Command line. Times in seconds."""

    app: Path
    port: int
    lease: float
    grace: float
    log_level: str


def _options(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser("devhost", description="Run a function_app.py by the rules of the Functions host.")
    parser.add_argument("--app", type=Path, default=Path(), help="folder of function_app.py and host.json")
    parser.add_argument("--port", type=int, default=7071, help="port on 127.0.0.1")
    parser.add_argument(
        "--lease",
        type=float,
        default=LEASE,
        help="seconds that a queue message stays hidden after a crash; less than the real host's 600 for crash tests",
    )
    parser.add_argument("--grace", type=float, default=5.0, help="seconds that running functions get at a stop")
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
    settings = os.environ
    try:
        load_local_settings(options.app, settings)
        settings.setdefault("AZURE_FUNCTIONS_ENVIRONMENT", "Development")
        config = load_host_config(options.app)
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


async def _serve(options: Options, config: HostConfig, app: apps.HostedApp, settings: Mapping[str, str]) -> int:
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    invoker = Invoker(thread_count(settings))
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(service_client(settings))
        listeners: list[QueueListener | TimerListener] = [
            QueueListener(function, service, config.extensions.queues, invoker, lease=options.lease)
            for function in app.queues
        ]
        listeners += [TimerListener(function, invoker) for function in app.timers]
        runner = await _listen(options, HttpHost(app.http, config.extensions.http, invoker))
        tasks = [asyncio.create_task(listener.run()) for listener in listeners]
        log.info("host started on http://localhost:%d with %d functions", options.port, len(app))
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
        # A thread cannot be stopped, and the interpreter would wait for it.
        os._exit(1 if crashed else 0)
    return 1 if crashed else 0


async def _listen(options: Options, http: HttpHost) -> web.AppRunner:
    runner = web.AppRunner(http.application(), access_log=None, auto_decompress=False, shutdown_timeout=options.grace)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", options.port).start()
    except OSError as error:
        await runner.cleanup()
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be opened: {error.strerror}"
        raise HostError(f"port {options.port} on 127.0.0.1 {reason}") from None
    return runner
