"""The quota preflight: offers that the cloud's quota rules out are struck before minutes are burnt on them."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from gpulaunch.models.instances import Mode
from gpulaunch.models.offers import Offer
from gpulaunch.models.requests import ProviderName
from gpulaunch.models.responses import QuotaAnswer, QuotaLine, QuotaRegion
from shared.control.parts import Parts
from shared.domain.instance import AttemptState, InstanceRecord
from shared.domain.provider import ProviderUnavailableError
from shared.domain.quota import RegionUsage
from shared.planning.quota import by_name, excluded, held
from shared.storage.base import readable

log = logging.getLogger("gpulaunch.quota")

_AT_ONCE = 8
"""Regions asked side by side: a plan is in eight regions as a rule, and each answer takes Azure half a second."""
_NOT_SET = "AZURE_SUBSCRIPTION_ID is not set, so Azure itself is not asked."


@dataclass(frozen=True)
class Preflight:
    """What the quota says about a launch."""

    excluded: Mapping[str, str] = field(default_factory=dict[str, str])
    """Offers that would have been planned and are ruled out: reason by `Offer.key`."""
    warnings: Sequence[str] = ()
    """For people: what was struck, and what could not be checked."""


def preflight(
    parts: Parts,
    mode: Mode,
    provider: ProviderName,
    plan_without: Callable[[Mapping[str, str]], Sequence[Offer]],
) -> Preflight:
    """Check a launch against the quota of the regions that its plan needs; fails open.

    Parameters
    ----------
    plan_without
        The plan without the offers that are struck, empty when none is left; regions that come up in it when others
        are struck are checked as well.
    """
    if mode != "real" or provider != "azure":
        return Preflight()
    if parts.cloud is None or parts.cloud.provider != provider:
        return Preflight(warnings=[f"The quota was not checked: {_NOT_SET}"])
    usages: dict[str, RegionUsage] = {}
    reasons: dict[str, str] = {}
    silent: dict[str, str] = {}
    while True:
        planned = plan_without(reasons)
        asked = dict.fromkeys(offer.region for offer in planned)
        fresh, failed = _ask(parts, [region for region in asked if region not in usages and region not in silent])
        usages |= fresh
        silent |= failed
        ruled_out = excluded(planned, usages, parts.cloud.quota_needs)
        if not ruled_out:
            break
        reasons |= ruled_out
    warnings = [f"{key} is left out: {reason}" for key, reason in reasons.items()]
    warnings += [f"The quota of {region} was not checked: {why}" for region, why in silent.items()]
    return Preflight(reasons, warnings)


def quota_answer(parts: Parts, regions: Iterable[str]) -> QuotaAnswer:
    """The quota of some regions, or of those that live instances are in, with what these hold of it.

    Raises StoreUnavailableError.
    """
    cloud = parts.cloud
    offers = [offer for found in readable(parts.store.live()) for offer in _machines(found.record)]
    wanted = sorted(set(regions) or {offer.region for offer in offers})
    if cloud is None:
        return QuotaAnswer(checked=False, reason=_NOT_SET, regions=[])
    usages, silent = _ask(parts, wanted)
    shown: list[QuotaRegion] = []
    for region in wanted:
        ours = held((offer for offer in offers if offer.region == region), cloud.quota_needs)
        usage = usages.get(region)
        shown.append(
            QuotaRegion(
                region=region,
                checked_at=None if usage is None else usage.at,
                problem=silent.get(region),
                lines=_lines(usage, ours),
            )
        )
    return QuotaAnswer(checked=True, reason=None, regions=shown)


def _ask(parts: Parts, regions: Sequence[str]) -> tuple[dict[str, RegionUsage], dict[str, str]]:
    """The usages of regions, and why others have none."""
    cloud = parts.cloud
    if cloud is None or not regions:
        return {}, {}
    usages: dict[str, RegionUsage] = {}
    silent: dict[str, str] = {}
    with ThreadPoolExecutor(min(_AT_ONCE, len(regions)), thread_name_prefix="quota") as pool:
        for region, answer in [(region, pool.submit(cloud.usage, region)) for region in regions]:
            try:
                usages[region] = answer.result()
            except ProviderUnavailableError as error:
                silent[region] = parts.redactor.text(str(error))
                log.warning("the quota of %s is not known: %s", region, error)
    return usages, silent


def _machines(record: InstanceRecord) -> list[Offer]:
    """The offers of which a live instance holds a machine, or is about to."""
    if record.mode != "real" or record.request.provider != "azure":
        return []
    return [attempt.offer for attempt in record.attempts if attempt.state is not AttemptState.GONE]


def _lines(usage: RegionUsage | None, ours: Mapping[str, int]) -> list[QuotaLine]:
    if usage is None:
        return []
    return [
        QuotaLine(name=line.name, used=line.used, limit=line.limit, free=line.free, ours=ours.get(name, 0))
        for name, line in by_name(usage.lines).items()
    ]
