"""One process that sweeps as an instance of the app would: the sweep, then the slices that it sent.

`python -m bench.sweep_once`, settings from the environment. Each line of input is one sweep, each line of output says
how long it took until the last slice was probed, what it found, and how much memory the process had at most.
"""

import json
import logging
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace

from bench.processes import resident_mib
from shared import runtime
from shared.api.queues import HEALTH
from shared.engine.parts import Kit
from shared.engine.probing import run_probe
from shared.engine.sweeping import run_sweep
from shared.models.messages import ProbeMessage, read_message
from shared.models.records import Mode
from shared.providers.nodes import HttpNodes
from shared.providers.simulated_cloud import TableSimulatedCloud
from shared.providers.simulation import SimulationProvider
from shared.settings import read_settings
from shared.store.connect import queue_service, table_client
from shared.store.queues import decoded

AT_ONCE = 12
"""As host.json says: batchSize and newBatchThreshold together."""


def main() -> None:
    """Sweep whenever asked."""
    settings = read_settings()
    built = runtime.build(settings)
    logging.disable(logging.WARNING)
    cloud = TableSimulatedCloud(table_client(settings), settings.workspace)
    # Real nodes over HTTP; the provider is asked by the collection of garbage only, and lists nothing.
    kit = Kit(SimulationProvider(cloud, built.clock), HttpNodes())

    def the_kit(_: Mode) -> Kit:
        return kit

    parts = replace(built, kit=the_kit)
    queue = queue_service(settings).get_queue_client(HEALTH)

    def probe(content: str) -> None:
        run_probe(parts, read_message(ProbeMessage, decoded(content)))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in sys.stdin:
            began = time.perf_counter()
            report = run_sweep(parts)
            swept = time.perf_counter() - began
            under_way = [
                pool.submit(probe, str(message.content))
                for message in queue.receive_messages(messages_per_page=32, visibility_timeout=600)
            ]
            wait(under_way)
            for one in under_way:
                one.result()
            seconds = time.perf_counter() - began
            queue.clear_messages()
            said = {"seconds": seconds, "sweep_seconds": swept, "ready": report.ready, "slices": len(under_way)}
            print(json.dumps(said | {"mib": resident_mib(os.getpid(), "VmHWM")}), flush=True)


if __name__ == "__main__":
    main()
