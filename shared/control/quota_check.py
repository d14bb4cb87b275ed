"""The quota preflight: offers that the cloud's quota rules out are excluded before minutes are burnt on them."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from gpulaunch.models.instances import Mode
from gpulaunch.models.offers import Offer
from gpulaunch.models.reports import QuotaAnswer, QuotaLine, QuotaRegion
from gpulaunch.models.requests import ProviderName
from shared.clouds.base import CloudCompute
from shared.domain.cloud import CloudsByProvider, CloudTraits
from shared.domain.instance import AttemptState, InstanceRecord
from shared.domain.provider import ProviderUnavailableError
from shared.domain.quota import RegionUsage
from shared.planning.launch_plan import Candidates
from shared.planning.quota import by_name, excluded, held
from shared.redaction import Redactor
from shared.storage.base import InstanceStore, readable

log = logging.getLogger("gpulaunch.quota")

_AT_ONCE = 8
"""Regions asked side by side: a plan is in eight regions as a rule, and each answer takes Azure half a second."""


@dataclass(frozen=True)
class Preflight:
    excluded: Mapping[str, str] = field(default_factory=dict[str, str])
    """Offers that would have been planned and are excluded: reason by `Offer.key`."""
    warnings: Sequence[str] = ()
    """For people: what was excluded, and what could not be checked."""


@dataclass(frozen=True)
class QuotaCheck:
    clouds: Mapping[ProviderName, CloudCompute]
    checkable: CloudsByProvider
    """The clouds that can be asked once they are configured."""
    store: InstanceStore
    redactor: Redactor

    @property
    def providers(self) -> Collection[ProviderName]:
        return self.checkable

    def preflight(self, mode: Mode, candidates: Candidates) -> Preflight:
        """Check a launch against the quota of the regions that its plan needs; fails open.

        Regions that come up in the plan once others are excluded are checked as well.
        """
        provider = candidates.request.provider
        cloud = self.clouds.get(provider)
        if mode != "real" or provider not in self.checkable:
            return Preflight()
        if cloud is None:
            return Preflight(warnings=[f"The quota was not checked: {_not_set(self.checkable[provider])}"])
        usages: dict[str, RegionUsage] = {}
        reasons: dict[str, str] = {}
        silent: dict[str, str] = {}
        while True:
            planned = candidates.planned(reasons)
            asked = dict.fromkeys(offer.region for offer in planned)
            fresh, failed = self._ask(
                cloud, [region for region in asked if region not in usages and region not in silent]
            )
            usages |= fresh
            silent |= failed
            found = excluded(planned, usages, cloud.quota_needs)
            if not found:
                break
            reasons |= found
        warnings = [f"{key} is left out: {reason}" for key, reason in reasons.items()]
        warnings += [f"The quota of {region} was not checked: {why}" for region, why in silent.items()]
        return Preflight(reasons, warnings)

    def report(self, regions: Iterable[str]) -> QuotaAnswer:
        """The quota of some regions, or of those that live instances are in, with what these hold of it.

        Raises:
            StoreUnavailableError: Storage did not answer.
        """
        live = [found.record for found in readable(self.store.live())]
        if not self.clouds:
            reason = " ".join(map(_not_set, self.checkable.values()))
            return QuotaAnswer(checked=False, reason=reason, regions=[])
        shown: list[QuotaRegion] = []
        for provider, cloud in self.clouds.items():
            offers = [offer for record in live for offer in _machines(record) if offer.provider == provider]
            wanted = sorted(set(regions) or {offer.region for offer in offers})
            usages, silent = self._ask(cloud, wanted)
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

    def _ask(self, cloud: CloudCompute, regions: Sequence[str]) -> tuple[dict[str, RegionUsage], dict[str, str]]:
        """The usages of regions, and why others have none."""
        if not regions:
            return {}, {}
        usages: dict[str, RegionUsage] = {}
        silent: dict[str, str] = {}
        with ThreadPoolExecutor(min(_AT_ONCE, len(regions)), thread_name_prefix="quota") as pool:
            for region, answer in [(region, pool.submit(cloud.usage, region)) for region in regions]:
                try:
                    usages[region] = answer.result()
                except ProviderUnavailableError as error:
                    silent[region] = self.redactor.text(str(error))
                    log.warning("the quota of %s is not known: %s", region, error)
        return usages, silent


def _not_set(cloud: CloudTraits) -> str:
    return f"{cloud.account_setting} is not set, so {cloud.title} itself is not asked."


def _machines(record: InstanceRecord) -> list[Offer]:
    """The offers of which a live instance holds a machine, or is about to."""
    if record.mode != "real":
        return []
    return [attempt.offer for attempt in record.attempts if attempt.state is not AttemptState.GONE]


def _lines(usage: RegionUsage | None, ours: Mapping[str, int]) -> list[QuotaLine]:
    return [
        QuotaLine(name=line.name, used=line.used, limit=line.limit, free=line.free, ours=ours.get(name, 0))
        for name, line in (by_name(usage.lines) if usage else {}).items()
    ]
