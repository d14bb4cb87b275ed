"""How eager a scaler is: one knob with three positions."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, kw_only=True)
class Preset:
    catch_up: timedelta
    """After the next replica is up, the time in which what waits is to be worked off."""
    quiet: timedelta
    """How long fewer replicas must have been enough before one is drained."""


PRESETS = {
    "thrifty": Preset(catch_up=timedelta(seconds=120), quiet=timedelta(seconds=180)),
    "balanced": Preset(catch_up=timedelta(seconds=30), quiet=timedelta(seconds=600)),
    "quick": Preset(catch_up=timedelta(seconds=15), quiet=timedelta(seconds=900)),
}
"""Chosen over seven traces (docs/scaling.md, `python -m bench scaler`)."""


def preset_of(name: str) -> Preset:
    """The preset of that name; one that only a later version has is `balanced` here."""
    return PRESETS.get(name, PRESETS["balanced"])
