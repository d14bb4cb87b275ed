"""Which replicas an endpoint starts, drains and releases. Pure: (endpoint, its replicas, now) -> endpoint.

| situation | what follows |
|---|---|
| fewer replicas than asked for | draining ones of the latest generation serve on, then new slots are allotted |
| more than asked for | those that are starting are released first, then serving ones with the fewest requests drained |
| the same, by the scaler's decision | of those that are starting, no more than it gives up |
| another generation, or the end of a lifetime near | one more is started; once it is ready, an outdated one drains |
| a replica has ended | its slot is dropped and, if it was needed, another one allotted |
| a start has failed | the next one waits: 30 s, doubling up to 15 min, and one at a time |
| no replica of a generation can start | it stops, with the reason; the last proven generation keeps serving |
| draining, idle by its probe, and left by every gateway, or for `drain_seconds` | released |

Serving replicas are never drained below the number that is asked for. Starts of a stopped generation are released.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from gpulaunch.models.gateways import GatewayReport
from gpulaunch.models.instances import Reason
from shared.autoscaling.observed import MISSING, NO_GATEWAYS, Gateways, Replica, Replicas
from shared.domain.endpoint import EndpointRecord, Generation, Slot, SlotState, replica_id
from shared.domain.instance import Failure

SURGE = 1
"""Replicas beyond those asked for while outdated ones are replaced."""
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=30), timedelta(minutes=15)
"""Before the next start after one that failed: capacity rarely returns sooner, and a try costs a plan."""
FAILED_STARTS = 3
"""Of a generation, in a row, before any replica was ready: each has tried all of its offers."""
UNRECOVERABLE = frozenset(
    {
        Reason.INVALID_TASK,
        Reason.INSTALL_FAILED,
        Reason.MODEL_FETCH_FAILED,
        Reason.SERVER_FAILED,
        Reason.DOES_NOT_FIT,
    }
)
"""Failures that every replica of the same launch would meet."""
PUT_OFF = frozenset({Reason.BUDGET})
"""Intended endings after which another start would end the same way at once."""
RENEWED_BEFORE = timedelta(minutes=45)
"""Before the end of a replica's lifetime its successor is started: a launch takes eleven minutes, a drain ten."""
SETTLED = timedelta(seconds=45)
"""How long a draining replica is kept at least: one probe, every 30 s, must have found it idle since it drains."""


def decide(
    endpoint: EndpointRecord, replicas: Replicas, now: datetime, gateways: Gateways = NO_GATEWAYS
) -> EndpointRecord:
    """The endpoint with its slots as they should be; the same object if nothing changes.

    `replicas` has the instance of every slot.
    """
    decided = _forget_ended(endpoint, replicas, now)
    decided = _note_proven(decided, replicas, now)
    decided = _shrink(decided, replicas, now)
    decided = _release_drained(_forget_failures(decided, replicas), replicas, now, gateways)
    decided = _grow(decided, replicas, now)
    return endpoint if decided == endpoint else decided


def to_launch(endpoint: EndpointRecord, replicas: Replicas, now: datetime) -> list[Slot]:
    """The slots whose instance is to be launched now."""
    if endpoint.retry_at is not None and now < endpoint.retry_at:
        return []
    return [one for one in endpoint.slots if one.state is SlotState.ACTIVE and not _at(replicas, one).exists]


def to_terminate(endpoint: EndpointRecord, replicas: Replicas, now: datetime) -> list[Slot]:
    """The slots whose instance is to be terminated now: a node that has reported its end has its time first."""

    def due(slot: Slot) -> bool:
        replica = _at(replicas, slot)
        if slot.state is not SlotState.RELEASING or not replica.exists:
            return False
        if replica.drains_until is not None and now < replica.drains_until:
            return False
        # What a later version has written may be all right: only its deletion by a person ends it.
        return endpoint.deleting if replica.unreadable else not (replica.ended or replica.ending_now)

    return [slot for slot in endpoint.slots if due(slot)]


def put_off(endpoint: EndpointRecord, why: str, now: datetime) -> EndpointRecord:
    """The endpoint after a start that failed or was refused: the next one waits."""
    pause = min(FIRST_PAUSE * 2 ** min(endpoint.failures, 10), LONGEST_PAUSE)
    update = {"failures": endpoint.failures + 1, "failure": why, "retry_at": now + pause}
    changed = endpoint.model_copy(update=update)
    return changed if endpoint.failure == why else changed.noted(now, why)


def starting_generation(endpoint: EndpointRecord) -> Generation | None:
    """The generation that new replicas are of: the wanted one, or, if it is stopped, the last that has served."""
    if endpoint.wanted.stopped is None:
        return endpoint.wanted
    return next((one for one in reversed(endpoint.generations) if one.proven_at is not None), None)


def is_outdated(endpoint: EndpointRecord, slot: Slot, replica: Replica, now: datetime) -> bool:
    """Whether a replica is to be replaced: it is of another generation, or near the end of its lifetime."""
    generation = starting_generation(endpoint)
    return generation is None or slot.generation != generation.number or _expires(replica, now)


def _expires(replica: Replica, now: datetime) -> bool:
    if not replica.ready or replica.deadline_at is None or replica.created_at is None:
        return False
    lifetime = replica.deadline_at - replica.created_at
    return now >= replica.deadline_at - min(RENEWED_BEFORE, lifetime / 3)


def serves(slot: Slot, replica: Replica) -> bool:
    """Whether a slot's node gets requests: it is ready, or was when its record, which cannot be read, still could."""
    return replica.ready or (replica.unreadable and slot.route is not None)


def _at(replicas: Replicas, slot: Slot) -> Replica:
    return replicas.get(slot.instance_id, MISSING)


def _forget_ended(endpoint: EndpointRecord, replicas: Replicas, now: datetime) -> EndpointRecord:
    """Drop the slots of instances that have ended, and count failed starts; one that terminates is needed no more."""
    for slot in endpoint.slots:
        replica, expected = _at(replicas, slot), slot.state is not SlotState.ACTIVE
        if not expected and replica.ending is not None:
            endpoint = _note_ending(endpoint, slot, replica, replica.ending, now)
        if replica.ended or (expected and not replica.exists):
            endpoint = endpoint.with_slots([one for one in endpoint.slots if one.number != slot.number])
        elif replica.ending_now and slot.state is not SlotState.RELEASING:
            releasing = slot.model_copy(update={"state": SlotState.RELEASING, "since": now})
            slots = [releasing if one.number == slot.number else one for one in endpoint.slots]
            endpoint = endpoint.with_slots(slots)
    return endpoint


def _note_ending(
    endpoint: EndpointRecord, slot: Slot, replica: Replica, ending: Failure, now: datetime
) -> EndpointRecord:
    text = f"Replica {slot.instance_id} ended: {ending.message} ({ending.reason.value})"
    if not replica.failed:
        noted = endpoint.noted(now, text)
        return put_off(noted, text, now) if ending.reason in PUT_OFF else noted
    endpoint = put_off(endpoint, text, now)
    generation = endpoint.generation(slot.generation)
    if generation is None or generation.proven_at is not None or generation.stopped is not None:
        return endpoint
    failed = generation.failed_starts + 1
    stopped = ending if ending.reason in UNRECOVERABLE or failed >= FAILED_STARTS else None
    changed = generation.model_copy(update={"failed_starts": failed, "stopped": stopped})
    endpoint = endpoint.with_generation(changed)
    if stopped is None:
        return endpoint
    # What is started instead, if anything, is proven: it need not wait for what this one failed at.
    endpoint = endpoint.model_copy(update={"failures": 0, "retry_at": None})
    return endpoint.noted(now, f"Generation {generation.number} is stopped: {ending.message}")


def _note_proven(endpoint: EndpointRecord, replicas: Replicas, now: datetime) -> EndpointRecord:
    """Remember which generations have served; once the latest one has, no earlier one is started any more."""
    serving = {one.generation for one in endpoint.slots if _at(replicas, one).ready}
    for generation in endpoint.generations:
        if generation.number in serving and generation.proven_at is None:
            proven = generation.model_copy(update={"proven_at": now, "failed_starts": 0, "stopped": None})
            endpoint = endpoint.with_generation(proven).noted(now, f"Generation {generation.number} serves.")
    if endpoint.wanted.proven_at is not None and len(endpoint.generations) > 1:
        endpoint = endpoint.model_copy(update={"generations": [endpoint.wanted]})
    return endpoint


def _forget_failures(endpoint: EndpointRecord, replicas: Replicas) -> EndpointRecord:
    """Once all replicas serve, starts need not wait any more."""
    active = [one for one in endpoint.slots if one.state is SlotState.ACTIVE]
    if not endpoint.failures or not active or not all(serves(one, _at(replicas, one)) for one in active):
        return endpoint
    return endpoint.model_copy(update={"failures": 0, "failure": "", "retry_at": None})


def _shrink(endpoint: EndpointRecord, replicas: Replicas, now: datetime) -> EndpointRecord:
    """Release starts that are not needed, and drain serving replicas beyond those asked for."""
    target = endpoint.target
    active = [one for one in endpoint.slots if one.state is SlotState.ACTIVE]
    serving = [one for one in active if serves(one, _at(replicas, one))]
    fresh = [one for one in serving if not is_outdated(endpoint, one, _at(replicas, one), now)]
    starting = [one for one in active if one not in serving]
    useless = [one for one in starting if _is_useless(endpoint, one)]
    needed = [one for one in starting if one not in useless and one.generation == _number(endpoint)]
    spared = 0 if endpoint.scaling is None else len(needed) - endpoint.scaler.releasable
    kept = needed[: max(0, spared, min(target - len(fresh), target + SURGE - min(target, len(serving))))]
    earlier = [one for one in starting if one not in useless and one not in needed]
    room = min(target, target + SURGE - len(kept)) - len(serving)
    surplus = [*useless, *needed[len(kept) :], *earlier[max(0, room) :]]
    endpoint = _moved(endpoint, surplus, SlotState.RELEASING, now)

    def worth(slot: Slot) -> tuple[bool, int, float, int]:
        """Drained in this order: outdated ones by generation, then those with the fewest requests, youngest first."""
        outdated = slot not in fresh
        return (not outdated, slot.generation, 0.0 if outdated else _at(replicas, slot).load, -slot.number)

    victims = sorted(serving, key=worth)[: max(0, len(serving) - target)]
    return _moved(endpoint, victims, SlotState.DRAINING, now)


def _number(endpoint: EndpointRecord) -> int | None:
    generation = starting_generation(endpoint)
    return None if generation is None else generation.number


def _is_useless(endpoint: EndpointRecord, slot: Slot) -> bool:
    """Whether a start of another generation is to be given up.

    While the latest generation has proved nothing, those of the one that has served go on: they may be needed.
    """
    if endpoint.is_off or (endpoint.target == 0 and endpoint.scaling is None):
        return True
    generation = starting_generation(endpoint)
    if generation is not None and slot.generation == generation.number:
        return False
    own = endpoint.generation(slot.generation)
    return generation is None or generation.proven_at is not None or own is None or own.proven_at is None


def _grow(endpoint: EndpointRecord, replicas: Replicas, now: datetime) -> EndpointRecord:
    """Take replicas back that are still draining, then allot slots for new ones."""
    generation = starting_generation(endpoint)
    if generation is None or endpoint.target == 0:
        return endpoint

    def is_fresh(slot: Slot) -> bool:
        return not is_outdated(endpoint, slot, _at(replicas, slot), now)

    active = [one for one in endpoint.slots if one.state is SlotState.ACTIVE]
    need = endpoint.target - sum(is_fresh(one) for one in active)
    draining = [one for one in endpoint.slots if one.state is SlotState.DRAINING]
    kept = [one for one in draining if _at(replicas, one).ready and is_fresh(one)][: max(0, need)]
    endpoint = _moved(endpoint, kept, SlotState.ACTIVE, now)
    # Nodes that drain hold quota: they delay the next replacement, and nothing that is missing.
    spare = SURGE if len(kept) == len(draining) and any(not is_fresh(one) for one in active) else 0
    count = min(need - len(kept), endpoint.target + spare - len(active) - len(kept))
    if endpoint.failures:
        waiting = endpoint.retry_at is not None and now < endpoint.retry_at
        starting = any(is_fresh(one) and not serves(one, _at(replicas, one)) for one in active)
        count = 0 if waiting or starting else min(count, 1)
    for _ in range(max(0, count)):
        endpoint = _allotted(endpoint, generation.number, now)
    return endpoint


def _allotted(endpoint: EndpointRecord, generation: int, now: datetime) -> EndpointRecord:
    number = endpoint.next_slot
    instance_id = replica_id(endpoint.endpoint_id, generation, number, now)
    slot = Slot(number=number, generation=generation, instance_id=instance_id, allotted_at=now, since=now)
    return endpoint.with_slots([*endpoint.slots, slot]).model_copy(update={"next_slot": number + 1, "updated_at": now})


def _release_drained(endpoint: EndpointRecord, replicas: Replicas, now: datetime, gateways: Gateways) -> EndpointRecord:
    limit = timedelta(seconds=endpoint.drain_seconds)

    def is_done(slot: Slot) -> bool:
        replica, drained = _at(replicas, slot), now - slot.since
        if drained >= limit:
            return True
        if not replica.ready:
            return not replica.unreadable
        return replica.idle and drained >= SETTLED and _is_acknowledged(endpoint, slot, gateways)

    done = [one for one in endpoint.slots if one.state is SlotState.DRAINING and is_done(one)]
    return _moved(endpoint, done, SlotState.RELEASING, now)


def _is_acknowledged(endpoint: EndpointRecord, slot: Slot, gateways: Gateways) -> bool:
    """Whether every gateway has stopped choosing the slot's node, and has no request on it.

    That is final, whatever the age of a report: a gateway that has read this version chooses the node again only for
    a later one. A report that is missing, old or unreadable acknowledges nothing: its gateway may serve on without
    the table.
    """

    def acknowledges(report: GatewayReport | None) -> bool:
        version = None if report is None else report.version_of(endpoint.endpoint_id)
        return (
            report is not None
            and version is not None
            and version >= slot.version
            and not report.in_flight.get(slot.instance_id, 0)
        )

    return all(acknowledges(one) for one in gateways.values())


_MOVES: dict[SlotState, Callable[[Slot], str]] = {
    SlotState.ACTIVE: lambda slot: f"Replica {slot.instance_id} is needed again.",
    SlotState.DRAINING: lambda slot: f"Replica {slot.instance_id} of generation {slot.generation} drains.",
    SlotState.RELEASING: lambda slot: f"Replica {slot.instance_id} of generation {slot.generation} is released.",
}


def _moved(endpoint: EndpointRecord, slots: list[Slot], state: SlotState, now: datetime) -> EndpointRecord:
    if not slots:
        return endpoint
    numbers, version = {slot.number for slot in slots}, endpoint.routes_version + 1
    update = {"state": state, "since": now, "version": version}
    moved = [one.model_copy(update=update) if one.number in numbers else one for one in endpoint.slots]
    endpoint = endpoint.model_copy(update={"routes_version": version})
    for slot in slots:
        endpoint = endpoint.noted(now, _MOVES[state](slot))
    return endpoint.with_slots(moved)
