"""The base of every error that this program raises on purpose."""


class GpulaunchError(Exception):
    """Base of every error this program raises on purpose."""
