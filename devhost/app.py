"""Loads `function_app.py`, and refuses what worker or host would refuse."""

import importlib
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from devhost.config import HostError

_FUNCTION_NAME = re.compile(r"(?!host$)[a-z][a-z0-9_-]{0,127}", re.IGNORECASE)
_BINDING_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9]{0,127}|\$return")
_SEGMENT = re.compile(r"\{[A-Za-z][A-Za-z0-9]*\}|[^{}]*")
_REST = re.compile(r"\{\*[A-Za-z][A-Za-z0-9]*\}")
_SCHEDULE = re.compile(r"\*/([1-9]\d?)( \*){5}")
_DAILY = re.compile(r"0 (?P<minute>[0-5]?\d) (?P<hour>1?\d|2[0-3]) \* \* \*")
_CONNECTION = "AzureWebJobsStorage"
# The host decides by prefix, not by segment: a function called `administer` without a route is refused as well.
RESERVED = ("admin", "runtime")


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    name: str
    argument: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpFunction(Function):
    """A function with a route of text and whole-segment `{parameters}`; no methods means all."""

    route: str
    methods: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFunction(Function):
    queue: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerFunction(Function):
    """A function that is called every so many seconds, counted from midnight UTC and `offset` seconds later."""

    seconds: int
    offset: int = 0


class Invoker(Protocol):
    async def __call__(self, function: Function, value: object) -> Any:
        """Call a function with its trigger's value; whatever fails is raised."""
        ...


def load(folder: Path, settings: Mapping[str, str]) -> tuple[list[Function], dict[str, Callable[..., Any]]]:
    """Import `folder/function_app.py` and index its `app`; return its functions, and what to call by their names.

    The folder becomes the working directory and the first entry of sys.path, as under `func start`.

    Raises:
        HostError: One line per fault; whatever the import raised is its `__cause__`.
    """
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    try:
        functions: list[Any] = importlib.import_module("function_app").app.get_functions()
    except Exception as error:
        raise HostError(f"function_app.py cannot be indexed: {type(error).__name__}: {error}") from error
    calls = {str(one.get_function_name()): one.get_user_function() for one in functions}
    return index(functions, settings), calls


def index(functions: Iterable[Any], settings: Mapping[str, str]) -> list[Function]:
    """Check the functions of `FunctionApp.get_functions()`, and leave out those that a setting disables.

    Raises:
        HostError: One line per fault.
    """
    found, faults = list[Function](), list[str]()
    for function in functions:
        name = str(function.get_function_name())
        if settings.get(f"AzureWebJobs.{name}.Disabled", "").lower() in {"1", "true"}:
            continue
        try:
            one = _function(function, name)
            if isinstance(one, HttpFunction):
                _check_route(one, found)
            found.append(one)
        except HostError as error:
            faults.append(f"function '{name}': {error}")
    if not found and not faults:
        faults.append("0 functions found: no function has a trigger decorator")
    if faults:
        raise HostError("\n".join(faults))
    return found


def _function(function: Any, name: str) -> Function:
    if not _FUNCTION_NAME.fullmatch(name):
        raise HostError("the name must match ^[a-z][a-z0-9_-]{0,127}$ and not be 'host'")
    trigger: dict[str, Any] = json.loads(json.dumps(function.get_trigger().get_dict_repr(), default=str))
    kind, argument, call = str(trigger["type"]), str(trigger["name"]), function.get_user_function()
    for binding in map(json.loads, function.get_raw_bindings()):
        if not _BINDING_NAME.fullmatch(str(binding["name"])):
            raise HostError(f"the host refuses the binding name {binding['name']!r}: use letters and digits only")
        if binding["type"] != kind and not (kind == "httpTrigger" and binding["type"] == "http"):
            raise HostError(f"devhost does not support the binding type {binding['type']!r}")
    # The worker passes `context` as well, to whoever declares it; devhost leaves it to its default.
    parameters = set(inspect.signature(call).parameters)
    if parameters - {"context"} != {argument}:
        raise HostError(f"the parameters must be the bindings, which are {argument!r}, not {sorted(parameters)}")
    if inspect.iscoroutinefunction(call):
        raise HostError("devhost runs synchronous functions only")
    match kind:
        case "httpTrigger":
            route = str(trigger.get("route") or name).strip("/")
            methods = frozenset(str(method).upper() for method in trigger.get("methods") or ())
            return HttpFunction(name=name, argument=argument, route=route, methods=methods)
        case "queueTrigger":
            if trigger.get("connection") != _CONNECTION:
                raise HostError(f"devhost knows the connection {_CONNECTION!r} only, not {trigger.get('connection')!r}")
            return QueueFunction(name=name, argument=argument, queue=str(trigger["queueName"]))
        case "timerTrigger":
            seconds, offset = _times(str(trigger["schedule"]))
            return TimerFunction(name=name, argument=argument, seconds=seconds, offset=offset)
        case _:
            raise HostError(f"devhost does not support the trigger type {kind!r}")


def _times(schedule: str) -> tuple[int, int]:
    """Every how many seconds a timer occurs, and how many seconds after midnight it begins to."""
    if daily := _DAILY.fullmatch(schedule):
        return 86_400, int(daily["hour"]) * 3600 + int(daily["minute"]) * 60
    every = _SCHEDULE.fullmatch(schedule)
    if every is None or 60 % int(every[1]):
        raise HostError(f"devhost knows schedules like '*/30 * * * * *' and '0 15 3 * * *' only, not {schedule!r}")
    return int(every[1]), 0


def _check_route(function: HttpFunction, others: Iterable[Function]) -> None:
    route, methods = function.route, function.methods
    if route.lower().startswith(RESERVED):
        raise HostError(f"the route '{route}' conflicts with one or more built in routes (admin…, runtime…)")
    segments = route.split("/")
    parameters = [segment for segment in segments if segment.startswith("{")]
    known = segments[:-1] if _REST.fullmatch(segments[-1]) else segments
    if not all(map(_SEGMENT.fullmatch, known)) or len(set(parameters)) != len(parameters):
        raise HostError(
            f"devhost knows routes of text, different {{parameters}} and a last {{*rest}} only, not '{route}'"
        )
    for other in (one for one in others if isinstance(one, HttpFunction) and one.route.lower() == route.lower()):
        if not methods or not other.methods or methods & other.methods:
            raise HostError(f"the route '{route}' conflicts with the route of function '{other.name}'")
