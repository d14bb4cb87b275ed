"""All operations of the HTTP API as data: routes, access checks, the client and the OpenAPI document follow it.

Models are named, not imported, to keep the app's start fast; `shared.api.openapi` resolves the names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Scope(StrEnum):
    """Who may call an operation or open a page; READ and ADMIN are what a configured token grants."""

    OPEN = "open"
    READ = "read"
    """Any read or admin token."""
    ADMIN = "admin"
    NODE = "node"
    """The token of the attempt that the node belongs to."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Operation:
    """One operation."""

    name: str
    """Name of the function."""
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    path: str
    """With a leading slash; `{instanceId}` is an instance, by id or name, `{endpointName}` an endpoint."""
    summary: str
    scope: Scope = Scope.READ
    answers: Mapping[int, str | None]
    """Name of the answer's model by status; None for an answer without a model."""
    body: str | None = None
    """Name of the request body's model."""
    query: str | None = None
    """Name of the model of its query parameters."""
    text: str | None = None
    """Alternative media type of the answer."""
    problems: tuple[int, ...] = ()
    """Statuses of its own problems; `refusals` adds what follows from the other fields."""

    @property
    def operation_id(self) -> str:
        """The name in camel case, since some generators take what stands before an underscore for a client's name."""
        first, *others = self.name.split("_")
        return first + "".join(word.capitalize() for word in others)

    @property
    def route(self) -> str:
        return self.path.removeprefix("/")

    @property
    def refusals(self) -> set[int]:
        token = {Scope.OPEN: (), Scope.ADMIN: (401, 403, 429)}.get(self.scope, (401, 429))
        given = (400, 413, 422) if self.body else (422,) if self.query else ()
        missing = (404,) if "{" in self.path else ()
        # 503 as a problem is beside the answer that health has for it: settings may be wrong.
        unconditional = () if self.method == "GET" else (412,)
        return ({*self.problems, *unconditional, *token, *given, *missing, 415, 500} - set(self.answers)) | {503}

    @property
    def takes_if_match(self) -> bool:
        return 412 in self.problems


LAUNCH = Operation(
    name="launch_instance",
    method="POST",
    path="/api/instances/launch",
    summary="Launch a model on a GPU node",
    scope=Scope.ADMIN,
    body="LaunchRequest",
    answers={202: "LaunchAnswer"},
    problems=(402, 409, 412, 429),
)
PLAN = Operation(
    name="plan_launch",
    method="POST",
    path="/api/plans",
    summary="Show what a launch would do and cost; nothing is written",
    body="LaunchRequest",
    answers={200: "PlanAnswer"},
)
LIST = Operation(
    name="list_instances",
    path="/api/instances",
    summary="List instances, newest first",
    query="InstanceQuery",
    answers={200: "InstanceList", 304: None},
)
SHOW = Operation(
    name="show_instance",
    path="/api/instances/{instanceId}",
    summary="Show one instance",
    answers={200: "InstanceView", 304: None},
)
EVENTS = Operation(
    name="instance_events",
    path="/api/instances/{instanceId}/events",
    summary="Show an instance's timeline and attempts",
    query="EventQuery",
    answers={200: "EventList", 304: None},
)
LOGS = Operation(
    name="instance_logs",
    path="/api/instances/{instanceId}/logs",
    summary="Show the last log lines of an instance's node, redacted",
    answers={200: "LogAnswer"},
)
CREDENTIALS = Operation(
    name="instance_credentials",
    path="/api/instances/{instanceId}/credentials",
    summary="Show the address and API key of a ready instance",
    scope=Scope.ADMIN,
    answers={200: "Credentials"},
    problems=(409,),
)
TERMINATE = Operation(
    name="terminate_instance",
    method="DELETE",
    path="/api/instances/{instanceId}",
    summary="Terminate an instance, in any phase; safe to repeat",
    scope=Scope.ADMIN,
    answers={202: "TerminationView"},
    problems=(409, 412),
)
SHOW_OPERATION = Operation(
    name="show_operation",
    path="/api/instances/{instanceId}/operations/{operation}",
    summary="Show how far the launch or the termination of an instance has got",
    answers={200: "OperationView"},
)
NODE_ASSIGNMENT = Operation(
    name="node_assignment",
    path="/api/nodes/{instanceId}/assignment",
    summary="Get a node's assignment: signed URLs of model files, the endpoint's key, the deadline",
    scope=Scope.NODE,
    answers={200: "Assignment"},
    problems=(410, 422),
)


def _node_call(name: str, summary: str, body: str) -> Operation:
    path, answers = f"/api/nodes/{{instanceId}}/{name}", {200: "LeaseAnswer"}
    return Operation(
        name=f"node_{name}",
        method="POST",
        path=path,
        summary=summary,
        scope=Scope.NODE,
        body=body,
        answers=answers,
        problems=(409,),
    )


NODE_PROGRESS = _node_call("progress", "Report a node's progress", "NodeStatus")
NODE_REGISTER = _node_call("register", "Register a node whose server is up", "NodeRegistration")
NODE_HEARTBEAT = _node_call("heartbeat", "Renew a node's lease", "Heartbeat")
NODE_NOTICE = _node_call("notice", "Announce that a node is about to shut down", "NoticeReport")
NODE_COMPLETE = _node_call("complete", "Report the result of a node's job", "JobResult")
ENDPOINTS = "/api/endpoints"
ENDPOINT = f"{ENDPOINTS}/{{endpointName}}"


def _endpoint_call(name: str, summary: str) -> Operation:
    return Operation(
        name=f"{name}_endpoint",
        method="POST",
        path=f"{ENDPOINT}/{name}",
        summary=summary,
        scope=Scope.ADMIN,
        answers={200: "EndpointView"},
        problems=(409, 412),
    )


CREATE_ENDPOINT = Operation(
    name="create_endpoint",
    method="POST",
    path=ENDPOINTS,
    summary="Create an endpoint; safe to repeat",
    scope=Scope.ADMIN,
    body="EndpointRequest",
    answers={201: "EndpointView", 200: "EndpointView"},
    problems=(402, 409, 429),
)
LIST_ENDPOINTS = Operation(
    name="list_endpoints",
    path=ENDPOINTS,
    summary="List endpoints, by name",
    answers={200: "EndpointList", 304: None},
)
SHOW_ENDPOINT = Operation(
    name="show_endpoint",
    path=ENDPOINT,
    summary="Show one endpoint with its replicas",
    answers={200: "EndpointView", 304: None},
)
PUT_ENDPOINT = Operation(
    name="put_endpoint",
    method="PUT",
    path=ENDPOINT,
    summary="Create an endpoint, or make an existing one as asked for",
    scope=Scope.ADMIN,
    body="EndpointSpec",
    answers={200: "EndpointView", 201: "EndpointView"},
    problems=(402, 409, 412, 429),
)
CHANGE_ENDPOINT = Operation(
    name="change_endpoint",
    method="PATCH",
    path=ENDPOINT,
    summary="Change an endpoint; another launch is rolled out replica by replica",
    scope=Scope.ADMIN,
    body="EndpointChange",
    answers={200: "EndpointView"},
    problems=(402, 409, 412, 429),
)
DELETE_ENDPOINT = Operation(
    name="delete_endpoint",
    method="DELETE",
    path=ENDPOINT,
    summary="Drain an endpoint's replicas, then delete it; safe to repeat",
    scope=Scope.ADMIN,
    answers={202: "EndpointView"},
    problems=(409, 412),
)
SHOW_DELETION = Operation(
    name="show_endpoint_deletion",
    path=f"{ENDPOINT}/operations/delete",
    summary="Show how far the deletion of an endpoint has got",
    answers={200: "OperationView"},
)
PAUSE_ENDPOINT = _endpoint_call("pause", "Drain all replicas of an endpoint, and keep its name; safe to repeat")
RESUME_ENDPOINT = _endpoint_call("resume", "Start replicas again, also of a generation that was stopped")
ROLL_OUT_ENDPOINT = _endpoint_call("rollout", "Replace all replicas of an endpoint, one after another")
ENDPOINT_DECISIONS = Operation(
    name="list_endpoint_decisions",
    path=f"{ENDPOINT}/decisions",
    summary="Show why there are so many replicas",
    answers={200: "DecisionList"},
)
ENDPOINT_KEYS = Operation(
    name="list_endpoint_keys",
    path=f"{ENDPOINT}/keys",
    summary="List an endpoint's keys, without the keys themselves",
    answers={200: "KeyList"},
)
CREATE_KEY = Operation(
    name="create_endpoint_key",
    method="POST",
    path=f"{ENDPOINT}/keys",
    summary="Make a key with which an application calls an endpoint; it is shown this once",
    scope=Scope.ADMIN,
    body="KeyRequest",
    answers={201: "NewKey"},
    problems=(409,),
)
REVOKE_KEY = Operation(
    name="revoke_endpoint_key",
    method="DELETE",
    path=f"{ENDPOINT}/keys/{{keyId}}",
    summary="Revoke a key; gateways refuse it within seconds. Safe to repeat",
    scope=Scope.ADMIN,
    answers={200: "KeyList"},
    problems=(409,),
)
CATALOG = Operation(
    name="show_catalog",
    path="/api/catalog",
    summary="List what can be launched on a provider, with prices",
    query="CatalogQuery",
    answers={200: "CatalogAnswer"},
)
COSTS = Operation(
    name="show_costs",
    path="/api/costs",
    summary="Show what was spent, including running instances, as JSON or CSV",
    query="CostsQuery",
    answers={200: "CostsAnswer"},
    text="text/csv",
)
QUOTA = Operation(
    name="show_quota",
    path="/api/quota",
    summary="Show quotas, at most ten minutes old, and what live instances use of them",
    query="QuotaQuery",
    answers={200: "QuotaAnswer"},
)
GARBAGE = Operation(
    name="show_garbage",
    path="/api/garbage",
    summary="List nodes that wait for a confirmation, that SkyPilot has lost, or that other deployments have",
    answers={200: "GarbageAnswer"},
)
CONFIRM_GARBAGE = Operation(
    name="confirm_garbage",
    method="POST",
    path="/api/garbage/confirm",
    summary="Let the next collection delete exactly these nodes; safe to repeat, expires after an hour",
    scope=Scope.ADMIN,
    body="GarbageConfirmation",
    answers={200: "GarbageAnswer"},
)
ADOPT = Operation(
    name="adopt_nodes",
    method="POST",
    path="/api/garbage/adopt",
    summary="Make instances of nodes of this deployment whose records were lost; safe to repeat",
    scope=Scope.ADMIN,
    body="Adoption",
    answers={200: "AdoptionAnswer"},
)
CONFIRM_DELETED = Operation(
    name="confirm_deleted",
    method="POST",
    path="/api/garbage/deleted",
    summary="Confirm that nodes of which SkyPilot lost its records are deleted; safe to repeat, expires after an hour",
    scope=Scope.ADMIN,
    body="DeletionConfirmation",
    answers={200: "GarbageAnswer"},
)
CONFIG = Operation(
    name="show_config", path="/api/config", summary="Show settings that matter to users", answers={200: "ConfigAnswer"}
)
HEALTH = Operation(
    name="show_health",
    path="/api/health",
    summary="Check the control plane",
    scope=Scope.OPEN,
    answers={200: "HealthAnswer", 503: "HealthAnswer"},
)
OPENAPI = Operation(
    name="show_openapi", path="/api/openapi.json", summary="Get this document", scope=Scope.OPEN, answers={200: None}
)
ENDPOINT_FILE_SCHEMA = Operation(
    name="show_endpoint_file_schema",
    path="/api/schemas/endpoints.json",
    summary="Get the JSON schema of the file that `gpulaunch apply` takes, for editors",
    scope=Scope.OPEN,
    answers={200: None},
)

OPERATIONS = tuple(one for one in tuple(globals().values()) if isinstance(one, Operation))
