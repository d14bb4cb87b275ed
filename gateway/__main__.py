"""`python -m gateway`: serves `/v1` until SIGTERM, then finishes the requests under way."""

import asyncio
import logging
import os
import signal
import sys
import uuid
from collections.abc import Callable
from types import FrameType

import uvicorn

from gateway.app import Gateway
from gateway.connect import identity, nudge_of, table_of
from gateway.key import KEY, KeyUnavailableError, key_of
from gateway.key_usage import KeyUsages, TableUsageRows
from gateway.lines import Lines
from gateway.report import Reports, TableReportRow
from gateway.server import KEEP_ALIVE_SECONDS, LimitedProtocol
from gateway.table import REPORTS, TABLE, poll, reader, unsealer
from gateway.upstream import NodeUpstream, session

GRACE_SECONDS = 570
"""For requests under way after SIGTERM. Containers are killed after ten minutes, Azure's longest; what is left is for
telling the streams that break, and for the report."""


def _ignore(number: int, frame: FrameType | None) -> None:
    pass


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, which takes half of the processor time; None, asyncio's own, where there is none."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def main() -> int:
    lines = Lines()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", handlers=[lines])
    # Of each record nothing but its time and text is shown, so nothing else is looked up.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    for library in ("azure", "msal", "urllib3"):
        logging.getLogger(library).setLevel(logging.WARNING)
    try:
        unseal = unsealer(key_of(os.environ, identity))
    except KeyUnavailableError as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 1
    except ValueError:
        print(f"gateway: {KEY} is not a key; derive it from the master key", file=sys.stderr)
        return 1
    try:
        table, reported, nudge = table_of(os.environ, TABLE), table_of(os.environ, REPORTS), nudge_of(os.environ)
    except ValueError as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 1
    workspace, gateway_id = os.environ.get("GPULAUNCH_WORKSPACE") or "default", uuid.uuid4().hex
    read = reader(table, workspace)

    async def run() -> None:
        async with session() as client:
            gateway = Gateway(NodeUpstream(client), line=lines.line)
            config = uvicorn.Config(
                gateway,  # pyright: ignore[reportArgumentType] - its own types of ASGI
                host=os.environ.get("GATEWAY_HOST", "127.0.0.1"),
                port=int(os.environ.get("GATEWAY_PORT") or 7072),
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws="none",
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=GRACE_SECONDS,
                http=LimitedProtocol,
            )
            server = uvicorn.Server(config)
            reports = Reports(gateway, gateway_id, TableReportRow(reported, workspace, gateway_id), nudge)
            usages = KeyUsages(gateway.limits, gateway_id, TableUsageRows(reported, workspace), gateway.balancer)
            tasks = [asyncio.create_task(poll(gateway, read, unseal, reports)), asyncio.create_task(usages.keep())]
            for one in tasks:
                # A gateway that no longer learns of its nodes ends, so that whoever runs it starts another.
                one.add_done_callback(lambda _: setattr(server, "should_exit", True))
            for number in (signal.SIGINT, signal.SIGTERM):
                # uvicorn handles them, then raises them once more: what is done after it would be left out.
                signal.signal(number, _ignore)
            await server.serve()
            for one in tasks:
                if one.done():
                    one.result()
                one.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await usages.end()
            await reports.end()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
