"""Whatever becomes of requests, clients and nodes: no place stays taken, and no request stays in a queue."""

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import hold
from gateway.snapshot import Node
from gateway.upstream import UpstreamError, UpstreamTimeoutError
from tests.functional.gateway.desk import CHAT, Called, Desk, endpoint, node, settle

ACTS = ("fine", "refused", "late", "503", "500", "400", "reset", "broken", "stuck", "stalled", "bug")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.booleans(), st.lists(st.sampled_from(ACTS), max_size=3)),
        st.tuples(st.just("leave"), st.integers(0, 9)),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
        st.tuples(
            st.just("nodes"), st.lists(st.tuples(st.integers(1, 3), st.integers(1, 2), st.booleans()), max_size=3)
        ),
        st.tuples(st.just("gone")),
        st.tuples(st.just("paused")),
        st.tuples(st.just("go on")),
        st.tuples(st.just("yield"), st.integers(1, 4)),
        st.tuples(st.just("later"), st.integers(1, 200)),
    ),
    max_size=40,
)


class Story:
    """Plays the steps; a node's act is taken by whichever request reaches it next."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.stuck = asyncio.Event()
        self.calls: list[Called] = []
        self.begun = 0

    def act(self, name: str) -> Any:
        return {
            "fine": [b"data: 1\n\n", b"data: 2\n\n"],
            "refused": UpstreamError("refused"),
            "late": UpstreamTimeoutError("late"),
            "503": 503,
            "500": 500,
            "400": 400,
            "reset": [UpstreamError("reset")],
            "broken": [b"data: 1\n\nda", UpstreamError("reset")],
            "stuck": [self.stuck, b"data: 1\n\n"],
            "stalled": [b"data: 1\n\n", self.stuck, UpstreamTimeoutError("idle")],
            "bug": RuntimeError("what no one foresees"),
        }[name]

    async def play(self, step: tuple[Any, ...]) -> None:
        match step:
            case ("call", bool(stream), acts):
                for number in range(1, 4):
                    self.desk.upstream.acts.setdefault(f"inst-{number}", []).extend(self.act(one) for one in acts)
                self.calls.append(self.desk.begin(CHAT | {"stream": stream}))
            case ("leave", int(number)) if self.calls:
                self.calls[number % len(self.calls)].left.set()
            case ("cancel", int(number)) if self.calls:
                self.calls[number % len(self.calls)].task.cancel()
            case ("nodes", nodes):
                self.list([node(number, slots=2, attempt=attempt, draining=off) for number, attempt, off in nodes])
            case ("gone",):
                self.desk.list()
            case ("paused",):
                self.desk.list(endpoint(replicas=0))
            case ("go on",):
                self.stuck.set()
                self.stuck = asyncio.Event()
            case ("yield", int(times)):
                for _ in range(times):
                    await asyncio.sleep(0)
            case ("later", int(seconds)):
                self.desk.now += seconds
                self.desk.gateway.room.wake()
            case _:
                pass
        self.check()

    def list(self, nodes: list[Node]) -> None:
        self.desk.list(endpoint(*{one.name: one for one in nodes}.values(), starting=1, replicas=3))

    def check(self) -> None:
        open_calls = sum(not one.task.done() for one in self.calls)
        gateway = self.desk.gateway
        assert gateway.balancer.in_flight >= 0
        assert gateway.balancer.in_flight + gateway.room.held("chat") <= open_calls

    async def end(self) -> None:
        """Every client leaves at last, and nothing remains."""
        for one in self.calls:
            one.left.set()
        await asyncio.gather(*(one.task for one in self.calls), return_exceptions=True)
        await settle()
        self.desk.assert_at_rest()
        for one in self.calls:
            starts = [message for message in one.messages if message["type"] == "http.response.start"]
            ends = [message for message in one.messages if not message.get("more_body", True)]
            assert (len(starts) <= 1, len(ends) <= 1) == (True, True)
            assert not ends or one.messages[-1] is ends[0]


@pytest.fixture(autouse=True, scope="module")
def quick() -> Any:
    patch = pytest.MonkeyPatch()
    patch.setattr(hold, "FIRST_NOTICE", 0.0)
    patch.setattr(hold, "NEXT_NOTICE", 0.0005)
    yield
    patch.undo()


@settings(max_examples=60, deadline=None, database=None)
@given(steps=STEPS)
def test_after_any_story_nothing_should_be_in_flight_or_held(steps: list[tuple[Any, ...]]) -> None:
    async def run() -> None:
        story = Story()
        story.list([node(1, slots=2), node(2, slots=2)])
        for step in steps:
            await story.play(step)
        await asyncio.wait_for(story.end(), 10)

    asyncio.run(run())


@pytest.mark.parametrize("ticks", range(24))
def test_a_client_should_be_able_to_leave_at_any_moment(ticks: int) -> None:
    """Event loops take a handful of turns per request; a client leaves, or its task is cancelled, at each of them."""

    async def run(how: str, held: bool) -> None:
        story = Story()
        story.desk.list(endpoint(starting=1) if held else endpoint(node(1, slots=1)))
        await story.play(("call", random.Random(ticks).random() < 0.5, ["503", "stuck"]))
        for turn in range(ticks):
            if held and turn == 3:
                story.desk.list(endpoint(node(1, slots=1)))
            await asyncio.sleep(0)
        await story.play((how, 0))
        await story.end()
        story.desk.list(endpoint(node(2, slots=1)))
        assert story.desk.gateway.balancer.free([node(2, slots=1)]) == 1

    for how in ("leave", "cancel"):
        for held in (False, True):
            asyncio.run(run(how, held))
