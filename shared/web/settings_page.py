"""The page of settings: how this deployment is set up, and what its prices are worth."""

from typing import Any

from gpulaunch.format import duration
from shared.control.parts import Parts
from shared.control.queries import config_answer, health_answer

_ORCHESTRATORS = {
    "auto": "SkyPilot where it has the provider enabled, else a simulation",
    "skypilot": "SkyPilot only; what it can't do is refused, never simulated",
    "simulation": "simulation only; no machine is rented, nothing costs money",
}


def context(parts: Parts) -> dict[str, Any]:
    """What the page shows. Secrets are not among it, not even whether they are right: only whether they are set."""
    config, given = config_answer(parts), parts.settings
    rows = [
        ("Launches go through", "GPULAUNCH_ORCHESTRATOR", _ORCHESTRATORS[config.orchestrator]),
        ("Workspace", "GPULAUNCH_WORKSPACE", config.workspace),
        ("Lifetime if none is named", "GPULAUNCH_DEFAULT_LIFETIME_MINUTES", _minutes(given.default_lifetime_minutes)),
        ("Idle time if none is named", "GPULAUNCH_DEFAULT_IDLE_MINUTES", _minutes(given.default_idle_minutes)),
        ("A node lives without hearing from us for", "GPULAUNCH_LEASE_SECONDS", duration(config.lease_seconds)),
        ("Nodes reach this app at", "GPULAUNCH_PUBLIC_URL", config.public_url or "not set; nodes are asked instead"),
        ("Installed on a node", "GPULAUNCH_VLLM_REQUIREMENT", config.vllm_requirement),
        ("Simulated seconds in a second", "GPULAUNCH_SIMULATION_SPEED", f"{config.simulation_speed:g}"),
        ("SkyPilot's API server", "SKYPILOT_API_SERVER_ENDPOINT", given.skypilot_endpoint or "one on this machine"),
        ("Admin tokens", "GPULAUNCH_ADMIN_TOKENS", _count(len(given.admin_tokens))),
        ("Read-only tokens", "GPULAUNCH_READ_TOKENS", _count(len(given.read_tokens))),
        ("Hugging Face token", "HF_TOKEN", "set" if given.hub_token else "not set; gated models can't be fetched"),
        ("Cloudflare R2", "R2_ENDPOINT", given.r2_endpoint or "not set; r2:// models can't be fetched"),
    ]  # fmt: skip
    return {
        "rows": rows,
        "version": config.version,
        "health": health_answer(parts),
        "as_of": parts.catalog.prices("azure").as_of,
        "notes": list(parts.catalog.notes("azure")),
    }


def _minutes(minutes: int | None) -> str:
    return "no limit" if minutes is None else duration(minutes * 60)


def _count(number: int) -> str:
    return "none" if number == 0 else str(number)
