"""What a launch would do and cost: its candidates, in order, under the deployment's rules; pure."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from gpulaunch.models.instances import Mode
from gpulaunch.models.offers import Offer
from gpulaunch.models.requests import LaunchRequest
from gpulaunch.models.responses import Estimate
from shared.domain.catalog import Prices
from shared.planning.gpu_fit import Fit, fit, need
from shared.planning.plan import estimate, plan


@dataclass(frozen=True, kw_only=True)
class LaunchPlan:
    """What a launch would do and cost, as far as that is known without asking a provider."""

    request: LaunchRequest
    """With the deployment's defaults filled in."""
    offers: Sequence[Offer]
    """In the order in which they are tried."""
    estimate: Estimate
    fit: Fit | None
    """What the model needs of the GPU beside what it has; None when either is unknown."""

    def digest(self, mode: Mode | None = None) -> str:
        """Names what a person agrees to: the same for every plan that would run alike at the same prices.

        With a mode only for those of that mode. The age of the prices, name and labels change nothing of it.
        """
        asked = self.request.model_dump(mode="json", exclude={"name", "labels"})
        offers = [(offer.key, offer.price_per_hour) for offer in self.offers]
        text = json.dumps([asked, offers, self.estimate.lifetime_minutes, mode])
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The offers that a request may use, from which plans are made with some of them excluded."""

    request: LaunchRequest
    offers: Sequence[Offer]
    failed: Collection[str] = ()
    """Keys of those that failed lately."""
    crowd: Counter[str] = field(default_factory=Counter[str])
    """How many replicas of the same endpoint are on an offer, by its key."""

    def planned(self, excluded: Collection[str] = ()) -> list[Offer]:
        """The offers in the order in which they are tried, without the keys `excluded`."""
        return plan(self.offers, self.request, self.failed, excluded, self.crowd)

    def plan(self, offers: Sequence[Offer], lifetime_minutes: int, prices: Prices) -> LaunchPlan:
        request = self.request
        return LaunchPlan(
            request=request,
            offers=offers,
            estimate=estimate(offers, lifetime_minutes, prices),
            fit=fit(need(request.model_name, request.model_source, request.vllm_args), offers),
        )
