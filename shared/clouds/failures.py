"""What a cloud's own codes and words mean when it does not start a machine; pure."""

import re
from dataclasses import dataclass

from gpulaunch.models.instances import Reason


@dataclass(frozen=True, kw_only=True)
class FailureRule:
    """A pattern in what a cloud or SkyPilot says, and what it comes down to."""

    pattern: re.Pattern[str]
    reason: Reason
    sentence: str
    """For people, with {cloud} and {what}: the machine and where."""
    own_machines_only: bool = False
    """It holds only where the machines are the user's own."""


def failure_rule(pattern: str, reason: Reason, sentence: str, *, own_machines_only: bool = False) -> FailureRule:
    return FailureRule(
        pattern=re.compile(pattern, re.IGNORECASE),
        reason=reason,
        sentence=sentence,
        own_machines_only=own_machines_only,
    )


CLOUD_RULES: tuple[FailureRule, ...] = (
    # Quota before permission before room: clouds wrap the first two in words that sound like the last.
    failure_rule(
        r"QuotaExceeded|OperationNotAllowed|exceeding approved .{0,60}quota|QUOTA_EXCEEDED|quotaExceeded"
        r"|VcpuLimitExceeded|InstanceLimitExceeded|MaxSpotInstanceCountExceeded|exceeded quota|LimitExceeded\b"
        r"|QOSMax\w+|AssocGrp\w+|AssocMax\w+|zero quota|Quota '[^']+' exceeded",
        Reason.QUOTA_EXCEEDED,
        "The quota on {cloud} does not allow {what}",
    ),
    failure_rule(
        r"AuthorizationFailed|LinkedAuthorizationFailed|AuthenticationFailed|ClientAuthenticationError"
        r"|InvalidAuthenticationToken|ExpiredAuthenticationToken|RequestDisallowedByPolicy|UnauthorizedOperation"
        r"|AccessDenied|AuthFailure|InvalidClientTokenId|IAM_PERMISSION_DENIED|PERMISSION_DENIED"
        r"|Policy update access denied|cannot create resource .{0,80}forbidden|is forbidden: User"
        r"|InvalidCloudCredentials|CloudUserIdentityError|ClusterOwnerIdentityMismatchError|PermissionDeniedError"
        r"|Invalid account or account/partition|\b(401|403)\b.{0,40}(unauthori[sz]ed|forbidden)"
        r"|(unauthori[sz]ed|forbidden).{0,40}\b(401|403)\b|status[ _]?code:? ?(401|403)\b",
        Reason.PERMISSION_DENIED,
        "{cloud} does not allow us to start {what}",
    ),
    failure_rule(
        r"AllocationFailed|SkuNotAvailable|OverconstrainedAllocationRequest|OverconstrainedZonalAllocationRequest"
        r"|NotAvailableForSubscription|SpotAllocationFailed|InsufficientInstanceCapacity|InsufficientCapacity"
        r"|InsufficientHostCapacity|SpotMaxPriceTooLow|capacity-not-available|ZONE_RESOURCE_POOL_EXHAUSTED"
        r"|RESOURCE_POOL_EXHAUSTED|does not have enough resources|stockout|Insufficient (cpu|memory|nvidia|resource)"
        r"|Insufficient \S*gpu|FailedScheduling|Timed out while waiting for nodes to start"
        r"|did not get nodes allocated within|Requested node configuration is not available",
        Reason.NO_CAPACITY,
        "{cloud} has no capacity for {what}",
    ),
    failure_rule(
        r"ImageNotFound|PlatformImageNotFound|GalleryImageNotFound|CommunityGalleryImageNotFound|InvalidAMIID"
        r"|ErrImagePull|ImagePullBackOff|MarketplacePurchaseEligibilityFailed|image .{0,80}(not found|does not exist)",
        Reason.IMAGE_UNAVAILABLE,
        "{cloud} does not have the image for {what}",
    ),
)


def reason_of(text: str) -> Reason:
    return next((rule.reason for rule in CLOUD_RULES if rule.pattern.search(text)), Reason.PROVISIONING_FAILED)
