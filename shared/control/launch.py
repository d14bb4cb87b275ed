"""Accepting a launch: everything that can be known to be wrong is said at once, the rest is written down and begun."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gpulaunch.models.instances import Mode
from gpulaunch.models.offers import Offer
from gpulaunch.models.problems import FieldError
from gpulaunch.models.requests import LaunchRequest
from gpulaunch.models.responses import Estimate, GpuMemory, LaunchAnswer
from shared.api.parse import read_json, read_model
from shared.api.problems import ProblemError, conflict, invalid_request
from shared.backends.simulation.faults import FAULT_PREFIX, read_faults
from shared.billing.admission import admission_rules, admit, problem_of
from shared.billing.limits import allowed, lifetime_refusal
from shared.control.mode import choose_mode
from shared.control.offer_memory import recent_failures
from shared.control.parts import Parts
from shared.control.quota_check import Preflight, preflight
from shared.control.records import send
from shared.domain.catalog import CatalogMismatch, NotCataloguedError, Prices
from shared.errors import AlreadyExistsError, StoreUnavailableError
from shared.lifecycle.acceptance import accept
from shared.lifecycle.transition import NextStep
from shared.observability.base import Span
from shared.observability.instances import about, record_accepted
from shared.planning.gpu_fit import Fit, fit, need
from shared.planning.matching import match
from shared.planning.plan import Estimate as PlanEstimate
from shared.planning.plan import draw_up, estimate, plan
from shared.storage.base import IdempotencyEntry

log = logging.getLogger("gpulaunch.launch")

MESSAGES: dict[Mode, str] = {
    "real": "Real GPU instance launch initiated via SkyPilot",
    "simulation": "GPU instance launch initiated (SIMULATION)",
}
MAX_KEY = 255
"""Characters of an Idempotency-Key; a UUID has 36."""
_REASONS = 5
"""What a refusal tells of the quota, at most: a line for each region would fill a screen."""


@dataclass(frozen=True)
class Planned:
    """What a launch would do and cost, as far as that is known without asking a provider."""

    request: LaunchRequest
    """With the deployment's defaults filled in."""
    offers: list[Offer]
    """In the order in which they are tried."""
    lifetime_minutes: int
    costs: PlanEstimate
    prices: Prices
    fit: Fit | None
    """What the model needs of the GPU beside what it has; None when either is unknown."""


def plan_launch(parts: Parts, request: LaunchRequest) -> Planned:
    """Plan a launch; nothing is written, no provider is asked. Raises ProblemError (403, 422)."""
    return _priced(parts, request, _planner(parts, request)({}))


def _priced(parts: Parts, request: LaunchRequest, offers: list[Offer]) -> Planned:
    filled = _with_defaults(parts, request)
    lifetime = filled.max_lifetime_minutes or parts.settings.default_lifetime_minutes
    prices = parts.catalog.prices(request.provider)
    fits = fit(need(request.model_name, request.model_source, request.vllm_args), offers)
    return Planned(filled, offers, lifetime, estimate(offers, lifetime, prices.as_of), prices, fits)


def launch(
    parts: Parts, body: bytes, idempotency_key: str | None, trace: str | None = None
) -> tuple[str, LaunchAnswer]:
    """Accept a launch: the instance's id and the answer. The same key with the same body gives the same answer.

    `trace` is the caller's traceparent (W3C), below which all that is told of the launch stands.

    Raises
    ------
    ProblemError
        400, 413, 422 for the request, 409 for a key used with another body, 402, 403, 429 when a budget or a limit
        is in the way, 503 when SkyPilot can't be used.
    StoreUnavailableError
        The record could not be written; with an Idempotency-Key the caller may safely repeat.
    """
    with parts.telemetry.span("launch", trace) as span:
        return _launch(parts, body, idempotency_key, span)


def _launch(parts: Parts, body: bytes, idempotency_key: str | None, span: Span) -> tuple[str, LaunchAnswer]:
    value = read_json(body)
    request = read_model(LaunchRequest, value)
    key_hash = _key_hash(idempotency_key)
    body_hash = _hash(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True))
    if key_hash is not None:
        # Asked first: a replay is answered as before even where prices, limits or providers have changed since.
        known = parts.store.idempotency(key_hash)
        if known is not None:
            return _replayed(known, body_hash)
    plan_without = _planner(parts, request)
    planned = _priced(parts, request, plan_without({}))
    mode, why = choose_mode(parts, request.provider)
    _check_labels(request, mode)
    checked = preflight(parts, mode, request.provider, plan_without)
    if checked.excluded:
        planned = _priced(parts, request, _left(plan_without(checked.excluded), checked))
    offers, lifetime, costs = planned.offers, planned.lifetime_minutes, planned.costs
    now = parts.clock.now()
    record, events = accept(
        planned.request,
        instance_id=parts.ids.instance_id(now),
        now=now,
        offers=offers,
        mode=mode,
        mode_reason=why,
        lifetime_minutes=lifetime,
        estimated_hourly_usd=costs.hourly_usd,
        worst_case_usd=costs.worst_case_usd,
        excluded=checked.excluded,
        traceparent=parts.telemetry.traceparent(),
    )
    answer = LaunchAnswer(
        message=MESSAGES[mode],
        instance_id=record.instance_id,
        mode=mode,
        mode_reason=why,
        phase=record.phase,
        offers=offers,
        estimate=Estimate(
            hourly_usd=costs.hourly_usd,
            worst_case_usd=costs.worst_case_usd,
            lifetime_minutes=lifetime,
            prices_as_of=costs.as_of,
            prices_source=planned.prices.source,
        ),
        gpu_memory=_gpu_memory(planned.fit),
        warnings=[*checked.warnings, *([planned.fit.warning] if planned.fit and planned.fit.warning else [])],
    )
    entry = None
    if key_hash is not None:
        entry = IdempotencyEntry(
            key_hash=key_hash,
            body_hash=body_hash,
            instance_id=record.instance_id,
            answer=answer.model_dump_json(),
            created_at=now,
        )
    try:
        admit(parts, record, events, entry)
    except (AlreadyExistsError, ProblemError):
        # The same key came twice at the same time, and the other was first; it may have taken the last of a budget.
        known = parts.store.idempotency(key_hash) if key_hash is not None else None
        if known is None:
            raise
        return _replayed(known, body_hash)
    span.note(**about(record))
    record_accepted(parts, record)
    try:
        send(parts, record, NextStep("advance", 0.0))
    except StoreUnavailableError:
        log.warning("%s is accepted, but its first message was not sent; the sweep sends it", record.instance_id)
    return record.instance_id, answer


def _gpu_memory(fits: Fit | None) -> GpuMemory | None:
    if fits is None:
        return None
    return GpuMemory(
        needed_gib=fits.need.per_gpu_gib,
        has_gib=fits.has_gib,
        gpu=fits.gpu,
        gpus_used=fits.need.gpus,
        fits=fits.fits,
        basis=fits.need.basis,
    )


def _replayed(known: IdempotencyEntry, body_hash: str) -> tuple[str, LaunchAnswer]:
    if known.body_hash != body_hash:
        detail = "This Idempotency-Key was used with another body; use a new key for a new launch."
        raise conflict("idempotency_key_reused", detail)
    return known.instance_id, LaunchAnswer.model_validate_json(known.answer)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _key_hash(key: str | None) -> str | None:
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY or not key.isprintable():
        message = f"1 to {MAX_KEY} printable characters, such as a UUID."
        raise invalid_request([FieldError(field="Idempotency-Key", message=message)])
    return _hash(key)


def _planner(parts: Parts, request: LaunchRequest) -> Callable[[Mapping[str, str]], list[Offer]]:
    """How the request's offers are planned when some are struck; with none struck there is one at least.

    Raises ProblemError (403, 422).
    """
    try:
        found = match(request, parts.catalog)
    except CatalogMismatch as error:
        problems = [FieldError(field=p.field, message=p.message, nearest=p.nearest) for p in error.problems]
        raise invalid_request(problems) from error
    except NotCataloguedError as error:
        raise invalid_request([FieldError(field="provider", message=str(error), nearest=error.nearest)]) from error
    found, refusal = allowed(found, admission_rules(parts.settings).limits)
    if refusal is not None:
        raise problem_of(refusal)
    now = parts.clock.now()
    simulated = parts.settings.orchestrator == "simulation"
    failures = () if simulated else recent_failures(parts, now)
    unstruck = plan(found, request, failures, now)
    if not unstruck:
        message = "No offer is left under use_spot, spot_fallback, region and max_hourly_cost; allow more of them."
        raise invalid_request([FieldError(field="body", message=message)])
    return lambda excluded: draw_up(found, request, failures, now, excluded).offers if excluded else unstruck


def _left(offers: list[Offer], checked: Preflight) -> list[Offer]:
    """The offers, if there are any left. Raises ProblemError (422) with what the quota lacks."""
    if not offers:
        detail = "; ".join(list(dict.fromkeys(checked.excluded.values()))[:_REASONS])
        raise ProblemError(422, "quota_exceeded", "The quota on Azure does not allow this launch", detail)
    return offers


def _check_labels(request: LaunchRequest, mode: Mode) -> None:
    """Labels that ask for simulated faults are understood in a simulation and refused elsewhere."""
    asked = [key for key in request.labels if key.startswith(FAULT_PREFIX)]
    if not asked:
        return
    if mode != "simulation":
        message = "Labels that begin with `simulate.` ask for faults of a simulation; this launch is a real one."
        raise invalid_request([FieldError(field=f"labels.{asked[0]}", message=message)])
    try:
        read_faults(request.labels)
    except ValueError as error:
        raise invalid_request([FieldError(field="labels", message=str(error))]) from error


def _with_defaults(parts: Parts, request: LaunchRequest) -> LaunchRequest:
    """The request with the deployment's defaults filled in, so that the record says what holds for it.

    Raises ProblemError (403) for a lifetime that the deployment does not allow.
    """
    defaults: dict[str, Any] = {}
    longest = parts.settings.max_lifetime_minutes
    if request.max_lifetime_minutes is None:
        default = parts.settings.default_lifetime_minutes
        defaults["max_lifetime_minutes"] = default if longest is None else min(default, longest)
    else:
        refusal = lifetime_refusal(request.max_lifetime_minutes, admission_rules(parts.settings).limits)
        if refusal is not None:
            raise problem_of(refusal)
    if request.idle_minutes is None and parts.settings.default_idle_minutes is not None:
        defaults["idle_minutes"] = parts.settings.default_idle_minutes
    return request.model_copy(update=defaults)
