"""SkyPilot's live prices through its API server, asked for and fetched in two calls that never wait."""

from gpulaunch.models.requests import ProviderName
from shared.backends.skypilot.client import SkyClient
from shared.backends.skypilot.http import SkyFailedError
from shared.catalog.live import ListingError
from shared.domain.provider import ProviderUnavailableError


class SkyPrices:
    """See shared.catalog.price_keeper.PriceLists. A server that does not run is not started for this."""

    def __init__(self, client: SkyClient) -> None:
        self._client = client

    def ask(self, provider: ProviderName) -> str:
        """Have the list made; the request's id. Raises ProviderUnavailableError, ListingError."""
        if not self._client.healthy():
            raise ProviderUnavailableError("no SkyPilot server answers")
        try:
            return self._client.list_accelerators(provider)
        except SkyFailedError as error:
            raise ListingError(f"SkyPilot does not list {provider}: {str(error)[:200]}") from error

    def fetch(self, request_id: str) -> object | None:
        """The list, as the server gives it; None while it is being made.

        Raises ListingError when it could not be made, ProviderUnavailableError.
        """
        if not self._client.ended(request_id):
            return None
        try:
            found = self._client.result(request_id)
        except SkyFailedError as error:
            raise ListingError(f"SkyPilot could not list prices: {str(error)[:200]}") from error
        if found is None:
            raise ListingError("SkyPilot listed nothing")
        return found
