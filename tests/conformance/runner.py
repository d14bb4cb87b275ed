"""Runs on Python 3.13: indexes an app with Microsoft's worker library and calls some of its functions.

Usage: runner.py APP_FOLDER < calls.json. One process serves one app (the library keeps its index in module globals).
Prints one JSON object, see `report`. `protos` are stand-ins: the library only reads and builds attributes.
"""

import asyncio
import importlib
import json
import sys
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

FORBIDDEN = ("sky", "azure.mgmt", "boto3")


class Message:
    """Stands for any protobuf message: the fields given, and `WhichOneof` for the one that is set."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)
        self._fields = fields

    def WhichOneof(self, _group: str) -> str | None:  # noqa: N802 - protobuf's name
        return next(iter(self._fields), None)

    def HasField(self, name: str) -> bool:  # noqa: N802
        return name in self._fields


class ParameterBinding(Message):
    def WhichOneof(self, _group: str) -> str | None:  # noqa: N802
        return "data"


class StatusResult(Message):
    Failure, Success, Cancelled = 0, 1, 2


class BindingInfo(Message):
    out, inout, undefined = 1, 2, 0


class RpcHttpCookie(Message):
    SameSite = type("SameSite", (), {"None": 0, "Lax": 1, "Strict": 2, "ExplicitNone": 3})


class Protos:
    """Every name that is not one of the above is a plain message."""

    StatusResult, BindingInfo, RpcHttpCookie, ParameterBinding = (
        StatusResult,
        BindingInfo,
        RpcHttpCookie,
        ParameterBinding,
    )

    def __getattr__(self, name: str) -> type[Message]:
        if name == "Timestamp" or name[:1].isupper():
            return Message
        raise AttributeError(name)


PROTOS = Protos()


def request(**fields: Any) -> Message:
    return Message(request=Message(**fields), properties={"host": "127.0.0.1", "protos": PROTOS})


def status(answer: Any) -> dict[str, Any]:
    exception = getattr(answer.result, "exception", None)
    return {
        "success": answer.result.status == StatusResult.Success,
        "error": exception and exception.message,
        "trace": exception and exception.stack_trace,
    }


def loaded() -> list[str]:
    return sorted(name for name in sys.modules if any(name == one or name.startswith(one + ".") for one in FORBIDDEN))


def http_input(call: dict[str, Any]) -> tuple[Message, dict[str, Message]]:
    path = "/" + call["route"].lstrip("/")
    rpc = Message(
        method=call["method"],
        url=f"http://localhost:7071{path}",
        headers=call.get("headers", {}),
        query=call.get("query", {}),
        params=call.get("parameters", {}),
        body=Message(bytes=call.get("body", "").encode()),
    )
    return Message(http=rpc), {}


def queue_input(call: dict[str, Any]) -> tuple[Message, dict[str, Message]]:
    now = datetime.now(UTC)
    metadata = {
        "Id": Message(string=str(uuid.uuid4())),
        "PopReceipt": Message(string="AgAAAAMAAAAAAAAA"),
        "DequeueCount": Message(json=str(call.get("dequeue_count", 1))),
        "InsertionTime": Message(json=json.dumps(now.isoformat())),
        "ExpirationTime": Message(json=json.dumps((now + timedelta(days=7)).isoformat())),
        "NextVisibleTime": Message(json=json.dumps((now + timedelta(minutes=10)).isoformat())),
    }
    return Message(string=call["body"]), metadata


def timer_input(call: dict[str, Any]) -> tuple[Message, dict[str, Message]]:
    return Message(json=json.dumps({"IsPastDue": call.get("past_due", False)})), {}


KINDS = {"httpTrigger": http_input, "queueTrigger": queue_input, "timerTrigger": timer_input}


def matches(trigger: dict[str, Any], name: str, call: dict[str, Any]) -> bool:
    """Whether a call is meant for this function: by route and method, by queue, or by the function's name."""
    if call["trigger"] != trigger["type"]:
        return False
    if call["trigger"] == "httpTrigger":
        methods = trigger.get("methods") or [call["method"]]
        return trigger.get("route", name) == call["template"] and call["method"] in methods
    if call["trigger"] == "queueTrigger":
        return trigger["queueName"] == call["queue"]
    return name == call["function"]


async def invoke(runtime: Any, function: Any, trigger: dict[str, Any], call: dict[str, Any]) -> dict[str, Any]:
    load = request(function_load_request=Message(function_id=function.function_id, metadata=function))
    answer = status(await runtime.function_load_request(load))
    if not answer["success"]:
        return answer
    data, metadata = KINDS[trigger["type"]](call)
    invocation = Message(
        invocation_id=str(uuid.uuid4()),
        function_id=function.function_id,
        input_data=[ParameterBinding(name=trigger["name"], data=data)],
        trigger_metadata=metadata,
        trace_context=Message(trace_parent=call.get("trace_parent", ""), trace_state="", attributes={}),
        retry_context=Message(retry_count=0, max_retry_count=0, exception=None),
    )
    response = await runtime.invocation_request(request(invocation_request=invocation))
    answer = status(response)
    value = getattr(response, "return_value", None)
    if answer["success"] and value is not None:
        answer["http_status"] = int(value.http.status_code)
        answer["http_body"] = value.http.body.bytes.decode("utf-8", "replace")
    return answer


async def report(folder: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
    """What the worker said: `index`, `functions` (name, raw bindings), `loaded` at start, `calls` in their order."""
    runtime: Any = importlib.import_module("azure_functions_runtime")
    init = request(worker_init_request=Message(capabilities={}, function_app_directory=folder))
    result: dict[str, Any] = {"index": status(await runtime.worker_init_request(init)), "loaded": loaded()}
    metadata = await runtime.functions_metadata_request(request(functions_metadata_request=Message()))
    functions: list[Any] = metadata.function_metadata_results or []
    bindings = {one.name: [json.loads(text) for text in one.raw_bindings] for one in functions}
    result["functions"] = bindings
    answers: list[dict[str, Any]] = []
    runtime.start_threadpool_executor()
    for call in calls:
        found = [
            (one, trigger)
            for one in functions
            for trigger in bindings[one.name]
            if trigger["type"] in KINDS and matches(trigger, one.name, call)
        ]
        if len(found) == 1:
            answers.append(await invoke(runtime, *found[0], call))
        else:
            answers.append({"success": False, "error": f"{len(found)} functions match {call}", "trace": ""})
    runtime.stop_threadpool_executor()
    result["calls"] = answers
    return result


def main() -> None:
    folder, output = sys.argv[1], sys.stdout
    # What the app prints must not mix with the report.
    sys.stdout = sys.stderr
    sys.path.insert(0, folder)
    json.dump(asyncio.run(report(folder, json.load(sys.stdin))), output)


if __name__ == "__main__":
    main()
