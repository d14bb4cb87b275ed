"""Tokens of streams are counted by key, and a client sees of it only what it asked for."""

import asyncio
import json
from typing import Any

import pytest

from tests.functional.gateway.desk import CHAT, KEY, MODEL, Desk, endpoint, node, play, settle

STREAM = CHAT | {"stream": True}
WORD = b'data: {"choices": [{"index": 0, "delta": {"content": "\\"usage\\""}}]}\n\n'
LAST = b'data: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14}}\n\n'
DONE = b"data: [DONE]\n\n"


def tokens(desk: Desk) -> tuple[int, int]:
    counted = desk.gateway.counts.tokens
    return counted["chat", KEY[-4:], "prompt"], counted["chat", KEY[-4:], "completion"]


def run(body: Any, answer: list[Any], path: str = "/v1/chat/completions") -> tuple[Any, bytes, tuple[int, int]]:
    found: list[Any] = []

    async def story(desk: Desk) -> None:
        desk.list(endpoint(node(1)))
        desk.upstream.acts = {"inst-1": [answer]}
        called = await desk.call(body, path=path)
        found.extend((json.loads(desk.upstream.sent[0][3]), called.body, tokens(desk)))

    play(story)
    return found[0], found[1], found[2]


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"continuous_usage_stats": True}])
@pytest.mark.parametrize("name", ["chat", MODEL])
def test_a_stream_that_does_not_ask_should_be_counted_without_a_trace(options: Any, name: str) -> None:
    sent, body, counted = run(STREAM | {"model": name, "stream_options": options}, [WORD, WORD + LAST + DONE])
    assert sent["stream_options"] == {"include_usage": True}
    assert (body, counted) == (WORD + WORD + DONE, (5, 9))


def test_a_stream_that_asks_should_be_counted_and_get_its_chunk() -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    sent, body, counted = run(STREAM | {"stream_options": options}, [WORD, LAST, DONE])
    assert sent["stream_options"] == options
    assert (body, counted) == (WORD + LAST + DONE, (5, 9))


def test_the_chunk_should_be_found_however_a_node_cuts_it() -> None:
    _, body, counted = run(STREAM, [bytes([one]) for one in WORD + LAST + DONE])
    assert (body, counted) == (WORD + DONE, (5, 9))


@pytest.mark.parametrize("options", ["x", [1], 5])
def test_options_of_another_kind_should_be_left_to_the_node_to_refuse(options: Any) -> None:
    sent, _, _ = run(STREAM | {"stream_options": options}, [DONE])
    assert sent["stream_options"] == options


@pytest.mark.parametrize("more", [{}, {"stream": False}])
def test_a_request_for_no_stream_should_not_be_changed_and_yet_be_counted(more: dict[str, Any]) -> None:
    async def story(desk: Desk) -> None:
        desk.list(endpoint(node(1)))
        answer = b'{"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 9}, "more": null}'
        desk.upstream.bodies = {"inst-1": [[answer[:30], answer[30:]]]}
        called = await desk.call(CHAT | more)
        assert "stream_options" not in json.loads(desk.upstream.sent[0][3])
        assert (called.body, tokens(desk)) == (answer, (5, 9))

    play(story)


@pytest.mark.parametrize(
    ("path", "events"),
    [
        (
            "/v1/responses",
            [{"type": "response.completed", "response": {"usage": {"input_tokens": 5, "output_tokens": 9}}}],
        ),
        (
            "/v1/messages",
            [
                {"type": "message_start", "message": {"usage": {"input_tokens": 5, "output_tokens": 1}}},
                {"type": "message_delta", "usage": {"output_tokens": 9}},
            ],
        ),
    ],
)
def test_other_interfaces_should_be_counted_as_they_report(path: str, events: list[Any]) -> None:
    given = b"".join(b"event: x\ndata: " + json.dumps(one).encode() + b"\n\n" for one in events)
    sent, body, counted = run(STREAM, [given], path)
    assert "stream_options" not in sent
    assert (body, counted) == (given, (5, 9))


def test_a_stream_whose_client_leaves_should_count_what_it_got() -> None:
    async def story(desk: Desk) -> None:
        desk.list(endpoint(node(1)))
        desk.upstream.acts = {"inst-1": [[WORD, WORD, WORD, asyncio.Event()]]}
        called = desk.begin(STREAM)
        await settle()
        called.left.set()
        await called.task
        assert tokens(desk) == (0, 3)
        text = (await desk.call(path="/metrics", method="GET")).body.decode()
        assert f'gpulaunch_gateway_tokens_total{{endpoint="chat",key="{KEY[-4:]}",kind="completion"}} 3' in text

    play(story)


def test_an_error_should_count_nothing() -> None:
    async def story(desk: Desk) -> None:
        desk.list(endpoint(node(1)))
        desk.upstream.acts = {"inst-1": [400]}
        await desk.call(STREAM)
        assert tokens(desk) == (0, 0)

    play(story)


def test_a_limit_should_be_refused_as_openai_does_and_others_not() -> None:
    async def story(desk: Desk) -> None:
        desk.list(endpoint(node(1), requests_per_minute=1))
        assert (await desk.call()).status == 200
        refused = await desk.call()
        assert (refused.status, refused.headers["retry-after"]) == (429, "61")
        error = json.loads(refused.body)["error"]
        assert set(error) == {"message", "type", "code", "param"}
        assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
        desk.now += 61
        assert (await desk.call()).status == 200

    play(story)


def test_tokens_should_be_limited_per_minute_and_streams_count() -> None:
    async def story(desk: Desk) -> None:
        desk.list(endpoint(node(1), tokens_per_minute=14))
        desk.upstream.acts = {"inst-1": [[WORD, LAST, DONE], [WORD, LAST, DONE]]}
        assert (await desk.call(STREAM)).status == 200
        refused = await desk.call(STREAM)
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert "x-should-retry" not in refused.headers
        error = json.loads(refused.body)["error"]
        assert (error["type"], error["code"]) == ("tokens", "rate_limit_exceeded")
        desk.now += 1
        assert (await desk.call(STREAM)).status == 200

    play(story)


def test_a_month_that_is_used_up_should_be_a_quota_that_clients_do_not_retry() -> None:
    async def story(desk: Desk) -> None:
        desk.list(endpoint(node(1), tokens_per_month=14))
        desk.upstream.acts = {"inst-1": [[WORD, LAST, DONE]]}
        assert (await desk.call(STREAM)).status == 200
        refused = await desk.call(STREAM)
        assert (refused.status, refused.headers["retry-after"], refused.headers["x-should-retry"]) == (
            429,
            "120",
            "false",
        )
        error = json.loads(refused.body)["error"]
        assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")
        assert "14 tokens per month" in error["message"]

    play(story)
