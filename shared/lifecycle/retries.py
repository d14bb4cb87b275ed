"""What follows a failed attempt, by its reason."""

from enum import StrEnum

from gpulaunch.models.instances import Reason


class Retry(StrEnum):
    """What follows a failed attempt."""

    NEXT_OFFER = "next_offer"
    SAME_OFFER = "same_offer"
    GIVE_UP = "give_up"


_GIVE_UP = frozenset(
    {
        # The same model, arguments and set-up fail on any machine; another attempt would only cost more.
        Reason.INVALID_TASK,
        Reason.INSTALL_FAILED,
        Reason.MODEL_FETCH_FAILED,
        Reason.SERVER_FAILED,
    }
)
_SAME_OFFER = frozenset(
    {
        # Says nothing against the offer: a port in use by a neighbour, an API server that forgot its requests.
        Reason.PORT_TAKEN,
        Reason.PROVIDER_UNAVAILABLE,
    }
)


def retry_after(reason: Reason) -> Retry:
    """What follows an attempt that failed for `reason`; the next offer unless another one could not do better."""
    if reason in _GIVE_UP:
        return Retry.GIVE_UP
    return Retry.SAME_OFFER if reason in _SAME_OFFER else Retry.NEXT_OFFER
