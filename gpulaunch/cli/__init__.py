"""The Python client (`gpulaunch.client`) and the command `gpulaunch` that is built on it."""
