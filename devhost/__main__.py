"""`python -m devhost`: runs this project's `function_app.py` on this machine by the rules of the Azure Functions host.

It reads host.json and local.settings.json, and knows what the app binds: HTTP routes with plain `{parameters}`, Storage
Queue triggers and timers, all with synchronous functions. Anything else is refused, never half-supported.
"""

import argparse
import asyncio
import errno
import logging
import os
import signal
import sys
import traceback
from argparse import Namespace
from contextlib import AsyncExitStack
from pathlib import Path

from aiohttp import web

from devhost.app import Function, HttpFunction, Invoker, QueueFunction, TimerFunction, load
from devhost.config import HostConfig, HostError, load_host_config, load_local_settings
from devhost.queues import LEASE, QueueListener, service_client
from devhost.timers import TimerListener
from devhost.web import BODY_LIMIT, HttpHost

log = logging.getLogger("devhost")


def _options() -> Namespace:
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
    return parser.parse_args()


def main() -> int:
    """Run until SIGINT or SIGTERM; return the exit status: 0 after a stop, 1 if the host could not start."""
    options = _options()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    log.setLevel(options.log_level)
    # One line for each request to storage is of no use here.
    logging.getLogger("azure").setLevel(logging.WARNING)
    folder: Path = options.app.resolve()
    try:
        load_local_settings(folder, os.environ)
        os.environ.setdefault("AZURE_FUNCTIONS_ENVIRONMENT", "Development")
        config = load_host_config(folder)
        return asyncio.run(_serve(options, config, load(folder, os.environ)))
    except HostError as error:
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        for line in str(error).splitlines():
            print(f"devhost: {line}", file=sys.stderr)
        return 1


async def _serve(options: Namespace, config: HostConfig, functions: list[Function]) -> int:
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    # The worker's own default is cores + 4: too few for what host.json lets run at once.
    invoker = Invoker(int(os.environ.get("PYTHON_THREADPOOL_THREAD_COUNT", "48")))
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(service_client(os.environ))
        queues = [
            QueueListener(one, service, config.extensions.queues, invoker, options.lease)
            for one in functions
            if isinstance(one, QueueFunction)
        ]
        timers = [TimerListener(one, invoker) for one in functions if isinstance(one, TimerFunction)]
        routed = [one for one in functions if isinstance(one, HttpFunction)]
        body_limit = int(os.environ.get("FUNCTIONS_REQUEST_BODY_SIZE_LIMIT", str(BODY_LIMIT)))
        runner = await _listen(options, HttpHost(routed, config.extensions.http, invoker, body_limit))
        tasks = [asyncio.create_task(listener.run()) for listener in (*queues, *timers)]
        log.info("host started on http://localhost:%d with %d functions", options.port, len(functions))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        log.info("stopping: running functions have %g s to end", options.grace)
        for task in (stopped, *tasks):
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        crashed = [error for error in ended if isinstance(error, Exception)]
        for error in crashed:
            log.error("a listener broke; the host stopped", exc_info=error)
        late, *_ = await asyncio.gather(
            invoker.drain(options.grace), runner.cleanup(), *(queue.drain(options.grace) for queue in queues)
        )
    log.info("host stopped")
    if late:
        log.warning("%d functions did not end in time", late)
        logging.shutdown()
        # A thread cannot be stopped, and the interpreter would wait for it.
        os._exit(1 if crashed else 0)
    return 1 if crashed else 0


async def _listen(options: Namespace, http: HttpHost) -> web.AppRunner:
    runner = web.AppRunner(http.application(), access_log=None, auto_decompress=False, shutdown_timeout=options.grace)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", options.port).start()
    except OSError as error:
        await runner.cleanup()
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be opened: {error.strerror}"
        raise HostError(f"port {options.port} on 127.0.0.1 {reason}") from None
    return runner


if __name__ == "__main__":
    sys.exit(main())
