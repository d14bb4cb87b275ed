"""What users look at: instances, the catalog, the settings, the control plane's own health."""

import difflib
from collections.abc import Mapping
from typing import TypeVar, get_args

from gpulaunch.models.instances import Phase
from gpulaunch.models.problems import FieldError
from gpulaunch.models.requests import ProviderName
from gpulaunch.models.responses import CatalogAnswer, ConfigAnswer, HealthAnswer, InstanceList
from gpulaunch.version import VERSION
from shared.api.problems import invalid_request, not_found
from shared.api.views import instance_view
from shared.control.parts import Parts
from shared.domain.catalog import NotCataloguedError
from shared.errors import ForeignTokenError, StoreUnavailableError
from shared.storage.base import InstanceFilter, Versioned, readable

V = TypeVar("V")

_PROVIDERS: dict[str, ProviderName] = {name: name for name in get_args(ProviderName)}


def find(parts: Parts, instance_id: str) -> Versioned:
    """The record of an instance. Raises ProblemError (404)."""
    found = parts.store.load(instance_id)
    if found is None:
        raise not_found(f"instance {instance_id}")
    return found


def list_page(parts: Parts, query: Mapping[str, str]) -> tuple[InstanceList, list[str]]:
    """A page of instances and what its ETag is made of. Raises ProblemError (422) for a query that makes no sense."""
    known = ("phase", "provider", "label", "live", "page_size", "continuation_token")
    only_known(query, known)
    size = whole_number(query, "page_size", 50, 1, 200)
    key, has_value, value = query.get("label", "").partition("=")
    wanted = InstanceFilter(
        phase=one_of(query, "phase", {phase.value: phase for phase in Phase}),
        provider=one_of(query, "provider", _PROVIDERS),
        label=(key, value if has_value else None) if key else None,
        live=one_of(query, "live", {"true": True, "false": False}),
    )
    try:
        page = parts.store.page(wanted, size, query.get("continuation_token"))
    except ForeignTokenError as error:
        message = "This is not a `next_token` of this interface; leave it out to begin with the first page."
        raise invalid_request([FieldError(field="continuation_token", message=message)]) from error
    now = parts.clock.now()
    answer = InstanceList(
        instances=[instance_view(found.record, now) for found in readable(page.records)], next_token=page.next_token
    )
    return answer, [found.etag for found in page.records] + [page.next_token or ""]


def catalog_answer(parts: Parts, query: Mapping[str, str]) -> CatalogAnswer:
    """What can be launched on a provider. Raises ProblemError (422)."""
    only_known(query, ("provider", "region", "gpu"))
    provider = one_of(query, "provider", _PROVIDERS) or "azure"
    region, gpu = query.get("region", "").casefold(), query.get("gpu", "").casefold()
    try:
        prices = parts.catalog.prices(provider)
        offers = [
            offer
            for offer in parts.catalog.offers(provider)
            if (not region or offer.region.casefold() == region) and (not gpu or offer.gpu.casefold() == gpu)
        ]
        return CatalogAnswer(
            provider=provider,
            prices_as_of=prices.as_of,
            prices_source=prices.source,
            notes=list(parts.catalog.notes(provider)),
            regions=list(parts.catalog.regions(provider)),
            instance_types=list(parts.catalog.instance_types(provider)),
            gpus=list(parts.catalog.gpus(provider)),
            offers=offers,
        )
    except NotCataloguedError as error:
        raise invalid_request([FieldError(field="provider", message=str(error), nearest=error.nearest)]) from error


def quota_regions(parts: Parts, query: Mapping[str, str]) -> list[str]:
    """The regions of a question for the quota. Raises ProblemError (422) for one that there is not."""
    only_known(query, ("region",))
    known = {region.casefold(): region for region in parts.catalog.regions("azure")}
    asked = [name.strip() for name in query.get("region", "").split(",") if name.strip()]
    return [one_of({"region": name.casefold()}, "region", known) or name for name in asked]


def config_answer(parts: Parts) -> ConfigAnswer:
    """The settings that matter to users; no secrets."""
    settings = parts.settings
    return ConfigAnswer(
        version=VERSION,
        orchestrator=settings.orchestrator,
        workspace=settings.workspace,
        simulation_speed=settings.simulation_speed,
        default_lifetime_minutes=settings.default_lifetime_minutes,
        default_idle_minutes=settings.default_idle_minutes,
        lease_seconds=settings.lease_seconds,
        public_url=settings.public_url,
        vllm_requirement=settings.vllm_requirement,
    )


def health_answer(parts: Parts) -> HealthAnswer:
    """Whether the control plane works."""
    try:
        parts.store.ping()
    except StoreUnavailableError:
        return HealthAnswer(status="degraded", version=VERSION, storage="unavailable")
    return HealthAnswer(status="ok", version=VERSION, storage="ok")


def whole_number(query: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    """A whole number of the query. Raises ProblemError (422)."""
    text = query.get(name)
    if text is None:
        return default
    # int() takes other scripts' digits, underscores and spaces too; an interface takes plain digits.
    plain = text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 9
    if not plain or not least <= int(text) <= most:
        message = f"A whole number from {least} to {most}."
        raise invalid_request([FieldError(field=name, message=message)])
    return int(text)


def one_of(query: Mapping[str, str], name: str, known: Mapping[str, V]) -> V | None:
    """What one of the known words of a query parameter stands for; None without it. Raises ProblemError (422)."""
    text = query.get(name)
    if text is None:
        return None
    if text not in known:
        nearest = difflib.get_close_matches(text, list(known), n=3, cutoff=0.4) or list(known)
        raise invalid_request([FieldError(field=name, message=f"There is no such {name}.", nearest=nearest)])
    return known[text]


def only_known(query: Mapping[str, str], known: tuple[str, ...]) -> None:
    """Refuse query parameters that a call does not know; `code` is the host's own. Raises ProblemError (422)."""
    unknown = [name for name in query if name not in known and name != "code"]
    if unknown:
        raise invalid_request(
            [
                FieldError(
                    field=name,
                    message="There is no such query parameter.",
                    nearest=difflib.get_close_matches(name, known, n=3, cutoff=0.5) or list(known),
                )
                for name in unknown
            ]
        )
