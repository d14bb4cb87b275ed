"""The queue of held requests keeps its order and its count, whatever becomes of a request."""

import asyncio
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from gateway.balance import Balancer, NodeLease
from gateway.hold import TooLateError, WaitingRoom
from gateway.snapshot import Endpoint, Node


class Hall:
    """A waiting room in front of one node, whose slots and draining a test changes."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.draining = False
        self.balancer = Balancer(lambda: 0.0)
        self.room = WaitingRoom(self.balancer, self.find)
        self.order: list[int] = []
        self.leases: list[NodeLease] = []
        self.tasks: dict[int, asyncio.Task[None]] = {}

    def find(self, name: str) -> Endpoint:
        node = Node(
            instance_id="inst-1",
            attempt=1,
            base="http://n",
            key="k",
            model="m",
            slots=self.slots,
            draining=self.draining,
        )
        return Endpoint(name=name, model="m", replicas=1, starting=0, landing=240.0, nodes=(node,), keys=())

    def come(self, number: int, seconds: float = 60.0) -> None:
        self.tasks[number] = asyncio.create_task(self._come(number, seconds))

    def set(self, *, slots: int, draining: bool) -> None:
        self.slots, self.draining = slots, draining
        self.room.wake()

    def release(self) -> None:
        if self.leases:
            self.leases.pop(0).release()

    async def end(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        while self.leases:
            self.release()

    async def _come(self, number: int, seconds: float) -> None:
        try:
            lease = await self.room.lease("chat", (), seconds)
        except TooLateError:
            return
        self.order.append(number)
        self.leases.append(lease)


async def settle() -> None:
    for _ in range(12):
        await asyncio.sleep(0)


def test_requests_woken_for_a_node_that_drains_at_once_should_keep_their_order() -> None:
    async def run() -> list[int]:
        hall = Hall(slots=0)
        for number in range(3):
            hall.come(number)
        await settle()
        hall.set(slots=3, draining=False)
        hall.set(slots=3, draining=True)
        await settle()
        hall.set(slots=1, draining=False)
        await settle()
        for _ in range(2):
            hall.release()
            await settle()
        order = list(hall.order)
        await hall.end()
        return order

    assert asyncio.run(run()) == [0, 1, 2]


def test_a_request_that_comes_as_a_place_is_freed_should_not_overtake_who_waits() -> None:
    async def run() -> list[int]:
        hall = Hall(slots=1)
        for number in range(2):
            hall.come(number)
        await settle()
        hall.release()
        hall.come(2)
        await settle()
        order = list(hall.order)
        await hall.end()
        return order

    assert asyncio.run(run()) == [0, 1]


def test_who_waits_for_another_node_should_not_keep_a_free_one_from_those_behind() -> None:
    async def run() -> tuple[bool, NodeLease]:
        hall = Hall(slots=1)
        failed_there = asyncio.create_task(hall.room.lease("chat", [("inst-1", 1)], 60.0))
        await settle()
        lease = await asyncio.wait_for(hall.room.lease("chat", (), 60.0), 1.0)
        waits = not failed_there.done()
        failed_there.cancel()
        return waits, lease

    waits, lease = asyncio.run(run())
    assert waits
    assert lease.node.instance_id == "inst-1"


def test_who_does_not_wait_should_get_what_is_free_and_of_no_use_to_those_who_do() -> None:
    async def run() -> tuple[bool, NodeLease]:
        hall = Hall(slots=1)
        failed_there = asyncio.create_task(hall.room.lease("chat", [("inst-1", 1)], 60.0))
        await settle()
        lease = await hall.room.lease("chat", (), 0.0)
        waits = not failed_there.done()
        failed_there.cancel()
        return waits, lease

    waits, lease = asyncio.run(run())
    assert waits
    assert lease.node.instance_id == "inst-1"


def test_who_does_not_wait_should_not_get_what_is_free_before_those_who_do() -> None:
    async def run() -> list[int]:
        hall = Hall(slots=1)
        hall.come(0)
        hall.come(1)
        await settle()
        hall.release()
        hall.come(2, 0.0)
        await settle()
        order = list(hall.order)
        await hall.end()
        return order

    assert asyncio.run(run()) == [0, 1]


Step = Callable[[Hall, int], None]


def _abort(hall: Hall, number: int) -> None:
    if hall.tasks:
        hall.tasks[number % len(hall.tasks)].cancel()


STEPS: dict[str, Step] = {
    "come": lambda hall, _: hall.come(len(hall.tasks)),
    "come and not wait": lambda hall, _: hall.come(len(hall.tasks), 0.0),
    "abort": _abort,
    "release": lambda hall, _: hall.release(),
    "drain": lambda hall, _: hall.set(slots=hall.slots, draining=True),
    "serve": lambda hall, number: hall.set(slots=number % 4, draining=False),
}


@given(st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 7), st.booleans()), max_size=30))
def test_after_any_interleaving_the_order_should_hold_and_nothing_be_left(steps: list[tuple[str, int, bool]]) -> None:
    async def run() -> None:
        hall = Hall(slots=1)
        for name, number, settled in steps:
            STEPS[name](hall, number)
            if settled:
                await settle()
        await settle()
        assert hall.order == sorted(hall.order)
        assert hall.balancer.in_flight == len(hall.leases)
        waiting = sum(not task.done() for task in hall.tasks.values())
        assert hall.room.held("chat") == waiting
        await hall.end()
        assert (hall.room.held("chat"), hall.balancer.in_flight) == (0, 0)

    asyncio.run(run())
