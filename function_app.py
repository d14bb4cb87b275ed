"""The Azure Functions app: registers the bindings, and ends with its host."""

import os

import azure.functions as func

# Built for one Python: on another, Azure finds no function at all, instead of many that fail at each call.
import pydantic_core  # noqa: F401 # pyright: ignore[reportUnusedImport]

from functions import http, queues, timers
from functions.host import end_with_host

if "FUNCTIONS_WORKER_RUNTIME" in os.environ:
    # A host has started this process; tests and tools import the app as well.
    end_with_host()
app = func.FunctionApp()
for module in (http, queues, timers):
    app.register_functions(module.bp)
