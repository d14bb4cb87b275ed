"""Nodes that the garbage collection leaves alone, and the confirmation that lets it delete them."""

from typing import Annotated

from pydantic import Field, StringConstraints

from gpulaunch.models.base import Answer, Outside, UtcTime
from gpulaunch.models.requests import MODEL_NAME


class WaitingNode(Answer):
    """A node of this deployment that may be garbage; deleted only after a confirmation."""

    cluster_name: str
    """The node's name in SkyPilot."""
    since: UtcTime
    """When it was first seen."""
    why: str
    """Why it is not deleted unconfirmed."""
    confirmed_until: UtcTime | None
    """Until when a confirmation holds; null: it waits for one."""
    heard_at: UtcTime | None = None
    """When it last called or answered the app with the token of its attempt: it is alive; null: not within an hour."""
    adoptable: bool = False
    """The table has no record of it, and `POST /api/garbage/adopt` makes one."""


class ForeignNode(Answer):
    """A node with a name like ours that is not touched: it carries another identity, or none."""

    cluster_name: str
    """The node's name in SkyPilot or the cloud."""
    deployment: str | None
    """Null: nothing shows whose it is."""
    since: UtcTime
    """When it was first seen."""


class LostNode(Answer):
    """A node of a live instance of which SkyPilot has lost its records: whether it exists is not known."""

    cluster_name: str
    """The node's name in SkyPilot."""
    since: UtcTime
    """When its records were first missed."""
    why: str
    """What is known of it."""


class GarbageAnswer(Answer):
    """Nodes that the garbage collection leaves alone."""

    deployment: str
    """This deployment's identity."""
    waiting: list[WaitingNode]
    """Nodes that are deleted only after a confirmation."""
    foreign: list[ForeignNode]
    """Nodes of other deployments, which are never touched."""
    lost: list[LostNode] = []
    """Deleted, as far as the app knows, once SkyPilot or the cloud says so again, or `POST /api/garbage/deleted`."""


class GarbageConfirmation(Outside):
    """The nodes that may be deleted as garbage."""

    clusters: Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(min_length=1, max_length=500)]
    """Their names, as `GET /api/garbage` lists them under `waiting`."""


class Adoption(Outside):
    """Nodes of this deployment to make a record for, since theirs was lost."""

    clusters: Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(min_length=1, max_length=500)]
    """Their names, as `GET /api/garbage` lists them under `waiting` as adoptable."""
    model_name: Annotated[str, StringConstraints(pattern=MODEL_NAME)] = "adopted"
    """The model that they serve, for people; the nodes have it already."""
    max_lifetime_minutes: Annotated[int, Field(ge=1, le=43_200)] | None = None
    """Terminate them so long after their creation; by default the longest lifetime that a launch may ask for."""


class AdoptedNode(Answer):
    """A node that is an instance again."""

    cluster_name: str
    """The node's name in SkyPilot."""
    instance_id: str
    """The instance that leads to it again."""


class RefusedNode(Answer):
    """A node for which no record was made."""

    cluster_name: str
    """The name that was given."""
    why: str
    """Why no record was made."""


class AdoptionAnswer(Answer):
    """What became of the nodes."""

    adopted: list[AdoptedNode]
    """Nodes that are instances again."""
    refused: list[RefusedNode]
    """The others."""


class DeletionConfirmation(Outside):
    """Nodes that a person has found to be deleted."""

    clusters: Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(min_length=1, max_length=500)]
    """Their names, as `GET /api/garbage` lists them under `lost`."""
