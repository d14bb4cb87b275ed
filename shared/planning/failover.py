"""Which failed offers all instances avoid for a while, and for how long. Pure."""

from datetime import datetime, timedelta

from gpulaunch.models.instances import Reason
from gpulaunch.models.offers import Offer
from shared.domain.instance import Failure

_HOLDS = {
    Reason.NO_CAPACITY: timedelta(minutes=30),
    Reason.QUOTA_EXCEEDED: timedelta(hours=1),
    Reason.PERMISSION_DENIED: timedelta(hours=1),
    Reason.IMAGE_UNAVAILABLE: timedelta(hours=1),
    Reason.EVICTED: timedelta(minutes=30),
}
"""A region's capacity changes within the hour; quota, rights and images change by hand. Other failures say more about
the launch than about the offer."""


def avoided_until(offer: Offer, failure: Failure, now: datetime) -> datetime | None:
    """Return until when other launches avoid an offer that failed; None: they need not, as on your own machines."""
    holds = _HOLDS.get(failure.reason)
    if holds is None or offer.price_per_hour <= 0:
        return None
    return now + holds
