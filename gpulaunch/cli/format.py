"""Values as people read them at a terminal."""

import re
from datetime import datetime

from rich import box
from rich.table import Table
from rich.text import Text

from gpulaunch.format import duration, usd
from gpulaunch.models.instances import Phase
from gpulaunch.models.offers import Offer
from gpulaunch.models.requests import LaunchRequest
from gpulaunch.models.responses import EventView, InstanceView

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""C0, C1, and what changes the direction of writing."""

PHASE_STYLES = {
    Phase.READY: "green",
    Phase.FAILED: "red",
    Phase.TERMINATED: "dim",
    Phase.TERMINATING: "yellow",
    Phase.RECOVERING: "yellow",
}


def clean(text: str) -> str:
    """Replace control characters: a node's log line must not move the cursor or rename the terminal."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def option_of(field: str) -> str:
    name, _, rest = field.removeprefix("launch.").partition(".")
    if name in ("body", "launch"):
        return "launch"
    if name == "model_name":
        return "MODEL"
    shown = {"labels": "label", "vllm_args": "vllm-arg"}.get(name, name.replace("_", "-"))
    return f"--{shown}" + (f" ({rest})" if rest else "")


def with_options(text: str) -> str:
    """A message of the app, which names fields of a request, with the options of the command in their place."""

    def shown(found: re.Match[str]) -> str:
        name = found[1]
        return f"`{option_of(name)}`" if name in LaunchRequest.model_fields else found[0]

    return re.sub(r"`([a-z_]+)`", shown, text)


def offer(given: Offer) -> str:
    """An offer on one line: spot Standard_NV36ads_A10_v5 (A10) in eastus, $0.80/h."""
    machine = f"{given.instance_type} ({given.gpus})" if given.instance_type else given.gpus
    return f"{given.kind} {machine} in {given.provider}/{given.region}, {usd(given.price_per_hour)}/h"


def place(view: InstanceView) -> str:
    """Where an instance runs: spot A10 in eastus, simulated."""
    simulated = ", simulated" if view.mode == "simulation" else ""
    if not view.attempts:
        return view.provider + simulated
    given = view.attempts[-1].offer
    return f"{given.kind} {given.gpus} in {view.provider if given.region == '*' else given.region}{simulated}"


def age(view: InstanceView, now: datetime) -> str:
    return duration(((view.ended_at or now) - view.created_at).total_seconds())


def event_line(event: EventView, began: datetime | None) -> str:
    """An event on one line, with the time since the first one if that is known."""
    when = event.at.astimezone().strftime("%H:%M:%S")
    since = f"  +{duration((event.at - began).total_seconds()):<12}" if began else ""
    why = f" ({event.reason.value})" if event.reason else ""
    took = f" [after {duration(event.duration_seconds)}]" if event.duration_seconds else ""
    return f"{when}{since}  {event.phase.value:<15}  {event.message}{why}{took}"


def table(*heads: str) -> Table:
    """A table without lines, readable by people and by `cut`."""
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for head in heads:
        made.add_column(head, no_wrap=head in ("ID", "PHASE", "AGE", "COST"))
    return made


def add_row(rows: Table, *cells: object) -> None:
    """Add a row of text: no markup, no control characters."""
    rows.add_row(*(Text(clean(str(cell))) for cell in cells))
