"""What a failed launch means: SkyPilot's words and the cloud's codes, turned into a reason and a sentence for people.

SkyPilot raises the same ResourcesUnavailableError for no room, no quota and no permission; what the cloud really said
stands only in the request's log. So the log is read when a launch failed, and then only.
"""

from collections.abc import Callable

from gpulaunch.models.instances import Reason
from gpulaunch.models.offers import Offer
from shared.backends.skypilot.http import SkyFailedError
from shared.clouds.failures import CLOUD_RULES, FailureRule, failure_rule
from shared.clouds.registry import CLOUDS
from shared.domain.instance import Failure

_LONGEST = 400
"""Characters of a message: a line in a terminal or two, not a stack trace."""
_QUOTE = 220
"""Characters that are quoted of what the cloud said."""

_RULES: tuple[FailureRule, ...] = (
    # First, since the log of a launch that was cut off may have any words. A request that was cancelled without us was
    # cancelled by the server's end, or by hand: both say nothing about the offer.
    failure_rule(
        r"^(RequestInterruptedError|RequestCancelled|CancelledError|KeyboardInterrupt|SystemExit|BrokenProcessPool"
        r"|BrokenExecutor|ServerTemporarilyUnavailableError|ConcurrentWorkerExhaustedError|NotFound):"
        r"|interrupted by an API server restart|process pool was terminated abruptly",
        Reason.PROVIDER_UNAVAILABLE,
        "The SkyPilot server was stopped or restarted in the middle of launching {what}",
    ),
    *CLOUD_RULES,
    failure_rule(
        r"No resource satisfying|no launchable resource|Catalog does not contain|not found in (the )?catalog"
        r"|not found in any cluster|cannot be satisfied by any",
        Reason.NO_CAPACITY,
        "No node of {cloud} can hold {what}",
        own_machines_only=True,
    ),
    failure_rule(
        r"ClusterSetUpError|FAILED_SETUP|Failed to set ?up|setup failed|runtime setup|before initialization completed"
        r"|Failed to (install|start) (the )?SkyPilot runtime",
        Reason.SETUP_FAILED,
        "The machine was created, but SkyPilot could not set it up ({what})",
    ),
    failure_rule(
        r"NetworkError|Failed to SSH|ssh: connect|ssh: Could not resolve|Connection (timed out|refused|reset)"
        r"|No route to host|Temporary failure in name resolution|Failed to resolve|FetchClusterInfoError"
        r"|kex_exchange_identification|wait_for_ssh|Name or service not known",
        Reason.NETWORK_FAILED,
        "The network failed while {what} was starting",
    ),
    failure_rule(
        r"^(InvalidSkyPilotConfigError|InvalidCloudConfigs|NotSupportedError|InvalidClusterNameError|ValidationError"
        r"|UserRequestRejectedByPolicy|ResourcesMismatchError|ValueError|TypeError|AssertionError):"
        r"|No resource satisfying|no launchable resource|Catalog does not contain|not found in (the )?catalog",
        Reason.INVALID_TASK,
        "SkyPilot does not accept {what}",
    ),
)


def name_of(offer: Offer) -> str:
    """The machine and where, for people: `Standard_NV36ads_A10_v5 (spot) in eastus`."""
    machine = offer.instance_type or f"{offer.gpu_count} x {offer.gpu}"
    return f"{machine}{' (spot)' if offer.use_spot else ''} in {offer.region}"


def _quote(text: str, at: int) -> str:
    """The line of `text` around a position, trimmed so that the position stays visible."""
    start = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    line = text[start : end if end >= 0 else len(text)]
    from_here = max(0, min(at - start - 60, len(line) - _QUOTE))
    piece = " ".join(line[from_here : from_here + _QUOTE].split())
    return ("…" if from_here else "") + piece + ("…" if from_here + _QUOTE < len(line) else "")


def _fit(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def explain(error: SkyFailedError, log: str, offer: Offer, redact: Callable[[str], str]) -> Failure:
    """Why a launch failed, from what SkyPilot raised and the request's log, which is empty when there is none."""
    raised = f"{error.kind}: {error.message}"
    cloud = CLOUDS[offer.provider].traits
    fields = {"cloud": cloud.title, "what": name_of(offer)}
    for rule in _RULES:
        if rule.own_machines_only and cloud.rents_machines:
            continue
        for text in (raised, log):
            if (match := rule.pattern.search(text)) is not None:
                said = redact(_quote(text, match.start()))
                return Failure(reason=rule.reason, message=_fit(f"{rule.sentence.format(**fields)}: {said}"))
    message = _fit(f"SkyPilot could not start {fields['what']}: {redact(_quote(raised, 0))}")
    return Failure(reason=Reason.PROVISIONING_FAILED, message=message)
