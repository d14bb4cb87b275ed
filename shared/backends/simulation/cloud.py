"""The simulated machines. They are stored, so that a restart affects them as little as real ones."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.data.tables import TableClient, UpdateMode

from gpulaunch.models.base import Stored, UtcTime
from shared.table_errors import REPEATED, code_of, translate, translated

_ALL: Final = ("gl-", "gl.")
"""Every cluster name starts with `gl-`; `.` is the character after `-`."""


Row = Mapping[str, Any]


class SimulatedNode(Stored):
    """A simulated node, from its submission until it is released."""

    cluster_name: str
    instance_id: str
    attempt: int
    labels: Mapping[str, str] = {}
    """The user's labels; faults are among them."""
    started_at: UtcTime
    """When the attempt began; the node's life is timed from here."""
    created_at: UtcTime
    """When it was submitted."""
    deployment: str | None = None
    """Identity of the deployment that launched it; None: a version that had none."""
    release_calls: int = 0
    """Release calls so far that had no effect."""


class SimulatedCloud(Protocol):
    """The simulated machines of one workspace. Every method may raise StoreUnavailableError."""

    def add(self, node: SimulatedNode) -> bool:
        """Add a node; return False, changing nothing, if there is one of that name."""
        ...

    def get(self, cluster_name: str) -> SimulatedNode | None:
        """Return a node by name."""
        ...

    def replace(self, node: SimulatedNode) -> None:
        """Replace a node; do nothing if it no longer exists."""
        ...

    def remove(self, cluster_name: str) -> None:
        """Remove a node; do nothing if it no longer exists."""
        ...

    def nodes(self, first: str | None = None, last: str | None = None) -> list[SimulatedNode]:
        """Return all nodes by name, or those from `first` to `last`, inclusive."""
        ...


class TableSimulatedCloud:
    """A separate partition of the records' table; one request per call (`nodes`: per thousand)."""

    def __init__(self, table: TableClient, workspace: str) -> None:
        self._table = table
        # a workspace may have the same name, but its row keys start differently
        self._partition = f"{workspace}-simulation"

    def add(self, node: SimulatedNode) -> bool:
        """See SimulatedCloud. If the SDK retries after a lost answer the result is False, and the node exists."""
        # a transaction of one: the SDK's plain insert raises errors without the service's code
        try:
            self._table.submit_transaction([("create", self._row(node))], retry_on_methods=REPEATED)  # pyright: ignore[reportUnknownMemberType]
        except AzureError as error:
            if code_of(error) != "EntityAlreadyExists":
                raise translate(error, "add a simulated node") from error
            return False
        return True

    def get(self, cluster_name: str) -> SimulatedNode | None:
        try:
            row: Row = self._table.get_entity(self._partition, cluster_name)  # pyright: ignore[reportUnknownMemberType]
        except ResourceNotFoundError as error:
            self._only_if_gone(error)
            return None
        except AzureError as error:
            raise translate(error, "read a simulated node") from error
        return _read(row)

    def replace(self, node: SimulatedNode) -> None:
        try:
            self._table.update_entity(self._row(node), mode=UpdateMode.REPLACE)  # pyright: ignore[reportUnknownMemberType]
        except ResourceNotFoundError as error:
            self._only_if_gone(error)
        except AzureError as error:
            raise translate(error, "change a simulated node") from error

    def remove(self, cluster_name: str) -> None:
        # the SDK treats a missing row as deleted, and a missing table too: without a table there are no nodes
        with translated("remove a simulated node"):
            self._table.delete_entity(self._partition, cluster_name)  # pyright: ignore[reportUnknownMemberType]

    def nodes(self, first: str | None = None, last: str | None = None) -> list[SimulatedNode]:
        bounds = {"partition": self._partition, "first": first or _ALL[0], "last": last or _ALL[1]}
        with translated("list the simulated nodes"):
            rows: Iterable[Row] = self._table.query_entities(  # pyright: ignore[reportUnknownMemberType]
                "PartitionKey eq @partition and RowKey ge @first and RowKey le @last", parameters=bounds, select=["doc"]
            )
            return [_read(row) for row in rows]

    def _row(self, node: SimulatedNode) -> dict[str, str]:
        return {"PartitionKey": self._partition, "RowKey": node.cluster_name, "doc": node.model_dump_json()}

    def _only_if_gone(self, error: ResourceNotFoundError) -> None:
        """Translate errors; a missing table says nothing about a node."""
        if code_of(error) not in ("ResourceNotFound", "EntityNotFound"):
            raise translate(error, "reach the simulated nodes") from error


def _read(row: Row) -> SimulatedNode:
    return SimulatedNode.model_validate_json(row["doc"])
