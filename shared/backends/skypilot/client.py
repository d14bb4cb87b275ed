"""SkyPilot's API server over plain HTTP: the dozen calls that are needed, typed where they enter.

Why not `sky.client.sdk` for these calls, launch included (measured and read with SkyPilot 0.14.1):

- A launch through the SDK waits up to 600 s when the server answers 503. That is longer than a record's submit lease:
  another step would rightly submit too, and the job would run twice. Here every call ends within its time limit.
- `sky.Task` downloads the cloud's catalog from GitHub into the caller's process for any task that names an instance
  type, and blocks where there is no way there. The server has the catalog; it validates the task in 10 to 500 ms.
- The SDK copies every SKYPILOT_* variable into the request's body, the service account's token among them, and for a
  local server the AWS keys too; the server keeps bodies in its database and shows them in `/api/status`.
- `import sky` costs 1.2 s (3.8 s cold) and 156 MiB in each worker process; these calls cost 6 to 15 ms and nothing.

So the SDK is used where it does what HTTP can't: to start the local API server, in a process of its own (sky_local).
"""

import contextlib
import json
import re
from collections.abc import Generator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, TypeVar, cast

import httpx
from pydantic import BaseModel, ConfigDict, SecretStr, TypeAdapter, ValidationError

from shared.domain.provider import ProviderUnavailableError

API_VERSION = 62
"""The version of SkyPilot's HTTP interface that this client was written against (SkyPilot 0.14.1)."""
LIVE = frozenset({"PENDING", "WAITING", "RUNNING"})
"""States of a request that has not ended."""
LAUNCH, DOWN, CHECK = "sky.launch", "sky.down", "sky.check"
"""Names of requests, as the server lists them."""

_OK, _BAD_REQUEST, _NOT_FOUND, _UNPROCESSABLE = 200, 400, 404, 422
_GATEWAY = (502, 503, 504)
"""What a gateway says while the server behind it starts."""

_CONNECT_SECONDS = 3.0
"""A server that is there accepts at once, also across an ocean."""
_ANSWER_SECONDS = 10.0
"""Plain answers take milliseconds; the rest is for a server that is busy launching on few cores."""
_RESULT_SECONDS = 20.0
"""Short requests run in under 1 s, but wait for one of the server's few workers."""
_LOG_BYTES = 262_144
"""A launch's log has a few KiB; what is beyond this is noise."""
_NOISE = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-Z\\-_]|<sky-payload[^>]*>.*?</sky-payload>|[\x00-\x08\x0b-\x1f\x7f]"
)
_FIELDS = ("request_id", "name", "status", "created_at", "finished_at", "cluster_name", "status_msg")


class SkyRefusalError(ProviderUnavailableError):
    """The server refuses to talk to us (401, 403, or it speaks another version): set-up, not chance."""


class SkyFailedError(Exception):
    """A request was refused or failed; what SkyPilot raised. Never leaves the SkyPilot provider."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message


class SkyRequest(BaseModel):
    """One request in the server's books."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    request_id: str
    name: str
    status: str
    created_at: float = 0.0
    finished_at: float | None = None
    cluster_name: str | None = None
    status_msg: str | None = None

    @property
    def live(self) -> bool:
        """It has not ended."""
        return self.status in LIVE


class SkyCluster(BaseModel):
    """One cluster in the server's books, which a refresh compares with the cloud."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    status: str
    launched_at: float | None = None
    status_updated_at: float | None = None
    """When the books were last compared with the cloud, seconds since 1970."""
    labels: dict[str, str] | None = None
    node_names: str | None = None
    init_status_reason: str | None = None
    last_event: str | None = None


T = TypeVar("T")
_REQUESTS = TypeAdapter(list[SkyRequest])
_CLUSTERS = TypeAdapter(list[SkyCluster])
_NAMES = TypeAdapter(list[str])
_ENDPOINTS = TypeAdapter(dict[str, str])


def plain(text: str) -> str:
    """Text without colours, spinners and control characters."""
    return _NOISE.sub("", text)


def _is_local(endpoint: str) -> bool:
    return httpx.URL(endpoint).host in ("127.0.0.1", "localhost", "::1")


def _sky_version() -> str:
    try:
        return version("skypilot")
    except PackageNotFoundError:
        return "0.14.1"


class SkyClient:
    """Calls one API server. Safe for several threads; opens no connection before the first call.

    Every method may raise ProviderUnavailableError (no answer in time, or none that can be understood), or its
    subclass SkyRefusalError.

    Parameters
    ----------
    endpoint
        Address of the server without a trailing slash.
    user_id
        Eight hexadecimal digits; part of each cluster's name in the cloud.
    token
        Bearer token of a service account, where the server wants one.
    """

    def __init__(self, endpoint: str, user_id: str, token: SecretStr | None = None) -> None:
        self.endpoint = endpoint
        headers = {"X-SkyPilot-API-Version": str(API_VERSION), "X-SkyPilot-Version": _sky_version()}
        if token is not None:
            headers["Authorization"] = f"Bearer {token.get_secret_value()}"
        self._http = httpx.Client(
            base_url=endpoint,
            headers=headers,
            timeout=httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
            trust_env=not _is_local(endpoint),  # a proxy for the world is no way to this machine
        )
        self._envelope: dict[str, Any] = {
            "env_vars": {"SKYPILOT_USER_ID": user_id, "SKYPILOT_USER": "gpulaunch"},
            "entrypoint": "gpulaunch",
            "entrypoint_command": "gpulaunch",
            "using_remote_api_server": not _is_local(endpoint),
            "override_skypilot_config": {},
        }

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def healthy(self) -> bool:
        """Whether a server answers. Raises SkyRefusalError only."""
        return self.health() == "healthy"

    def health(self) -> Literal["healthy", "waking", "away"]:
        """`waking`: something took the call for a server that gave no answer, as a gateway does while one is started.

        Raises SkyRefusalError only.
        """
        try:
            response = self._http.get("/api/health", timeout=httpx.Timeout(_CONNECT_SECONDS))
        except httpx.ReadTimeout:
            return "waking"
        except httpx.HTTPError:
            return "away"
        if response.status_code in _GATEWAY:
            return "waking"
        return "healthy" if self._says_healthy(response) else "away"

    def _says_healthy(self, response: httpx.Response) -> bool:
        self._refused(response)
        if response.status_code != _OK:
            return False
        try:
            body = response.json()
        except ValueError:
            return False
        status = cast("dict[str, object]", body).get("status") if isinstance(body, dict) else None
        if status == "needs_auth":
            raise SkyRefusalError("The SkyPilot server wants a token: set SKYPILOT_SERVICE_ACCOUNT_TOKEN")
        return status == "healthy"

    def requests_of(self, cluster_name: str) -> list[SkyRequest]:
        """All requests that the server remembers for a cluster's name, newest first; a restart forgets them all."""
        params: list[tuple[str, str]] = [("cluster_name", cluster_name), ("all_status", "true"), ("limit", "50")]
        found = self._requests(params)
        # An older server ignores the filter and answers with everybody's requests.
        return [request for request in found if request.cluster_name == cluster_name]

    def live_checks(self) -> list[SkyRequest]:
        """Checks of credentials that are under way, the one at the server's start among them."""
        return [request for request in self._requests([("limit", "200")]) if request.name == CHECK and request.live]

    def clusters(
        self, names: Sequence[str] | None = None, refresh: Literal["NONE", "FORCE"] = "NONE"
    ) -> list[SkyCluster]:
        """Clusters of these names, or all. With FORCE the cloud is asked, which takes 2 to 10 s."""
        value = self.result(self._post("/status", self._status_body(names, refresh)))
        return self._parse(_CLUSTERS, value)

    def ask_for_refresh(self, name: str) -> None:
        """Have the server compare its books with the cloud, without waiting; a later look shows what it found."""
        self._post("/status", self._status_body([name], "FORCE"))

    def validate(self, task: Mapping[str, object]) -> None:
        """Have the server check a task. Raises SkyFailedError."""
        self._post("/validate", {"dag": json.dumps(task), "request_options": None}, with_id=False)

    def launch(self, task: Mapping[str, object], cluster_name: str, config: Mapping[str, object]) -> str:
        """Start a launch; the request's id. Not repeatable: twice runs the job twice.

        `config` is laid over the server's configuration for this request. When ProviderUnavailableError comes after
        the connection stood, the server may have taken it all the same.
        """
        # JSON is YAML: no second syntax to get a value wrong in.
        body = {"task": json.dumps(task), "cluster_name": cluster_name, "override_skypilot_config": dict(config)}
        return self._post("/launch", body)

    def down(self, cluster_name: str) -> str:
        """Start taking a cluster away; cancels launches of it that are under way. Never `purge`: that only forgets."""
        return self._post("/down", {"cluster_name": cluster_name})

    def cancel(self, request_ids: Sequence[str]) -> None:
        """Cancel requests; what they made so far stays."""
        if not request_ids:
            raise ValueError("an empty list would cancel everybody's requests")
        self._post("/api/cancel", {"request_ids": list(request_ids)})

    def check(self, cloud: str) -> str:
        """Start a check of one cloud's credentials; the request's id."""
        return self._post("/check", {"clouds": [cloud]})

    def list_accelerators(self, cloud: str) -> str:
        """Start listing the GPUs of one cloud with their prices in all its regions; the request's id.

        It takes the server half a second to some seconds, and longer when it fetches the cloud's prices anew.
        """
        return self._post("/list_accelerators", {"clouds": cloud, "all_regions": True})

    def ended(self, request_id: str) -> bool:
        """Whether a request has ended; one that the server has forgotten has."""
        found = self._requests([("request_ids", request_id)])
        return not any(request.live for request in found)

    def enabled_clouds(self) -> list[str]:
        """Names of the clouds that can be used, lower case, as of the last check."""
        response = self._send("GET", "/enabled_clouds")
        return [name.lower() for name in self._parse(_NAMES, self.result(self._request_id(response)))]

    def endpoint_address(self, cluster_name: str, port: int) -> str | None:
        """Host at which an opened port of a running cluster is reached; None where SkyPilot can't say."""
        try:
            value = self.result(self._post("/endpoints", {"cluster": cluster_name, "port": port}))
        except SkyFailedError:
            return None
        for address in self._parse(_ENDPOINTS, value).values():
            url = httpx.URL(address if "://" in address else f"http://{address}")
            if url.host:
                return url.host
        return None

    def result(self, request_id: str) -> object:
        """Wait for a short request and give what it returned. Raises SkyFailedError when it failed."""
        response = self._send("GET", "/api/get", params=[("request_id", request_id)], seconds=_RESULT_SECONDS)
        body = self._json(response)
        try:
            return json.loads(str(body.get("return_value", "null")))
        except ValueError as error:
            raise ProviderUnavailableError("The SkyPilot server gave a result that can't be read") from error

    def failure_of(self, request_id: str) -> SkyFailedError | None:
        """Why an ended request failed; None when it did not, or the server has forgotten it."""
        try:
            self._send("GET", "/api/get", params=[("request_id", request_id)])
        except SkyFailedError as failed:
            return failed
        return None

    def log(self, request_id: str, lines: int) -> str:
        """The last lines of a request's log, plain text; empty when the server has forgotten it."""
        params = {"request_id": request_id, "follow": "false", "format": "plain", "tail": str(lines)}
        chunks: list[bytes] = []
        size = 0
        with self._errors(), self._http.stream("GET", "/api/stream", params=params) as response:
            if response.status_code != _OK:
                return ""
            for chunk in response.iter_bytes():
                chunks.append(chunk)
                size += len(chunk)
                if size > 2 * _LOG_BYTES:
                    break
        return plain(b"".join(chunks)[-_LOG_BYTES:].decode(errors="replace"))

    def _requests(self, params: list[tuple[str, str]]) -> list[SkyRequest]:
        # Without `fields` the answer holds each request's whole body, secrets included.
        response = self._send("GET", "/api/status", params=[*params, *(("fields", field) for field in _FIELDS)])
        try:
            return _REQUESTS.validate_json(response.content)
        except ValidationError as error:
            raise ProviderUnavailableError("The SkyPilot server gave a list of requests that can't be read") from error

    def _status_body(self, names: Sequence[str] | None, refresh: str) -> dict[str, object]:
        # The defaults would put the cluster's private SSH key and a pickled handle into the answer.
        body: dict[str, object] = {"refresh": refresh, "include_credentials": False, "include_handle": False}
        return body if names is None else {**body, "cluster_names": list(names)}

    def _post(self, path: str, body: Mapping[str, object], *, with_id: bool = True) -> str:
        response = self._send("POST", path, body={**self._envelope, **body})
        return self._request_id(response) if with_id else ""

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: list[tuple[str, str]] | None = None,
        body: Mapping[str, object] | None = None,
        seconds: float = _ANSWER_SECONDS,
    ) -> httpx.Response:
        with self._errors():
            response = self._http.request(
                method,
                path,
                params=tuple(params or ()),
                json=body,
                timeout=httpx.Timeout(seconds, connect=_CONNECT_SECONDS),
            )
        self._refused(response)
        if response.status_code == _OK:
            return response
        detail = self._detail(response)
        if response.status_code in (400, 500) and isinstance(detail, dict):
            raise _failed(cast("dict[str, object]", detail))
        if response.status_code == _UNPROCESSABLE:
            raise SkyFailedError("ValidationError", f"the server does not take the request: {str(detail)[:200]}")
        if response.status_code == _NOT_FOUND:
            raise SkyFailedError("NotFound", str(detail))
        what = plain(str(detail))[:200] if isinstance(detail, str) else ""
        raise ProviderUnavailableError(f"The SkyPilot server answered {response.status_code} {what}".rstrip())

    @contextlib.contextmanager
    def _errors(self) -> Generator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            raise ProviderUnavailableError(f"The SkyPilot server at {self.endpoint} did not answer in time") from error
        except httpx.HTTPError as error:
            raise ProviderUnavailableError(
                f"The SkyPilot server at {self.endpoint} can't be reached: {type(error).__name__}"
            ) from error

    def _refused(self, response: httpx.Response) -> None:
        if response.status_code in (401, 403):
            raise SkyRefusalError(
                f"The SkyPilot server refuses us ({response.status_code}): check SKYPILOT_SERVICE_ACCOUNT_TOKEN and "
                "the rights of its account"
            )
        if response.status_code == _BAD_REQUEST:
            try:
                body = response.json()
            except ValueError:
                return
            if isinstance(body, dict) and cast("dict[str, object]", body).get("error") == "version_mismatch":
                raise SkyRefusalError(
                    f"The SkyPilot server speaks another version than {_sky_version()}: upgrade the older of the two"
                )

    def _detail(self, response: httpx.Response) -> object:
        try:
            body = response.json()
        except ValueError:
            return response.text
        return cast("dict[str, object]", body).get("detail") if isinstance(body, dict) else None

    def _json(self, response: httpx.Response) -> dict[str, object]:
        try:
            body = response.json()
        except ValueError as error:
            raise ProviderUnavailableError("The SkyPilot server gave an answer that can't be read") from error
        if not isinstance(body, dict):
            raise ProviderUnavailableError("The SkyPilot server gave an answer that can't be read")
        return cast("dict[str, object]", body)

    def _request_id(self, response: httpx.Response) -> str:
        request_id = response.headers.get("X-Skypilot-Request-ID")
        if not request_id:
            raise ProviderUnavailableError("The SkyPilot server took a request and gave no id for it")
        return request_id

    def _parse(self, adapter: TypeAdapter[T], value: object) -> T:
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            raise ProviderUnavailableError("The SkyPilot server gave a result that can't be read") from error


def _failed(detail: dict[str, object]) -> SkyFailedError:
    """What was raised, out of `{type, message}` or a whole request with an `error`; pickled parts are never opened."""
    error: object = detail
    if "error" in detail:
        try:
            error = json.loads(str(detail["error"]))
        except ValueError:
            error = None
    if not isinstance(error, dict):
        return SkyFailedError("Unknown", plain(str(detail.get("status_msg") or "SkyPilot gave no reason")))
    known = cast("dict[str, object]", error)
    return SkyFailedError(str(known.get("type", "Unknown")), plain(str(known.get("message", ""))))
