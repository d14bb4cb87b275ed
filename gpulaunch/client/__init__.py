"""The Python client.

>>> from gpulaunch.client import GpuLaunch
>>> with GpuLaunch("http://localhost:7071", token) as gpu:
...     instance = gpu.launch(model_name="meta-llama/Llama-3.1-8B-Instruct", gpu="A10")
...     ready = gpu.wait_until_ready(instance.instance_id, timeout=3600)

`AsyncGpuLaunch` is the same with `await`. Everything else stands in `gpulaunch.client.errors`.
"""

from gpulaunch.client.asynchronous import AsyncGpuLaunch
from gpulaunch.client.errors import ClientError
from gpulaunch.client.synchronous import GpuLaunch

__all__ = ["AsyncGpuLaunch", "ClientError", "GpuLaunch"]
