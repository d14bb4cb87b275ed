"""The Python client (`cli.client`) and the command `gpulaunch` that is built on it."""
