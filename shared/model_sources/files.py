"""All kinds of model sources behind one interface."""

from gpulaunch.models.requests import LaunchRequest
from shared.clock import Clock
from shared.model_sources.base import BucketSource, HubSource, ModelListing, parse_source
from shared.model_sources.blobs import Blobs
from shared.model_sources.buckets import Buckets
from shared.model_sources.web import Web
from shared.settings import Settings


class SourceFiles:
    """Lists a model's files wherever they are; implements `ModelFiles`."""

    def __init__(self, settings: Settings, clock: Clock, web: Web | None = None) -> None:
        web = web or Web()
        self._buckets = Buckets(settings, web, clock)
        self._blobs = Blobs(web, anywhere=settings.development)

    def list_files(self, request: LaunchRequest) -> ModelListing:
        """Return the files of the request's model. Raises LaunchRefusedError and ProviderUnavailableError."""
        source = parse_source(request)
        if isinstance(source, HubSource):
            return ModelListing([], source.model)
        if isinstance(source, BucketSource):
            return ModelListing(self._buckets.list_files(source))
        return ModelListing(self._blobs.list_files(source))
