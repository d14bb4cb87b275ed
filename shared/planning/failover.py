"""Which failed offers all instances avoid for a while, and for how long. Pure."""

from datetime import datetime, timedelta

from gpulaunch.models.instances import Reason
from gpulaunch.models.offers import Offer
from shared.domain.instance import Failure
from shared.planning.plan import RecentFailure

_HOLDS = {
    Reason.NO_CAPACITY: timedelta(minutes=30),
    Reason.QUOTA_EXCEEDED: timedelta(hours=1),
    Reason.PERMISSION_DENIED: timedelta(hours=1),
    Reason.IMAGE_UNAVAILABLE: timedelta(hours=1),
    Reason.EVICTED: timedelta(minutes=30),
}
"""A region's capacity changes within the hour; quota, rights and images change by hand. Other failures say more about
the launch than about the offer."""


def remembered(offer: Offer, failure: Failure, now: datetime) -> RecentFailure | None:
    """Return what to remember of a failed attempt, or None. Your own machines are never avoided."""
    holds = _HOLDS.get(failure.reason)
    if holds is None or offer.price_per_hour <= 0:
        return None
    return RecentFailure(key=offer.key, until=now + holds, reason=f"{failure.reason.value}: {failure.message}"[:500])
