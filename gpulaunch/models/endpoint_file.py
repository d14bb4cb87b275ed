"""The file that `gpulaunch apply` takes: endpoints as they are wanted."""

from typing import Annotated

from pydantic import Field

from gpulaunch.models.base import Outside
from gpulaunch.models.endpoints import EndpointRequest


class EndpointFile(Outside):
    """Endpoints as they are wanted."""

    endpoints: Annotated[list[EndpointRequest], Field(min_length=1)]
    """Each as in the body of `POST /api/endpoints`; what is left out has its default."""
