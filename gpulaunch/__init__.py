"""Launch models on GPU nodes, from Python.

>>> from gpulaunch import GpuLaunch
>>> with GpuLaunch("http://localhost:7071", token) as gpu:
...     launched = gpu.launch(model_name="meta-llama/Llama-3.1-8B-Instruct", gpu="A10")
...     ready = gpu.wait_until_ready(launched.instance_id, timeout=3600)

`AsyncGpuLaunch` has the same methods with `await`. Names are imported on first use: the control plane imports
`gpulaunch.models` at every cold start and must not wait for the client's HTTP library.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from gpulaunch.version import VERSION

if TYPE_CHECKING:
    from gpulaunch.client.asynchronous import AsyncGpuLaunch
    from gpulaunch.client.errors import (
        AccessError,
        AddressError,
        ApiError,
        ClientError,
        ConflictError,
        ConnectionSetupError,
        EndedError,
        InvalidRequestError,
        LimitError,
        NoAnswerError,
        NotFoundError,
        ServerError,
        UnavailableError,
        UnreadableAnswerError,
        WaitTimeoutError,
    )
    from gpulaunch.client.nodes import async_node_client, node_client
    from gpulaunch.client.synchronous import GpuLaunch
    from gpulaunch.models.endpoints import EndpointSpec, EndpointView
    from gpulaunch.models.instances import Phase, Reason
    from gpulaunch.models.plans import PlanAnswer
    from gpulaunch.models.requests import Job, LaunchRequest
    from gpulaunch.models.responses import Credentials, EventView, InstanceView, LaunchAnswer

__all__ = [
    "AccessError",
    "AddressError",
    "ApiError",
    "AsyncGpuLaunch",
    "ClientError",
    "ConflictError",
    "ConnectionSetupError",
    "Credentials",
    "EndedError",
    "EndpointSpec",
    "EndpointView",
    "EventView",
    "GpuLaunch",
    "InstanceView",
    "InvalidRequestError",
    "Job",
    "LaunchAnswer",
    "LaunchRequest",
    "LimitError",
    "NoAnswerError",
    "NotFoundError",
    "Phase",
    "PlanAnswer",
    "Reason",
    "ServerError",
    "UnavailableError",
    "UnreadableAnswerError",
    "WaitTimeoutError",
    "__version__",
    "async_node_client",
    "node_client",
]

__version__ = VERSION

_MODULES = (
    "models.instances",
    "models.requests",
    "models.responses",
    "models.plans",
    "models.endpoints",
    "client.errors",
    "client.synchronous",
    "client.asynchronous",
    "client.nodes",
)
"""Where the names live; the light modules first."""


def __getattr__(name: str) -> object:
    if name in __all__:
        for inner in _MODULES:
            module = import_module(f"{__name__}.{inner}")
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
