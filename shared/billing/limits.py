"""Limits on what is launched, how much at once and how fast. Pure. A refusal names limit, value and remedy.

What is allowed at all (providers, regions, types, GPUs, lifetime) is said before anything is written. What instances
compete for (instances, GPUs, launches per minute) is counted in the ledger, in the transaction that accepts them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from gpulaunch.models.offers import Offer
from shared.billing.ledger import RATE_WINDOW, label_of, recent_launches
from shared.domain.errors import Refusal
from shared.domain.money import Ledger, Reservation, Usage


@dataclass(frozen=True, kw_only=True)
class AdmissionLimits:
    """The deployment's limits; None or empty for no limit."""

    instances: int | None = None
    gpus: int | None = None
    label_instances: Mapping[str, int] = field(default_factory=dict[str, int])
    """By label, `team=a`."""
    label_gpus: Mapping[str, int] = field(default_factory=dict[str, int])
    launches_per_minute: int | None = None
    lifetime_minutes: int | None = None
    providers: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    """Of rented machines only: on your own machines a region is a host, which the provider's name covers."""
    types: tuple[str, ...] = ()
    gpu_names: tuple[str, ...] = ()

    @property
    def counted(self) -> bool:
        return (self.instances, self.gpus, self.launches_per_minute) != (None, None, None) or bool(self.labels)

    @property
    def labels(self) -> set[str]:
        return {*self.label_instances, *self.label_gpus}


def lifetime_refusal(minutes: int, limits: AdmissionLimits) -> Refusal | None:
    """Return why an instance may not live that long, or None."""
    most = limits.lifetime_minutes
    if most is None or minutes <= most:
        return None
    detail = f"max_lifetime_minutes is {minutes}; the limit here is {most}. Set {most} or less."
    return Refusal(
        code="not_allowed", limit="GPULAUNCH_MAX_LIFETIME_MINUTES", value=most, used=None, asked=minutes, detail=detail
    )


def allowed(offers: Sequence[Offer], limits: AdmissionLimits) -> tuple[list[Offer], Refusal | None]:
    """Return the allowed offers, or the refusal by the first limit that leaves none."""
    left = list(offers)
    for name, what, values, rented in (
        ("GPULAUNCH_ALLOWED_PROVIDERS", "provider", limits.providers, False),
        ("GPULAUNCH_ALLOWED_REGIONS", "region", limits.regions, True),
        ("GPULAUNCH_ALLOWED_TYPES", "instance_type", limits.types, True),
        ("GPULAUNCH_ALLOWED_GPUS", "gpu", limits.gpu_names, False),
    ):
        fits = [offer for offer in left if (rented and offer.instance_type is None) or _in(offer, what, values)]
        if left and not fits:
            asked = ", ".join(sorted({str(getattr(offer, what)) for offer in left}))
            detail = (
                f"Only {', '.join(values)} may be used here as {what}, but this launch needs {asked}. "
                f"Use one of them, or ask the operator to change {name}."
            )
            return [], Refusal(code="not_allowed", limit=name, value=values, used=None, asked=None, detail=detail)
        left = fits
    return left, None


def _in(offer: Offer, what: str, values: Collection[str]) -> bool:
    value = str(getattr(offer, what)).casefold()
    return not values or value in {one.casefold() for one in values}


def count_refusal(ledger: Ledger, held: Reservation, limits: AdmissionLimits, now: datetime) -> Refusal | None:
    """Return why another instance would exceed a counted limit, or None."""
    recent = recent_launches(ledger, now)
    rate = limits.launches_per_minute
    if rate is not None and len(recent) >= rate:
        wait = int((recent[len(recent) - rate] + RATE_WINDOW - now).total_seconds()) + 1 if rate else 60
        detail = f"{len(recent)} launches were accepted in the last minute; the limit is {rate}. Try again in {wait} s."
        return Refusal(
            code="too_many_launches",
            limit="GPULAUNCH_LAUNCHES_PER_MINUTE",
            value=rate,
            used=len(recent),
            asked=1,
            detail=detail,
            retry_after=wait,
        )
    for scope in held.scopes:
        label = label_of(scope)
        use = ledger.usage.get(scope, Usage())
        most_instances = limits.label_instances.get(label) if label else limits.instances
        most_gpus = limits.label_gpus.get(label) if label else limits.gpus
        for name, what, most, used, asked in (
            ("MAX_INSTANCES", "instances", most_instances, use.instances, 1),
            ("MAX_GPUS", "GPUs", most_gpus, use.gpus, held.gpus),
        ):
            if most is not None and used + asked > most:
                setting = f"GPULAUNCH_LABEL_{name}[{label}]" if label else f"GPULAUNCH_{name}"
                detail = (
                    f"{used} of {most} {what} are in use{f' with {label}' if label else ''}, but this launch needs "
                    f"{asked} more. Terminate an instance, or ask the operator to raise {setting.partition('[')[0]}."
                )
                return Refusal(code="limit_reached", limit=setting, value=most, used=used, asked=asked, detail=detail)
    return None
