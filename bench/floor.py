"""The least that accepting a launch can cost: the same transaction and the same message by the bare SDK.

A program of its own, so that nothing shares its interpreter. Each line of its input, `CLIENTS SECONDS`, is a stretch of
writing with that many threads; each line of its output says what they saw, as JSON.
"""

import base64
import json
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Any, cast

from azure.data.tables import TableClient
from azure.storage.queue import QueueClient

from gpulaunch.models.requests import LaunchRequest
from shared.catalog.snapshot import snapshot
from shared.clock import UlidIds
from shared.domain.messages import StepMessage
from shared.lifecycle.acceptance import accept
from shared.planning.matching import match
from shared.planning.plan import estimate, plan
from shared.storage import rows
from shared.storage.queues import FOR_EVER

PARTITION = "floor"


def writes(body: dict[str, Any]) -> tuple[list[tuple[str, rows.TableRow]], str]:
    """The rows and the message of one accepted launch, as the app writes them."""
    request, now, catalog = LaunchRequest.model_validate(body), datetime.now(UTC), snapshot()
    offers = plan(match(request, catalog), request)
    costs = estimate(offers, 720, catalog.listing("azure").prices)
    record, events = accept(
        request,
        instance_id=UlidIds().instance_id(now),
        now=now,
        offers=offers,
        mode="simulation",
        mode_reason="GPULAUNCH_ORCHESTRATOR is set to simulation.",
        lifetime_minutes=720,
        estimated_hourly_usd=costs.hourly_usd,
        worst_case_usd=costs.worst_case_usd,
    )
    inserts = [("create", rows.record_row(PARTITION, record, "0" * 16))]
    for event in events:
        inserts.append(("create", rows.row_of(PARTITION, rows.event_key(record.instance_id, event.sequence), event)))
    message = StepMessage(instanceId=record.instance_id, epoch=record.epoch, step="advance")
    return inserts, message.model_dump_json(by_alias=True)


def main() -> None:
    """Serve stretches until the input ends."""
    connection = sys.argv[1]
    table = TableClient.from_connection_string(connection, "floor")
    queue = QueueClient.from_connection_string(connection, "floor")
    cast(Any, table).create_table()
    queue.create_queue()
    body: dict[str, Any] = json.loads(sys.argv[2])

    def write() -> float:
        # made before the clock starts: the floor is storage and its SDK alone
        inserts, message = writes(body)
        text = base64.b64encode(message.encode()).decode()
        began = time.perf_counter()
        cast(Any, table).submit_transaction(inserts)
        queue.send_message(text, time_to_live=FOR_EVER)
        return time.perf_counter() - began

    for line in sys.stdin:
        clients, seconds = int(line.split()[0]), float(line.split()[1])
        spent: list[float] = []
        began = time.perf_counter()

        def client(spent: list[float] = spent, began: float = began, seconds: float = seconds) -> None:
            while time.perf_counter() - began < seconds:
                spent.append(write())

        threads = [threading.Thread(target=client) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rate = len(spent) / (time.perf_counter() - began)
        print(json.dumps({"seconds": spent, "per_second": rate}), flush=True)


if __name__ == "__main__":
    main()
