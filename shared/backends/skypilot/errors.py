"""What a failed launch means: SkyPilot's words and the cloud's codes, turned into a reason and a sentence for people.

SkyPilot raises the same ResourcesUnavailableError for no room, no quota and no permission; what the cloud really said
stands only in the request's log. So the log is read when a launch failed, and then only.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from gpulaunch.models.instances import Reason
from gpulaunch.models.offers import Offer
from gpulaunch.models.requests import ProviderName
from shared.backends.skypilot.client import SkyFailedError
from shared.domain.instance import Failure

_LONGEST = 400
"""Characters of a message: a line in a terminal or two, not a stack trace."""
_QUOTE = 220
"""Characters that are quoted of what the cloud said."""

_NAMES: dict[ProviderName, str] = {
    "azure": "Azure",
    "aws": "AWS",
    "gcp": "Google Cloud",
    "kubernetes": "Kubernetes",
    "slurm": "Slurm",
}


@dataclass(frozen=True)
class _Rule:
    pattern: re.Pattern[str]
    reason: Reason
    sentence: str
    """With {cloud} and {what}: the machine and where."""
    providers: frozenset[ProviderName] | None = None
    """None: all."""


def _rule(pattern: str, reason: Reason, sentence: str, *providers: ProviderName) -> _Rule:
    return _Rule(re.compile(pattern, re.IGNORECASE), reason, sentence, frozenset(providers) or None)


_NO_ROOM = "{cloud} has no room for {what}"
_NO_QUOTA = "The quota on {cloud} does not allow {what}"
_NOT_ALLOWED = "{cloud} does not let us start {what}"

_RULES: tuple[_Rule, ...] = (
    # Quota before permission before room: clouds wrap the first two in words that sound like the last.
    _rule(
        r"QuotaExceeded|OperationNotAllowed|exceeding approved .{0,60}quota|QUOTA_EXCEEDED|quotaExceeded"
        r"|VcpuLimitExceeded|InstanceLimitExceeded|MaxSpotInstanceCountExceeded|exceeded quota|LimitExceeded\b"
        r"|QOSMax\w+|AssocGrp\w+|AssocMax\w+|zero quota|Quota '[^']+' exceeded",
        Reason.QUOTA_EXCEEDED,
        _NO_QUOTA,
    ),
    _rule(
        r"AuthorizationFailed|LinkedAuthorizationFailed|AuthenticationFailed|ClientAuthenticationError"
        r"|InvalidAuthenticationToken|ExpiredAuthenticationToken|RequestDisallowedByPolicy|UnauthorizedOperation"
        r"|AccessDenied|AuthFailure|InvalidClientTokenId|IAM_PERMISSION_DENIED|PERMISSION_DENIED"
        r"|Policy update access denied|cannot create resource .{0,80}forbidden|is forbidden: User"
        r"|InvalidCloudCredentials|CloudUserIdentityError|ClusterOwnerIdentityMismatchError|PermissionDeniedError"
        r"|Invalid account or account/partition|\b(401|403)\b.{0,40}(unauthori[sz]ed|forbidden)"
        r"|(unauthori[sz]ed|forbidden).{0,40}\b(401|403)\b|status[ _]?code:? ?(401|403)\b",
        Reason.PERMISSION_DENIED,
        _NOT_ALLOWED,
    ),
    _rule(
        r"AllocationFailed|SkuNotAvailable|OverconstrainedAllocationRequest|OverconstrainedZonalAllocationRequest"
        r"|NotAvailableForSubscription|SpotAllocationFailed|InsufficientInstanceCapacity|InsufficientCapacity"
        r"|InsufficientHostCapacity|SpotMaxPriceTooLow|capacity-not-available|ZONE_RESOURCE_POOL_EXHAUSTED"
        r"|RESOURCE_POOL_EXHAUSTED|does not have enough resources|stockout|Insufficient (cpu|memory|nvidia|resource)"
        r"|Insufficient \S*gpu|FailedScheduling|Timed out while waiting for nodes to start"
        r"|did not get nodes allocated within|Requested node configuration is not available",
        Reason.NO_CAPACITY,
        _NO_ROOM,
    ),
    _rule(
        r"ImageNotFound|PlatformImageNotFound|GalleryImageNotFound|CommunityGalleryImageNotFound|InvalidAMIID"
        r"|ErrImagePull|ImagePullBackOff|MarketplacePurchaseEligibilityFailed|image .{0,80}(not found|does not exist)",
        Reason.IMAGE_UNAVAILABLE,
        "The machine's image can't be had on {cloud} for {what}",
    ),
    _rule(
        r"No resource satisfying|no launchable resource|Catalog does not contain|not found in (the )?catalog"
        r"|not found in any cluster|cannot be satisfied by any",
        Reason.NO_CAPACITY,
        "No node of {cloud} can hold {what}",
        "kubernetes",
        "slurm",
    ),
    _rule(
        r"ClusterSetUpError|FAILED_SETUP|Failed to set ?up|setup failed|runtime setup|before initialization completed"
        r"|Failed to (install|start) (the )?SkyPilot runtime",
        Reason.SETUP_FAILED,
        "The machine came, but SkyPilot could not set it up ({what})",
    ),
    _rule(
        r"NetworkError|Failed to SSH|ssh: connect|ssh: Could not resolve|Connection (timed out|refused|reset)"
        r"|No route to host|Temporary failure in name resolution|Failed to resolve|FetchClusterInfoError"
        r"|kex_exchange_identification|wait_for_ssh|Name or service not known",
        Reason.NETWORK_FAILED,
        "The network failed while {what} was being started",
    ),
    _rule(
        r"^(InvalidSkyPilotConfigError|InvalidCloudConfigs|NotSupportedError|InvalidClusterNameError|ValidationError"
        r"|UserRequestRejectedByPolicy|ResourcesMismatchError|ValueError|TypeError|AssertionError):"
        r"|No resource satisfying|no launchable resource|Catalog does not contain|not found in (the )?catalog",
        Reason.INVALID_TASK,
        "SkyPilot does not accept {what}",
    ),
    _rule(
        r"^(RequestCancelled|CancelledError):",
        Reason.PROVISIONING_FAILED,
        "The launch of {what} was cancelled",
    ),
    _rule(
        r"^RequestInterruptedError:",
        Reason.PROVISIONING_FAILED,
        "The SkyPilot server was restarted in the middle of launching {what}",
    ),
)


def describe(offer: Offer) -> str:
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


def reason_of(text: str, provider: ProviderName) -> Reason:
    """What a cloud's own words come down to."""
    for rule in _RULES:
        if (rule.providers is None or provider in rule.providers) and rule.pattern.search(text) is not None:
            return rule.reason
    return Reason.PROVISIONING_FAILED


def explain(error: SkyFailedError, log: str, offer: Offer, redact: Callable[[str], str]) -> Failure:
    """Why a launch failed.

    Parameters
    ----------
    error
        What SkyPilot raised.
    log
        The request's log as plain text; empty when there is none.
    redact
        Takes secrets out of a text.
    """
    raised = f"{error.kind}: {error.message}"
    fields = {"cloud": _NAMES[offer.provider], "what": describe(offer)}
    for rule in _RULES:
        if rule.providers is not None and offer.provider not in rule.providers:
            continue
        for text in (raised, log):
            if (match := rule.pattern.search(text)) is not None:
                said = redact(_quote(text, match.start()))
                return Failure(reason=rule.reason, message=_fit(f"{rule.sentence.format(**fields)}: {said}"))
    said = redact(_quote(raised, 0))
    return Failure(
        reason=Reason.PROVISIONING_FAILED,
        message=_fit(f"SkyPilot could not start {fields['what']}: {said}"),
    )
