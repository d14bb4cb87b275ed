"""`python -m gateway`: serves `/v1` until SIGTERM, then finishes the requests under way."""

import asyncio
import logging
import os
import sys

import uvicorn
from azure.data.tables import TableServiceClient

from gateway.app import Gateway
from gateway.table import poll, reader, unsealer
from gateway.upstream import NodeUpstream, session

_STORAGE = "AzureWebJobsStorage"
GRACE_SECONDS = 600
"""For requests under way after SIGTERM: as long as a request may take."""


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for library in ("azure", "urllib3"):
        logging.getLogger(library).setLevel(logging.WARNING)
    missing = [name for name in (_STORAGE, "GPULAUNCH_GATEWAY_KEY") if not os.environ.get(name)]
    if missing:
        print(f"gateway: set {' and '.join(missing)}", file=sys.stderr)
        return 1
    try:
        unseal = unsealer(os.environ["GPULAUNCH_GATEWAY_KEY"])
    except ValueError:
        print("gateway: GPULAUNCH_GATEWAY_KEY is not a key; derive it from the master key", file=sys.stderr)
        return 1
    service = TableServiceClient.from_connection_string(
        os.environ[_STORAGE], retry_total=1, connection_timeout=5, read_timeout=10
    )
    read = reader(service.get_table_client("gpulaunch"), os.environ.get("GPULAUNCH_WORKSPACE") or "default")

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
