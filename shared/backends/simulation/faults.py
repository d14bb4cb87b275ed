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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

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


def read_faults(labels: Mapping[str, str]) -> Faults:
    """The faults that labels ask for; other labels don't matter.

    Raises ValueError, with a message for the user, for an unknown fault or a value that it can't have.
    """
    found: dict[str, Any] = {}
    for key, value in labels.items():
        if not key.startswith(FAULT_PREFIX):
            continue
        name = key.removeprefix(FAULT_PREFIX)
        if name not in _READ:
            known = ", ".join(FAULT_PREFIX + one for one in sorted(_READ))
            raise ValueError(f"{key} is not a simulated fault; use one of {known}")
        found[name.replace("-", "_")] = _READ[name](key, value)
    return Faults(**found)


def _count(key: str, value: str) -> int:
    if _COUNT.fullmatch(value) and 1 <= int(value) <= MAX_COUNT:
        return int(value)
    raise ValueError(f"{key} must be a whole number from 1 to {MAX_COUNT}, not '{value}'")


def _time(key: str, value: str) -> float:
    if _SECONDS.fullmatch(value) and float(value) <= MAX_SECONDS:
        return float(value)
    raise ValueError(f"{key} must be a number of seconds from 0 to {MAX_SECONDS:,.0f}, not '{value}'")


_READ: Final[Mapping[str, Callable[[str, str], float]]] = {
    **dict.fromkeys(("no-capacity", "setup-failure", "never-registers", "teardown-tries"), _count),
    **dict.fromkeys(("evict-after", "dead-after", "busy-until"), _time),
}


def check_fault_labels(labels: Mapping[str, str]) -> None:
    """Refuse labels that ask for a fault that does not exist, or with a wrong value.

    Raises:
        InvalidFieldsError: There is such a label.
    """
    try:
        read_faults(labels)
    except ValueError as error:
        raise InvalidFieldsError([FieldError(field="labels", message=str(error))]) from error
