"""`python -m devhost`: runs this project's `function_app.py` on this machine by the rules of the Azure Functions host.

It reads host.json and local.settings.json, and knows what the app binds: HTTP routes with plain `{parameters}`, Storage
Queue triggers and timers, all with synchronous functions. Anything else is refused, never half-supported.
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
from argparse import Namespace
from contextlib import AsyncExitStack
from pathlib import Path

from devhost.app import HttpFunction, QueueFunction, TimerFunction
from devhost.config import HostConfig, HostError, load_host_config, load_local_settings
from devhost.invoker import Worker
from devhost.lease import TIMER_SHARE, TimerLease, lease_table
from devhost.queues import LEASE, REFUSED_LIMIT, QueueListener, service_client
from devhost.timers import TimerListener
from devhost.web import HttpHost, body_limit, listener, serving
from devhost.worker import LOG_FORMAT

log = logging.getLogger("devhost")


def _options() -> Namespace:
    parser = argparse.ArgumentParser("devhost", description="Run a function_app.py by the rules of the Functions host.")
    parser.add_argument("--app", type=Path, default=Path(), help="folder of function_app.py and host.json")
    parser.add_argument("--port", type=int, default=7071, help="port on 127.0.0.1")
    parser.add_argument(
        "--lease",
        type=float,
        default=LEASE,
        help="seconds that a queue message stays hidden after a crash, and timers a tenth of it; less for crash tests",
    )
    parser.add_argument(
        "--refused",
        type=float,
        default=REFUSED_LIMIT,
        help="seconds for which storage may refuse connections before the host ends, as the real one does",
    )
    parser.add_argument("--grace", type=float, default=5.0, help="seconds that running functions get at a stop")
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    return parser.parse_args()


def main() -> int:
    """Run until SIGINT or SIGTERM; return the exit status: 0 after a stop, 1 if the host could not start."""
    options = _options()
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    log.setLevel(options.log_level)
    # One line for each request to storage is of no use here.
    logging.getLogger("azure").setLevel(logging.WARNING)
    folder: Path = options.app.resolve()
    try:
        load_local_settings(folder, os.environ)
        os.environ.setdefault("AZURE_FUNCTIONS_ENVIRONMENT", "Development")
        return asyncio.run(_serve(options, load_host_config(folder), folder))
    except HostError as error:
        for line in str(error).splitlines():
            print(f"devhost: {line}", file=sys.stderr)
        return 1


async def _serve(options: Namespace, config: HostConfig, folder: Path) -> int:
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    # The worker's own default is cores + 4: too few for what host.json lets run at once.
    threads = int(os.environ.get("PYTHON_THREADPOOL_THREAD_COUNT", "48"))
    worker = Worker(folder, threads, config.function_timeout.total_seconds())
    async with AsyncExitStack() as stack:
        port = stack.enter_context(listener(options.port))
        functions = await worker.start()
        stack.push_async_callback(worker.stop)
        service = await stack.enter_async_context(service_client(os.environ))
        queues = [
            QueueListener(one, service, config.extensions.queues, worker, options.lease, options.refused)
            for one in functions
            if isinstance(one, QueueFunction)
        ]
        timers = [TimerListener(one, worker) for one in functions if isinstance(one, TimerFunction)]
        lease = TimerLease(
            await stack.enter_async_context(lease_table(os.environ)), max(options.lease / TIMER_SHARE, 2.0)
        )
        routed = [one for one in functions if isinstance(one, HttpFunction)]
        http = HttpHost(routed, config.extensions.http, worker, body_limit(os.environ))
        web = AsyncExitStack()
        await web.enter_async_context(serving(http, port, options.grace))
        answers = asyncio.create_task(worker.run())

        async def run_timers() -> None:
            await asyncio.gather(*(timer.run() for timer in timers))

        tasks = [asyncio.create_task(queue.run()) for queue in queues]
        tasks.append(asyncio.create_task(lease.hold(run_timers)))
        log.info("host started on http://localhost:%d with %d functions", options.port, len(functions))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([stopped, answers, *tasks], return_when=asyncio.FIRST_COMPLETED)
        log.info("stopping: running functions have %g s to end", options.grace)
        for task in (stopped, *tasks):
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        drained = (queue.drain(options.grace) for queue in queues)
        late, *_ = await asyncio.gather(worker.drain(options.grace), web.aclose(), *drained)
        answers.cancel()
        await lease.give_back()
        ended += await asyncio.gather(answers, return_exceptions=True)
        crashed = [error for error in ended if isinstance(error, Exception)]
        for error in crashed:
            log.error("a listener broke; the host stopped", exc_info=error)
    if late:
        log.warning("%d functions did not end in time", late)
    log.info("host stopped")
    return 1 if crashed else 0


if __name__ == "__main__":
    sys.exit(main())
