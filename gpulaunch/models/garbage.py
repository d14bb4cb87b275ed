"""Nodes that the garbage collection leaves alone, and the confirmation that lets it delete them."""

from typing import Annotated

from pydantic import Field

from gpulaunch.models.base import Answer, Outside, UtcTime


class WaitingNode(Answer):
    """A node of this deployment that may be garbage; deleted only after a confirmation."""

    cluster_name: str
    since: UtcTime
    why: str
    """Why it is not deleted unconfirmed."""
    confirmed_until: UtcTime | None
    """Until when a confirmation holds; null: it waits for one."""


class ForeignNode(Answer):
    """A node with a name like ours that is not touched: it carries another identity, or none."""

    cluster_name: str
    deployment: str | None
    """Null: nothing shows whose it is."""
    since: UtcTime


class LostNode(Answer):
    """A node of a live instance of which SkyPilot has lost its records: whether it exists is not known."""

    cluster_name: str
    since: UtcTime
    why: str


class GarbageAnswer(Answer):
    """Nodes that the garbage collection leaves alone."""

    deployment: str
    """This deployment's identity."""
    waiting: list[WaitingNode]
    foreign: list[ForeignNode]
    lost: list[LostNode] = []
    """Deleted, as far as the app knows, once SkyPilot or the cloud says so again, or `POST /api/garbage/deleted`."""


class GarbageConfirmation(Outside):
    """The nodes that may be deleted as garbage."""

    clusters: Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(min_length=1, max_length=500)]
    """Their names, as `GET /api/garbage` lists them under `waiting`."""


class DeletionConfirmation(Outside):
    """Nodes that a person has found to be deleted."""

    clusters: Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(min_length=1, max_length=500)]
    """Their names, as `GET /api/garbage` lists them under `lost`."""
