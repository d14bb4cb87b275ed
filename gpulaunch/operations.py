"""Every call of the HTTP interface as data: the routes, the access checks and the OpenAPI document are all made of it.

Models are named, not imported, so that starting the app does not wait for them; `shared.api.openapi` finds them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Access = Literal["open", "read", "admin", "node"]
"""Who may call: everybody, any token of ours, an admin token, or the node itself with its own token."""


@dataclass(frozen=True)
class Parameter:
    """A query parameter or header."""

    name: str
    where: Literal["query", "header"]
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True)
class Operation:
    """One call."""

    name: str
    """The function's name and the document's operationId."""
    method: Literal["GET", "POST", "DELETE"]
    path: str
    """With a leading slash and `{instanceId}` for the instance."""
    summary: str
    access: Access
    answers: Mapping[int, str | None]
    """By status: the name of the answer's model, or None for an answer without a body."""
    body: str | None = None
    """The name of the body's model."""
    parameters: tuple[Parameter, ...] = ()
    text: str | None = None
    """Media type in which the caller may have the answer instead of JSON."""
    problems: tuple[int, ...] = field(default=())
    """Statuses of the problems this call can answer with, beside 401 and 403 where a token is needed, 500 and 503."""

    @property
    def route(self) -> str:
        """The route as Functions wants it."""
        return self.path.removeprefix("/")


_IF_NONE_MATCH = Parameter(
    "If-None-Match", "header", "ETag of an earlier answer; 304 if it still holds.", {"type": "string"}
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
            "The same key with the same body gives the same answer and launches nothing twice; with another body, 409.",
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
    "An instance's timeline and its ledger of attempts",
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
    "The last log lines of an instance's node, redacted",
    "read",
    {200: "LogAnswer"},
    problems=(404,),
)
CREDENTIALS = Operation(
    "instance_credentials",
    "GET",
    "/api/instances/{instanceId}/credentials",
    "Address and API key of a ready endpoint",
    "admin",
    {200: "Credentials"},
    problems=(404, 409),
)
END = Operation(
    "end_instance",
    "DELETE",
    "/api/instances/{instanceId}",
    "End an instance, in any phase; repeated calls are harmless",
    "admin",
    {202: "InstanceView"},
    problems=(404, 409),
)
NODE_ASSIGNMENT = Operation(
    "node_assignment",
    "GET",
    "/api/nodes/{instanceId}/assignment",
    "What a node has to do: model files with signed addresses, its endpoint's key, its deadline",
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


NODE_PROGRESS = _node_call("progress", "A node reports its progress", "NodeStatus")
NODE_REGISTER = _node_call("register", "A node serves", "NodeRegistration")
NODE_HEARTBEAT = _node_call("heartbeat", "A node lives; renews its lease", "Heartbeat")
NODE_NOTICE = _node_call("notice", "A node expects to go away", "NoticeReport")
NODE_COMPLETE = _node_call("complete", "A node's job ended", "JobResult")
CATALOG = Operation(
    "show_catalog",
    "GET",
    "/api/catalog",
    "What can be launched on a provider, and for how much",
    "read",
    {200: "CatalogAnswer"},
    parameters=(
        Parameter("provider", "query", "The provider.", {"type": "string", "default": "azure"}),
        Parameter("region", "query", "Only offers in this region.", {"type": "string"}),
        Parameter("gpu", "query", "Only offers with this GPU.", {"type": "string"}),
    ),
    problems=(422,),
)
COSTS = Operation(
    "show_costs",
    "GET",
    "/api/costs",
    "What was spent, running instances included; as JSON, or with format=csv as a table of the groups",
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
    "The quota on Azure, at most ten minutes old, and what live instances hold of it",
    "read",
    {200: "QuotaAnswer"},
    parameters=(
        Parameter("region", "query", "Regions, separated by commas; those of live instances.", {"type": "string"}),
    ),
    problems=(422,),
)
CONFIG = Operation(
    "show_config", "GET", "/api/config", "The settings that matter to users", "read", {200: "ConfigAnswer"}
)
HEALTH = Operation(
    "show_health",
    "GET",
    "/api/health",
    "Whether the control plane works",
    "open",
    {200: "HealthAnswer", 503: "HealthAnswer"},
)
OPENAPI = Operation("show_openapi", "GET", "/api/openapi.json", "This document", "open", {200: None})

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
