"""Wishes of a launch that will have no effect where it runs, for people. Pure."""

from collections.abc import Iterator, Sequence
from math import prod

from gpulaunch.models.offers import Offer
from gpulaunch.models.option_values import last_values
from gpulaunch.models.requests import LaunchRequest
from shared.domain.labels import is_reserved

_PARALLEL = ("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size", "prefill-context-parallel-size")
"""Options whose product is the number of GPUs that vLLM uses."""


def unheeded(request: LaunchRequest, offers: Sequence[Offer]) -> Iterator[str]:
    """Yield a sentence for each wish that none of the planned offers can meet."""
    own = all(offer.instance_type is None for offer in offers)
    if request.budget_usd is not None and all(offer.price_per_hour <= 0 for offer in offers):
        yield "budget_usd has no effect: these machines have no price. Set max_lifetime_minutes or idle_minutes."
    if request.disk_size is not None and own:
        yield f"disk_size has no effect on {request.provider}, where machines are not rented for a launch."
    if "ignore-patterns" in last_values(request.vllm_args):
        yield "--ignore-patterns has no effect: the node fetches the model's files, not vLLM."
    kept = [key for key in request.labels if is_reserved(key)]
    if kept and not own:
        names = ", ".join(kept)
        yield f"Not put on the machine: {names}, whose prefix belongs to the cloud, SkyPilot or gpulaunch."
    longest = request.max_lifetime_minutes
    if request.idle_minutes is not None and longest is not None and request.idle_minutes >= longest:
        yield f"idle_minutes has no effect: the instance ends after {longest} minutes anyway."
    job = request.job
    if job is not None and job.timeout_minutes is not None and longest is not None and job.timeout_minutes >= longest:
        yield f"The job's timeout_minutes has no effect: the instance ends after {longest} minutes anyway."


def unused_gpus(request: LaunchRequest, offers: Sequence[Offer]) -> str | None:
    """Return a sentence about GPUs that are paid for and that vLLM leaves idle; None: it uses all of them."""
    given = last_values(request.vllm_args)
    used = prod(int(given[name]) for name in _PARALLEL if given.get(name, "").isdecimal())
    count = min((offer.gpu_count for offer in offers), default=1)
    if not 0 < used < count:
        return None
    how = f"add --tensor-parallel-size={count} to vllm_args" if used == 1 else "raise the parallel sizes in vllm_args"
    return f"vLLM uses {used} of the machine's {count} GPUs, and all are paid for: {how}, or choose fewer GPUs."
