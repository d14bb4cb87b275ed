"""Planted bugs of endpoints and gateways, which only seeds with endpoints can find."""

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from gateway import hold, proxy, snapshot
from gateway.app import Gateway
from gateway.balance import NodeLease
from gateway.upstream import UpstreamError
from shared.autoscaling import replicas as autoscaling
from shared.control import replicas as control
from shared.control.sweep import endpoint_replicas
from shared.domain.endpoint import EndpointRecord, SlotState
from shared.storage.endpoints import VersionedEndpoint
from tests.simulation.mutations import Patch, always
from tests.twins.endpoints import MemoryEndpointStore

# What is broken is private, mostly.
rules: Any = autoscaling
sending: Any = proxy
Proxy: Any = proxy.Proxy
ENDPOINT_MUTATIONS: dict[str, Callable[[Patch], None]] = {}
_CACHED_SECONDS = 180.0


def mutation(plant: Callable[[Patch], None]) -> Callable[[Patch], None]:
    """Keep a planted bug under its function's name."""
    ENDPOINT_MUTATIONS[plant.__name__] = plant
    return plant


@mutation
def slots_are_given_without_an_etag(patch: Patch) -> None:
    """Whoever allots a slot overwrites what another step has allotted meanwhile."""
    commit = MemoryEndpointStore.commit

    def anyway(table: MemoryEndpointStore, before: VersionedEndpoint, record: EndpointRecord) -> str:
        there = table.load(record.name) if record.next_slot != before.record.next_slot else None
        return commit(table, before if there is None else replace(before, etag=there.etag), record)

    patch.setattr(MemoryEndpointStore, "commit", anyway)


@mutation
def drains_are_lost(patch: Patch) -> None:
    """What drains is released at once."""

    def at_once(endpoint: EndpointRecord, _: Any, now: datetime, __: Any) -> EndpointRecord:
        done = [one for one in endpoint.slots if one.state is SlotState.DRAINING]
        return rules._moved(endpoint, done, SlotState.RELEASING, now)

    patch.setattr(rules, "_release_drained", at_once)


@mutation
def roll_outs_go_below_the_target(patch: Patch) -> None:
    """An outdated replica drains before its successor is ready."""
    decide = control.decide

    def hasty(endpoint: EndpointRecord, found: Any, now: datetime, gateways: Any) -> EndpointRecord:
        decided = decide(endpoint, found, now, gateways)
        latest = decided.wanted.number
        old = [one for one in decided.slots if one.state is SlotState.ACTIVE and one.generation != latest]
        ready = [one for one in old if one.instance_id in found and found[one.instance_id].ready]
        return rules._moved(decided, ready[:1], SlotState.DRAINING, now)

    patch.setattr(control, "decide", hasty)


@mutation
def surges_are_wide(patch: Patch) -> None:
    """Three replicas beyond those asked for are started while others are replaced."""
    patch.setattr(rules, "SURGE", 3)


@mutation
def generations_that_cannot_start_go_on(patch: Patch) -> None:
    """However often a replica of a generation fails, the next one is started."""
    patch.setattr(rules, "FAILED_STARTS", 1_000_000)
    patch.setattr(rules, "UNRECOVERABLE", frozenset[str]())


@mutation
def strays_run_on(patch: Patch) -> None:
    """A replica whose slot was given up while it was launched is left running."""
    patch.setattr(endpoint_replicas, "_is_stray", always(value=False))


@mutation
def endpoints_are_removed_before_their_replicas(patch: Patch) -> None:
    """The row of a deleted endpoint goes at once, and its replicas stay."""
    decide = control.decide

    def forgetful(endpoint: EndpointRecord, found: Any, now: datetime, gateways: Any) -> EndpointRecord:
        decided = decide(endpoint, found, now, gateways)
        return decided.with_slots([]) if decided.deleting else decided

    patch.setattr(control, "decide", forgetful)


@mutation
def paused_endpoints_keep_their_replicas(patch: Patch) -> None:
    """Nothing drains that is not needed any more."""

    def kept(endpoint: EndpointRecord, *_: object) -> EndpointRecord:
        return endpoint

    patch.setattr(rules, "_shrink", kept)


@mutation
def lost_replicas_are_not_replaced(patch: Patch) -> None:
    """An endpoint that has served starts no replica any more."""
    grow: Callable[..., EndpointRecord] = rules._grow

    def once(endpoint: EndpointRecord, found: Any, now: datetime) -> EndpointRecord:
        return endpoint if any(one.proven_at for one in endpoint.generations) else grow(endpoint, found, now)

    patch.setattr(rules, "_grow", once)


@mutation
def counters_leak_on_errors(patch: Patch) -> None:
    """The place of a request that failed is never given back."""
    attempt = Proxy._try

    async def leaky(made: Any, lease: Any, reply: Any) -> int | None:
        try:
            return await attempt(made, lease, reply)
        except UpstreamError:
            lease._held = False
            raise

    patch.setattr(Proxy, "_try", leaky)


@mutation
def keys_are_cached_too_long(patch: Patch) -> None:
    """A gateway takes a key for three minutes after it has taken it once."""
    whole: Any = Gateway
    caller = whole._caller

    def cached(gateway: Gateway, scope: Any) -> Any:
        known: dict[Any, Any] = gateway.__dict__.setdefault("_known", {})
        at, found = known.get(scope["headers"][0], (-math.inf, None))
        if gateway.clock() - at > _CACHED_SECONDS:
            at, found = known[scope["headers"][0]] = (gateway.clock(), caller(gateway, scope))
        return found

    patch.setattr(Gateway, "_caller", cached)


@mutation
def nodes_are_forgotten_without_the_table(patch: Patch) -> None:
    """A gateway that cannot read the table sends its requests away."""
    find = Gateway.find

    def forgetful(gateway: Gateway, name: str) -> Any:
        found = find(gateway, name)
        is_old = gateway.read_at is None or gateway.clock() - gateway.read_at > 15
        return None if found is None else replace(found, nodes=()) if is_old else found

    patch.setattr(Gateway, "find", forgetful)


@mutation
def answers_are_asked_for_twice(patch: Patch) -> None:
    """A request is sent to another node although one has begun to answer it."""
    patch.setattr(proxy, "_TRIED_AGAIN", sending._TRIED_AGAIN | {200})


@mutation
def broken_streams_look_complete(patch: Patch) -> None:
    """A stream that its node breaks off ends as if that were all."""
    patch.setattr(proxy, "error_event", always(b"data: [DONE]\n\n"))


@mutation
def broken_streams_are_not_counted(patch: Patch) -> None:
    """What breaks off is told to its client alone."""
    pass_on = Proxy._pass_on

    async def uncounted(made: Any, answer: Any, first: bytes, lease: NodeLease, reply: Any) -> None:
        before = made.counts.broken_streams.copy()
        try:
            await pass_on(made, answer, first, lease, reply)
        finally:
            made.counts.broken_streams.clear()
            made.counts.broken_streams.update(before)

    patch.setattr(Proxy, "_pass_on", uncounted)


@mutation
def requests_wait_for_ever(patch: Patch) -> None:
    """However long a request has waited for a node, it waits on."""
    lease = hold.WaitingRoom.lease

    async def patient(room: Any, endpoint: str, excluded: Any, _: float, notice: Any = None) -> NodeLease:
        return await lease(room, endpoint, excluded, 1e6, notice)

    patch.setattr(hold.WaitingRoom, "lease", patient)


@mutation
def draining_nodes_are_chosen(patch: Patch) -> None:
    """A gateway goes on sending requests to a node that drains."""
    module: Any = snapshot
    made = module._node

    def undrained(*given: Any) -> Any:
        node = made(*given)
        return None if node is None else replace(node, draining=False)

    patch.setattr(snapshot, "_node", undrained)
