"""The Azure Functions app: registers the bindings, and ends with its host."""

import os

import azure.functions as func

from functions import http, queues, timers
from functions.host import end_with_host

if "FUNCTIONS_WORKER_RUNTIME" in os.environ:
    # A host has started this process; tests and tools import the app as well.
    end_with_host()
app = func.FunctionApp()
for module in (http, queues, timers):
    app.register_functions(module.bp)
