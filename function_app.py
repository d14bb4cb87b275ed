"""The Azure Functions app: registers the blueprints, nothing else."""

import azure.functions as func

from functions import costs_api, health, instance_api, launch_api, node_api, ops_api, provisioning, sweep, teardown, web

app = func.FunctionApp()
for module in (launch_api, instance_api, node_api, ops_api, costs_api, provisioning, teardown, health, sweep, web):
    app.register_functions(module.bp)
