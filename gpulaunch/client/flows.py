"""Every call of the interface as a flow: a generator that yields what is to be sent or waited for, and gets answers.

Flows do no input or output and read no clock, so the synchronous and the asynchronous client share them as they are.
"""

import json
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Generic, Literal, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from gpulaunch import operations
from gpulaunch.client.errors import (
    AccessError,
    ClientError,
    EndedError,
    NotFoundError,
    NotInTimeError,
    UnreadableAnswerError,
)
from gpulaunch.client.exchange import Call, passes
from gpulaunch.models.instances import Phase
from gpulaunch.models.requests import LaunchRequest, ProviderName
from gpulaunch.models.responses import (
    CatalogAnswer,
    ConfigAnswer,
    CostsAnswer,
    Credentials,
    EventList,
    EventView,
    HealthAnswer,
    InstanceList,
    InstanceView,
    LaunchAnswer,
    LogAnswer,
    QuotaAnswer,
)
from gpulaunch.operations import Operation

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

FIRST_POLL, LAST_POLL = 1.0, 5.0
"""Seconds between two looks: the first after a change, stretched by half each time; an unchanged one is a 304."""
OUTAGE = 300.0
"""Seconds for which a wait bears a control plane that does not answer: a deployment or a restart takes one or two."""
PAGE = 100
"""Instances per page of a list."""


@dataclass(frozen=True)
class Pause:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Emit(Generic[T]):
    """Hand something to the caller."""

    value: T


Flow = Generator[Call | Pause, httpx.Response | None, T]
"""Ends with one result."""
Stream = Generator[Call | Pause | Emit[T], httpx.Response | None, None]
"""Hands out results as they come."""
CostsBy = Literal["day", "model", "label", "provider"]
"""What costs are summed up by."""
Clock = Callable[[], float]
"""Seconds since some moment, as time.monotonic gives."""


def single(flow: Flow[T]) -> Stream[T]:
    """A flow as a stream of one result."""
    result = yield from flow
    yield Emit(result)


def launch(request: LaunchRequest | Mapping[str, Any], idempotency_key: str | None) -> Flow[LaunchAnswer]:
    """Launch; the key is made once, so that every repetition of the request is the same launch."""
    # What is not said is left to the program, whose defaults may be newer than these models.
    body = request.model_dump(mode="json", exclude_unset=True) if isinstance(request, LaunchRequest) else dict(request)
    headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
    return _ask(Call(operations.LAUNCH, headers=headers, body=json.dumps(body).encode()), LaunchAnswer)


def get(instance_id: str) -> Flow[InstanceView]:
    """One instance."""
    return _ask(Call(operations.SHOW, instance_id), InstanceView)


def listing(
    *, phase: Phase | None, provider: ProviderName | None, label: str | None, live: bool | None
) -> Stream[InstanceView]:
    """Instances, newest first, page by page as they are wanted."""
    query = {"page_size": str(PAGE)}
    if phase is not None:
        query["phase"] = phase.value
    if provider is not None:
        query["provider"] = provider
    if label is not None:
        query["label"] = label
    if live is not None:
        query["live"] = str(live).lower()
    while True:
        page = yield from _ask(Call(operations.LIST, query=query), InstanceList)
        for instance in page.instances:
            yield Emit(instance)
        if page.next_token is None:
            return
        query["continuation_token"] = page.next_token


def events(instance_id: str, after: int = -1) -> Flow[EventList]:
    """The timeline after an event, with the ledger of attempts."""
    return _ask(Call(operations.EVENTS, instance_id, {"after": str(after)}), EventList)


def logs(instance_id: str) -> Flow[LogAnswer]:
    """The last log lines."""
    return _ask(Call(operations.LOGS, instance_id), LogAnswer)


def credentials(instance_id: str) -> Flow[Credentials]:
    """How to use a ready endpoint."""
    return _ask(Call(operations.CREDENTIALS, instance_id), Credentials)


def end(instance_id: str) -> Flow[InstanceView]:
    """Begin to end an instance."""
    return _ask(Call(operations.END, instance_id), InstanceView)


def catalog(provider: ProviderName, region: str | None, gpu: str | None) -> Flow[CatalogAnswer]:
    """What can be launched."""
    query = {"provider": provider, "region": region, "gpu": gpu}
    given = {name: value for name, value in query.items() if value is not None}
    return _ask(Call(operations.CATALOG, query=given), CatalogAnswer)


def costs(first_day: date | None, last_day: date | None, by: CostsBy, label: str | None) -> Flow[CostsAnswer]:
    """What was spent."""
    days = {"from": first_day, "to": last_day}
    query = {name: day.isoformat() for name, day in days.items() if day is not None} | {"by": by}
    return _ask(Call(operations.COSTS, query=query | ({} if label is None else {"label": label})), CostsAnswer)


def quota(regions: Sequence[str]) -> Flow[QuotaAnswer]:
    """The quota on Azure."""
    return _ask(Call(operations.QUOTA, query={"region": ",".join(regions)} if regions else {}), QuotaAnswer)


def config() -> Flow[ConfigAnswer]:
    """The settings that matter to users."""
    return _ask(Call(operations.CONFIG), ConfigAnswer)


def health() -> Flow[HealthAnswer]:
    """Whether the control plane works; a degraded one is an answer too."""
    return _ask(Call(operations.HEALTH), HealthAnswer)


def role() -> Flow[Literal["admin", "read"]]:
    """What the token may do: an instance that can't exist is refused to a reader before it is looked for."""
    try:
        yield Call(operations.CREDENTIALS, "inst-" + "0" * 26)
    except NotFoundError:
        return "admin"
    except AccessError as error:
        if error.status != 403:
            raise
        return "read"
    return "admin"


def wait_for(
    instance_id: str,
    wanted: Literal["ready", "gone"],
    timeout: float | None,
    on_change: Callable[[InstanceView], None] | None,
    clock: Clock,
) -> Flow[InstanceView]:
    """Look until the instance is ready, or gone.

    Raises
    ------
    EndedError
        `ready` is wanted, and the instance ends or has ended.
    NotInTimeError
        `timeout` seconds are over.
    """
    watcher, since = _Watcher(instance_id, clock), clock()
    while True:
        left = None if timeout is None else since + timeout - clock()
        view = yield from watcher.change(left)
        if view is None:
            raise NotInTimeError(watcher.seen, timeout or 0.0)
        if on_change is not None:
            on_change(view)
        if wanted == "ready" and (view.phase.ended or view.phase is Phase.TERMINATING):
            raise EndedError(view)
        if view.phase.ended or (wanted == "ready" and view.phase is Phase.READY):
            return view


def follow_events(instance_id: str, after: int, clock: Clock) -> Stream[EventView]:
    """Events as they happen, until nothing is left of the instance."""
    watcher = _Watcher(instance_id, clock)
    while True:
        view = yield from watcher.change(None)
        answer = yield from events(instance_id, after)
        for event in answer.events:
            after = event.sequence
            yield Emit(event)
        if view is not None and view.phase.ended:
            return


def follow_logs(instance_id: str, clock: Clock) -> Stream[str]:
    """Log lines as they are reported, until nothing is left of the instance."""
    watcher, known = _Watcher(instance_id, clock), list[str]()
    while True:
        view = yield from watcher.change(None)
        lines = (yield from logs(instance_id)).lines
        for line in new_lines(known, lines):
            yield Emit(line)
        known = lines
        if view is not None and view.phase.ended:
            return


def new_lines(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """Lines that were added to a tail that keeps only the last ones: what follows the longest overlap."""
    for size in range(min(len(before), len(now)), 0, -1):
        if list(before[-size:]) == list(now[:size]):
            return list(now[size:])
    return list(now)


class _Watcher:
    """Looks at one instance by ETag, so that an unchanged one costs the program one read."""

    def __init__(self, instance_id: str, clock: Clock) -> None:
        self._call = Call(operations.SHOW, instance_id)
        self._clock = clock
        self._pause = 0.0
        self._seen: InstanceView | None = None
        self._answered_at = clock()

    @property
    def seen(self) -> InstanceView:
        """What was seen last; there is something after the first look."""
        assert self._seen is not None  # noqa: S101 - change() raises before it gives up without a first look
        return self._seen

    def change(self, seconds: float | None) -> Flow[InstanceView | None]:
        """The next state that differs from the last one; None when the seconds are over. The first look is free."""
        until = None if seconds is None else self._clock() + seconds
        while True:
            if self._pause:
                left = self._pause if until is None else min(self._pause, until - self._clock())
                if left <= 0:
                    return None
                yield Pause(left)
            view = yield from self._look()
            self._pause = FIRST_POLL if view else min(max(self._pause, FIRST_POLL) * 1.5, LAST_POLL)
            if view is not None:
                self._seen = view
                return view

    def _look(self) -> Flow[InstanceView | None]:
        try:
            response = _answered((yield self._call))
        except ClientError as error:
            if self._seen is None or not passes(error) or self._clock() - self._answered_at > OUTAGE:
                raise
            return None
        self._answered_at = self._clock()
        if response.status_code == 304:
            return None
        self._call = Call(operations.SHOW, self._call.instance_id, headers={"If-None-Match": response.headers["ETag"]})
        return _parsed(operations.SHOW, response, InstanceView)


def _ask(call: Call, model: type[M]) -> Flow[M]:
    return _parsed(call.operation, _answered((yield call)), model)


def _answered(response: httpx.Response | None) -> httpx.Response:
    assert response is not None  # noqa: S101 - the driver answers every Call with a response or an error
    return response


def _parsed(operation: Operation, response: httpx.Response, model: type[M]) -> M:
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        where = f"{operation.method} {response.url.path}"
        raise UnreadableAnswerError(
            f"The answer to {where} can't be read ({error.error_count()} fields); are client and app of one version?"
        ) from error
