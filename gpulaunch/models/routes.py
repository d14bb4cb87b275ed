"""What the control plane writes into an endpoint's row for the gateway, and how the gateway reads it."""

import hashlib
from typing import Annotated

from pydantic import Field

from gpulaunch.models.base import Kept, Stored, UtcTime

ROW_AREA = "endpoint"
"""Row keys of endpoints are `endpoint|<name>`; the document is in `doc`, or in `doc0`, `doc1` and so on."""


class RoutedTemplate(Stored):
    model_name: str
    vllm_args: list[str] = []


FIRST_START_SECONDS = 240.0
"""Expected time from a replica's allotment until it serves, before any start was seen: between 180 and 300 s."""


class SlotRoute(Kept):
    """How the gateway reaches a ready replica."""

    attempt: int
    """The replica's node; another one has another number, and another key."""
    address: str
    port: int
    sealed_key: str
    """The node's key, which the gateway alone can unseal (Fernet)."""
    server_name: str | None = None
    """The name in the certificate that the node has to show; None: it answers by plain HTTP."""
    simulated: bool = False
    """The gateway itself answers with canned text; no node exists."""
    template: RoutedTemplate | None = None
    """What its node was launched with; None: an earlier version wrote the route, and it is its generation's."""


class EndpointKey(Kept):
    """A key with which an application calls an endpoint."""

    key_id: str
    name: str
    """Of the application, for people."""
    key_hash: str
    """SHA-256, hexadecimal; the key itself is shown once and never stored."""
    created_at: UtcTime
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_month: int | None = None
    requests_at_once: int | None = None


class RoutedSlot(Stored):
    instance_id: str
    generation: int
    allotted_at: UtcTime | None = None
    """When it began to start."""
    state: str
    """`active` ones get requests, others finish those that they have."""
    route: SlotRoute | None = None


class RoutedGeneration(Stored):
    number: int
    template: RoutedTemplate


class RoutedScaling(Stored):
    max_replicas: int
    target_concurrency: int | None = None


class RoutedEndpoint(Stored):
    """An endpoint's row as the gateway reads it; fields that are of no use to it are left out."""

    name: str
    endpoint_id: str = ""
    routes_version: int = 0
    """Counts the changes of which slots get requests."""
    replicas: int
    scaling: RoutedScaling | None = None
    """Its number of replicas follows the load, from none on."""
    start_seconds: float = FIRST_START_SECONDS
    """How long a start takes."""
    paused: bool = False
    deleting: bool = False
    generations: Annotated[list[RoutedGeneration], Field(min_length=1)]
    slots: list[RoutedSlot] = []
    keys: list[EndpointKey] = []
    authority: str = ""
    """What vouches for the nodes' certificates, PEM."""


def hash_of_key(key: str) -> str:
    """The hash under which a key is stored. Keys are random, so a plain hash cannot be guessed."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
