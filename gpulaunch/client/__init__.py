"""The Python client. Import its names from `gpulaunch`."""
