"""What a node talks to: model storage, the control plane, Azure's metadata service."""

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from shared.domain.node import Assignment, Heartbeat, JobResult, ModelFile, NodeRegistration, NodeStatus, NoticeReport
from tests.standins.http import HttpServer, Request, Response

INSTANCE = "inst-01KG9ZZZZZZZZZZZZZZZZZZZZZ"
CLUSTER = "gl-01kg9zzzzzzzzzzzzzzzzzzzzz-1"
API_KEY, NODE_TOKEN, AGENT_TOKEN, SIGNATURE = "gl-endpoint-key", "node-token-secret", "agent-token-secret", "signed4242"
SECRETS = (API_KEY, NODE_TOKEN, AGENT_TOKEN, SIGNATURE)
Answer = tuple[int, Any]


class StandIn:
    def __init__(self) -> None:
        self._http = HttpServer(self.answer).__enter__()
        self.url = self._http.url

    def answer(self, request: Request) -> Response:
        raise NotImplementedError

    def close(self) -> None:
        self._http.__exit__()


class Store(StandIn):
    """Objects with range requests, and troubles on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, bytes] = {}
        self.ranges: list[tuple[str, str]] = []
        self.troubles: list[tuple[int, dict[str, str]]] = []
        """Answers given first, each once."""
        self.good_signature = SIGNATURE
        self.hold_after: int | None = None
        """Ranges after that many wait until `resume` is set."""
        self.resume = threading.Event()

    def file(self, path: str, body: bytes, size: int | None = None) -> ModelFile:
        self.objects[f"/{path}"] = body
        return ModelFile(path=path, url=f"{self.url}/{path}?X-Amz-Signature={SIGNATURE}", size=size or len(body))

    def answer(self, request: Request) -> Response:
        path = request.path
        wanted = request.headers.get("Range", "")
        if request.query != f"X-Amz-Signature={self.good_signature}":
            return Response(403, b"expired")
        if self.troubles:
            status, headers = self.troubles.pop(0)
            return Response(status, headers=headers)
        if self.hold_after is not None and len(self.ranges) >= self.hold_after:
            self.resume.wait(20)
        self.ranges.append((path, wanted))
        body, asked = self.objects[path], re.fullmatch(r"bytes=(\d+)-(\d+)", wanted)
        assert asked is not None
        first, last = int(asked[1]), min(int(asked[2]), len(body) - 1)
        said = f"bytes {first}-{last}/{len(body)}"
        return Response(206, body[first : last + 1], {"Content-Range": said, "ETag": '"1"'})


@dataclass
class Call:
    """One call of a node, understood by the program's own models."""

    name: str
    body: BaseModel | None
    token: str


class ControlPlane(StandIn):
    """The node's half of the HTTP interface."""

    MODELS = {
        "progress": NodeStatus,
        "register": NodeRegistration,
        "heartbeat": Heartbeat,
        "notice": NoticeReport,
        "complete": JobResult,
    }

    def __init__(self) -> None:
        super().__init__()
        self.assignment: Assignment | None = None
        self.calls: list[Call] = []
        self.lease: Answer = (200, {"renewed": True, "lease_seconds": 60})
        self.on_assignment: Callable[[], None] = lambda: None

    def answer(self, request: Request) -> Response:
        name = request.path.removeprefix(f"/api/nodes/{INSTANCE}/")
        token = (request.headers.get("Authorization") or "").removeprefix("Bearer ")
        if name == "assignment":
            self.on_assignment()
            self.calls.append(Call(name, None, token))
            if self.assignment is None:
                problem = {"status": 422, "code": "model_fetch_failed", "detail": "there are no files in r2://m/x"}
                return Response(422, json.dumps(problem).encode())
            return Response(200, self.assignment.model_dump_json().encode())
        body = self.MODELS[name].model_validate_json(request.body)
        self.calls.append(Call(name, body, token))
        status, said = self.lease
        return Response(status, json.dumps(said).encode(), {"Content-Type": "application/json"})

    def bodies(self, name: str) -> list[Any]:
        return [call.body for call in self.calls if call.name == name]

    def phases(self) -> list[str]:
        """The phases reported, without repetitions."""
        reported = [body.phase.value for body in self.bodies("progress")]
        return [phase for index, phase in enumerate(reported) if index == 0 or reported[index - 1] != phase]


class Metadata(StandIn):
    """Azure's instance metadata service and resource manager in one."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str, str]] = []
        self.group = f"{CLUSTER}-67706c61-eastus"
        self.delete_status = 202

    def answer(self, request: Request) -> Response:
        path = request.path
        self.requests.append((request.method, request.target, request.headers.get("Authorization") or ""))
        if path.startswith("/metadata/"):
            assert request.headers.get("Metadata") == "true"
        if path == "/metadata/scheduledevents":
            said: Any = {"DocumentIncarnation": 1, "Events": self.events}
        elif path == "/metadata/instance/compute":
            said = {"subscriptionId": "sub-1", "resourceGroupName": self.group, "name": "vm-1"}
        elif path == "/metadata/identity/oauth2/token":
            said = {"access_token": "managed-identity-token"}
        elif request.method == "DELETE":
            return Response(self.delete_status)
        else:
            return Response(202)
        return Response(200, json.dumps(said).encode())
