"""Requests that wait for a node: in the order in which they came, at most so many, and for so long."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from gateway.balance import Balancer, Name, NodeLease
from gateway.snapshot import Endpoint

HELD_PER_SLOT = 4
"""Requests that may wait for each request that the endpoint's nodes can work on at once: three turns to wait for, and
what comes meanwhile. Their memory has a limit of its own (`gateway.bodies`)."""

FIRST_NOTICE, NEXT_NOTICE = 5.0, 15.0
"""Seconds for which a request waits before its client hears of it, and between two notices."""

Notice = Callable[[], Awaitable[None]]


class FullError(Exception):
    """As many requests wait already as may."""


class TooLateError(Exception):
    """No node had room in time."""


@dataclass(eq=False)
class _Place:
    """A request's place in a queue."""

    excluded: Collection[Name]
    woken: "asyncio.Future[None]"


class WaitingRoom:
    def __init__(self, balancer: Balancer, find: Callable[[str], Endpoint | None]) -> None:
        self._balancer = balancer
        self._find = find
        balancer.on_release = self.wake
        self._queues: dict[str, deque[_Place]] = {}

    def held(self, endpoint: str) -> int:
        return len(self._queues.get(endpoint, ()))

    def lease_at_once(self, endpoint: str, excluded: Collection[Name]) -> NodeLease | None:
        """A place on a node of the endpoint that is free, unless others wait for it.

        Raises:
            TooLateError: The endpoint no longer exists.
        """
        return None if endpoint in self._queues else self._try(endpoint, excluded)

    async def lease(
        self, endpoint: str, excluded: Collection[Name], seconds: float, notice: Notice | None = None
    ) -> NodeLease:
        """Wait for a place on a node of the endpoint. `notice` is awaited now and then meanwhile.

        Raises:
            FullError: Too many wait already.
            TooLateError: None was free within `seconds`, or the endpoint no longer exists.
        """
        queue = self._queues.setdefault(endpoint, deque())
        time = asyncio.get_running_loop().time
        deadline, next_notice = time() + seconds, time() + FIRST_NOTICE
        place: _Place | None = None
        try:
            while True:
                # Whoever came earlier goes first.
                waits = place is None and self._is_wanted(endpoint, queue)
                lease = None if waits else self._try(endpoint, excluded)
                if lease is not None:
                    return lease
                left = deadline - time()
                if left <= 0:
                    raise TooLateError
                if place is None and len(queue) >= self._most(endpoint):
                    raise FullError
                woken = asyncio.get_running_loop().create_future()
                if place is None:
                    place = _Place(excluded, woken)
                    queue.append(place)
                    self.wake()
                else:
                    place.woken = woken
                    self._wake_next(endpoint, queue, queue.index(place) + 1)
                until = deadline if notice is None else min(deadline, next_notice)
                await asyncio.wait({woken}, timeout=max(0.0, until - time()))
                if notice is not None and not woken.done() and time() < deadline:
                    await notice()
                    next_notice = time() + NEXT_NOTICE
        finally:
            if place is not None:
                queue.remove(place)
            if not queue:
                self._queues.pop(endpoint, None)
            self.wake()

    def wake(self) -> None:
        """Let the first ones of each queue try again, as many as there is room for."""
        for name, queue in list(self._queues.items()):
            endpoint = self._find(name)
            room = 0 if endpoint is None else self._balancer.free(endpoint.nodes)
            for place in list(queue)[:room]:
                if not place.woken.done():
                    place.woken.set_result(None)

    def _wake_next(self, endpoint: str, queue: deque[_Place], position: int) -> None:
        """Let the next one try: the one before it could not use what is free, having failed there already."""
        found = self._find(endpoint)
        if found is None or not self._balancer.free(found.nodes) or position >= len(queue):
            return
        if not queue[position].woken.done():
            queue[position].woken.set_result(None)

    def _is_wanted(self, name: str, queue: Collection[_Place]) -> bool:
        """Whether what is free is of use to somebody who waits: some wait for other nodes than those that failed."""
        endpoint = self._find(name)
        if endpoint is None or not self._balancer.free(endpoint.nodes):
            return bool(queue)

        def has_room(place: _Place) -> bool:
            nodes = [one for one in endpoint.nodes if one.name not in place.excluded]
            return self._balancer.free(nodes) > 0

        return any(has_room(place) for place in queue)

    def _most(self, name: str) -> int:
        endpoint = self._find(name)
        return 0 if endpoint is None else HELD_PER_SLOT * endpoint.slots * max(1, endpoint.replicas)

    def _try(self, name: str, excluded: Collection[Name]) -> NodeLease | None:
        endpoint = self._find(name)
        if endpoint is None:
            raise TooLateError
        return self._balancer.lease(endpoint.nodes, excluded)
