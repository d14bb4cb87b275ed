"""Failover before the first byte alone, errors within streams, comments while a request waits, places given fairly."""

import asyncio
import json
from typing import Any

import pytest

from gateway import hold
from gateway.proxy import BrokenStreamError
from gateway.upstream import UnreachableError, UpstreamError, UpstreamTimeoutError
from tests.functional.gateway.desk import CHAT, MODEL, Called, Desk, endpoint, node, play, settle

STREAM = CHAT | {"stream": True}


def error_in(body: bytes) -> dict[str, Any]:
    """The error event with which a stream ends."""
    event = body.removesuffix(b"\n\n").rpartition(b"\n\n")[2]
    name, data = event.split(b"\n")
    assert name == b"event: error"
    document = json.loads(data.removeprefix(b"data: "))
    assert document["type"] == "error"
    return dict(document["error"])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "FIRST_NOTICE", 0.001)
    monkeypatch.setattr(hold, "NEXT_NOTICE", 0.001)


class TestFirstByte:
    @pytest.mark.parametrize("body", [CHAT, STREAM])
    def test_a_node_that_breaks_off_before_it_should_be_replaced_by_another(self, body: Any) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(node(1), node(2), replicas=2))
            desk.upstream.acts = {"inst-1": [[UpstreamError("reset")]], "inst-2": [[b"data: 2\n\n"]]}
            called = await desk.call(body)
            assert (called.status, called.body) == (200, b"data: 2\n\n")
            assert called.headers["x-gpulaunch-attempts"] == "2"
            assert desk.gateway.counts.failovers["chat"] == 1
            assert desk.gateway.counts.broken_streams["chat"] == 0
            assert (await desk.call()).headers["x-gpulaunch-instance"] == "inst-2"

        play(story)

    def test_a_node_that_breaks_off_after_it_should_not(self) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(node(1), node(2), replicas=2))
            desk.upstream.acts = {"inst-1": [[b"d", UpstreamError("reset")]]}
            called = await desk.call(STREAM)
            assert error_in(called.body)["code"] == "broken"
            assert (len(desk.upstream.sent), desk.gateway.counts.failovers["chat"]) == (1, 0)

        play(story)

    def test_a_node_that_is_silent_after_its_headers_should_not_be_replaced(self) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(node(1), node(2), replicas=2))
            desk.upstream.acts = {"inst-1": [[UpstreamTimeoutError("idle")]]}
            assert (await desk.call(STREAM)).status == 504
            assert len(desk.upstream.sent) == 1

        play(story)

    def test_what_no_other_node_tried_should_not_be_counted_as_failover(self) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(node(1)))
            desk.upstream.acts = {"inst-1": [UpstreamError("down")]}
            assert (await desk.call(x_gpulaunch_max_hold="0")).status == 503
            assert desk.gateway.counts.failovers["chat"] == 0

        play(story)


class TestLostNodes:
    @pytest.mark.parametrize("error", [UpstreamError("reset"), UnreachableError("refused")])
    def test_a_request_whose_only_node_is_lost_should_wait_for_the_next_one(self, error: Exception) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(node(1)))
            desk.upstream.acts = {"inst-1": [error]}
            called = desk.begin()
            await settle()
            assert desk.gateway.room.held("chat") == 1
            desk.list(endpoint(node(1)))
            await settle()
            assert not called.task.done(), "the same node, which still rests"
            desk.list(endpoint(node(1, attempt=2)))
            await called.task
            assert (called.status, called.headers["x-gpulaunch-attempts"]) == (200, "2")

        play(story)

    def test_a_node_that_comes_back_should_get_what_waits_once_it_has_rested(self) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(node(1)))
            desk.upstream.acts = {"inst-1": [UnreachableError("refused")]}
            called = desk.begin()
            await settle()
            desk.now += 11
            desk.list(endpoint(node(1)))
            await called.task
            assert called.status == 200

        play(story)

    def test_nodes_that_never_got_the_request_should_not_count(self) -> None:
        async def story(desk: Desk) -> None:
            nodes = [node(number) for number in range(5)]
            desk.list(endpoint(*nodes, replicas=5))
            desk.upstream.acts = {one.instance_id: [UnreachableError("refused")] for one in nodes}
            called = desk.begin()
            await settle()
            assert desk.gateway.room.held("chat") == 1
            desk.list(endpoint(*nodes, node(6), replicas=5))
            await called.task
            assert (called.status, called.headers["x-gpulaunch-instance"]) == (200, "inst-6")

        play(story)

    def test_a_request_that_its_nodes_break_off_at_should_get_no_fourth(self) -> None:
        async def story(desk: Desk) -> None:
            desk.upstream.acts = {"inst-1": [UpstreamError("reset")] * 4}
            desk.list(endpoint(node(1)))
            called = desk.begin()
            for attempt in range(2, 5):
                await settle()
                desk.list(endpoint(node(1, attempt=attempt)))
            await called.task
            assert (called.status, len(desk.upstream.sent)) == (503, 3)

        play(story)


class TestBrokenStreams:
    @pytest.mark.parametrize("error", [UpstreamError("reset"), UpstreamTimeoutError("idle")])
    def test_half_an_event_should_not_reach_the_client_in_front_of_the_error(self, error: Exception) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(node(1)))
            desk.upstream.acts = {"inst-1": [[b"data: 1\n\ndata: {", b'"half', error]]}
            called = await desk.call(STREAM)
            assert called.body.startswith(b"data: 1\n\nevent: error\n")
            assert error_in(called.body)["code"] == "broken"
            assert desk.gateway.counts.broken_streams["chat"] == 1
            assert desk.gateway.counts.client_aborts["chat"] == 0
            assert called.messages[-1]["more_body"] is False

        play(story)

    def test_events_should_be_complete_however_a_node_cuts_them(self) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(node(1)))
            whole = b"data: 1\n\n: x\r\n\r\ndata: 2\n\ndata: [DONE]\n\n"
            desk.upstream.acts = {"inst-1": [[bytes([one]) for one in whole]]}
            called = await desk.call(STREAM)
            parts = [one["body"] for one in called.messages[1:] if one["body"]]
            assert parts == [b"data: 1\n\n", b": x\r\n\r\n", b"data: 2\n\n", b"data: [DONE]\n\n"]
            assert desk.gateway.counts.broken_streams["chat"] == 0

        play(story)

    def test_an_answer_that_is_no_stream_should_be_closed_without_its_end(self) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(node(1)))
            desk.upstream.bodies = {"inst-1": [[b'{"half', UpstreamError("reset")]]}
            called = desk.begin()
            with pytest.raises(BrokenStreamError):
                await called.task
            assert all(one.get("more_body", True) for one in called.messages)
            assert desk.gateway.counts.broken_streams["chat"] == 1

        play(story)


@pytest.mark.usefixtures("quick")
class TestComments:
    def test_a_stream_that_waits_should_get_comments_and_then_its_answer(self) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(starting=1))
            desk.upstream.acts = {"inst-1": [[b"data: 1\n\n"]]}
            called = desk.begin(STREAM)
            while called.body.count(b": waiting") < 2:
                await asyncio.sleep(0.001)
            assert (called.status, called.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
            desk.list(endpoint(node(1)))
            await called.task
            lines = called.body.split(b"\n\n")
            assert lines[-2:] == [b"data: 1", b""]
            assert all(one.startswith(b": waiting") for one in lines[:-2])
            assert [one["type"] for one in called.messages].count("http.response.start") == 1

        play(story)

    def test_a_request_that_asks_for_no_stream_should_get_none(self) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(starting=1))
            called, stream = desk.begin(), desk.begin(STREAM)
            while not stream.body:
                await asyncio.sleep(0.001)
            assert called.messages == []
            desk.list(endpoint(node(1)))
            await asyncio.gather(called.task, stream.task)
            assert (called.status, called.body) == (200, b'{"ok": true}')

        play(story)

    @pytest.mark.parametrize(
        ("act", "code"),
        [([503, 503], "unavailable"), ([UpstreamTimeoutError("late")], "timeout"), ([400], "bad_gateway")],
    )
    def test_what_fails_afterwards_should_be_an_error_event(self, act: Any, code: str) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(starting=1))
            desk.upstream.acts = {"inst-1": act}
            called = desk.begin(STREAM)
            while not called.body:
                await asyncio.sleep(0.001)
            desk.list(endpoint(node(1)))
            await called.task
            assert error_in(called.body)["code"] == code
            assert called.messages[-1]["more_body"] is False
            assert sum(desk.gateway.counts.answers.values()) == 1
            assert ("chat", 200) not in desk.gateway.counts.answers

        play(story)

    def test_a_node_s_own_error_should_be_passed_on_as_an_event(self) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(starting=1))
            given = b'{"error": {"message": "too long", "type": "BadRequestError", "code": 400}}'
            desk.upstream.acts, desk.upstream.bodies = {"inst-1": [400]}, {"inst-1": [[given[:9], given[9:]]]}
            called = desk.begin(STREAM)
            while not called.body:
                await asyncio.sleep(0.001)
            desk.list(endpoint(node(1)))
            await called.task
            assert error_in(called.body) == {"message": "too long", "type": "BadRequestError", "code": 400}

        play(story)

    def test_the_end_of_the_wait_should_be_an_error_event_too(self) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(starting=1))
            called = desk.begin(STREAM)
            while not called.body:
                await asyncio.sleep(0.001)
            desk.list(endpoint(name="other"))
            await called.task
            assert error_in(called.body)["code"] == "unavailable"

        play(story)


class TestPlaces:
    def test_who_cannot_use_a_free_node_should_not_keep_others_from_it(self) -> None:
        async def story(desk: Desk) -> None:
            busy = asyncio.Event()
            desk.list(endpoint(node(1, slots=1), node(2, slots=1), replicas=2))
            desk.upstream.acts = {"inst-1": [[busy, b"x"]], "inst-2": [503]}
            first = desk.begin()
            await settle()
            second = desk.begin()
            await settle()
            assert desk.gateway.room.held("chat") == 1  # inst-2 has failed it, and inst-1 is taken
            assert (await desk.call()).headers["x-gpulaunch-instance"] == "inst-2"
            busy.set()
            await asyncio.gather(first.task, second.task)
            assert second.headers["x-gpulaunch-instance"] == "inst-1"

        play(story)

    def test_a_wait_should_keep_its_place_when_others_are_faster(self) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(starting=1))
            calls: list[Called] = []
            for number in range(6):
                calls.append(desk.begin(CHAT | {"seed": number}))
                await settle()
            waiting = [asyncio.Event() for _ in calls]
            desk.upstream.acts = {"inst-1": [[one, b"x"] for one in waiting]}
            desk.list(endpoint(node(1, slots=3)))
            desk.list(endpoint(node(1, slots=1)))
            await settle()
            for one in waiting:
                one.set()
                await settle()
            await asyncio.gather(*(one.task for one in calls))
            assert [json.loads(sent[3])["seed"] for sent in desk.upstream.sent] == list(range(6))

        play(story)

    def test_a_place_given_at_the_moment_its_client_leaves_should_be_free_again(self) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(starting=1))
            called = desk.begin()
            await settle()
            desk.list(endpoint(node(1, slots=1)))
            called.task.cancel()
            await asyncio.gather(called.task, return_exceptions=True)
            assert (await desk.call()).status == 200

        play(story)


def test_neither_key_should_cross_the_gateway() -> None:
    async def story(desk: Desk) -> None:
        desk.list(endpoint(node(1)))
        called = await desk.call(CHAT | {"model": MODEL}, x_api_key="gl-key-of-chat", cookie="c", te="trailers")
        [(_, _, headers, _)] = desk.upstream.sent
        assert set(headers) == set()
        assert "node-key-1" not in str(called.messages)

    play(story)
