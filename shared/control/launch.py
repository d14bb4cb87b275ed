"""Accept a launch: validate, plan, price and admit it synchronously; the queue does the rest."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from gpulaunch.models.instances import Mode
from gpulaunch.models.plans import ExcludedOffer, PlanAnswer
from gpulaunch.models.problems import FieldError
from gpulaunch.models.requests import LaunchRequest
from gpulaunch.models.responses import GpuMemory, LaunchAnswer
from shared.backends.base import Backends
from shared.billing.admission import Admission
from shared.clock import Clock, Ids
from shared.control.idempotency import LaunchKey
from shared.control.launch_planner import LaunchPlanner
from shared.control.mode import ModeChooser
from shared.control.quota_check import QuotaCheck
from shared.control.records import send_step
from shared.domain.errors import InvalidFieldsError, PlanChangedError, QuotaExceededError
from shared.domain.instance import InstanceRecord
from shared.domain.provider import LaunchRefusedError
from shared.errors import StoreUnavailableError
from shared.lifecycle.acceptance import accept
from shared.lifecycle.transition import NextStep
from shared.observability.instances import InstanceTelemetry, about
from shared.planning.gpu_fit import Fit
from shared.planning.launch_plan import LaunchPlan
from shared.planning.launch_warnings import unheeded, unused_gpus
from shared.storage.base import Queues

log = logging.getLogger("gpulaunch.launch")

MESSAGES: Mapping[Mode, str] = {
    "real": "Real GPU instance launch initiated via SkyPilot",
    "simulation": "GPU instance launch initiated (SIMULATION)",
}
_REASONS = 5
"""Reasons of the quota in a refusal, at most: a line for each region would fill a screen."""


@dataclass(frozen=True, kw_only=True)
class PreparedLaunch:
    plan: LaunchPlan
    mode: Mode
    mode_reason: str
    excluded: Mapping[str, str]
    """Offers without quota: reason by `Offer.key`."""
    warnings: list[str]

    def is_plan(self, digest: str) -> bool:
        """Whether a plan of that name was this one, shown with its mode or without."""
        return digest in (self.plan.digest(), self.plan.digest(self.mode))

    def answer(self) -> PlanAnswer:
        return PlanAnswer(
            plan=self.plan.digest(self.mode),
            mode=self.mode,
            mode_reason=self.mode_reason,
            offers=list(self.plan.offers),
            excluded=[ExcludedOffer(offer=key, reason=reason) for key, reason in self.excluded.items()],
            estimate=self.plan.estimate,
            gpu_memory=_gpu_memory(self.plan.fit),
            warnings=self.warnings,
        )


@dataclass(frozen=True, kw_only=True)
class ReplicaLaunch:
    """What makes a launch that of an endpoint's replica."""

    instance_id: str
    """Its slot's."""
    endpoint: str
    generation: int
    crowd: Counter[str]
    """How many other replicas of the endpoint are on an offer, by its key."""


@dataclass(frozen=True)
class LaunchPreparation:
    """Everything about a launch that has to be right before it is accepted."""

    planner: LaunchPlanner
    modes: ModeChooser
    quota: QuotaCheck
    backends: Backends
    check_source: Callable[[LaunchRequest], None]
    """Raises LaunchRefusedError for a model source that can never be read."""

    def prepare(self, request: LaunchRequest, crowd: Counter[str] | None = None) -> PreparedLaunch:
        """Plan a launch, choose its mode and check the quota; nothing is written. `crowd`: see ReplicaLaunch.

        Raises:
            RefusalError: The launch cannot be accepted.
        """
        try:
            self.check_source(request)
        except LaunchRefusedError as error:
            wrong = FieldError(field="model_source", message=error.failure.message)
            raise InvalidFieldsError([wrong]) from error
        candidates = replace(self.planner.candidates(request), crowd=crowd or Counter())
        mode, reason = self.modes.choose(request.provider)
        self.backends(mode).check_labels(request.labels)
        checked = self.quota.preflight(mode, candidates)
        offers = candidates.planned(checked.excluded)
        if not offers:
            raise QuotaExceededError("; ".join(list(dict.fromkeys(checked.excluded.values()))[:_REASONS]))
        plan = self.planner.priced(candidates, offers)
        # What may not fit is said with how to use all GPUs.
        gpus = (plan.fit and plan.fit.warning) or unused_gpus(plan.request, plan.offers)
        warnings = [*checked.warnings, *([gpus] if gpus else []), *unheeded(plan.request, plan.offers)]
        return PreparedLaunch(plan=plan, mode=mode, mode_reason=reason, excluded=checked.excluded, warnings=warnings)


@dataclass(frozen=True)
class Launcher:
    preparation: LaunchPreparation
    admission: Admission
    queues: Queues
    clock: Clock
    ids: Ids
    telemetry: InstanceTelemetry

    def launch(
        self,
        request: LaunchRequest,
        key: LaunchKey | None = None,
        trace: str | None = None,
        shown: str | None = None,
        *,
        replica: ReplicaLaunch | None = None,
    ) -> LaunchAnswer:
        """Accept a launch; `trace` is the caller's traceparent (W3C), `shown` the plan that its caller agreed to.

        Raises:
            PlanChangedError: It would differ from the plan that was shown.
            RefusalError: The launch is not accepted; nothing was written.
            AlreadyExistsError: The key was used before, or the replica's slot.
            StoreUnavailableError: The record could not be written; with a key the caller may safely repeat.
        """
        with self.telemetry.launch(trace) as span:
            prepared = self.preparation.prepare(request, None if replica is None else replica.crowd)
            if shown is not None and not prepared.is_plan(shown):
                raise PlanChangedError
            plan, now = prepared.plan, self.clock.now()
            # A replica without requests is released by its endpoint alone, whatever the deployment's default.
            asked = plan.request if replica is None else plan.request.model_copy(update={"idle_minutes": None})
            record, events = accept(
                asked,
                instance_id=self.ids.instance_id(now) if replica is None else replica.instance_id,
                now=now,
                offers=plan.offers,
                mode=prepared.mode,
                mode_reason=prepared.mode_reason,
                lifetime_minutes=plan.estimate.lifetime_minutes,
                estimated_hourly_usd=plan.estimate.hourly_usd,
                worst_case_usd=plan.estimate.worst_case_usd,
                excluded=prepared.excluded,
                traceparent=self.telemetry.traceparent(),
                replica_of=None if replica is None else replica.endpoint,
                generation=None if replica is None else replica.generation,
            )
            answer = _answer(record, prepared)
            self.admission.admit(record, events, None if key is None else key.entry(answer, now))
            span.note(**about(record))
            self.telemetry.accepted(record)
            try:
                send_step(self.queues, record, NextStep("advance", 0.0))
            except StoreUnavailableError:
                text = "%s is accepted, but its first message was not sent; the sweep sends it"
                log.warning(text, record.instance_id)
            return answer


def _answer(record: InstanceRecord, prepared: PreparedLaunch) -> LaunchAnswer:
    plan = prepared.plan
    return LaunchAnswer(
        message=MESSAGES[prepared.mode],
        instance_id=record.instance_id,
        mode=prepared.mode,
        mode_reason=prepared.mode_reason,
        phase=record.phase,
        offers=list(plan.offers),
        estimate=plan.estimate,
        gpu_memory=_gpu_memory(plan.fit),
        warnings=prepared.warnings,
    )


def _gpu_memory(fit: Fit | None) -> GpuMemory | None:
    if fit is None:
        return None
    return GpuMemory(
        needed_gib=fit.need.per_gpu_gib,
        has_gib=fit.has_gib,
        gpu=fit.gpu,
        gpus_used=fit.need.gpus,
        fits=fit.fits,
        basis=fit.need.basis,
    )
