"""All operations of the HTTP API as data. Routes, access checks and the OpenAPI document are generated from it.

Models are named, not imported, to keep the app's start fast; `shared.api.openapi` resolves the names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gpulaunch.models.requests import DEFAULT_PROVIDER

Access = Literal["open", "read", "admin", "node"]
"""Who may call: anyone, any read or admin token, an admin token, or a node with its own token."""


@dataclass(frozen=True)
class Parameter:
    """A query parameter or header."""

    name: str
    where: Literal["query", "header"]
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True)
class Operation:
    """One operation."""

    name: str
    """Name of the function, and the operationId."""
    method: Literal["GET", "POST", "DELETE"]
    path: str
    """With a leading slash; `{instanceId}` stands for the instance."""
    summary: str
    access: Access
    answers: Mapping[int, str | None]
    """Name of the answer's model by status; None for an answer without a body."""
    body: str | None = None
    """Name of the request body's model."""
    parameters: tuple[Parameter, ...] = ()
    text: str | None = None
    """Alternative media type of the answer."""
    problems: tuple[int, ...] = field(default=())
    """Statuses of its problems, in addition to 500 and 503, and to 401 and 403 if it needs a token."""

    @property
    def route(self) -> str:
        """The route in Azure Functions' form."""
        return self.path.removeprefix("/")


_IF_NONE_MATCH = Parameter(
    "If-None-Match", "header", "ETag of an earlier answer; if it still matches, the answer is 304.", {"type": "string"}
)
_ID = "An instance's id."

LAUNCH = Operation(
    "launch_instance",
    "POST",
    "/api/instances/launch",
    "Launch a model on a GPU node",
    "admin",
    {202: "LaunchAnswer"},
    body="LaunchRequest",
    parameters=(
        Parameter(
            "Idempotency-Key",
            "header",
            "Makes the launch safe to retry: the same key and body return the same answer; with another body, 409.",
            {"type": "string", "minLength": 1, "maxLength": 255},
        ),
    ),
    problems=(400, 402, 409, 413, 422, 429),
)
LIST = Operation(
    "list_instances",
    "GET",
    "/api/instances",
    "List instances, newest first",
    "read",
    {200: "InstanceList", 304: None},
    parameters=(
        Parameter("phase", "query", "Only instances in this phase.", {"$ref": "#/components/schemas/Phase"}),
        Parameter("provider", "query", "Only instances of this provider.", {"type": "string"}),
        Parameter("label", "query", "Only instances with this label: `key` or `key=value`.", {"type": "string"}),
        Parameter("live", "query", "true: only live instances; false: only ended ones.", {"type": "boolean"}),
        Parameter(
            "page_size", "query", "At most this many.", {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}
        ),
        Parameter("continuation_token", "query", "`next_token` of the page before.", {"type": "string"}),
        _IF_NONE_MATCH,
    ),
    problems=(422,),
)
SHOW = Operation(
    "show_instance",
    "GET",
    "/api/instances/{instanceId}",
    "Show one instance",
    "read",
    {200: "InstanceView", 304: None},
    parameters=(_IF_NONE_MATCH,),
    problems=(404,),
)
EVENTS = Operation(
    "instance_events",
    "GET",
    "/api/instances/{instanceId}/events",
    "Show an instance's timeline and attempts",
    "read",
    {200: "EventList", 304: None},
    parameters=(
        Parameter(
            "after", "query", "Only events with a higher sequence.", {"type": "integer", "minimum": -1, "default": -1}
        ),
        _IF_NONE_MATCH,
    ),
    problems=(404, 422),
)
LOGS = Operation(
    "instance_logs",
    "GET",
    "/api/instances/{instanceId}/logs",
    "Show the last log lines of an instance's node, redacted",
    "read",
    {200: "LogAnswer"},
    problems=(404,),
)
CREDENTIALS = Operation(
    "instance_credentials",
    "GET",
    "/api/instances/{instanceId}/credentials",
    "Show the address and API key of a ready instance",
    "admin",
    {200: "Credentials"},
    problems=(404, 409),
)
END = Operation(
    "end_instance",
    "DELETE",
    "/api/instances/{instanceId}",
    "Terminate an instance, in any phase; safe to repeat",
    "admin",
    {202: "InstanceView"},
    problems=(404, 409),
)
NODE_ASSIGNMENT = Operation(
    "node_assignment",
    "GET",
    "/api/nodes/{instanceId}/assignment",
    "Get a node's assignment: signed URLs of model files, the endpoint's key, the deadline",
    "node",
    {200: "Assignment"},
    problems=(404, 410, 422),
)


def _node_call(name: str, summary: str, body: str) -> Operation:
    return Operation(
        f"node_{name}",
        "POST",
        f"/api/nodes/{{instanceId}}/{name}",
        summary,
        "node",
        {200: "LeaseAnswer"},
        body=body,
        problems=(400, 404, 409, 413, 422),
    )


NODE_PROGRESS = _node_call("progress", "Report a node's progress", "NodeStatus")
NODE_REGISTER = _node_call("register", "Register a node whose server is up", "NodeRegistration")
NODE_HEARTBEAT = _node_call("heartbeat", "Renew a node's lease", "Heartbeat")
NODE_NOTICE = _node_call("notice", "Announce that a node is about to shut down", "NoticeReport")
NODE_COMPLETE = _node_call("complete", "Report the result of a node's job", "JobResult")
CATALOG = Operation(
    "show_catalog",
    "GET",
    "/api/catalog",
    "List what can be launched on a provider, with prices",
    "read",
    {200: "CatalogAnswer"},
    parameters=(
        Parameter("provider", "query", "The provider.", {"type": "string", "default": DEFAULT_PROVIDER}),
        Parameter("region", "query", "Only offers in this region.", {"type": "string"}),
        Parameter("gpu", "query", "Only offers with this GPU.", {"type": "string"}),
    ),
    problems=(422,),
)
COSTS = Operation(
    "show_costs",
    "GET",
    "/api/costs",
    "Show what was spent, including running instances, as JSON or CSV",
    "read",
    {200: "CostsAnswer"},
    parameters=(
        Parameter("from", "query", "First day, UTC; the first of `to`'s month.", {"type": "string", "format": "date"}),
        Parameter("to", "query", "Last day, UTC, included; today.", {"type": "string", "format": "date"}),
        Parameter(
            "by",
            "query",
            "What is summed up.",
            {"type": "string", "enum": ["day", "model", "label", "provider"], "default": "day"},
        ),
        Parameter("label", "query", "With by=label: a label's key, to sum up by its values.", {"type": "string"}),
        Parameter("format", "query", "How it is answered.", {"type": "string", "enum": ["json", "csv"]}),
    ),
    text="text/csv",
    problems=(422,),
)
QUOTA = Operation(
    "show_quota",
    "GET",
    "/api/quota",
    "Show quotas, at most ten minutes old, and what live instances use of them",
    "read",
    {200: "QuotaAnswer"},
    parameters=(
        Parameter("region", "query", "Regions, separated by commas; those of live instances.", {"type": "string"}),
    ),
    problems=(422,),
)
CONFIG = Operation(
    "show_config", "GET", "/api/config", "Show the settings that matter to users", "read", {200: "ConfigAnswer"}
)
HEALTH = Operation(
    "show_health",
    "GET",
    "/api/health",
    "Check the control plane",
    "open",
    {200: "HealthAnswer", 503: "HealthAnswer"},
)
OPENAPI = Operation("show_openapi", "GET", "/api/openapi.json", "Get this document", "open", {200: None})

OPERATIONS = (
    LAUNCH,
    LIST,
    SHOW,
    EVENTS,
    LOGS,
    CREDENTIALS,
    END,
    NODE_ASSIGNMENT,
    NODE_REGISTER,
    NODE_PROGRESS,
    NODE_HEARTBEAT,
    NODE_NOTICE,
    NODE_COMPLETE,
    CATALOG,
    COSTS,
    QUOTA,
    CONFIG,
    HEALTH,
    OPENAPI,
)
