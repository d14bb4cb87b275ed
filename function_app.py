"""The Azure Functions app: registers the bindings, nothing else."""

import azure.functions as func

from functions import http, queues, timers

app = func.FunctionApp()
for module in (http, queues, timers):
    app.register_functions(module.bp)
