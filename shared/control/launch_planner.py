"""Plan a launch: candidates from the catalog, what the deployment allows, prices and worst case; nothing is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpulaunch.models.offers import Offer
from gpulaunch.models.problems import FieldError
from gpulaunch.models.requests import LaunchRequest
from shared.billing.limits import AdmissionLimits, allowed, lifetime_refusal
from shared.clock import Clock
from shared.control.launch_arguments import LaunchArguments
from shared.control.offer_memory import OfferMemory
from shared.domain.catalog import Catalog, CatalogMismatch, NotCataloguedError
from shared.domain.errors import AdmissionRefusedError, InvalidFieldsError
from shared.planning.launch_plan import Candidates, LaunchPlan
from shared.planning.matching import match


@dataclass(frozen=True, kw_only=True)
class LaunchDefaults:
    """What holds for a launch that does not say otherwise, in minutes."""

    lifetime_minutes: int
    idle_minutes: int | None
    simulated: bool
    """Launches are simulated in any case: what real offers did lately is not their business."""


@dataclass(frozen=True)
class LaunchPlanner:
    """Plans launches without asking any provider."""

    catalog: Catalog
    limits: AdmissionLimits
    defaults: LaunchDefaults
    memory: OfferMemory
    clock: Clock
    arguments: LaunchArguments

    def plan(self, request: LaunchRequest) -> LaunchPlan:
        """Plan a launch.

        Raises:
            InvalidFieldsError: No offer meets the request, or an argument of vLLM is refused.
            AdmissionRefusedError: The deployment does not allow such a launch.
        """
        candidates = self.candidates(request)
        return self.priced(candidates, candidates.planned())

    def candidates(self, request: LaunchRequest) -> Candidates:
        """The offers that a request may use; there is a plan of at least one.

        Raises:
            InvalidFieldsError: No offer meets the request, or an argument of vLLM is refused.
            AdmissionRefusedError: The deployment does not allow such a launch.
        """
        filled = self._filled(request)
        self.arguments.check(filled)
        offers, refusal = allowed(self._matching(request), self.limits)
        if refusal is not None:
            raise AdmissionRefusedError(refusal)
        failed = () if self.defaults.simulated else self.memory.recent(self.clock.now())
        found = Candidates(request=filled, offers=offers, failed=failed)
        if not found.planned():
            message = "No offer is left under use_spot, spot_fallback, region and max_hourly_cost; allow more of them."
            raise InvalidFieldsError([FieldError(field="body", message=message)])
        return found

    def priced(self, candidates: Candidates, offers: Sequence[Offer]) -> LaunchPlan:
        request = candidates.request
        lifetime = request.max_lifetime_minutes or self.defaults.lifetime_minutes
        return candidates.plan(offers, lifetime, self.catalog.listing(request.provider).prices)

    def _matching(self, request: LaunchRequest) -> Sequence[Offer]:
        try:
            return match(request, self.catalog)
        except CatalogMismatch as error:
            problems = [FieldError(field=p.field, message=p.message, nearest=p.nearest) for p in error.problems]
            raise InvalidFieldsError(problems) from error
        except NotCataloguedError as error:
            problem = FieldError(field="provider", message=str(error), nearest=error.nearest)
            raise InvalidFieldsError([problem]) from error

    def _filled(self, request: LaunchRequest) -> LaunchRequest:
        """The request with the deployment's defaults, so that the record says what holds for it.

        Raises:
            AdmissionRefusedError: The deployment does not allow the lifetime.
        """
        defaults: dict[str, Any] = {}
        longest, default = self.limits.lifetime_minutes, self.defaults.lifetime_minutes
        if request.max_lifetime_minutes is None:
            defaults["max_lifetime_minutes"] = default if longest is None else min(default, longest)
        else:
            refusal = lifetime_refusal(request.max_lifetime_minutes, self.limits)
            if refusal is not None:
                raise AdmissionRefusedError(refusal)
        if request.idle_minutes is None and self.defaults.idle_minutes is not None:
            defaults["idle_minutes"] = self.defaults.idle_minutes
        return request.model_copy(update=defaults)
