"""What a seed came to: a simulation that never meets a thing proves nothing about it."""

from collections.abc import Sequence

from gpulaunch.models.instances import Reason
from shared.domain.instance import InstanceRecord

_NOTES = {
    "a process dies": "dies ",
    "done without an answer": ": no answer, done",
    "not done, without an answer": ": no answer, not done",
    "a stale read": "as it was before",
    "a message is lost": "the message is lost",
    "a message is given up": "a message failed too often",
    "its step is sent again": "its step is to be sent again",
    "a submission is claimed again": "the submission is claimed again",
    "adoption": " is adopted",
    "a submission is refused": " is refused: ",
    "the SkyPilot server restarts": "the SkyPilot server restarts",
    "eviction by stopping": "is evicted, and stopped",
    "eviction by deletion": "is evicted, and deleted",
    "a teardown lies": "is said to be gone: a lie",
    "a node's lease is lost": "ends itself: its lease is lost",
    "a node is told to end": "ends itself: told to",
    "a machine without a record is collected": "is collected as garbage",
    "SkyPilot forgets a cluster": "is forgotten by the SkyPilot server",
    "SkyPilot leaves a group": "leaves its disk and group",
    "Azure deletes a group": "Azure has deleted its group",
    "Azure deletes a machine in a shared group": "Azure has deleted its virtualMachines",
    "Azure does not delete a group": "its group could not be deleted",
    "Azure throttles": "Azure throttles us",
    "Azure's garbage is collected": "is removed from Azure as garbage",
    "an evicted machine is Azure's word": "Azure evicted the spot machine",
    "a launch has no room in a budget": "launch_instance is refused: 402",
    "a launch has no room in a limit": "launch_instance is refused: 403",
    "a launch has no room in Azure's quota": "launch_instance is refused: 422",
    "a teardown raises its alert": " is not confirmed deleted after ",
    "garbage waits for a confirmation": "are confirmed as garbage",
    "a budget is lowered": "the month's budget is lowered",
    "a month's end": "workload: month's end",
    "forty users at once": "workload: crowd",
    "three weeks": "workload: weeks",
    "an alert arrives": "an alert arrives: ",
    "a key with another body is refused": "launches something else with its key: 409",
    "every try of the SDK fails": "no answer again",
    "a later version writes": "is written by a later version",
    "an earlier version writes": "is written by an earlier version",
    "SkyPilot's books are lost": "the SkyPilot server's books lack",
    "the table is restored": "the table is restored",
    "the table is emptied": "the table is emptied",
    "a record cannot be read": " cannot be read",
    "a record can be read again": " can be read again",
    "a task fails at one item": ": a bad item",
    "messages wait for their turn": "the host is busy",
}
"""By name: what stands in a line of the trace."""
_OF_ENDPOINTS = {
    "a replica drains": " drains.",
    "a replica is released": " is released.",
    "a draining replica is needed again": " is needed again.",
    "a generation is stopped": " is stopped: ",
    "a generation serves": " serves.",
    "an endpoint is removed": " is removed",
    "a start is refused": "A start was refused",
    "a gateway is killed": " is killed",
    "a gateway dies as it writes its report": ": write its report",
    "a gateway has ended": " has ended",
    "the table is away from all gateways": "the table is away from all gateways",
    "the table is away from one gateway": "the table is away from gateway ",
    "a request is served": " is served 200",
    "a stream is broken": " is broken 200 broken",
    "an answer that is no stream is broken": " is broken 200, on",
    "a client leaves": " is left ",
    "a request dies with its gateway": " is gateway died",
    "an unknown key is refused": " is refused 401",
    "a request waits too long": " is refused 503 unavailable",
    "a stream waits too long": " is refused 200 unavailable",
    "an endpoint is written by a later version": "chat-0 is written by a later version",
}
"""The same of seeds with endpoints."""
_ENDINGS = (
    Reason.USER_REQUEST,
    Reason.JOB_COMPLETED,
    Reason.IDLE,
    Reason.DEADLINE,
    Reason.BUDGET,
    Reason.NO_OFFERS_LEFT,
    Reason.TOO_MANY_ATTEMPTS,
    Reason.TOO_MANY_RECOVERIES,
    Reason.PROVIDER_UNAVAILABLE,
    Reason.POISON_MESSAGE,
    Reason.INVALID_TASK,
)
_FAILURES = tuple(Reason)[: list(Reason).index(Reason.USER_REQUEST)]
_OTHERS = ("failover", "recovery", "a month's budget ends an instance")

REACHED = (
    *_NOTES,
    *(f"ended: {reason.value}" for reason in _ENDINGS),
    *(f"attempt failed: {reason.value}" for reason in _FAILURES),
    *_OTHERS,
)
"""Everything that the seeds of CI have to come to."""
REACHED_WITH_ENDPOINTS = tuple(_OF_ENDPOINTS)
"""The same of those with endpoints."""


def reached(trace: Sequence[tuple[int, str, str]], records: Sequence[InstanceRecord]) -> set[str]:
    """The names of what happened in a run."""
    text = "\n".join(what for _, _, what in trace)
    found = {name for name, words in (_NOTES | _OF_ENDPOINTS).items() if words in text}
    for record in records:
        if record.ending is not None:
            found.add(f"ended: {record.ending.reason.value}")
            if record.ending.reason is Reason.BUDGET and " is spent: " in record.ending.message:
                found.add("a month's budget ends an instance")
        failures = [one.failure.reason.value for one in record.attempts if one.failure is not None]
        found.update(f"attempt failed: {reason}" for reason in failures)
        if record.recoveries:
            found.add("recovery")
        if len(record.attempts) > record.recoveries + 1:
            found.add("failover")
    return found
