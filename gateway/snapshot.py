"""Endpoints and nodes as of one reading of the table. Pure."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from gpulaunch.models.routes import EndpointKey, RoutedEndpoint, RoutedSlot
from gpulaunch.models.vllm_arguments import REQUESTS_AT_ONCE, requests_at_once, target_requests

SOONEST = 5.0
"""Seconds that a start which should be up already is expected to need still."""

Unseal = Callable[[str], str]
"""Raises ValueError for what it cannot unseal."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A replica's node. Counters belong to instance and attempt, never to an address, which may be given again."""

    instance_id: str
    attempt: int
    base: str
    """`https://host:port`; with http of nodes of an earlier version."""
    key: str = field(repr=False)
    model: str
    """The name under which its vLLM serves the model."""
    slots: int = REQUESTS_AT_ONCE
    draining: bool = False
    simulated: bool = False
    server_name: str | None = None
    """In the certificate that it has to show."""
    authority: str = field(default="", repr=False)
    """What vouches for the certificate, PEM."""

    @cached_property
    def name(self) -> tuple[str, int]:
        return (self.instance_id, self.attempt)


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    name: str
    model: str
    """Of its latest generation."""
    replicas: int
    """How many there may be; 0 while it is paused or being deleted."""
    starting: int
    """How many are on their way."""
    landing: float
    """In how many seconds the next one is expected to serve, or would be if it began to start now."""
    target: int = target_requests(())
    """Requests that a node is to work on at once; beyond, they slow each other down."""
    scales: bool = False
    """Whether their number follows the load."""
    nodes: tuple[Node, ...]
    keys: tuple[EndpointKey, ...]
    slots: int = REQUESTS_AT_ONCE
    """Requests that a node of its latest generation works on at once."""
    endpoint_id: str = ""
    version: int = 0
    """Of its routes."""

    def answers_to(self, model: str) -> bool:
        return model in (self.name, self.model)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    endpoints: Mapping[str, Endpoint]
    unreadable: Mapping[str, str] = field(default_factory=dict[str, str])
    """Why rows could not be read, by their key."""

    def find_key(self, key_hash: str) -> tuple[Endpoint, EndpointKey] | None:
        """The endpoint that a key opens. Only its hash is compared, which a caller cannot choose."""
        return self._by_hash.get(key_hash)

    @cached_property
    def _by_hash(self) -> Mapping[str, tuple[Endpoint, EndpointKey]]:
        return {key.key_hash: (one, key) for one in self.endpoints.values() for key in one.keys}


EMPTY = Snapshot(endpoints={})


def snapshot_of(rows: Iterable[Mapping[str, Any]], unseal: Unseal, now: datetime) -> Snapshot:
    """Read the rows of endpoints as of `now`; one that cannot be read costs itself alone."""
    endpoints: dict[str, Endpoint] = {}
    unreadable: dict[str, str] = {}
    for row in rows:
        try:
            found = RoutedEndpoint.model_validate_json(document_of(row))
        except ValidationError as error:
            unreadable[str(row.get("RowKey"))] = f"{error.error_count()} invalid fields"
            continue
        endpoints[found.name] = _endpoint(found, unseal, now)
    return Snapshot(endpoints=endpoints, unreadable=unreadable)


def document_of(row: Mapping[str, Any]) -> str:
    """The document that a row holds, in one property or in several; empty without one."""
    whole = row.get("doc")
    if isinstance(whole, str):
        return whole
    parts: list[str] = []
    while isinstance(part := row.get(f"doc{len(parts)}"), str):
        parts.append(part)
    return "".join(parts)


def _endpoint(found: RoutedEndpoint, unseal: Unseal, now: datetime) -> Endpoint:
    off, most = found.paused or found.deleting, found.scaling.max_replicas if found.scaling else found.replicas
    nodes = [_node(found, slot, unseal) for slot in found.slots]
    starting = [slot for slot in found.slots if slot.state == "active" and slot.route is None]
    return Endpoint(
        name=found.name,
        model=found.generations[-1].template.model_name,
        replicas=0 if off else most,
        starting=len(starting),
        landing=_landing(found, starting, now),
        target=target_requests(
            found.generations[-1].template.vllm_args, found.scaling and found.scaling.target_concurrency
        ),
        scales=found.scaling is not None and not off,
        nodes=tuple(one for one in nodes if one is not None),
        keys=() if found.deleting else tuple(found.keys),
        slots=requests_at_once(found.generations[-1].template.vllm_args),
        endpoint_id=found.endpoint_id,
        version=found.routes_version,
    )


def _landing(found: RoutedEndpoint, starting: Sequence[RoutedSlot], now: datetime) -> float:
    begun = [one.allotted_at for one in starting if one.allotted_at is not None]
    left = [found.start_seconds - (now - at).total_seconds() for at in begun]
    return max(SOONEST, min(left, default=found.start_seconds))


def _node(found: RoutedEndpoint, slot: RoutedSlot, unseal: Unseal) -> Node | None:
    route = slot.route
    if route is None:
        return None
    try:
        key = unseal(route.sealed_key)
    except ValueError:
        return None  # sealed for another gateway key; the control plane's next step seals it anew
    generation = next((one for one in found.generations if one.number == slot.generation), found.generations[-1])
    template = route.template or generation.template
    host = f"[{route.address}]" if ":" in route.address else route.address
    return Node(
        instance_id=slot.instance_id,
        attempt=route.attempt,
        base=f"{'http' if route.server_name is None else 'https'}://{host}:{route.port}",
        key=key,
        model=template.model_name,
        slots=requests_at_once(template.vllm_args),
        draining=slot.state != "active",
        simulated=route.simulated,
        server_name=route.server_name,
        authority=found.authority,
    )


def openai_error(message: str, kind: str, code: str) -> bytes:
    """An error in the shape that OpenAI's clients read."""
    return json.dumps({"error": {"message": message, "type": kind, "code": code, "param": None}}).encode()
