"""A stand-in for SkyPilot's API server, over real HTTP, that speaks its protocol well enough for the real SDK.

Nothing happens by itself: a launch is PENDING until `begin` or `settle` is called. What can go wrong is scripted by the
fields of `SkyServer`. The shapes are those of SkyPilot 0.14.1, seen on a real server.
"""

import base64
import json
import pickle
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from email.message import Message
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx

from tests.standins.http import HttpServer, Response
from tests.standins.http import Request as HttpRequest

NOTHING = base64.b64encode(pickle.dumps(None)).decode()
LIVE = ("PENDING", "WAITING", "RUNNING")
FULL = "standin.full"
"""A launch with this label finds no room."""
GOOD_LOG = "Considered resources\n\x1b[2m└── \x1b[0mInstance is up.\n✓ Cluster launched\n⚙︎ Job submitted, ID: 1\n"


@dataclass
class Request:
    id: str
    name: str
    cluster_name: str | None
    body: dict[str, Any]
    status: str = "PENDING"
    created_at: float = 0.0
    finished_at: float | None = None
    value: Any = None
    error: dict[str, str] | None = None
    log: str = ""
    status_msg: str | None = None


@dataclass
class Node:
    """A cluster: what the books say, and whether there is a machine."""

    name: str
    status: str
    machine: bool
    labels: dict[str, str]
    launched_at: float
    updated_at: float
    slurm: bool
    resources: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def shown(self) -> dict[str, str]:
        cloud, _, region = str(self.resources.get("infra", "")).partition("/")
        kind = ", [spot]" if self.resources.get("use_spot") else ""
        machine = f"1x(gpus=A10:1, cpus=36, mem=440, {self.resources.get('instance_type')}, disk=256{kind})"
        return {"cloud": cloud.capitalize(), "region": region, "resources_str_full": machine}


@dataclass
class Failing:
    """What a request is to fail with."""

    kind: str
    message: str
    log: str = ""


NO_ROOM = Failing(
    "ResourcesUnavailableError",
    "Failed to provision all possible launchable resources. Relax the task's resource requirements: 1x Azure(...)",
    "⚙︎ Launching on Azure eastus.\nFailed to create instances: [azure.core.exceptions.ResourceExistsError] "
    "(AllocationFailed) Allocation failed. We do not have sufficient capacity for the requested VM size.\n",
)
"""What SkyPilot says when Azure has no room: the code stands in the log alone."""

LISTED = ("azure", "aws", "gcp")
NO_NETWORK = (
    "requests error (ConnectionError): HTTPSConnectionPool(host='raw.githubusercontent.com', port=443): Max retries "
    "exceeded with url: /skypilot-org/skypilot-catalog/master/catalogs/v8/{cloud}/vms.csv"
)
"""What SkyPilot says when it can't fetch a cloud's prices."""


def price_list(cloud: str) -> dict[str, list[list[Any]]]:
    """What a real server gave for /list_accelerators, from catalog files with the rows of `price_lists/README.md`."""
    return json.loads((Path(__file__).parent / "price_lists" / f"{cloud}.json").read_text("utf-8"))


@dataclass
class SkyServer:
    """The server's state; every field may be changed by a test at any time."""

    now: Callable[[], float] = time.time
    enabled: list[str] = field(default_factory=lambda: ["azure", "slurm"])
    after_check: list[str] = field(default_factory=list[str])
    """Clouds that a check enables."""
    check_log: str = ""
    token: str | None = None
    """Wanted of every caller but the health probe."""
    launch_failures: list[Failing] = field(default_factory=list[Failing])
    """Taken one by one by launches as they settle."""
    down_failures: list[Failing] = field(default_factory=list[Failing])
    lying_downs: int = 0
    """So many teardowns will say SUCCEEDED and leave the machine."""
    invalid: Failing | None = None
    """What /validate says."""
    answer: int | None = None
    """Every call but health gets this status."""
    asleep: int = 0
    """So many calls are answered by the gateway before it; each wakes it a little."""
    swallow_launch_answers: int = 0
    """So many launches will be taken without an answer."""
    requests: dict[str, Request] = field(default_factory=dict[str, Request])
    nodes: dict[str, Node] = field(default_factory=dict[str, Node])
    history: set[str] = field(default_factory=set[str])
    """Names of all clusters that the books ever had."""
    jobs: list[str] = field(default_factory=list[str])
    """Cluster name of every job that was started, in order."""
    calls: list[str] = field(default_factory=list[str])
    """`METHOD /path` of every call."""
    price_lists: dict[str, Any] = field(default_factory=lambda: {cloud: price_list(cloud) for cloud in LISTED})
    """What /list_accelerators gives, by cloud; for others there is no way to the prices."""
    slow_lists: bool = False
    """Price lists are made when a test says `settle`."""
    endpoints: dict[str, str] = field(default_factory=lambda: {"8000": "203.0.113.7:8000"})
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __enter__(self) -> "SkyServer":
        self._http = HttpServer(self._reply).__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.__exit__()

    @property
    def url(self) -> str:
        return self._http.url

    def transport(self) -> httpx.BaseTransport:
        """Carries httpx's requests here without a socket."""

        def carry(request: httpx.Request) -> httpx.Response:
            target, headers = request.url.raw_path.decode(), Message()
            for name, value in request.headers.items():
                headers[name] = value
            asked = HttpRequest(method=request.method, target=target, headers=headers, body=request.content)
            answer = self._reply(asked)
            if answer is None:
                raise httpx.RemoteProtocolError("the server hung up")
            return httpx.Response(answer.status, headers=dict(answer.headers), content=answer.body)

        return httpx.MockTransport(carry)

    def _reply(self, request: HttpRequest) -> Response | None:
        """An answer with the time of day as this server has it."""
        answer = _answer(self, request)
        if answer is None:
            return None
        return replace(answer, headers={**answer.headers, "Date": formatdate(self.now(), usegmt=True)})

    def begin(self) -> None:
        """Launches that wait begin: a machine is there, the books say INIT."""
        with self.lock:
            for request in self.requests.values():
                if request.name == "sky.launch" and request.status == "PENDING":
                    self.start(request)

    def start(self, request: Request) -> None:
        """One launch begins."""
        with self.lock:
            request.status = "RUNNING"
            request.status_msg = "Launching (nodes allocated)"
            self._place(request, "INIT")

    def settle(self) -> None:
        """Every request under way comes to its end."""
        self.begin()
        with self.lock:
            for request in [one for one in self.requests.values() if one.status in LIVE]:
                if request.status in LIVE:
                    self.finish(request)

    def restart(self) -> None:
        """The server restarts: requests are forgotten and ended, clusters stay as they were."""
        with self.lock:
            self.requests.clear()

    def lose_books(self) -> dict[str, Node]:
        """The database is restored to before all launches; what it had is returned, for `nodes` and `history`."""
        with self.lock:
            lost = dict(self.nodes)
            self.restart()
            self.nodes.clear()
            self.history.clear()
            return lost

    def kill_machine(self, name: str) -> None:
        """A machine goes away behind SkyPilot's back."""
        with self.lock:
            self.nodes[name].machine = False

    def machines(self) -> list[str]:
        """Names of clusters with a machine: what would be billed."""
        with self.lock:
            return [node.name for node in self.nodes.values() if node.machine]

    def of(self, name: str) -> list[Request]:
        with self.lock:
            return [request for request in self.requests.values() if request.name == name]

    def add(self, name: str, body: dict[str, Any], cluster_name: str | None = None, **more: Any) -> Request:
        with self.lock:
            request = Request(str(uuid.uuid4()), name, cluster_name, body, created_at=self.now(), **more)
            self.requests[request.id] = request
            return request

    def _place(self, request: Request, status: str) -> None:
        name = str(request.cluster_name)
        if name not in self.nodes:
            text = str(request.body["task"])
            # The real SDK sends YAML; what it asks for is of no interest here.
            resources: dict[str, Any] = json.loads(text)["resources"] if text.startswith("{") else {}
            labels: dict[str, str] = resources.get("labels", {})
            slurm = str(resources.get("infra", "")).startswith("slurm/")
            self.nodes[name] = Node(name, status, True, labels, self.now(), self.now(), slurm, resources)
        self.nodes[name].status, self.nodes[name].updated_at = status, self.now()
        self.history.add(name)

    def finish(self, request: Request) -> None:
        """One request comes to its end."""
        request.finished_at, request.status, request.status_msg = self.now(), "SUCCEEDED", None
        name = str(request.cluster_name)
        match request.name:
            case "sky.launch" if self.launch_failures:
                self._fail(request, self.launch_failures.pop(0))
                self.nodes.pop(name, None)
            case "sky.launch" if FULL in self.nodes[name].labels:
                self._fail(request, NO_ROOM)
                del self.nodes[name]
            case "sky.launch":
                self._place(request, "UP")
                self.jobs.append(name)
                request.log = GOOD_LOG
                request.value = {"job_id": 1, "handle": NOTHING}
            case "sky.down" if name not in self.nodes:
                self._fail(request, Failing("ClusterDoesNotExist", f"Cluster {name!r} does not exist."))
            case "sky.down" if self.down_failures:
                self._fail(request, self.down_failures.pop(0))
            case "sky.down" if self.lying_downs > 0:
                self.lying_downs -= 1
            case "sky.down":
                del self.nodes[name]
                self.cancel(lambda other: other.cluster_name == name)
            case "sky.list_accelerators":
                self.list_prices(request)
            case "sky.check":
                self.enabled = sorted({*self.enabled, *self.after_check})
            case _:
                pass

    def list_prices(self, request: Request) -> None:
        """End a request for prices."""
        cloud = str(request.body["clouds"])
        request.status, request.value = "SUCCEEDED", self.price_lists.get(cloud)
        if cloud not in self.price_lists:
            self._fail(request, Failing("CloudError", NO_NETWORK.format(cloud=cloud)))

    def _fail(self, request: Request, failing: Failing) -> None:
        request.status, request.log = "FAILED", failing.log
        request.error = {"type": failing.kind, "message": failing.message, "object": _packed(failing)}

    def cancel(self, which: Callable[[Request], bool]) -> None:
        for request in self.requests.values():
            if request.status in LIVE and which(request):
                request.status, request.finished_at = "CANCELLED", self.now()

    def at_once(self, name: str, body: dict[str, Any], value: Any, error: Failing | None = None) -> str:
        """A short request that has ended by the time anybody asks."""
        request = self.add(name, body, status="SUCCEEDED", value=value)
        if error is not None:
            self._fail(request, error)
        return request.id

    def status(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """The books, compared with the cloud first where that is asked for."""
        wanted = body.get("cluster_names")
        found = [node for node in self.nodes.values() if wanted is None or node.name in wanted]
        if body.get("refresh") == "FORCE":
            for node in found:
                node.updated_at = self.now()
                if not node.machine:
                    del self.nodes[node.name]
            found = [node for node in found if node.machine]
        return [
            {
                "name": node.name, "status": node.status, "labels": node.labels, "handle": NOTHING,
                "launched_at": int(node.launched_at), "status_updated_at": int(node.updated_at),
                "autostop": -1, "to_down": False, "cluster_hash": "0", "cluster_ever_up": True, "user_hash": "67706c61",
                "user_name": "gpulaunch", "workspace": "default", "is_managed": False, "nodes": 1, "last_use": "",
                "node_names": "job7-gpu-node" if node.slurm else None, "storage_mounts_metadata": NOTHING,
                **node.shown,
            }
            for node in found
        ]  # fmt: skip


def _answer(state: SkyServer, request: HttpRequest) -> Response | None:
    path, query = request.path, parse_qs(request.query)
    body: dict[str, Any] = json.loads(request.body or b"{}")
    with state.lock:
        state.calls.append(f"{request.method} {path}")
        if state.asleep > 0:
            state.asleep -= 1
            return _json(503, {"detail": "upstream connect error"})
        if path == "/api/health":
            return _json(200, _HEALTH)
        if state.token is not None and request.headers.get("Authorization") != f"Bearer {state.token}":
            return _json(401, {"detail": "Authentication required"})
        if state.answer is not None:
            return _json(state.answer, {"detail": "told to"})
        if path == "/launch" and state.swallow_launch_answers > 0:
            state.swallow_launch_answers -= 1
            state.add("sky.launch", body, body["cluster_name"])
            return None
        return _route(state, path, query, body)


def _route(state: SkyServer, path: str, query: dict[str, list[str]], body: dict[str, Any]) -> Response:
    match path:
        case "/validate":
            return _json(200, None) if state.invalid is None else _json(400, {"detail": _error(state.invalid)})
        case "/launch" | "/down":
            return _taken(state.add(f"sky.{path[1:]}", body, body["cluster_name"]).id)
        case "/list_accelerators":
            request = state.add("sky.list_accelerators", body)
            if not state.slow_lists:
                state.list_prices(request)
            return _taken(request.id)
        case "/check":
            return _taken(state.add("sky.check", body, log=state.check_log).id)
        case "/api/cancel":
            ids = body["request_ids"]
            state.cancel(lambda request: request.id in ids)
            return _taken(state.at_once("sky.api_cancel", body, ids))
        case "/status":
            return _taken(state.at_once("sky.status", body, state.status(body)))
        case "/cost_report":
            found = [name for name in body["cluster_names"] if name in state.history]
            known = [{"name": one, "status": state.nodes[one].status if one in state.nodes else None} for one in found]
            return _taken(state.at_once("cost_report", body, known))
        case "/enabled_clouds":
            return _taken(state.at_once("sky.enabled_clouds", body, state.enabled))
        case "/endpoints":
            port = str(body["port"])
            known = state.endpoints.get(port)
            return _taken(state.at_once("sky.endpoints", body, {} if known is None else {port: known}))
        case "/api/status":
            return _json(200, [_shown(request) for request in _listed(state, query)])
        case "/settle":  # not SkyPilot's: lets a test in another process say "now"
            state.settle()
            return _json(200, None)
        case "/api/get":
            return _get(state, query["request_id"][0])
        case "/api/stream":
            return _stream(state, query)
        case _:
            return _json(404, {"detail": "Not Found"})


def _listed(state: SkyServer, query: dict[str, list[str]]) -> list[Request]:
    found = sorted(state.requests.values(), key=lambda request: -request.created_at)
    if "request_ids" in query:
        return [request for request in found if request.id in query["request_ids"]]
    if query.get("all_status", ["false"])[0] != "true":
        found = [request for request in found if request.status in LIVE]
    if "cluster_name" in query:
        found = [request for request in found if request.cluster_name == query["cluster_name"][0]]
    return found[: int(query.get("limit", ["1000"])[0])]


def _get(state: SkyServer, request_id: str) -> Response:
    request = state.requests.get(request_id)
    if request is None:
        return _json(404, {"detail": f"Request {request_id!r} not found"})
    shown = {**_shown(request), "return_value": json.dumps(request.value), "error": json.dumps(request.error)}
    return _json(500, {"detail": shown}) if request.error is not None else _json(200, shown)


def _stream(state: SkyServer, query: dict[str, list[str]]) -> Response:
    request = state.requests.get(query["request_id"][0])
    if request is None:
        return _json(404, {"detail": "not found"})
    lines = request.log.splitlines(keepends=True)[-int(query.get("tail", ["10000"])[0]) :]
    return _response(200, "".join(lines).encode(), "text/plain")


def _taken(request_id: str) -> Response:
    return _response(200, b"null", "application/json", request_id)


def _json(status: int, body: Any) -> Response:
    return _response(status, json.dumps(body).encode(), "application/json")


def _response(status: int, body: bytes, kind: str, request_id: str | None = None) -> Response:
    headers = {
        "Content-Type": kind,
        "X-SkyPilot-API-Version": "62",
        "X-SkyPilot-Version": "0.14.1",
        "X-Skypilot-Request-ID": request_id or str(uuid.uuid4()),
    }
    return Response(status, body, headers)


_HEALTH = {
    "status": "healthy", "api_version": "62", "version": "0.14.1", "version_on_disk": "0.14.1", "commit": "7e59597",
    "basic_auth_enabled": False, "user": None,
}  # fmt: skip


def _error(failing: Failing) -> dict[str, Any]:
    return {"type": failing.kind, "message": failing.message, "args": [], "attributes": {}, "stacktrace": None}


def _packed(failing: Failing) -> str:
    """As the SDK wants it; our client never opens it."""
    return base64.b64encode(pickle.dumps({**_error(failing), "args": (failing.message,)})).decode()


def _shown(request: Request) -> dict[str, Any]:
    """A request as listings show it: with its name, never with why it failed."""
    return {
        "request_id": request.id, "name": request.name, "entrypoint": NOTHING, "request_body": NOTHING,
        "status": request.status, "created_at": request.created_at, "finished_at": request.finished_at,
        "user_id": "67706c61", "return_value": "null", "error": "null", "pid": None, "schedule_type": "short",
        "cluster_name": request.cluster_name, "status_msg": request.status_msg, "should_retry": False,
    }  # fmt: skip
