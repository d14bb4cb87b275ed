"""What is sent again, after which pauses, and what strange answers are called."""

import httpx
import pytest

from gpulaunch import GpuLaunch
from gpulaunch.client.errors import (
    AccessError,
    AddressError,
    ApiError,
    ClientError,
    NoAnswerError,
    ServerError,
    UnavailableError,
    UnreadableAnswerError,
)
from gpulaunch.client.exchange import checked, new_lines
from gpulaunch.models.problems import PROBLEM_TYPE

INSTANCE = "inst-01JJJJJJJJJJJJJJJJJJJJJJJJ"
HEALTHY = {"status": "ok", "version": "0.1.0", "storage": "ok"}


def problem(status: int, code: str, retry_after: str | None = None) -> httpx.Response:
    body = {"title": "No", "status": status, "detail": "not now", "code": code}
    headers = {"Content-Type": PROBLEM_TYPE, **({"Retry-After": retry_after} if retry_after else {})}
    return httpx.Response(status, json=body, headers=headers)


class Scripted:
    """A client whose app gives these answers, the last one for ever; its pauses and requests are kept."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.pauses: list[float] = []
        self.told: list[tuple[str, float]] = []
        self.gpu = GpuLaunch(
            "https://app.test/base",
            "token",
            transport=httpx.MockTransport(self._answer),
            sleep=self.pauses.append,
            on_retry=lambda error, seconds: self.told.append((type(error).__name__, seconds)),
        )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_request_should_carry_the_token_in_a_header_only() -> None:
    app = Scripted(httpx.Response(200, json=HEALTHY))
    assert app.gpu.health().status == "ok"
    (request,) = app.requests
    assert str(request.url) == "https://app.test/base/api/health"
    assert request.headers["X-Admin-Token"] == "token"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_transient_errors_should_be_retried_after_growing_pauses(status: int) -> None:
    healthy = httpx.Response(200, json=HEALTHY)
    app = Scripted(problem(status, "unavailable"), httpx.ConnectError("refused"), httpx.ReadTimeout(""), healthy)
    assert app.gpu.health().status == "ok"
    assert app.pauses == [0.5, 1.0, 2.0]
    assert [name for name, _ in app.told] == ["UnavailableError", "NoAnswerError", "NoAnswerError"]


def test_retry_after_should_be_kept_to() -> None:
    app = Scripted(problem(503, "unavailable", "7"), problem(429, "limit", "9"), httpx.Response(200, json=HEALTHY))
    app.gpu.health()
    assert app.pauses == [7.0, 9.0]


@pytest.mark.parametrize(
    ("answer", "kind", "requests"),
    [
        (problem(503, "unavailable", "31"), UnavailableError, 1),
        (problem(503, "unavailable", "16"), UnavailableError, 2),
        (problem(503, "unavailable"), UnavailableError, 4),
        (problem(503, "provider_not_enabled", "5"), UnavailableError, 1),
        (problem(503, "misconfigured", "5"), UnavailableError, 1),
        (problem(409, "busy"), ApiError, 4),
        (problem(409, "not_ready"), ApiError, 1),
        (problem(500, "internal_error"), ServerError, 1),
        (problem(403, "forbidden"), AccessError, 1),
        (httpx.Response(503, text="<html>"), UnavailableError, 4),
        (httpx.Response(500), UnavailableError, 4),
        (httpx.Response(500, text="<html>"), UnavailableError, 4),
        (httpx.Response(500, text="{", headers={"Content-Type": PROBLEM_TYPE}), UnreadableAnswerError, 1),
        (httpx.ConnectError("refused"), NoAnswerError, 4),
        (httpx.Response(404, text="<html>"), UnreadableAnswerError, 1),
        (httpx.Response(200, text="<html>"), UnreadableAnswerError, 1),
        (httpx.Response(200, json={"instance_id": "x"}), UnreadableAnswerError, 1),
        (httpx.Response(422, text="{", headers={"Content-Type": PROBLEM_TYPE}), UnreadableAnswerError, 1),
    ],
)
def test_other_errors_should_be_raised_soon(
    answer: httpx.Response | Exception, kind: type[ClientError], requests: int
) -> None:
    app = Scripted(answer)
    with pytest.raises(kind):
        app.gpu.terminate(INSTANCE)
    assert len(app.requests) == requests
    assert sum(app.pauses) <= 30


def test_a_redirect_should_not_be_followed_with_the_token() -> None:
    app = Scripted(httpx.Response(307, headers={"Location": "https://elsewhere.test/"}))
    with pytest.raises(UnreadableAnswerError, match=r"points to https://elsewhere\.test/"):
        app.gpu.config()
    assert len(app.requests) == 1


def test_a_degraded_health_should_be_an_answer() -> None:
    app = Scripted(httpx.Response(503, json={"status": "degraded", "version": "0.1.0", "storage": "unavailable"}))
    assert app.gpu.health().storage == "unavailable"


@pytest.mark.parametrize(
    "url", ["", "localhost:7071", "ftp://x", "https://", "https://me:secret@x", "https://x/?code=1", "http://[::"]
)
def test_an_invalid_address_should_be_refused(url: str) -> None:
    with pytest.raises(AddressError, match="address"):
        GpuLaunch(url)


@pytest.mark.parametrize("path", ["/api", "/instances/inst-1", "/launch", "/api/health"])
def test_a_page_copied_from_a_browser_should_be_called_one(path: str) -> None:
    with pytest.raises(AddressError, match=rf"is a page of the app\. Leave out {path}\.$"):
        checked(f"https://app.example.com{path}", None)
    for other in ("/gpulaunch", "/api/gpulaunch", "/launches", "/settings/gpu"):
        assert checked(f"https://example.com{other}/", None)[0] == f"https://example.com{other}"


@pytest.mark.parametrize("token", ["", "a b", "token\r\nX-Evil: 1", "tökén"])
def test_an_invalid_token_should_be_refused_and_not_be_shown(token: str) -> None:
    with pytest.raises(AddressError) as caught:
        GpuLaunch("https://app.test", token)
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize(
    ("before", "now", "new"),
    [
        ([], ["a", "b"], ["a", "b"]),
        (["a", "b"], ["a", "b"], []),
        (["a", "b"], ["a", "b", "c"], ["c"]),
        (["a", "b", "c"], ["b", "c", "d"], ["d"]),
        (["a", "a"], ["a", "a", "a"], ["a"]),
        (["a", "b"], ["x", "y"], ["x", "y"]),
        (["a"], [], []),
    ],
)
def test_new_lines_should_be_what_follows_the_overlap(before: list[str], now: list[str], new: list[str]) -> None:
    assert new_lines(before, now) == new
