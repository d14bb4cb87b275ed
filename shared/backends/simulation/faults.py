"""Faults of a simulated launch, asked for by labels.

| label | value | what happens |
|---|---|---|
| `simulate.no-capacity` | N | the first N attempts are refused, 5 s after they began; nothing is left of them |
| `simulate.setup-failure` | N | the first N attempts fail at 40 s, while installing; the node stays until released |
| `simulate.never-registers` | N | the first N attempts never get past starting the server |
| `simulate.evict-after` | S | the machine of attempt 1 is stopped S s after ready |
| `simulate.dead-after` | S | the node of attempt 1 stops answering S s after ready; the provider still calls it up |
| `simulate.busy-until` | S | vLLM reports one running request until S s after ready, none later |
| `simulate.teardown-tries` | N | a release has to be repeated: N calls don't do it, the next one does |

N is a whole number from 1 to 100, S a number of simulated seconds from 0 to 1,000,000; all seconds are simulated ones.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gpulaunch.models.problems import FieldError
from shared.backends.base import FAULT_PREFIX
from shared.domain.errors import InvalidFieldsError

MAX_COUNT: Final = 100
MAX_SECONDS: Final = 1_000_000.0

_COUNT: Final = re.compile(r"[0-9]{1,3}")
_SECONDS: Final = re.compile(r"[0-9]{1,7}(\.[0-9]{1,6})?")


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What goes wrong; the default is nothing. Times are simulated seconds after ready."""

    no_capacity: int = 0
    setup_failure: int = 0
    never_registers: int = 0
    evict_after: float | None = None
    dead_after: float | None = None
    busy_until: float | None = None
    teardown_tries: int = 0


_COUNTS: Final = ("no-capacity", "setup-failure", "never-registers", "teardown-tries")
_TIMES: Final = ("evict-after", "dead-after", "busy-until")


def read_faults(labels: Mapping[str, str]) -> Faults:
    """The faults that labels ask for; other labels don't matter.

    Raises ValueError, with a message for the user, for an unknown fault or a value that it can't have.
    """
    counts: dict[str, int] = {}
    times: dict[str, float] = {}
    for key, value in labels.items():
        if not key.startswith(FAULT_PREFIX):
            continue
        name = key.removeprefix(FAULT_PREFIX)
        if name in _COUNTS:
            counts[name] = _count(key, value)
        elif name in _TIMES:
            times[name] = _time(key, value)
        else:
            known = ", ".join(FAULT_PREFIX + one for one in sorted((*_COUNTS, *_TIMES)))
            raise ValueError(f"{key} is not a simulated fault; use one of {known}")
    return Faults(
        no_capacity=counts.get("no-capacity", 0),
        setup_failure=counts.get("setup-failure", 0),
        never_registers=counts.get("never-registers", 0),
        teardown_tries=counts.get("teardown-tries", 0),
        evict_after=times.get("evict-after"),
        dead_after=times.get("dead-after"),
        busy_until=times.get("busy-until"),
    )


def _count(key: str, value: str) -> int:
    if _COUNT.fullmatch(value) and 1 <= int(value) <= MAX_COUNT:
        return int(value)
    raise ValueError(f"{key} must be a whole number from 1 to {MAX_COUNT}, not '{value}'")


def _time(key: str, value: str) -> float:
    if _SECONDS.fullmatch(value) and float(value) <= MAX_SECONDS:
        return float(value)
    raise ValueError(f"{key} must be a number of seconds from 0 to {MAX_SECONDS:,.0f}, not '{value}'")


def check_fault_labels(labels: Mapping[str, str]) -> None:
    """Refuse labels that ask for a fault that does not exist, or with a wrong value.

    Raises:
        InvalidFieldsError: There is such a label.
    """
    try:
        read_faults(labels)
    except ValueError as error:
        raise InvalidFieldsError([FieldError(field="labels", message=str(error))]) from error
