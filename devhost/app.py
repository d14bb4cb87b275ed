"""Loads `function_app.py` (Python v2 programming model) and refuses what worker or host would refuse."""

import importlib
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import azure.functions as func

from devhost.config import HostError
from devhost.routes import Route
from devhost.timers import Schedule

_FUNCTION_NAME = re.compile(r"(?!host$)[a-z][a-z0-9_-]{0,127}", re.IGNORECASE)
_BINDING_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9]{0,127}|\$return")
_QUEUE_NAME = re.compile(r"(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*")
_CONNECTION = "AzureWebJobsStorage"
# The host decides by prefix, not by segment: a function called `administer` without a route is refused as well.
RESERVED = ("admin", "runtime")


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """What every function has. `takes_context`: it declares the parameter `context`, which is not a binding."""

    name: str
    call: Callable[..., Any]
    argument: str
    takes_context: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpFunction(Function):
    route: str
    methods: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFunction(Function):
    queue: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerFunction(Function):
    schedule: Schedule


@dataclass(frozen=True, slots=True)
class HostedApp:
    http: list[HttpFunction] = field(default_factory=list[HttpFunction])
    queues: list[QueueFunction] = field(default_factory=list[QueueFunction])
    timers: list[TimerFunction] = field(default_factory=list[TimerFunction])

    def __len__(self) -> int:
        return len(self.http) + len(self.queues) + len(self.timers)


def load(folder: Path, settings: Mapping[str, str]) -> HostedApp:
    """Import `folder/function_app.py` and index it.

    The folder becomes the working directory and the first entry of sys.path, as under `func start`.

    Raises:
        HostError: one line per fault; whatever the import raised is its `__cause__`.
    """
    if not (folder / "function_app.py").exists():
        raise HostError(f"no function_app.py in {folder}")
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    try:
        module = importlib.import_module("function_app")
        registers = [value for value in vars(module).values() if isinstance(value, func.FunctionRegister)]
        functions: list[Any] = registers[0].get_functions() if len(registers) == 1 else []
    except Exception as error:
        raise HostError(f"function_app.py cannot be indexed: {type(error).__name__}: {error}") from error
    if len(registers) != 1:
        raise HostError(f"function_app.py must define exactly one FunctionApp, found {len(registers)}")
    return index(functions, settings)


def index(functions: Iterable[Any], settings: Mapping[str, str]) -> HostedApp:
    """Check and sort the functions of `FunctionApp.get_functions()`.

    Raises:
        HostError: one line per fault.
    """
    app, faults = HostedApp(), list[str]()
    names: set[str] = set()
    for function in functions:
        name = str(function.get_function_name())
        if name.lower() in names:
            faults.append(f"function '{name}': another function has the same name")
        names.add(name.lower())
        if settings.get(f"AzureWebJobs.{name}.Disabled", "").lower() in {"1", "true"}:
            continue
        try:
            _add(app, function, name)
        except (HostError, ValueError) as error:
            faults.append(f"function '{name}': {error}")
    if not names:
        faults.append("0 functions found: no function has a trigger decorator")
    if faults:
        raise HostError("\n".join(faults))
    return app


def _add(app: HostedApp, function: Any, name: str) -> None:
    if not _FUNCTION_NAME.fullmatch(name):
        raise HostError("the name must match ^[a-z][a-z0-9_-]{0,127}$ and not be 'host'")
    trigger: dict[str, Any] = json.loads(json.dumps(function.get_trigger().get_dict_repr(), default=str))
    kind = str(trigger["type"])
    for binding in map(json.loads, function.get_raw_bindings()):
        if not _BINDING_NAME.fullmatch(str(binding["name"])):
            raise HostError(f"the host refuses the binding name {binding['name']!r}: use letters and digits only")
        if binding["type"] != kind and not (kind == "httpTrigger" and binding["type"] == "http"):
            raise HostError(f"devhost does not support the binding type {binding['type']!r}")
    common = _signature(function.get_user_function(), name, str(trigger["name"]))
    match kind:
        case "httpTrigger":
            app.http.append(_http(common, trigger, app.http))
        case "queueTrigger":
            queue, connection = str(trigger["queueName"]), trigger.get("connection")
            if not _QUEUE_NAME.fullmatch(queue):
                raise HostError(f"{queue!r} is not a valid queue name")
            if connection != _CONNECTION:
                raise HostError(f"devhost knows the connection {_CONNECTION!r} only, not {connection!r}")
            app.queues.append(QueueFunction(**common, queue=queue))
        case "timerTrigger":
            app.timers.append(TimerFunction(**common, schedule=Schedule(str(trigger["schedule"]))))
        case _:
            raise HostError(f"devhost does not support the trigger type {kind!r}")


def _http(common: dict[str, Any], trigger: dict[str, Any], others: list[HttpFunction]) -> HttpFunction:
    route = str(trigger.get("route") or common["name"])
    plain = route.strip("/")
    if plain.lower().startswith(RESERVED):
        raise HostError(f"the route '{route}' conflicts with one or more built in routes (admin…, runtime…)")
    methods = frozenset(str(method).upper() for method in trigger.get("methods") or ())
    for other in others:
        if other.route.lower() == plain.lower() and (not methods or not other.methods or methods & other.methods):
            raise HostError(f"the route '{route}' conflicts with the route of function '{other.name}'")
    # Only to refuse a bad template here, together with the other faults.
    Route(plain)
    return HttpFunction(**common, route=plain, methods=methods)


def _signature(call: Callable[..., Any], name: str, argument: str) -> dict[str, Any]:
    """Check the parameters as the worker does, and return what every function has."""
    parameters = set(inspect.signature(call).parameters)
    if unbound := parameters - {argument, "context"}:
        raise HostError(f"the parameters {sorted(unbound)} are declared in Python but are not bindings")
    if argument not in parameters:
        raise HostError(f"the binding {argument!r} is not a parameter of the Python function")
    if inspect.iscoroutinefunction(call):
        raise HostError("devhost runs synchronous functions only")
    return {"name": name, "call": call, "argument": argument, "takes_context": "context" in parameters}
