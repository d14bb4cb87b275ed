"""Examples for the OpenAPI document, by the name of the model."""

from collections.abc import Mapping
from typing import Any, Final

_INSTANCE: Final = "inst-01KC3V6Q8Z4M2N7R5T9WXYABCD"
_CLUSTER: Final = "gl-01kc3v6q8z4m2n7r5t9wxyabcd-1"
_LAUNCH: Final = {
    "model_name": "meta-llama/Llama-3.1-8B-Instruct",
    "region": "eastus",
    "instance_type": "Standard_NV36ads_A10_v5",
    "use_spot": True,
}
_REPLICA: Final = {"model_name": "meta-llama/Llama-3.1-8B-Instruct", "gpu": "A10", "region": "eastus"}

EXAMPLES: Final[Mapping[str, Any]] = {
    "LaunchRequest": _LAUNCH,
    "EndpointRequest": {"name": "chat", "launch": _REPLICA, "replicas": 2},
    "EndpointSpec": {"launch": _REPLICA, "replicas": 2, "drain_seconds": 300},
    "EndpointChange": {"replicas": 3},
    "KeyRequest": {"name": "web-shop", "requests_per_minute": 600, "tokens_per_month": 50_000_000},
    "GarbageConfirmation": {"clusters": [_CLUSTER]},
    "DeletionConfirmation": {"clusters": [_CLUSTER]},
    "Adoption": {"clusters": [_CLUSTER], "model_name": "meta-llama/Llama-3.1-8B-Instruct"},
    "NodeStatus": {"phase": "loading_model", "fetched_bytes": 4_000_000_000, "total_bytes": 16_060_000_000},
    "NodeRegistration": {"port": 8000, "vllm_version": "0.32.0"},
    "Heartbeat": {"running_requests": 3, "waiting_requests": 0},
    "NoticeReport": {"notice": "eviction", "seconds_left": 30},
    "JobResult": {"exit_code": 0},
    "LeaseAnswer": {"renewed": True, "lease_seconds": 900},
    "Credentials": {
        "instance_id": _INSTANCE,
        "endpoint": "https://203.0.113.7:8000/v1",
        "api_key": "gl-…",
        "model_name": "meta-llama/Llama-3.1-8B-Instruct",
        "server_name": f"a1.{_INSTANCE.lower()}.node.gpulaunch.internal",
        "ca_certificate": "-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n",
    },
    "OperationView": {
        "id": f"{_INSTANCE}/launch",
        "kind": "launch",
        "status": "Running",
        "resourceLocation": f"https://app.example.com/api/instances/{_INSTANCE}",
        "error": None,
    },
    "Problem": {
        "type": "about:blank",
        "title": "The request has invalid fields",
        "status": 422,
        "detail": "gpu: azure has no GPU A11 in this catalog",
        "code": "invalid_request",
        "errors": [{"field": "gpu", "message": "azure has no GPU A11 in this catalog", "nearest": ["A10"]}],
        "request_id": "5f3c0f6f8c1d4f0d9b4c8d0a3f6e2b71",
    },
}
