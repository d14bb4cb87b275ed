"""The gateway over an upstream that is scripted: keys, models, failover, holding, streams, aborts."""

import asyncio
import json
from typing import Any

import pytest

from gateway.app import MOST_BODY, STALE_SECONDS
from gateway.upstream import UpstreamError, UpstreamTimeoutError
from gpulaunch.models.routes import hash_of_key
from tests.functional.gateway.desk import CHAT, KEY, MODEL, OTHER, Called, Desk, endpoint, node, play, settle


def test_a_request_should_reach_a_node_with_its_key_and_its_name_of_the_model() -> None:
    async def story(desk: Desk) -> None:
        desk.list(endpoint(node(1)))
        called = await desk.call(CHAT | {"temperature": 0.5, "x": "é"}, x_secret="s", accept="*/*")
        assert (called.status, called.body) == (200, b'{"ok": true}')
        [(sent_to, path, headers, body)] = desk.upstream.sent
        assert (sent_to.instance_id, path) == ("inst-1", "/v1/chat/completions")
        assert json.loads(body) == {"model": MODEL, "messages": [], "temperature": 0.5, "x": "é"}
        assert dict(headers) == {"accept": "*/*"}
        assert called.headers["x-gpulaunch-instance"] == "inst-1"
        assert called.headers["x-gpulaunch-attempts"] == "1"

    play(story)


def test_a_body_with_the_model_s_own_name_should_be_passed_on_to_the_letter() -> None:
    async def story(desk: Desk) -> None:
        desk.list(endpoint(node(1)))
        raw = b'{ "model" :"' + MODEL.encode() + b'", "seed": 1.0 }'
        await desk.call(raw)
        assert desk.upstream.sent[0][3] == raw

    play(story)


class TestCallers:
    @pytest.mark.parametrize(
        ("headers", "code"),
        [
            ({"Authorization": ""}, "missing_api_key"),
            ({"Authorization": "Bearer wrong"}, "invalid_api_key"),
            ({"Authorization": "Basic " + KEY}, "missing_api_key"),
            ({"Authorization": "Bearer " + hash_of_key(KEY)}, "invalid_api_key"),
            ({"Authorization": "Bearer é"}, "invalid_api_key"),
        ],
    )
    def test_without_the_endpoint_s_key_nothing_should_be_answered(self, headers: dict[str, str], code: str) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(node(1)))
            for path, method in (("/v1/chat/completions", "POST"), ("/v1/models", "GET"), ("/v1/secret", "GET")):
                called = Called(desk.gateway, path, b"{}", headers, method)
                await called.task
                assert (called.status, called.code) == (401, code)
            assert desk.upstream.sent == []

        play(story)

    def test_an_anthropic_client_s_header_should_do_as_well(self) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(node(1)))
            called = Called(desk.gateway, "/v1/messages", json.dumps(CHAT).encode(), {"x-api-key": KEY}, "POST")
            await called.task
            assert called.status == 200

        play(story)

    def test_a_key_should_open_its_own_endpoint_alone(self) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(node(1)), endpoint(node(2), name="other", secret=OTHER))
            called = await desk.call(CHAT | {"model": "other"})
            assert (called.status, called.code) == (404, "model_not_found")
            models = await desk.call(b"", path="/v1/models", method="GET")
            assert [one["id"] for one in json.loads(models.body)["data"]] == ["chat"]

        play(story)

    def test_a_revoked_key_should_be_refused_from_the_next_list_on(self) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(node(1)))
            assert (await desk.call()).status == 200
            desk.list(endpoint(node(1), secret=OTHER))
            assert (await desk.call()).status == 401

        play(story)

    def test_a_key_s_limit_should_be_a_429_with_the_time_to_wait(self) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(node(1), requests_per_minute=2))
            assert [(await desk.call()).status for _ in range(3)] == [200, 200, 429]
            assert (await desk.call()).headers["retry-after"] == "31"

        play(story)

    @pytest.mark.parametrize("leaves", [True, False])
    def test_a_key_s_requests_at_once_should_be_limited_however_they_end(self, *, leaves: bool) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(node(1), requests_at_once=1))
            desk.upstream.acts["inst-1"] = [[b"data: 1\n\n", last := asyncio.Event()]]
            first = desk.begin(CHAT | {"stream": True})
            await settle()
            second = await desk.call()
            assert (second.status, second.code, second.headers["retry-after"]) == (429, "rate_limit_exceeded", "1")
            (first.left if leaves else last).set()
            await first.task
            desk.upstream.acts["inst-1"] = [500]
            assert [(await desk.call(one)).status for one in (b"{", CHAT, CHAT)] == [400, 500, 200]

        play(story)


class TestRequests:
    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            (b"", 400, "malformed_request"),
            (b"{", 400, "malformed_request"),
            (b"[]", 400, "malformed_request"),
            (b"\xff", 400, "malformed_request"),
            (b"[" * 100_000, 400, "malformed_request"),
            ({"messages": []}, 400, "missing_model"),
            ({"model": 5}, 400, "missing_model"),
            ({"model": "gpt-4"}, 404, "model_not_found"),
            (b"x" * (MOST_BODY + 1), 413, "body_too_large"),
        ],
    )
    def test_what_no_node_could_answer_should_not_reach_one(self, body: Any, status: int, code: str) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(node(1)))
            called = await desk.call(body)
            assert (called.status, called.code) == (status, code)
            assert desk.upstream.sent == []

        play(story)

    def test_other_paths_and_methods_should_not_reach_one_either(self) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(node(1)))
            assert (await desk.call(path="/v1/load_lora_adapter")).status == 404
            assert (await desk.call(path="/v1/chat/completions", method="GET")).status == 405
            assert (await desk.call(path="/metrics/../v1/chat/completions")).status == 404
            assert desk.upstream.sent == []

        play(story)


class TestFailover:
    @pytest.mark.parametrize("first", [UpstreamError("refused"), 502, 503, 504])
    def test_another_node_should_answer_what_the_first_cannot(self, first: Any) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(node(1), node(2), replicas=2))
            desk.upstream.acts = {"inst-1": [first]}
            called = await desk.call()
            assert (called.status, called.headers["x-gpulaunch-instance"]) == (200, "inst-2")
            assert called.headers["x-gpulaunch-attempts"] == "2"

        play(story)

    @pytest.mark.parametrize("status", [400, 404, 422, 429, 500])
    def test_an_answer_that_would_be_the_same_elsewhere_should_be_passed_on(self, status: int) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(node(1), node(2), replicas=2))
            desk.upstream.acts = {"inst-1": [status], "inst-2": [status]}
            assert (await desk.call()).status == status
            assert len(desk.upstream.sent) == 1

        play(story)

    def test_three_different_nodes_at_most_should_be_tried(self) -> None:
        async def story(desk: Desk) -> None:
            nodes = [node(number) for number in range(5)]
            desk.list(endpoint(*nodes, replicas=5))
            desk.upstream.acts = {one.instance_id: [UpstreamError("down")] for one in nodes}
            called = await desk.call()
            assert (called.status, called.code) == (503, "unavailable")
            assert len({sent[0].instance_id for sent in desk.upstream.sent}) == len(desk.upstream.sent) == 3

        play(story)

    def test_a_node_that_failed_should_get_no_requests_for_a_while(self) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(node(1), node(2), replicas=2))
            desk.upstream.acts = {"inst-1": [UpstreamError("down")]}
            for _ in range(4):
                assert (await desk.call()).headers["x-gpulaunch-instance"] == "inst-2"
            desk.now += 11
            assert "inst-1" in {(await desk.call()).headers["x-gpulaunch-instance"] for _ in range(2)}

        play(story)

    def test_a_node_that_does_not_answer_in_time_should_not_make_others_do_it_again(self) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(node(1), node(2), replicas=2))
            desk.upstream.acts = {"inst-1": [UpstreamTimeoutError("late")]}
            assert (await desk.call()).status == 504
            assert len(desk.upstream.sent) == 1

        play(story)


class TestStreams:
    def test_chunks_should_be_passed_on_as_they_come(self) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(node(1)))
            more = asyncio.Event()
            desk.upstream.acts = {"inst-1": [[b"data: 1\n\n", more, b"data: 2\n\n"]]}
            called = desk.begin(CHAT | {"stream": True})
            await settle()
            assert called.body == b"data: 1\n\n"
            more.set()
            await called.task
            assert called.body == b"data: 1\n\ndata: 2\n\n"

        play(story)

    def test_a_stream_that_breaks_should_end_in_an_error_and_never_as_if_complete(self) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(node(1), node(2), replicas=2))
            desk.upstream.acts = {"inst-1": [[b"data: 1\n\n", UpstreamError("reset")]]}
            called = await desk.call(CHAT | {"stream": True})
            first, _, rest = called.body.partition(b"\n\nevent: error\ndata: ")
            assert first == b"data: 1"
            assert json.loads(rest)["error"]["code"] == "broken"
            assert b"[DONE]" not in called.body
            assert len(desk.upstream.sent) == 1
            assert desk.gateway.counts.broken_streams["chat"] == 1

        play(story)

    def test_a_client_that_leaves_should_free_its_node(self) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(node(1)))
            desk.upstream.acts = {"inst-1": [[b"data: 1\n\n", asyncio.Event()]]}
            called = desk.begin(CHAT | {"stream": True})
            await settle()
            assert desk.gateway.balancer.in_flight == 1
            called.left.set()
            await called.task
            assert desk.gateway.counts.client_aborts["chat"] == 1

        play(story)


class TestHolding:
    def test_a_request_should_wait_until_a_node_is_ready(self) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(starting=1))
            called = desk.begin()
            await settle()
            assert (called.messages, desk.gateway.room.held("chat")) == ([], 1)
            desk.list(endpoint(node(1)))
            await called.task
            assert called.status == 200

        play(story)

    def test_held_requests_should_go_in_their_order_and_as_slots_free(self) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(starting=1))
            waiting = [asyncio.Event() for _ in range(4)]
            desk.upstream.acts = {"inst-1": [[one, b"x"] for one in waiting]}
            calls: list[Called] = []
            for number in range(4):
                calls.append(desk.begin(CHAT | {"seed": number}))
                await settle()
            desk.list(endpoint(node(1, slots=2)))
            await settle()
            assert len(desk.upstream.sent) == 2
            late = desk.begin(CHAT | {"seed": 9})
            for one in waiting:
                one.set()
                await settle()
            await asyncio.gather(*(one.task for one in (*calls, late)))
            assert [json.loads(sent[3])["seed"] for sent in desk.upstream.sent] == [0, 1, 2, 3, 9]

        play(story)

    def test_a_held_client_that_leaves_should_leave_the_queue(self) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(starting=1))
            called = desk.begin()
            await settle()
            called.left.set()
            await called.task
            desk.list(endpoint(node(1)))
            await settle()
            assert desk.upstream.sent == []

        play(story)

    def test_who_waits_no_longer_should_be_told_when_to_come_back(self) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(starting=2))
            called = await desk.call(x_gpulaunch_max_hold="0")
            assert (called.status, called.code) == (503, "unavailable")
            assert 0 < int(called.headers["retry-after"]) <= 120
            assert "2 nodes are being started" in json.loads(called.body)["error"]["message"]

        play(story)

    def test_a_paused_endpoint_should_say_so_at_once(self) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(replicas=0))
            called = await desk.call()
            assert called.status == 503
            assert "paused" in json.loads(called.body)["error"]["message"]

        play(story)

    def test_a_draining_node_should_finish_what_it_has_and_get_no_more(self) -> None:
        async def story(desk: Desk) -> None:
            desk.list(endpoint(node(1)))
            more = asyncio.Event()
            desk.upstream.acts = {"inst-1": [[b"1", more, b"2"]]}
            streaming = desk.begin(CHAT | {"stream": True})
            await settle()
            desk.list(endpoint(node(1, draining=True), node(2)))
            assert (await desk.call()).headers["x-gpulaunch-instance"] == "inst-2"
            more.set()
            await streaming.task
            assert streaming.body == b"12"

        play(story)


def test_readiness_should_follow_the_list_and_an_old_list_go_on_serving() -> None:
    async def story(desk: Desk) -> None:
        assert (await desk.call(path="/readyz", method="GET")).status == 503
        assert (await desk.call()).status == 503
        desk.list(endpoint(node(1)))
        assert (await desk.call(path="/readyz", method="GET")).status == 200
        desk.now += STALE_SECONDS + 1
        assert (await desk.call(path="/readyz", method="GET")).status == 503
        assert (await desk.call()).status == 200

    play(story)


def test_metrics_should_count_by_endpoint_and_status() -> None:
    async def story(desk: Desk) -> None:
        desk.list(endpoint(node(1)))
        await desk.call()
        text = (await desk.call(path="/metrics", method="GET")).body.decode()
        assert 'gpulaunch_gateway_answers_total{endpoint="chat",status="200"} 1' in text
        assert 'gpulaunch_gateway_in_flight{endpoint="chat"} 0' in text

    play(story)
