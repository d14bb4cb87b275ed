"""The whole program in one process: the real functions on a simulated clock, with stores in memory.

Messages and the timer are delivered as the host would deliver them, in the order of time, five tries and the poison
queue included; nothing waits.
"""

import json
import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import azure.functions as func
from azure.functions.timer import TimerRequest
from pydantic import SecretStr

import function_app
from gpulaunch.models.instances import Mode
from shared import app as runtime
from shared.adapters import Adapters, identity, with_user
from shared.app import compose
from shared.auth import Deriver, Purpose
from shared.backends.base import Assignments, Backend
from shared.backends.simulation.course import expected_seconds
from shared.backends.simulation.faults import check_fault_labels
from shared.backends.simulation.provider import SimulatedNodes, SimulationProvider
from shared.catalog.snapshot import snapshot
from shared.clock import UlidIds
from shared.domain.instance import InstanceRecord
from shared.domain.node import Assignment
from shared.domain.provider import ProviderUnavailableError
from shared.queues import QUEUES
from shared.redaction import Redactor
from shared.settings import Settings
from tests.twins.clock import ManualClock
from tests.twins.endpoints import MemoryEndpointStore
from tests.twins.factories import DEPLOYMENT
from tests.twins.queues import MemoryQueues
from tests.twins.simulated_cloud import MemorySimulatedCloud
from tests.twins.store import MemoryInstanceStore

ADMIN = "admin-token-of-the-tests"
READER = "reader-token-of-the-tests"
MASTER = SecretStr("master-key-of-the-tests-0123456789")
SWEEP_SECONDS = 30
RETRY_SECONDS = 5
"""As host.json says (visibilityTimeout)."""
SEED = {
    "model_name": "meta-llama/Llama-3.1-8B-Instruct",
    "provider": "azure",
    "region": "eastus",
    "instance_type": "Standard_NV36ads_A10_v5",
    "use_spot": True,
}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@cache
def functions() -> dict[str, Any]:
    """The app's functions by name; the library counts them as doubled when it is asked twice."""
    return {str(function.get_function_name()): function for function in function_app.app.get_functions()}


@cache
def routes(method: str) -> list[tuple[re.Pattern[str], Callable[[func.HttpRequest], func.HttpResponse]]]:
    """The functions that answer a method, by a pattern of their paths; literal paths first, as the host has it."""
    found: list[tuple[int, re.Pattern[str], Any]] = []
    for function in functions().values():
        trigger: Mapping[str, Any] = function.get_trigger().get_dict_repr()
        if trigger["type"] == "httpTrigger" and method in [str(one.value) for one in trigger["methods"]]:
            route: str = trigger["route"].strip("/")
            pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", route.replace("{*path}", "(?P<path>.*)")))
            found.append((route.count("{") + 9 * route.count("{*"), pattern, function.get_user_function()))
    return [(pattern, handler) for _, pattern, handler in sorted(found, key=lambda one: one[0])]


class NoAssignments:
    """Stands where assignments are made, for worlds without real nodes."""

    def make(self, record: InstanceRecord, attempt: int) -> Assignment:
        raise ProviderUnavailableError(f"no model source in this world for {record.instance_id} {attempt}")


def settings(**given: str | None) -> Settings:
    values: dict[str, str | None] = {
        "GPULAUNCH_ORCHESTRATOR": "simulation",
        "GPULAUNCH_ADMIN_TOKENS": ADMIN,
        "GPULAUNCH_READ_TOKENS": READER,
        "GPULAUNCH_MASTER_KEY": MASTER.get_secret_value(),
    }
    return Settings.model_validate(values | given)


@dataclass
class World:
    """A running program, its cloud and its clock."""

    given: Settings = field(default_factory=settings)
    backend: Callable[[Mode], Backend] | None = None
    assignments: Assignments = field(default_factory=NoAssignments)
    deployment: str | None = DEPLOYMENT
    """None: an identity that the program makes, as it does with default settings."""
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.store = MemoryInstanceStore()
        self.endpoints = MemoryEndpointStore()
        self.queues = MemoryQueues(self.clock)
        self.cloud = MemorySimulatedCloud()
        self.simulation = Backend(
            SimulationProvider(self.cloud, self.clock, self.given.simulation_speed),
            SimulatedNodes(self.cloud, self.clock, self.given.simulation_speed),
            check_labels=check_fault_labels,
            expected_seconds=expected_seconds(self.given.simulation_speed),
        )
        self.deployment = deployment = identity(self.store, self.clock, self.deployment)
        self.store.calls.seen.clear()  # what a process costs once is no part of any request
        self.given = with_user(self.given, deployment)
        self.adapters = Adapters(
            settings=self.given,
            clock=self.clock,
            ids=UlidIds(),
            store=self.store,
            endpoints=self.endpoints,
            queues=self.queues,
            backends=self.backend or (lambda _: self.simulation),
            catalog=snapshot(),
            deriver=Deriver(MASTER),
            assignments=self.assignments,
            redactor=Redactor([ADMIN, READER, MASTER.get_secret_value()]),
            deployment=deployment,
            sleep=self._sleep,
        )
        self.rebuild()
        self.functions = functions()
        self.beating: dict[str, int] = {}
        """Instances whose node sends a heartbeat before each sweep, and the attempt."""
        self.errors: list[Exception] = []
        self.swept_at = self.clock.now()

    def rebuild(self, **changes: Any) -> None:
        """Put the program together anew, with other adapters."""
        self.adapters = replace(self.adapters, **changes)
        self.app = compose(self.adapters)
        runtime.use(self.app)

    def _sleep(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = ADMIN,
        headers: Mapping[str, str] | None = None,
        raw: bytes | None = None,
    ) -> Answer:
        """Call the HTTP interface; `path` may have a query."""
        path, _, query = path.partition("?")
        params = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        sent = {**({"X-Admin-Token": token} if token is not None else {}), **(headers or {})}
        data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        handler, route_params = self._route(method, path)
        request = func.HttpRequest(
            method, f"http://test{path}", headers=sent, params=params, route_params=route_params, body=data
        )
        answer: func.HttpResponse = handler(request)
        typed = {"Content-Type": str(answer.mimetype), **answer.headers}
        return Answer(answer.status_code, typed, answer.get_body())

    def _route(self, method: str, path: str) -> tuple[Callable[[func.HttpRequest], func.HttpResponse], dict[str, str]]:
        for pattern, handler in routes(method):
            match = pattern.fullmatch(path.strip("/"))
            if match is not None:
                return handler, match.groupdict()
        raise LookupError(f"no function answers {method} {path}")

    def launch(self, **changes: Any) -> str:
        body = {key: value for key, value in (SEED | changes).items() if value is not None}
        answer = self.call("POST", "/api/instances/launch", body)
        assert answer.status == 202, answer.body
        return str(answer.json["instance_id"])

    def to_ready(self, **changes: Any) -> str:
        instance_id = self.launch(**changes)
        self.run(90)
        assert self.show(instance_id)["phase"] == "ready"
        return instance_id

    def running(self) -> int:
        return len(self.simulation.provider.clusters())

    def show(self, instance_id: str) -> Any:
        answer = self.call("GET", f"/api/instances/{instance_id}")
        assert answer.status == 200, answer.body
        return answer.json

    def events(self, instance_id: str) -> list[Any]:
        return list(self.call("GET", f"/api/instances/{instance_id}/events").json["events"])

    def phases(self, instance_id: str) -> list[tuple[str, float]]:
        """Each phase entered, with the second after acceptance."""
        events = self.events(instance_id)
        begin = datetime.fromisoformat(events[0]["at"])
        return [
            (event["data"]["to"], round((datetime.fromisoformat(event["at"]) - begin).total_seconds(), 1))
            for event in events
            if event["type"] == "phase"
        ]

    def delete(self, instance_id: str) -> Answer:
        return self.call("DELETE", f"/api/instances/{instance_id}")

    def run(self, seconds: float, *, sweeping: bool = True) -> None:
        """Let time pass; messages and the timer are served when they are due."""
        until = self.clock.now() + timedelta(seconds=seconds)
        for _ in range(100_000):
            self.serve()
            due = [self.queues.next_visible_at(*QUEUES), self.next_sweep_at if sweeping else None]
            coming = min((moment for moment in due if moment is not None), default=None)
            if coming is None or coming > until:
                break
            self.clock.set(max(coming, self.clock.now()))
            if sweeping and self.clock.now() >= self.next_sweep_at:
                self.sweep()
        else:
            raise AssertionError("the world does not come to rest")
        self.clock.set(max(until, self.clock.now()))

    @property
    def next_sweep_at(self) -> datetime:
        return self.swept_at + timedelta(seconds=SWEEP_SECONDS)

    def sweep(self) -> None:
        self.swept_at = self.clock.now()
        for instance_id, attempt in list(self.beating.items()):
            bearer = self.adapters.deriver.derive(instance_id, attempt, Purpose.NODE)
            headers = {"Authorization": f"Bearer {bearer}"}
            self.call("POST", f"/api/nodes/{instance_id}/heartbeat", {}, token=None, headers=headers)
        self.functions["sweep"].get_user_function()(TimerRequest(past_due=False))

    def serve(self) -> None:
        """Deliver the messages that are due."""
        names = {"gpulaunch-launches": "provisioning", "gpulaunch-teardowns": "teardown", "gpulaunch-health": "health"}
        served = True
        while served:
            served = False
            for queue, name in names.items():
                for message in self.queues.take(queue, hide_seconds=RETRY_SECONDS):
                    served = True
                    try:
                        sent = func.QueueMessage(id=message.id, body=message.body, pop_receipt=message.pop_receipt)
                        self.functions[name].get_user_function()(sent)
                    except Exception as error:
                        self.errors.append(error)
                        if message.dequeue_count >= 5:
                            self.queues.bury(queue, message.body)
                            self.queues.forget(message)
                        continue
                    self.queues.forget(message)
