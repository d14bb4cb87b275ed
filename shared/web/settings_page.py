"""The settings page: this deployment and its prices."""

from typing import Any

from gpulaunch.format import duration
from gpulaunch.models.requests import DEFAULT_PROVIDER
from shared.api.operators import config_answer
from shared.app import App

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
        ("Cloudflare R2", "R2_ENDPOINT", given.r2_endpoint or "not set; r2:// models cannot be downloaded"),
    ]  # fmt: skip
    return {
        "rows": rows,
        "version": config.version,
        "health": app.health.answer(),
        "as_of": listing.prices.as_of,
        "notes": list(listing.notes),
    }


def _minutes(minutes: int | None) -> str:
    return "no limit" if minutes is None else duration(minutes * 60)


def _count(number: int) -> str:
    return "none" if number == 0 else str(number)
