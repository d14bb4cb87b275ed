"""One process that sweeps as an instance of the app would: the sweep, then the slices that it sent.

`python -m bench.sweep_once`, settings from the environment. Each line of input is one sweep, each line of output says
how long it took until the last slice was probed, what it found, and how much memory the process had at most.
"""

import json
import logging
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

from azure.core.pipeline.transport import RequestsTransport

from bench.processes import resident_mib
from gpulaunch.models.instances import Mode
from shared import app as runtime
from shared.adapters import connect
from shared.backends.base import Backend
from shared.backends.nodes import HttpNodes
from shared.backends.simulation.cloud import TableSimulatedCloud
from shared.backends.simulation.provider import SimulationProvider
from shared.domain.messages import ProbeMessage, read_message
from shared.queues import PROBES
from shared.settings import read_settings
from shared.storage.connect import queue_service, table_client
from shared.storage.queues import decoded

AT_ONCE = 12
"""As host.json says: batchSize and newBatchThreshold together."""


class Requests:
    """Counts what the SDK asks of storage, in all threads, from when it is made."""

    def __init__(self) -> None:
        self.number = 0
        self._lock = threading.Lock()
        self._send = RequestsTransport.send
        counted = self._counted

        def send(transport: RequestsTransport, request: Any, **options: Any) -> Any:
            return counted(transport, request, **options)

        setattr(RequestsTransport, "send", send)  # noqa: B010 - the SDK's own types forbid the plain form

    def _counted(self, transport: RequestsTransport, request: Any, **options: Any) -> Any:
        with self._lock:
            self.number += 1
        return self._send(transport, request, **options)


def main() -> None:
    """Sweep whenever asked."""
    requests = Requests()
    settings = read_settings()
    adapters = connect(settings)
    logging.disable(logging.WARNING)
    cloud = TableSimulatedCloud(table_client(settings), settings.workspace)
    # Real nodes over HTTP; the provider is asked by the collection of garbage only, and lists nothing.
    backend = Backend(SimulationProvider(cloud, adapters.clock), HttpNodes())

    def the_backend(_: Mode) -> Backend:
        return backend

    app = runtime.compose(replace(adapters, backends=the_backend))
    queue = queue_service(settings).get_queue_client(PROBES)

    def probe(content: str) -> None:
        app.prober.run(read_message(ProbeMessage, decoded(content)))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in sys.stdin:
            began, before = time.perf_counter(), requests.number
            report = app.sweep.run()
            swept, taken = time.perf_counter() - began, requests.number - before
            # the host's share, which is not counted
            messages = list(queue.receive_messages(messages_per_page=32, visibility_timeout=600))
            before = requests.number
            under_way = [pool.submit(probe, str(message.content)) for message in messages]
            wait(under_way)
            for one in under_way:
                one.result()
            seconds = time.perf_counter() - began
            taken += requests.number - before
            queue.clear_messages()
            said = {"seconds": seconds, "sweep_seconds": swept, "ready": report.ready, "requests": taken}
            print(json.dumps(said | {"mib": resident_mib(os.getpid(), "VmHWM")}), flush=True)


if __name__ == "__main__":
    main()
