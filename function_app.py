"""The Azure Functions app: registers the blueprints, nothing else."""

import os

import azure.functions as func

from functions import (
    alerts,
    costs_api,
    health,
    instance_api,
    launch_api,
    node_api,
    ops_api,
    provisioning,
    sweep,
    teardown,
    web,
)

app = func.FunctionApp()
for module in (launch_api, instance_api, node_api, ops_api, costs_api, provisioning, teardown, health, sweep, web):
    app.register_functions(module.bp)
# A queue that is polled costs money day and night; without a receiver nothing is ever put into this one.
if os.environ.get("GPULAUNCH_WEBHOOK_URLS"):
    app.register_functions(alerts.bp)
