"""The Python client.

>>> from cli.client import GpuLaunch
>>> with GpuLaunch("http://localhost:7071", token) as gpu:
...     instance = gpu.launch(model_name="meta-llama/Llama-3.1-8B-Instruct", gpu="A10")
...     ready = gpu.wait_until_ready(instance.instance_id, timeout=3600)

`AsyncGpuLaunch` is the same with `await`. Everything else stands in `cli.client.errors`.
"""

from cli.client.asynchronous import AsyncGpuLaunch
from cli.client.errors import ClientError
from cli.client.synchronous import GpuLaunch

__all__ = ["AsyncGpuLaunch", "ClientError", "GpuLaunch"]
