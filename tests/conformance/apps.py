"""Which apps are run under Microsoft's worker, and what is called in each. Add calls to an app's list here."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

Answer = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One invocation. `trigger` and the other fields of `call` are what runner.py reads; `expect` looks at the answer.

    An answer has `success`, `error`, `trace`, and for HTTP `http_status` and `http_body`.
    """

    name: str
    call: dict[str, Any]
    expect: Callable[[Answer], bool]


@dataclass(frozen=True)
class App:
    """`storage`: Azurite is started, and its connection string is AzureWebJobsStorage."""

    name: str
    folder: Path
    calls: list[Call]
    environment: dict[str, str] = field(default_factory=dict[str, str])
    storage: bool = False


def succeeds(answer: Answer) -> bool:
    return answer["success"]


def get(path: str, expected: int = 200, says: str = "") -> Call:
    call = {"trigger": "httpTrigger", "method": "GET", "route": path, "template": path.lstrip("/")}
    return Call(f"GET {path}", call, lambda got: got.get("http_status") == expected and says in got["http_body"])


def queue(name: str, body: str, expect: Callable[[Answer], bool] = succeeds) -> Call:
    return Call(f"queue {name}", {"trigger": "queueTrigger", "queue": name, "body": body}, expect)


def timer(function: str) -> Call:
    return Call(f"timer {function}", {"trigger": "timerTrigger", "function": function}, succeeds)


FIXTURE = App(
    "fixture",
    HERE / "app",
    [
        get("/health"),
        get("/async", 202),
        Call("GET /broken", get("/broken").call, lambda answer: "broken on purpose" in (answer["error"] or "")),
        queue("work", "hello"),
        queue("work", "fail", lambda answer: "failed on purpose" in (answer["error"] or "")),
        timer("tick"),
    ],
)
GPULAUNCH = App(
    "gpulaunch",
    ROOT,
    [
        get("/api/health"),
        # A page sets a cookie, and needs the templates.
        get("/signin", says='name="csrf_token"'),
        # A message that is no JSON is buried by the app itself: for the host the function succeeded.
        queue("gpulaunch-launches", "this is no JSON"),
        timer("sweep"),
    ],
    environment={
        "AZURE_FUNCTIONS_ENVIRONMENT": "Development",
        "GPULAUNCH_ORCHESTRATOR": "simulation",
        "GPULAUNCH_ADMIN_TOKENS": "conformance-admin-token",
        "GPULAUNCH_MASTER_KEY": "conformance-master-key-of-no-secrecy-at-all",
    },
    storage=True,
)
