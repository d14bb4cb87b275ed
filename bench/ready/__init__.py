"""Time to ready, in the end-to-end environment: SkyPilot, Slurm and vLLM are real, so this needs root."""

import os

from bench.processes import BenchError
from bench.results import Figure, table


def measure(*, launches: int, installations: int, fetches: int) -> list[Figure]:
    """Fetching alone, the tiny model, then the model that takes as long to fetch as vLLM takes to install.

    Raises BenchError where there is no root, or the environment does not come up.
    """
    if os.geteuid() != 0:
        raise BenchError("time to ready is measured with a Slurm and an sshd of its own: run `make bench` as root")
    from bench.ready import fetch, install, launch
    from tests.e2e.stack import assembly
    from tests.e2e.stack.processes import StackError

    try:
        stack = assembly.start(image=install.node_image())
        try:
            figures = _told(fetch.measure(stack.processes, rounds=fetches))
            launch.warm_up(stack)
            figures += _told(launch.measure(stack, rounds=launches))
            figures += _told(install.measure(stack, rounds=installations))
        finally:
            stack.close()
    except StackError as error:
        raise BenchError(str(error)) from error
    return figures


def _told(figures: list[Figure]) -> list[Figure]:
    """Said at once, since the whole takes twenty minutes."""
    print(table(figures), flush=True)
    return figures
