"""The Functions host: delivers messages, fires the timer, and passes HTTP requests to one of its workers."""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import azure.functions as func
from azure.functions.timer import TimerRequest

from functions.queues import alerts
from shared.errors import StaleRecordError, StoreUnavailableError
from shared.queues import ALERTS, LAUNCHES, PROBES, TEARDOWNS
from tests.functional.world import SWEEP_SECONDS, functions
from tests.simulation.bad_items import BadItemError
from tests.simulation.scheduler import Process, Scheduler, Task
from tests.twins.queues import LEASE_SECONDS

if TYPE_CHECKING:
    from tests.simulation.simulator import Simulator

RETRY_SECONDS = 5.0
BUSY_SECONDS = 300.0
"""For how long a host at most takes no messages."""
MAX_DEQUEUES = 5
WORKERS = 2
_FUNCTIONS = {LAUNCHES: "provisioning", TEARDOWNS: "teardown", PROBES: "health", ALERTS: "alerts"}


@dataclass(frozen=True)
class Answer:
    status: int
    json: Any


FORGOTTEN_TICKS = 2
"""Ticks between two looks into the queues for messages that no announcement led to."""


class Errors(logging.Handler):
    """Errors in the log, as lines of the trace."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._scheduler = scheduler

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        said = f"failed: {error!r}" if error is not None else record.getMessage()
        # An HTTP request's own id is no part of the seed.
        said = re.sub(r"\brequest [0-9a-f]{32}", "request …", said)
        self._scheduler.note(f"logs {said}")


class Host:
    def __init__(self, simulator: "Simulator") -> None:
        self._simulator = simulator
        self._scheduler = simulator.scheduler
        self._workers = [Process(f"worker {number}") for number in range(WORKERS)]
        self._sweeping = False
        self._busy_until = 0.0
        self._ticks = 0

    def _worker(self) -> Process:
        number = self._simulator.random.randrange(WORKERS)
        if not self._workers[number].alive:
            self._workers[number] = Process(f"worker {number}")
        return self._workers[number]

    def restart(self) -> None:
        """End what the workers are doing; new ones take the next calls."""
        for worker in self._workers:
            self._scheduler.kill(worker)

    def announce(self, queue: str, seconds: float) -> None:
        self._scheduler.after(seconds, lambda: self._poll(queue))

    def perhaps_busy(self) -> None:
        """Take no message for a while, now and then."""
        chaos = self._simulator.chaos
        if chaos.strikes(chaos.rates.busy):
            seconds = self._simulator.random.uniform(30.0, BUSY_SECONDS)
            self._busy_until = min(self._scheduler.seconds + seconds, chaos.until)
            self._scheduler.note(f"the host is busy for {seconds:.0f} s")
        if chaos.on:
            self._scheduler.after(60, self.perhaps_busy)

    def _poll(self, queue: str) -> None:
        if self._scheduler.seconds < self._busy_until:
            wait = self._busy_until - self._scheduler.seconds + self._simulator.random.random()
            self._scheduler.after(wait, lambda: self._poll(queue))
            return
        for message in self._simulator.queues.take(queue, 1, LEASE_SECONDS):
            if message.dequeue_count > MAX_DEQUEUES:
                self._simulator.witness.gave_up(message.body)
                self._simulator.queues.give_up(queue, message)
                continue
            hidden_until = self._scheduler.seconds + LEASE_SECONDS
            sent = func.QueueMessage(id=message.id, body=message.body, pop_receipt=message.pop_receipt)
            # The function for alerts is bound only where the environment names a receiver.
            handler = alerts if queue == ALERTS else functions()[_FUNCTIONS[queue]].get_user_function()

            def act(handler: Any = handler, sent: func.QueueMessage = sent) -> None:
                handler(sent)
                # Whoever dies here has done the work, and the message comes again.
                self._simulator.chaos.other("delete the message", lambda: None)

            def ended(task: Task, message: Any = message, hidden_until: float = hidden_until) -> None:
                if task.died:
                    # A millisecond too early it would not be seen.
                    self.announce(queue, max(0.0, hidden_until - self._scheduler.seconds) + 0.001)
                elif task.error is not None:
                    self._failed(task)
                    if message.dequeue_count >= MAX_DEQUEUES:
                        self._scheduler.note("a message failed too often")
                        self._simulator.witness.gave_up(message.body)
                        self._simulator.queues.give_up(queue, message)
                    else:
                        self._simulator.queues.show_again(message, RETRY_SECONDS)
                else:
                    self._simulator.queues.done(message)

            self._scheduler.spawn(f"{_FUNCTIONS[queue]} {message.id[8:]}", self._worker(), act, ended)

    def _failed(self, task: Task) -> None:
        self._scheduler.note(f"{task.name} failed: {task.error!r}")
        # A slice of probes fails with the last one that failed, after all had their turn.
        bad_item = isinstance(task.error, BadItemError) and task.name.startswith(_FUNCTIONS[PROBES])
        if not bad_item and not isinstance(task.error, StoreUnavailableError | StaleRecordError):
            self._simulator.checks.violated(f"{task.name} raised {task.error!r}")

    def tick(self) -> None:
        self._scheduler.after(SWEEP_SECONDS * self._simulator.workload.pace, self.tick)
        self._ticks += 1
        if self._ticks % FORGOTTEN_TICKS == 0:
            for queue in _FUNCTIONS:
                self._poll(queue)
        if self._sweeping:
            return
        self._sweeping = True
        handler = functions()["sweep"].get_user_function()
        request = TimerRequest(past_due=False)

        def ended(task: Task) -> None:
            self._sweeping = False
            if task.error is not None:
                self._failed(task)

        self._scheduler.spawn("sweep", self._worker(), lambda: handler(request), ended)

    def call(
        self, operation: str, route: Mapping[str, str], body: object, headers: Mapping[str, str], method: str = "POST"
    ) -> Answer | None:
        """Call the HTTP interface from within a task; None: no answer came."""
        rates = self._simulator.chaos.rates
        if self._simulator.chaos.strikes(rates.call_lost / 2):
            return None
        data = b"" if body is None else json.dumps(body).encode()
        request = func.HttpRequest(
            method, f"http://test/{operation}", headers=dict(headers), params={}, route_params=dict(route), body=data
        )
        handler = functions()[operation].get_user_function()
        caller = self._scheduler.current.name if self._scheduler.current else ""
        task = self._scheduler.spawn(f"{operation} of {caller}", self._worker(), lambda: handler(request))
        self._scheduler.join(task)
        if task.error is not None:
            raise task.error
        if task.died or self._simulator.chaos.strikes(rates.call_lost / 2):
            self._scheduler.note(f"{operation}: no answer")
            return None
        answer: func.HttpResponse = task.result
        if answer.status_code == 500 and not self._simulator.truth.unreadable:
            self._simulator.checks.violated(f"{operation} answered 500: {answer.get_body().decode()}")
        text = answer.get_body()
        return Answer(answer.status_code, json.loads(text) if text else None)

    def node_call(self, operation: str, instance_id: str, token: str, body: object) -> int | None:
        """A node's call, see `nodes.Call`."""
        headers = {"Authorization": f"Bearer {token}"}
        method = "GET" if operation == "node_assignment" else "POST"
        began, truth = self._scheduler.seconds, self._simulator.truth
        answer = self.call(operation, {"instanceId": instance_id}, body, headers, method)
        if answer is None or answer.status in (409, 503) or truth.was_unreadable(instance_id, began):
            return None
        if answer.status == 401 and self._simulator.chaos.rates.stale:
            return None  # a record as it was before knows nothing of the newest attempt
        if answer.status == 422 and operation == "node_assignment":
            return None
        if answer.status == 410:
            self._told_to_end(token)
            return 0
        if answer.status != 200:
            self._simulator.checks.violated(f"{operation} answered {answer.status} {answer.json}")
            return None
        if operation == "node_assignment" or answer.json["renewed"]:
            return 1
        self._told_to_end(token)
        return 0

    def _told_to_end(self, token: str) -> None:
        self._simulator.witness.node_told_to_end(
            next(name for name, one in self._simulator.fleet.nodes.items() if one.token == token)
        )
