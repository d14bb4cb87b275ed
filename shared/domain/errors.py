"""Refusals of the domain: why a request cannot be served. The HTTP edge alone turns them into statuses.

RefusalError
├── InvalidFieldsError       fields that only the catalog, the settings or the mode can tell to be wrong
├── AdmissionRefusedError    a budget or a limit has no room for the launch; nothing was written
├── QuotaExceededError       the cloud's quota rules out every offer
├── BackendUnavailableError  SkyPilot is needed and cannot be used, or does not answer
├── PlanChangedError         the launch would differ from the plan that its caller was shown
├── KeyReusedError           an Idempotency-Key came again with another body
├── InstanceNotFoundError    no instance has that id, and no live one that name
├── InstanceChangedError     the instance is not as its caller has seen it
├── AmbiguousNameError       several live instances have that name
├── EndpointNotFoundError    no endpoint has that name
├── EndpointExistsError      an endpoint of that name exists and is not as asked for
├── KeyExistsError           the endpoint has a key of that name
├── EndpointChangedError     something else is asked of the endpoint by now than its caller was shown
├── EndpointDeletingError    the endpoint is being deleted, and cannot be changed any more
├── NotReadyError            the instance has no endpoint at the moment
├── NodeTokenError           the token belongs to no attempt of the instance; the same for an unknown instance, so that
│   │                        callers cannot find out which instances exist
│   └── UnrecordedNodeError  the token is a node's, of an attempt that the table does not have
├── AttemptOverError         the control plane has given up the node's attempt
├── RecordFullError          the instance's record has no room for further reports of its node
└── TooManyFailuresError     the caller's address has failed to prove itself too often
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gpulaunch.errors import GpulaunchError
from gpulaunch.models.instances import INSTANCE_ID, Phase
from gpulaunch.models.problems import FieldError

RefusalCode = Literal["budget_exceeded", "limit_reached", "not_allowed", "too_many_launches"]
"""Stable codes, shown in answers."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    code: RefusalCode
    limit: str
    """Name of the setting, followed by the label in brackets if it applies to one."""
    value: float | tuple[str, ...]
    """Value of the limit."""
    used: float | None
    """Amount in use; None if the limit is not a quantity."""
    asked: float | None
    """Amount requested by this launch."""
    detail: str
    """What is wrong and what to do, for people."""
    retry_after: int = 0
    """Seconds after which the same launch may be accepted; 0 if unknown."""


class RefusalError(GpulaunchError):
    pass


class InvalidFieldsError(RefusalError):
    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in errors[:5]))
        self.errors = list(errors)


class AdmissionRefusedError(RefusalError):
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


class QuotaExceededError(RefusalError):
    pass


class BackendUnavailableError(RefusalError):
    def __init__(self, code: str, message: str, retry_after: int = 5) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


class PlanChangedError(RefusalError):
    def __init__(self) -> None:
        super().__init__("Offers, prices or limits have changed since this plan was shown. Plan again, then launch.")


class KeyReusedError(RefusalError):
    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used with another body; use a new key for a new launch.")


class InstanceNotFoundError(RefusalError):
    def __init__(self, given: str, nearest: Sequence[str] = ()) -> None:
        meant = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
        shown = given if re.fullmatch(INSTANCE_ID, given) else repr(given)
        super().__init__(f"There is no instance {shown}.{meant}")


class AmbiguousNameError(RefusalError):
    def __init__(self, given: str, ids: Sequence[str]) -> None:
        shown = ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
        super().__init__(f"{len(ids)} live instances are called {given!r}; use an id: {shown}.")


class InstanceChangedError(RefusalError):
    def __init__(self) -> None:
        super().__init__("The instance has changed since this ETag was answered. Get it again, then repeat the call.")


class EndpointNotFoundError(RefusalError):
    def __init__(self, name: str) -> None:
        super().__init__(f"There is no endpoint {name}.")


class EndpointExistsError(RefusalError):
    def __init__(self, name: str) -> None:
        super().__init__(f"An endpoint {name} exists already, and differs; change it with PUT or PATCH.")


class EndpointChangedError(RefusalError):
    def __init__(self, name: str) -> None:
        super().__init__(f"The endpoint {name} has been changed since it was shown. Get it again, then change it.")


class EndpointDeletingError(RefusalError):
    def __init__(self, name: str) -> None:
        super().__init__(f"The endpoint {name} is being deleted; wait until it no longer exists, or use another name.")


class KeyExistsError(RefusalError):
    def __init__(self, name: str) -> None:
        super().__init__(f"The endpoint has a key named {name} already; revoke it first, or use another name.")


class NotReadyError(RefusalError):
    def __init__(self, phase: Phase) -> None:
        super().__init__(f"The instance is {phase.value}; credentials exist while it is ready.")


class NodeTokenError(RefusalError):
    def __init__(self) -> None:
        super().__init__("The token does not belong to a node of this instance.")


class UnrecordedNodeError(NodeTokenError):
    pass


class AttemptOverError(RefusalError):
    def __init__(self) -> None:
        super().__init__("This attempt is over; the node shuts itself down.")


class RecordFullError(RefusalError):
    def __init__(self) -> None:
        super().__init__("The instance's record has no room for further reports; a failure, a notice or a result has.")


class MessageError(GpulaunchError):
    """A queue message that no retry can make readable."""


class TooManyFailuresError(RefusalError):
    code = "too_many_failures"

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"Too many failed attempts from your address; try again in {retry_after} s.")
        self.retry_after = retry_after
