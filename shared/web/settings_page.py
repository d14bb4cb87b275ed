"""The settings page: this deployment and its prices."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from gpulaunch.format import duration, usd
from gpulaunch.models.requests import DEFAULT_PROVIDER
from shared.api.operators import config_answer
from shared.app import App
from shared.settings import Settings

N = TypeVar("N", int, float)

_ORCHESTRATORS = {
    "auto": "SkyPilot where the provider is enabled, otherwise a simulation",
    "skypilot": "SkyPilot only; launches it cannot make are refused, never simulated",
    "simulation": "simulation only; no machine is rented and nothing costs money",
}


def context(app: App) -> dict[str, Any]:
    """Return what the page shows; of secrets only whether they are set."""
    config, given = config_answer(app), app.settings
    listing = app.catalog.listing(DEFAULT_PROVIDER)
    rows = [
        ("Orchestrator", "GPULAUNCH_ORCHESTRATOR", _ORCHESTRATORS[config.orchestrator]),
        ("Workspace", "GPULAUNCH_WORKSPACE", config.workspace),
        ("Deployment", "gpulaunch-deployment", config.deployment),
        ("Default lifetime", "GPULAUNCH_DEFAULT_LIFETIME_MINUTES", _minutes(given.default_lifetime_minutes)),
        ("Default idle timeout", "GPULAUNCH_DEFAULT_IDLE_MINUTES", _minutes(given.default_idle_minutes)),
        ("Node lease", "GPULAUNCH_LEASE_SECONDS", duration(config.lease_seconds)),
        ("Public URL", "GPULAUNCH_PUBLIC_URL", config.public_url or "not set; the app polls nodes instead"),
        ("vLLM package", "GPULAUNCH_VLLM_REQUIREMENT", config.vllm_requirement),
        ("Simulation speed", "GPULAUNCH_SIMULATION_SPEED", f"{config.simulation_speed:g}\N{MULTIPLICATION SIGN}"),
        ("SkyPilot API server", "SKYPILOT_API_SERVER_ENDPOINT", given.skypilot_endpoint or "on this machine"),
        ("Admin tokens", "GPULAUNCH_ADMIN_TOKENS", _count(len(given.admin_tokens))),
        ("Read-only tokens", "GPULAUNCH_READ_TOKENS", _count(len(given.read_tokens))),
        ("Hugging Face token", "HF_TOKEN", "set" if given.hub_token else "not set; gated models cannot be downloaded"),
        ("Alerts", "GPULAUNCH_WEBHOOK_URLS", f"to {len(given.webhooks)} receivers" if given.webhooks else "to none"),
        ("Cloudflare R2", "R2_ENDPOINT", given.r2_endpoint or "not set; r2:// models cannot be downloaded"),
    ]  # fmt: skip
    return {
        "rows": rows,
        "limits": [row for row in _limits(given) if row[2]],
        "version": config.version,
        "health": app.health.answer(),
        "as_of": listing.prices.as_of,
        "notes": list(listing.notes),
    }


def _limits(given: Settings) -> list[tuple[str, str, str]]:
    """What may refuse a launch; rows without a value are not set."""
    return [
        ("Monthly budget", "GPULAUNCH_MONTHLY_BUDGET_USD", _usd(given.monthly_budget_usd)),
        ("Budgets by label", "GPULAUNCH_LABEL_BUDGETS", _by_label(given.label_budgets, _usd)),
        ("Live instances", "GPULAUNCH_MAX_INSTANCES", _at_most(given.max_instances)),
        ("Live instances by label", "GPULAUNCH_LABEL_MAX_INSTANCES", _by_label(given.label_max_instances, _at_most)),
        ("GPUs of live instances", "GPULAUNCH_MAX_GPUS", _at_most(given.max_gpus)),
        ("GPUs by label", "GPULAUNCH_LABEL_MAX_GPUS", _by_label(given.label_max_gpus, _at_most)),
        ("Launches per minute", "GPULAUNCH_LAUNCHES_PER_MINUTE", _at_most(given.launches_per_minute)),
        ("Longest lifetime", "GPULAUNCH_MAX_LIFETIME_MINUTES", _lifetime(given.max_lifetime_minutes)),
        ("Allowed providers", "GPULAUNCH_ALLOWED_PROVIDERS", ", ".join(given.allowed_providers)),
        ("Allowed regions", "GPULAUNCH_ALLOWED_REGIONS", ", ".join(given.allowed_regions)),
        ("Allowed machine types", "GPULAUNCH_ALLOWED_TYPES", ", ".join(given.allowed_types)),
        ("Allowed GPUs", "GPULAUNCH_ALLOWED_GPUS", ", ".join(given.allowed_gpus)),
        ("Further vLLM options", "GPULAUNCH_ALLOWED_VLLM_OPTIONS", ", ".join(given.allowed_vllm_options)),
    ]


def _usd(amount: float | None) -> str:
    return "" if amount is None else usd(amount)


def _at_most(number: int | None) -> str:
    return "" if number is None else f"at most {number}"


def _lifetime(minutes: int | None) -> str:
    return "" if minutes is None else duration(minutes * 60)


def _by_label(limits: Mapping[str, N], shown: Callable[[N], str]) -> str:
    return ", ".join(f"{label}: {shown(value)}" for label, value in limits.items())


def _minutes(minutes: int | None) -> str:
    return "no limit" if minutes is None else duration(minutes * 60)


def _count(number: int) -> str:
    return "none" if number == 0 else str(number)
