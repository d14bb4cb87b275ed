"""Refusals of the domain: why a request cannot be served. The HTTP edge alone turns them into statuses.

RefusalError
├── InvalidFieldsError       fields that only the catalog, the settings or the mode can tell to be wrong
├── AdmissionRefusedError     a budget or a limit is in the way; carries the Refusal
├── QuotaExceededError        the cloud's quota rules out every offer
├── BackendUnavailableError   SkyPilot is needed and cannot be used, or does not answer
├── KeyReusedError            an Idempotency-Key came again with another body
├── InstanceNotFoundError     no such instance
├── NotReadyError             the instance has no endpoint at the moment
├── NodeTokenError            the token belongs to no attempt of the instance
└── AttemptOverError          the node's attempt is over
"""

from collections.abc import Sequence

from gpulaunch.errors import GpulaunchError
from gpulaunch.models.instances import Phase
from gpulaunch.models.problems import FieldError
from shared.domain.refusal import Refusal


class RefusalError(GpulaunchError):
    """Base of the refusals."""


class InvalidFieldsError(RefusalError):
    """Fields of the request are wrong; one entry each."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in errors[:5]))
        self.errors = list(errors)


class AdmissionRefusedError(RefusalError):
    """A budget or a limit has no room for the launch; nothing was written."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


class QuotaExceededError(RefusalError):
    """The cloud's quota rules out every offer of the plan."""


class BackendUnavailableError(RefusalError):
    """SkyPilot is needed and cannot be used. `code` is stable; `retry_after` is in seconds."""

    def __init__(self, code: str, message: str, retry_after: int = 5) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


class KeyReusedError(RefusalError):
    """An Idempotency-Key came again with another body."""

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used with another body; use a new key for a new launch.")


class InstanceNotFoundError(RefusalError):
    """No instance has this id."""

    def __init__(self, instance_id: str) -> None:
        super().__init__(f"There is no instance {instance_id}.")
        self.instance_id = instance_id


class NotReadyError(RefusalError):
    """The instance serves nothing at the moment."""

    def __init__(self, phase: Phase) -> None:
        super().__init__(f"The instance is {phase.value}; credentials exist while it is ready.")


class NodeTokenError(RefusalError):
    """The same for a wrong token and a wrong instance, so that callers cannot find out which instances exist."""

    def __init__(self) -> None:
        super().__init__("The token does not belong to a node of this instance.")


class AttemptOverError(RefusalError):
    """The control plane has given up the node's attempt."""

    def __init__(self) -> None:
        super().__init__("This attempt is over; the node shuts itself down.")


class MessageError(GpulaunchError):
    """A queue message that no retry can make readable."""
