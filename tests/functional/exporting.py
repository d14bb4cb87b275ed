"""Runs one launch with telemetry as a deployment has it, exported to an address: a process, since it is set up once.

Usage: exporting.py INGESTION_ADDRESS. Prints what the world knows of the launch, as JSON.
"""

import json
import logging
import sys
from datetime import datetime
from typing import Any, cast

from azure.functions.timer import TimerRequest
from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger_provider

from shared.observability.azure_monitor import connect
from shared.queues import LAUNCHES
from shared.redaction import redact_all_logging
from tests.functional.world import ADMIN, World


def _refuse() -> None:
    raise RuntimeError(f"refused with {ADMIN}")


def copied(now: datetime) -> int:
    return 7


def main() -> None:
    world = World()
    redact_all_logging(world.adapters.redactor)
    connection = f"InstrumentationKey=11111111-2222-3333-4444-555555555555;IngestionEndpoint={sys.argv[1]}/"
    telemetry = connect(connection, world.adapters.redactor, on_console=True)
    world.rebuild(telemetry=telemetry, back_up=copied)
    world.functions["backup"].get_user_function()(TimerRequest(past_due=False))
    instance_id = world.launch(labels={"team": "a", "simulate.no-capacity": "1"})
    world.call("GET", "/api/instances", token="not-a-token-of-ours", headers={"X-Forwarded-For": "203.0.113.7"})
    world.queues.put(LAUNCHES, b"no json")
    world.run(120)
    world.delete(instance_id)
    world.run(30)
    stays = world.launch(labels={"simulate.teardown-tries": "100"})
    world.run(90)
    world.delete(stays)
    world.run(world.adapters.timeouts.release_alert + 120)
    with telemetry.span("step advance", None, instance_id=instance_id):
        try:
            _refuse()
        except RuntimeError:
            logging.getLogger("gpulaunch.steps").exception("planted")
    for provider in (trace.get_tracer_provider(), metrics.get_meter_provider(), get_logger_provider()):
        cast("Any", provider).force_flush()
    json.dump({"instance": instance_id}, sys.stdout)


if __name__ == "__main__":
    main()
