"""Loads a `function_app.py` (Python v2 programming model) and refuses what worker or host would refuse."""

import importlib
import inspect
import json
import os
import re
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import azure.functions as func
from azure.functions import meta

from devhost.config import HostError, resolve
from devhost.routes import Route
from devhost.schedule import Next, parse

_FUNCTION_NAME = re.compile(r"(?!host$)[a-z][a-z0-9_-]{0,127}", re.IGNORECASE)
_BINDING_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9]{0,127}|\$return")
_QUEUE_NAME = re.compile(r"(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*")
# The worker decides by prefix, not by segment: a function called `administer` without a route is refused as well.
RESERVED = ("admin", "runtime")


@dataclass(frozen=True, slots=True)
class Function:
    """What every function has. `takes_context`: a parameter `context` that is no binding."""

    name: str
    call: Callable[..., Any]
    argument: str
    is_async: bool
    takes_context: bool
    binary: bool


@dataclass(frozen=True, slots=True)
class HttpFunction(Function):
    route: str
    template: Route
    methods: frozenset[str]
    auth_level: str


@dataclass(frozen=True, slots=True)
class QueueFunction(Function):
    queue: str
    connection: str


@dataclass(frozen=True, slots=True)
class TimerFunction(Function):
    expression: str
    following: Next
    run_on_startup: bool
    use_monitor: bool


@dataclass(frozen=True, slots=True)
class App:
    http: list[HttpFunction] = field(default_factory=list[HttpFunction])
    queues: list[QueueFunction] = field(default_factory=list[QueueFunction])
    timers: list[TimerFunction] = field(default_factory=list[TimerFunction])

    def __len__(self) -> int:
        return len(self.http) + len(self.queues) + len(self.timers)


def load(folder: Path, settings: Mapping[str, str]) -> App:
    """Import `folder/function_app.py` and index it.

    The folder becomes the working directory and the first entry of sys.path, as under `func start`.

    Raises HostError with one line per fault; whatever the import raises is its `__cause__`.
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


def index(functions: Iterable[Any], settings: Mapping[str, str]) -> App:
    """Check and sort the functions of `FunctionApp.get_functions()`; HostError lists every fault found."""
    app, faults = App(), list[str]()
    names: set[str] = set()
    # The host goes by name, and ties between routes are settled in that order.
    for function in sorted(functions, key=lambda one: str(one.get_function_name()).lower()):
        name = str(function.get_function_name())
        if name.lower() in names:
            faults.append(f"function '{name}': another function has the same name")
        names.add(name.lower())
        if settings.get(f"AzureWebJobs.{name}.Disabled", "").lower() in {"1", "true"}:
            continue
        try:
            _add(app, function, name, settings)
        except (HostError, ValueError, NameError) as error:
            faults.append(f"function '{name}': {error}")
    if not names:
        faults.append("0 functions found: no function has a trigger decorator")
    if faults:
        raise HostError("\n".join(faults))
    return app


def _add(app: App, function: Any, name: str, settings: Mapping[str, str]) -> None:
    if not _FUNCTION_NAME.fullmatch(name):
        raise HostError("the name must match ^[a-z][a-z0-9_-]{0,127}$ and not be 'host'")
    raw: list[dict[str, Any]] = [json.loads(text) for text in function.get_raw_bindings()]
    trigger: dict[str, Any] = json.loads(json.dumps(function.get_trigger().get_dict_repr(), default=str))
    kind = str(trigger["type"])
    for binding in raw:
        if not _BINDING_NAME.fullmatch(str(binding["name"])):
            raise HostError(f"the binding name {binding['name']!r} is refused by the host: letters and digits only")
        if binding["type"] != kind and not (kind == "httpTrigger" and binding["type"] == "http"):
            raise HostError(f"the binding type {binding['type']!r} is not supported by devhost")
    if kind not in {"httpTrigger", "queueTrigger", "timerTrigger"}:
        raise HostError(f"the trigger type {kind!r} is not supported by devhost")
    common = _signature(function.get_user_function(), name, trigger, kind)
    if kind == "httpTrigger":
        app.http.append(_http(common, trigger, app.http))
    elif kind == "queueTrigger":
        queue = resolve(str(trigger["queueName"]), settings).lower()
        if not _QUEUE_NAME.fullmatch(queue):
            raise HostError(f"{queue!r} is no queue name")
        connection = resolve(str(trigger.get("connection") or "AzureWebJobsStorage"), settings)
        app.queues.append(QueueFunction(**common, queue=queue, connection=connection))
    else:
        expression = resolve(str(trigger["schedule"]), settings)
        following = parse(expression)
        first = following(datetime.now().astimezone())
        startup = bool(trigger.get("runOnStartup", False))
        # The host keeps no status for what occurs more than once a minute; such a timer is never past due.
        frequent = following(first) - first < timedelta(minutes=1)
        monitor = bool(trigger.get("useMonitor", True)) and not frequent
        timer = TimerFunction(
            **common, expression=expression, following=following, run_on_startup=startup, use_monitor=monitor
        )
        app.timers.append(timer)


def _http(common: dict[str, Any], trigger: dict[str, Any], others: list[HttpFunction]) -> HttpFunction:
    route = str(trigger.get("route") or "")
    route = route if route.strip() else str(common["name"])
    if route.strip("/").lower().startswith(RESERVED):
        raise HostError(f"the route '{route}' conflicts with one or more built in routes (admin…, runtime…)")
    methods = frozenset(str(method).upper() for method in trigger.get("methods") or ())
    for other in others:
        same = other.route.strip("/").lower() == route.strip("/").lower()
        if same and (not methods or not other.methods or methods & other.methods):
            raise HostError(f"the route '{route}' conflicts with the route of function '{other.name}'")
    try:
        template = Route(route)
    except (ValueError, re.error) as error:
        raise HostError(f"the route '{route}' is refused: {error}") from error
    level = str(trigger.get("authLevel") or "function").lower()
    return HttpFunction(**common, route=route, template=template, methods=methods, auth_level=level)


def _signature(call: Callable[..., Any], name: str, trigger: dict[str, Any], kind: str) -> dict[str, Any]:
    """Check parameters and annotations as the worker does, and return what every function has."""
    argument = str(trigger["name"])
    hints = typing.get_type_hints(call)
    parameters = set(inspect.signature(call).parameters)
    takes_context = "context" in parameters and argument != "context"
    unbound = parameters - {argument} - ({"context"} if takes_context else set())
    if unbound:
        raise HostError(f"the parameters {sorted(unbound)} are declared in Python but are no bindings")
    if argument not in parameters:
        raise HostError(f"the binding {argument!r} is no parameter of the Python function")
    registry: Any = meta.get_binding_registry()
    checks = [(argument, registry.get(kind), "check_input_type_annotation")]
    if kind == "httpTrigger":
        checks.append(("return", registry.get("http"), "check_output_type_annotation"))
    for hint, converter, check in checks:
        annotation: Any = hints.get(hint)
        fits = isinstance(annotation, type) and (converter is None or getattr(converter, check)(annotation))
        if hint in hints and not fits:
            raise HostError(f"the annotation of {hint!r} does not fit a {kind}")
    return {
        "name": name,
        "call": call,
        "argument": argument,
        "is_async": inspect.iscoroutinefunction(call),
        "takes_context": takes_context,
        "binary": str(trigger.get("dataType")).upper() == "BINARY",
    }
