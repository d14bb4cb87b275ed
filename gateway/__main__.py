"""`python -m gateway`: serves `/v1` until SIGTERM, then finishes the requests under way."""

import asyncio
import logging
import os
import sys

import uvicorn

from gateway.app import Gateway
from gateway.table import poll, reader, table_of, unsealer
from gateway.upstream import NodeUpstream, session

GRACE_SECONDS = 600
"""For requests under way after SIGTERM: as long as a request may take."""


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for library in ("azure", "urllib3"):
        logging.getLogger(library).setLevel(logging.WARNING)
    key = os.environ.get("GPULAUNCH_GATEWAY_KEY")
    if not key:
        print("gateway: set GPULAUNCH_GATEWAY_KEY; `python -m deploy secrets gateway-key` derives it", file=sys.stderr)
        return 1
    try:
        unseal = unsealer(key)
    except ValueError:
        print("gateway: GPULAUNCH_GATEWAY_KEY is not a key; derive it from the master key", file=sys.stderr)
        return 1
    try:
        table = table_of(os.environ)
    except ValueError as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 1
    read = reader(table, os.environ.get("GPULAUNCH_WORKSPACE") or "default")

    async def run() -> None:
        async with session() as client:
            gateway = Gateway(NodeUpstream(client))
            config = uvicorn.Config(
                gateway,  # pyright: ignore[reportArgumentType] - its own types of ASGI
                host=os.environ.get("GATEWAY_HOST", "127.0.0.1"),
                port=int(os.environ.get("GATEWAY_PORT") or 7072),
                log_level="warning",
                access_log=False,
                server_header=False,
                ws="none",
                timeout_graceful_shutdown=GRACE_SECONDS,
                h11_max_incomplete_event_size=64 * 1024,
            )
            server = uvicorn.Server(config)
            polling = asyncio.create_task(poll(gateway, read, unseal))
            # A gateway that no longer learns of its nodes ends, so that whoever runs it starts another.
            polling.add_done_callback(lambda _: setattr(server, "should_exit", True))
            await server.serve()
            if polling.done():
                polling.result()
            polling.cancel()

    asyncio.run(run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
