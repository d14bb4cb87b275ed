"""The launch form: its choices, its values as a request, and the plan of that request."""

import hashlib
import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, get_args

from gpulaunch.format import usd
from gpulaunch.models.offers import Offer
from gpulaunch.models.problems import FieldError
from gpulaunch.models.requests import DEFAULT_PROVIDER, LaunchRequest, ProviderName
from shared.api.parse import read_value
from shared.api.problems import ProblemError, problem_of
from shared.app import App
from shared.clouds.registry import TRAITS
from shared.domain.catalog import Catalog, NotCataloguedError
from shared.domain.errors import RefusalError
from shared.errors import StoreUnavailableError
from shared.planning.launch_plan import LaunchPlan
from shared.redaction import Redactor

_PROVIDERS: Final = {name: name for name in get_args(ProviderName)}
_START: Final = {
    "model_name": "meta-llama/Llama-3.1-8B-Instruct",
    "provider": DEFAULT_PROVIDER,
    "machine": "gpu:A10",
    "spot": "fallback",
}
_SPOT: Final = {"fallback": (True, True), "only": (True, False), "never": (False, True)}
"""The form's choice to `(use_spot, spot_fallback)`."""
_NUMBERS: Final = ("max_lifetime_minutes", "idle_minutes", "budget_usd", "max_hourly_cost", "disk_size")
_TEXTS: Final = ("model_source", "name")
_FIELDS: Final = (
    *_START, "region", "gpu_count", "labels", "vllm_args", "chat_template", "force", *_TEXTS, *_NUMBERS
)  # fmt: skip
LABELS: Final = {
    "model_name": "Model name",
    "provider": "Provider",
    "machine": "GPU or machine type",
    "region": "Region",
    "spot": "Pricing",
    "gpu_count": "GPUs per node",
    "max_lifetime_minutes": "Maximum lifetime",
    "idle_minutes": "Idle timeout",
    "budget_usd": "Budget",
    "max_hourly_cost": "Maximum price",
    "disk_size": "Disk",
    "name": "Name",
    "model_source": "Model source",
    "labels": "Labels",
    "vllm_args": "vLLM arguments",
    "chat_template": "Chat template",
    "force": "Launch even if the model does not fit",
}
"""What the page calls its fields."""
_PLACES: Final = {"gpu": "machine", "instance_type": "machine", "use_spot": "spot", "spot_fallback": "spot"}
"""Fields of a request to the form's fields, where their names differ."""


@dataclass(frozen=True)
class Choice:
    """An option of a select."""

    value: str
    text: str
    disabled: bool = False


@dataclass(frozen=True)
class Preview:
    """The plan of the form's request, or what is wrong with it."""

    planned: LaunchPlan | None
    body: dict[str, Any]
    errors: dict[str, list[FieldError]] = field(default_factory=dict[str, list[FieldError]])
    """By the form's field; "" for errors of no field."""


def fields(form: Mapping[str, str]) -> dict[str, str]:
    """Return the form's values, or the initial ones if the form was not sent."""
    # A form that was sent has a provider; its model name may be empty.
    start: Mapping[str, str] = {} if "provider" in form else _START
    values = {name: form.get(name, start.get(name, "")) for name in _FIELDS}
    gpu, colon, count = values["machine"].removeprefix("gpu:").partition(":")
    if colon and values["machine"].startswith("gpu:") and _is_own(values["provider"]):
        # Chosen for a provider whose machines have fixed counts.
        values |= {"machine": f"gpu:{gpu}", "gpu_count": values["gpu_count"] or count}
    return values


def _is_own(provider: str) -> bool:
    return provider in _PROVIDERS and not TRAITS[_PROVIDERS[provider]].rents_machines


def fields_of(request: LaunchRequest) -> dict[str, str]:
    """Return the form filled in like an earlier launch, without its job and all but its first region."""
    spot = "never" if not request.use_spot else "fallback" if request.spot_fallback else "only"
    own = not TRAITS[request.provider].rents_machines
    machine = f"type:{request.instance_type}" if request.instance_type else f"gpu:{request.gpu}"
    numbers: dict[str, float | None] = {name: getattr(request, name) for name in _NUMBERS}
    return fields(
        {
            "model_name": request.model_name,
            "provider": request.provider,
            "machine": f"gpu:{request.gpu_name}" if own else machine,
            "gpu_count": str(request.gpu_count) if own else "",
            "spot": spot,
            "region": request.regions[0] if request.regions else "",
            "model_source": request.model_source or "",
            "labels": "\n".join(f"{key}={value}" for key, value in request.labels.items()),
            "vllm_args": "\n".join(Redactor().arguments(request.vllm_args)),
            "chat_template": request.chat_template or "",
            "force": "yes" if request.force else "",
            **{name: f"{value:g}" for name, value in numbers.items() if value is not None},
        }
    )


def body_of(values: Mapping[str, str]) -> dict[str, Any]:
    """Return the request's body; invalid values stay as typed, for the request's validation to report."""
    body: dict[str, Any] = {"model_name": values["model_name"].strip(), "provider": values["provider"]}
    kind, _, machine = values["machine"].partition(":")
    if kind == "type":
        body["instance_type"] = machine
    elif machine:
        count = values["gpu_count"].strip()
        body["gpu"] = f"{machine}:{count}" if count not in ("", "1") else machine
    if values["region"].strip():
        body["region"] = values["region"].strip()
    body["use_spot"], fallback = _SPOT.get(values["spot"], (True, True))
    if body["use_spot"] and not fallback:
        body["spot_fallback"] = False
    for name in _NUMBERS:
        if values[name].strip():
            body[name] = number_of(values[name].strip())
    if values["labels"].strip():
        pairs = [line.partition("=") for line in values["labels"].splitlines() if line.strip()]
        body["labels"] = {key.strip(): value.strip() for key, _, value in pairs}
    if values["vllm_args"].strip():
        body["vllm_args"] = [line.strip() for line in values["vllm_args"].splitlines() if line.strip()]
    for name in _TEXTS:
        if values[name].strip():
            body[name] = values[name].strip()
    if values["chat_template"].strip():
        # Browsers send lines with CRLF, which vLLM would print into every prompt.
        body["chat_template"] = values["chat_template"].replace("\r\n", "\n")
    if values["force"]:
        body["force"] = True
    return body


def key_of(form: Mapping[str, str], body: Mapping[str, Any]) -> str | None:
    """The idempotency key of a form: the same however often it is sent, another one once it asks for something else."""
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return f"{form['key']}-{digest[:16]}" if form.get("key") else None


def number_of(text: str) -> int | float | str:
    try:
        value = float(text) if text.isascii() else math.nan
    except ValueError:
        return text
    if not math.isfinite(value):
        return text
    return int(value) if value == int(value) else value


def preview(plan: Callable[[LaunchRequest], LaunchPlan], values: Mapping[str, str]) -> Preview:
    """Plan what the form asks for; nothing is written."""
    body = body_of(values)
    try:
        return Preview(plan(read_value(LaunchRequest, body)), body)
    except (ProblemError, RefusalError, StoreUnavailableError) as error:
        return Preview(None, body, by_field(problem_of(error, "launch form", "")))


def by_field(error: ProblemError) -> dict[str, list[FieldError]]:
    """Group a problem's errors by the form's field; errors of no field are under ""."""
    found: dict[str, list[FieldError]] = {}
    for one in error.problem.errors or [FieldError(field="", message=error.problem.detail)]:
        name = one.field.split(".")[0]
        name = _PLACES.get(name, name)
        found.setdefault(name if name in _FIELDS else "", []).append(one)
    return found


def context(app: App, values: Mapping[str, str], planned: Preview, address: str) -> dict[str, Any]:
    """What the form and its plan show."""
    provider = _PROVIDERS.get(values["provider"], DEFAULT_PROVIDER)
    offers = _offers(app.catalog, provider)
    costs = planned.planned.estimate if planned.planned else None
    machines = _machines(provider, offers)
    return {
        "values": values,
        "field_names": {
            **LABELS,
            "region": TRAITS[provider].region_word,
            "machine": LABELS["machine"] if TRAITS[provider].rents_machines else "GPU",
        },
        "providers": [_provider(app.catalog, name) for name in _PROVIDERS.values()],
        "own": not TRAITS[provider].rents_machines,
        "region_word": TRAITS[provider].region_word,
        "machines": machines,
        "machine_known": any(values["machine"] == one.value for _, group in machines for one in group),
        "regions": _regions(offers, values),
        "plan": planned.planned,
        "price": _price(planned.planned) if planned.planned else "",
        "costs": costs,
        "errors": planned.errors,
        "curl": curl_line(address, planned.body),
        "cli": cli_line(planned.body),
        "notes": list(app.catalog.listing(provider).notes) if offers else [],
        "default_lifetime": app.settings.default_lifetime_minutes,
        "default_idle": app.settings.default_idle_minutes,
    }


def _price(plan: LaunchPlan) -> str:
    """What a launch costs, beside its button."""
    costs = plan.estimate
    return f"{usd(costs.hourly_usd)}/h, at most {usd(costs.worst_case_usd)}"


def _offers(catalog: Catalog, provider: ProviderName) -> Sequence[Offer]:
    try:
        return catalog.listing(provider).offers
    except NotCataloguedError:
        return ()


def _provider(catalog: Catalog, name: ProviderName) -> Choice:
    known = bool(_offers(catalog, name))
    return Choice(name, TRAITS[name].title if known else f"{TRAITS[name].title} (no prices)", disabled=not known)


def _machines(provider: ProviderName, offers: Sequence[Offer]) -> list[tuple[str, list[Choice]]]:
    """Return the groups of the machine select, GPUs then machine types, cheapest first if there are prices."""
    if not TRAITS[provider].rents_machines:
        return [("GPUs", [Choice(f"gpu:{offer.gpu}", f"{offer.gpu}{_memory(offer)}") for offer in offers])]
    gpus: dict[str, Choice] = {}
    types: dict[str, Choice] = {}
    for offer in sorted(offers, key=lambda one: one.price_per_hour):
        gpu, name = f"{offer.gpu_count} \N{MULTIPLICATION SIGN} {offer.gpu}", offer.instance_type or ""
        price, spec = f"from {usd(offer.price_per_hour)}/h", _spec(offer)
        gpus.setdefault(spec, Choice(f"gpu:{spec}", f"{gpu}{_memory(offer)} · {price}"))
        types.setdefault(name, Choice(f"type:{name}", f"{name} · {gpu} · {price}"))
    return [("GPU", [*gpus.values()]), ("Machine type", [*types.values()])]


def _spec(offer: Offer) -> str:
    return offer.gpu if offer.gpu_count == 1 else f"{offer.gpu}:{offer.gpu_count}"


def _memory(offer: Offer) -> str:
    each = " each" if offer.gpu_count > 1 else ""
    return f" · {offer.gpu_memory_gib:g} GiB{each}" if offer.gpu_memory_gib else ""


def _regions(offers: Sequence[Offer], values: Mapping[str, str]) -> list[Choice]:
    """Return the regions that offer the chosen machine at the chosen pricing, cheapest first."""
    kind, _, machine = values["machine"].partition(":")
    use_spot, fallback = _SPOT.get(values["spot"], (True, True))
    cheapest: dict[str, float] = {}
    for offer in sorted(offers, key=lambda one: one.price_per_hour):
        same = machine == (offer.instance_type if kind == "type" else _spec(offer))
        if same and (use_spot if offer.use_spot else fallback):
            cheapest.setdefault(offer.region, offer.price_per_hour)
    chosen = values["region"]
    made = [Choice(region, f"{region} · from {usd(price)}/h") for region, price in cheapest.items()]
    if chosen and chosen not in cheapest:
        made.append(Choice(chosen, f"{chosen} · not available"))
    return made


def curl_line(address: str, body: Mapping[str, Any]) -> str:
    """Return the launch as a curl command."""
    return (
        f"curl -X POST {shlex.quote(address + '/api/instances/launch')} \\\n"
        '  -H "X-Admin-Token: $TOKEN" -H "Content-Type: application/json" \\\n'
        f"  -d {shlex.quote(json.dumps(body))}"
    )


def cli_line(body: Mapping[str, Any]) -> str:
    """Return the launch as a gpulaunch command."""
    return shlex.join(["gpulaunch", "launch", str(body["model_name"]), *options_of(body), "--watch"])


def options_of(body: Mapping[str, Any]) -> list[str]:
    """Return a launch as options of a gpulaunch command, without its model."""
    line: list[str] = []
    for name, value in body.items():
        option = "--" + name.replace("_", "-")
        if name == "force":
            line += ["--force"]
        elif isinstance(value, bool):
            line += [] if value else [f"--no-{option[2:]}"]
        elif name == "vllm_args":
            line += [f"--vllm-arg={arg}" for arg in value]
        elif name == "chat_template":
            line += [f"--vllm-arg=--chat-template={value}"]
        elif name == "labels":
            line += [word for key, label in value.items() for word in ("--label", f"{key}={label}")]
        elif name != "model_name":
            line += [option, str(value)]
    return line
