"""Runs on Python 3.13, once: Microsoft's worker library starts and indexes an app; says how long that took.

`worker_start.py APP_FOLDER CONFORMANCE_FOLDER [health]`; the second holds the stand-ins that the library is fed with.
With `health` the app's /api/health is called then, which makes everything that a launch needs. Prints JSON.
"""

import asyncio
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any


def resident_mib() -> float:
    """Resident memory of this process."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


async def start(folder: str, stand_ins: Any, health: bool) -> dict[str, Any]:
    """Start, index, and call health where wanted."""
    began = time.perf_counter()
    runtime: Any = importlib.import_module("azure_functions_runtime")
    message, request = stand_ins.Message, stand_ins.request
    init = request(worker_init_request=message(capabilities={}, function_app_directory=folder))
    status = stand_ins.status(await runtime.worker_init_request(init))
    listed = await runtime.functions_metadata_request(request(functions_metadata_request=message()))
    said = {"seconds": time.perf_counter() - began, "mib": resident_mib(), "error": status["error"]}
    said["functions"] = len(listed.function_metadata_results or [])
    if health:
        runtime.start_threadpool_executor()
        call = {"trigger": "httpTrigger", "method": "GET", "route": "/api/health", "template": "api/health"}
        for one in listed.function_metadata_results:
            for trigger in (json.loads(text) for text in one.raw_bindings):
                if stand_ins.matches(trigger, one.name, call):
                    said["health"] = (await stand_ins.invoke(runtime, one, trigger, call)).get("http_status")
        said["health_mib"] = resident_mib()
        runtime.stop_threadpool_executor()
    return said


def main() -> None:
    """Measure once."""
    folder, conformance = sys.argv[1:3]
    sys.path.insert(0, conformance)
    stand_ins = importlib.import_module("runner")
    sys.path[0] = folder
    output = sys.stdout
    sys.stdout = sys.stderr
    json.dump(asyncio.run(start(folder, stand_ins, "health" in sys.argv[3:])), output)


if __name__ == "__main__":
    main()
