"""SkyPilot's API server over plain HTTP: the dozen calls that are needed, typed where they enter.

Why not `sky.client.sdk` for these calls, launch included (measured and read with SkyPilot 0.14.1):

- A launch through the SDK waits up to 600 s when the server answers 503. That is longer than a record's submit lease:
  another step would rightly submit too, and the job would run twice. Here every call ends within its time limit.
- `sky.Task` downloads the cloud's catalog from GitHub into the caller's process for any task that names an instance
  type, and hangs where GitHub cannot be reached. The server has the catalog; it validates the task in 10 to 500 ms.
- The SDK copies every SKYPILOT_* variable into the request's body, the service account's token among them, and for a
  local server the AWS keys too; the server stores bodies in its database and shows them in `/api/status`.
- `import sky` costs 1.2 s (3.8 s cold) and 156 MiB in each worker process; these calls cost 6 to 15 ms and nothing.

So the SDK is used for the one thing HTTP can't do: starting the local API server, in its own process (`local.py`).
"""

import json
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import httpx
from pydantic import BaseModel, ConfigDict, SecretStr, TypeAdapter, ValidationError

from shared.backends.skypilot.http import SkyFailedError, SkyHttp, is_local, object_of, parse, plain, request_id_of
from shared.domain.provider import ProviderUnavailableError

LIVE = frozenset({"PENDING", "WAITING", "RUNNING"})
"""States of a request that has not ended."""
LAUNCH, DOWN, CHECK = "sky.launch", "sky.down", "sky.check"
"""Names of requests, as the server lists them."""

_RESULT_SECONDS = 20.0
"""Short requests run in under 1 s, but wait for one of the server's few workers."""
_HISTORY_DAYS = 3650
"""How far back its history is read; by default a month, and an instance may live longer."""
_LOG_BYTES = 262_144
"""A launch's log has a few KiB; anything longer is noise."""
_FIELDS = ("request_id", "name", "status", "created_at", "finished_at", "cluster_name", "status_msg")


class SkyRequest(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    request_id: str
    name: str
    status: str
    created_at: float = 0.0
    finished_at: float | None = None
    cluster_name: str | None = None
    status_msg: str | None = None
    asked_at: float | None = None
    """What time it was on the server when it said this, in whole seconds since 1970; None: it does not say."""

    def ended_for(self, now: float) -> float:
        """Seconds since it ended, by the server's own clock, which may be a minute apart from ours (`now`)."""
        return (now if self.asked_at is None else self.asked_at) - (self.finished_at or 0.0)

    @property
    def live(self) -> bool:
        return self.status in LIVE


class SkyCluster(BaseModel):
    """One of the server's cluster records, which a refresh compares with the cloud."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    status: str
    launched_at: float | None = None
    status_updated_at: float | None = None
    """When the record was last compared with the cloud, in seconds since 1970."""
    labels: dict[str, str] | None = None
    cloud: str | None = None
    region: str | None = None
    resources_str_full: str | None = None
    """Such as `1x(gpus=A10:1, cpus=36, mem=440, Standard_NV36ads_A10_v5, [spot])`."""
    node_names: str | None = None
    init_status_reason: str | None = None
    last_event: str | None = None


class SkyHistory(BaseModel):
    """One of the server's records of all clusters that it ever had, which it never deletes."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    status: str | None = None
    """None once the cluster is deleted."""


_REQUESTS = TypeAdapter(list[SkyRequest])
_CLUSTERS = TypeAdapter(list[SkyCluster])
_HISTORY = TypeAdapter(list[SkyHistory])
_NAMES = TypeAdapter(list[str])
_ENDPOINTS = TypeAdapter(dict[str, str])


class SkyClient(SkyHttp):
    """Calls one API server. Every method may raise ProviderUnavailableError and its subclass SkyRefusalError.

    `endpoint` has no trailing slash; `user_id`, eight hexadecimal digits, is part of each cluster's name in the cloud;
    `token` is a service account's, where the server requires one.
    """

    def __init__(self, endpoint: str, user_id: str, token: SecretStr | None = None) -> None:
        super().__init__(endpoint, token)
        self._envelope: dict[str, Any] = {
            "env_vars": {"SKYPILOT_USER_ID": user_id, "SKYPILOT_USER": "gpulaunch"},
            "entrypoint": "gpulaunch",
            "entrypoint_command": "gpulaunch",
            "using_remote_api_server": not is_local(endpoint),
            "override_skypilot_config": {},
        }

    def healthy(self) -> bool:
        """Whether the server answers. Raises SkyRefusalError only."""
        return self.health() == "healthy"

    def requests_of(self, cluster_name: str) -> list[SkyRequest]:
        """The requests that the server remembers for a cluster's name, newest first; a restart forgets them all."""
        found = self._requests([("cluster_name", cluster_name), ("all_status", "true"), ("limit", "50")])
        # An older server ignores the filter and returns every request.
        return [request for request in found if request.cluster_name == cluster_name]

    def live_checks(self) -> list[SkyRequest]:
        """Running checks of credentials, including the one at the server's start."""
        return [request for request in self._requests([("limit", "200")]) if request.name == CHECK and request.live]

    def clusters(
        self, names: Sequence[str] | None = None, refresh: Literal["NONE", "FORCE"] = "NONE"
    ) -> list[SkyCluster]:
        """Clusters with these names, or all. FORCE asks the cloud, which takes 2 to 10 s."""
        return parse(_CLUSTERS, self.result(self._post("/status", self._status_body(names, refresh))))

    def history(self, names: Sequence[str]) -> list[SkyHistory]:
        """What the server remembers of clusters with these names, deleted ones and every workspace's included."""
        body = {"cluster_names": list(names), "days": _HISTORY_DAYS}
        found = parse(_HISTORY, self.result(self._post("/cost_report", body)))
        # An older server ignores the filter and returns every cluster.
        return [one for one in found if one.name in names]

    def ask_for_refresh(self, name: str) -> None:
        """Have the server compare a cluster's record with the cloud, without waiting for the result."""
        self._post("/status", self._status_body([name], "FORCE"))

    def validate(self, task: Mapping[str, object]) -> None:
        """Have the server validate a task. Raises SkyFailedError."""
        self._post("/validate", {"dag": json.dumps(task), "request_options": None}, with_id=False)

    def launch(self, task: Mapping[str, object], cluster_name: str, config: Mapping[str, object]) -> str:
        """Start a launch and return the request's id. Not repeatable: a second call runs the job twice.

        `config` overrides the server's configuration for this request. After a ProviderUnavailableError the server may
        have accepted the launch anyway.
        """
        # JSON is YAML: no second syntax to get a value wrong in.
        body = {"task": json.dumps(task), "cluster_name": cluster_name, "override_skypilot_config": dict(config)}
        return self._post("/launch", body)

    def down(self, cluster_name: str) -> str:
        """Start deleting a cluster; cancels running launches of it. Never `purge`, which only forgets the cluster."""
        return self._post("/down", {"cluster_name": cluster_name})

    def cancel(self, request_ids: Sequence[str]) -> None:
        """Cancel requests; what they have created stays."""
        if not request_ids:
            raise ValueError("an empty list would cancel every user's requests")
        self._post("/api/cancel", {"request_ids": list(request_ids)})

    def check(self, cloud: str) -> str:
        return self._post("/check", {"clouds": [cloud]})

    def list_accelerators(self, cloud: str) -> str:
        """Start listing one cloud's GPUs and prices in all regions, and return the request's id.

        It takes the server half a second to several seconds, longer when it downloads the cloud's prices.
        """
        return self._post("/list_accelerators", {"clouds": cloud, "all_regions": True})

    def ended(self, request_id: str) -> bool:
        """Whether a request has ended; a forgotten one has."""
        return not any(request.live for request in self._requests([("request_ids", request_id)]))

    def enabled_clouds(self) -> list[str]:
        """Names of the clouds that passed the last check, in lower case."""
        response = self.send("GET", "/enabled_clouds")
        return [name.lower() for name in parse(_NAMES, self.result(request_id_of(response)))]

    def endpoint_address(self, cluster_name: str, port: int) -> str | None:
        """Host that exposes an opened port of a running cluster; None when SkyPilot does not know it."""
        try:
            value = self.result(self._post("/endpoints", {"cluster": cluster_name, "port": port}))
        except SkyFailedError:
            return None
        for address in parse(_ENDPOINTS, value).values():
            url = httpx.URL(address if "://" in address else f"http://{address}")
            if url.host:
                return url.host
        return None

    def result(self, request_id: str) -> object:
        """Wait for a short request and return its result. Raises SkyFailedError if it failed."""
        response = self.send("GET", "/api/get", params=[("request_id", request_id)], seconds=_RESULT_SECONDS)
        body = object_of(response)
        try:
            return json.loads(str(body.get("return_value", "null")))
        except ValueError as error:
            raise ProviderUnavailableError("The SkyPilot server gave a result that cannot be read") from error

    def failure_of(self, request_id: str) -> SkyFailedError | None:
        """Why an ended request failed; None if it did not, or if the server has forgotten it."""
        try:
            self.send("GET", "/api/get", params=[("request_id", request_id)])
        except SkyFailedError as failed:
            return failed
        return None

    def log(self, request_id: str, lines: int) -> str:
        """The last lines of a request's log as plain text; empty if the server has forgotten it."""
        params = {"request_id": request_id, "follow": "false", "format": "plain", "tail": str(lines)}
        text = self.download("/api/stream", params, 2 * _LOG_BYTES)
        return plain(text[-_LOG_BYTES:].decode(errors="replace"))

    def _requests(self, params: list[tuple[str, str]]) -> list[SkyRequest]:
        # Without `fields` the answer contains each request's whole body, secrets included.
        response = self.send("GET", "/api/status", params=[*params, *(("fields", field) for field in _FIELDS)])
        try:
            found = _REQUESTS.validate_json(response.content)
        except ValidationError as error:
            raise ProviderUnavailableError("The SkyPilot server gave a list of requests that cannot be read") from error
        now = _time_of(response)
        return [request.model_copy(update={"asked_at": now}) for request in found]

    def _status_body(self, names: Sequence[str] | None, refresh: str) -> dict[str, object]:
        # By default the answer contains the cluster's private SSH key and a pickled handle.
        body: dict[str, object] = {"refresh": refresh, "include_credentials": False, "include_handle": False}
        return body if names is None else {**body, "cluster_names": list(names)}

    def _post(self, path: str, body: Mapping[str, object], *, with_id: bool = True) -> str:
        response = self.send("POST", path, body={**self._envelope, **body})
        return request_id_of(response) if with_id else ""


def _time_of(response: httpx.Response) -> float | None:
    try:
        return parsedate_to_datetime(response.headers.get("date", "")).timestamp()
    except ValueError:
        return None
