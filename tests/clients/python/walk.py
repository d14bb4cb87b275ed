"""Launches an instance, waits until it is ready, asks for its key and terminates it, by a generated client."""

import json
import sys
import time
from typing import Any

from gpulaunch_api import AuthenticatedClient
from gpulaunch_api.api.control_plane import (
    instance_credentials,
    launch_instance,
    list_instances,
    show_instance,
    show_operation,
    terminate_instance,
)
from gpulaunch_api.models import LaunchRequest, Problem, ShowOperationOperation

address, token = sys.argv[1:]
client = AuthenticatedClient(base_url=address, token=token)


def must(found: Any) -> Any:
    if found is None or isinstance(found, Problem):
        raise SystemExit(f"refused: {found}")
    return found


def end(instance_id: str, operation: ShowOperationOperation) -> Any:
    while True:
        seen = must(show_operation.sync(instance_id, operation, client=client))
        if seen.status != "Running":
            return seen
        time.sleep(0.2)


refused = launch_instance.sync(client=client, body=LaunchRequest(model_name="org/model", gpu="A1O"))
wanted = LaunchRequest.from_dict(
    {
        "model_name": "meta-llama/Llama-3.1-8B-Instruct",
        "gpu": "A10",
        "region": ["eastus", "westus2"],
        "labels": {"team": "py"},
    }
)
answer = launch_instance.sync_detailed(client=client, body=wanted)
launched = must(answer.parsed)
launch = end(launched.instance_id, ShowOperationOperation.LAUNCH)
ready = must(show_instance.sync(launched.instance_id, client=client))
key = must(instance_credentials.sync(launched.instance_id, client=client))
page = must(list_instances.sync(client=client, label="team=py", page_size=1))
ending = must(terminate_instance.sync(launched.instance_id, client=client))
termination = end(launched.instance_id, ShowOperationOperation.TERMINATE)
ended = must(show_instance.sync(launched.instance_id, client=client))

print(
    json.dumps(
        {
            "field": refused.errors[0].field if isinstance(refused, Problem) else None,
            "location": answer.headers["Location"],
            "fits": launched.gpu_memory.fits,
            "offered": [offer.region for offer in launched.offers],
            "hourly": launched.estimate.hourly_usd,
            "launch": launch.status,
            "ready": ready.phase,
            "bytes": ready.attempts[-1].total_bytes,
            "started": ready.attempts[-1].ready_at is not None,
            "key": bool(key.api_key),
            "listed": len(page.instances),
            "reason": ending.ending.reason,
            "termination": termination.status,
            "ended": ended.phase,
        }
    )
)
