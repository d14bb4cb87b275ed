"""What follows a failed attempt, by reason."""

from enum import StrEnum

from gpulaunch.models.instances import Reason


class Retry(StrEnum):
    """What follows a failed attempt."""

    NEXT_OFFER = "next_offer"
    SAME_OFFER = "same_offer"
    GIVE_UP = "give_up"


_GIVE_UP = frozenset(
    {
        # The same model, arguments and set-up would fail on any machine.
        Reason.INVALID_TASK,
        Reason.INSTALL_FAILED,
        Reason.MODEL_FETCH_FAILED,
        Reason.SERVER_FAILED,
    }
)
_SAME_OFFER = frozenset(
    {
        # Unrelated to the offer: a port in use by a neighbour, an API server that lost its requests.
        Reason.PORT_TAKEN,
        Reason.PROVIDER_UNAVAILABLE,
    }
)


def retry_after(reason: Reason) -> Retry:
    """Return what follows a failure: the next offer, unless another offer would not help."""
    if reason in _GIVE_UP:
        return Retry.GIVE_UP
    return Retry.SAME_OFFER if reason in _SAME_OFFER else Retry.NEXT_OFFER
