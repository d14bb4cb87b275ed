"""Real GPU nodes through SkyPilot.

A launch is one request with one resources entry under a cluster name that no other attempt ever has. SkyPilot has no
idempotency key, and a launch repeated under one name runs the job twice; so whatever its server remembers of that name
is adopted, in whatever state, and a name is launched at most once. SkyPilot's own failover, retries and job recovery
are not used: each attempt is ours, with its own name, and what went wrong is read from the request's log.
"""

import logging
import os
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gpulaunch.deadlines import time_limit
from gpulaunch.models.instances import Reason
from gpulaunch.models.requests import ProviderName
from shared.agent.task import open_ports, run_script
from shared.backends.skypilot.availability import AvailabilityCheck
from shared.backends.skypilot.client import DOWN, LAUNCH, SkyClient, SkyCluster, SkyRequest
from shared.backends.skypilot.errors import explain, name_of
from shared.backends.skypilot.history import check_history, lost
from shared.backends.skypilot.http import ANSWER_SECONDS, SkyFailedError, SkyRefusalError
from shared.backends.skypilot.local import LocalServer
from shared.backends.skypilot.task import NO_UPLOAD, task_for
from shared.cache import KeyedTTLCache
from shared.clock import Clock
from shared.clouds.labels import DEPLOYMENT_LABEL, is_gc_protected
from shared.clouds.registry import CLOUDS
from shared.domain.instance import Failure
from shared.domain.provider import (
    AttemptRef,
    Availability,
    Cluster,
    LaunchRefusedError,
    LaunchSpec,
    NodeState,
    NodeView,
    ProviderNotEnabledError,
    ProviderUnavailableError,
)
from shared.redaction import Redactor
from shared.settings import Settings

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 120.0
"""How old SkyPilot's cluster records may be before they are refreshed from the cloud. That costs the server 2 to 10 s
of one of its few long workers, which launches need too; probes and the node's own notices are faster anyway."""
_SETTLE_SECONDS = 5.0
"""After a launch was cancelled its process may write for a moment; until then absence proves nothing."""
_DOWN_AGAIN_SECONDS = 30.0
"""How long after a failed teardown it is tried again: clouds that refuse once refuse for seconds."""
_LOG_LINES = 300
_ADDRESS_SECONDS = 3600.0
"""How long an address is cached: a node keeps it for life, and finding it again costs two calls."""
_OURS = re.compile(r"^gl-[0-9A-Za-z]{26}-[0-9]{2,}$")

_STATES: Mapping[str, NodeState] = {"UP": NodeState.UP, "STOPPED": NodeState.STOPPED}


class SkyPilotProvider:
    """Provider on a SkyPilot API server, remote or started on this machine when needed.

    Safe for several threads and processes: what it remembers (availability, addresses, when it asked for a refresh) is
    a cache and decides nothing. `environ` and `home` are where credentials for a local server are looked for.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        redactor: Redactor,
        *,
        environ: Mapping[str, str] | None = None,
        home: Path | None = None,
        script: Callable[[], str] = run_script,
        refresh_seconds: float = REFRESH_SECONDS,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._redactor = redactor
        self._home = Path.home() if home is None else home
        self._script = script
        self._refresh_seconds = refresh_seconds
        self._local: LocalServer | None = None
        endpoint, token = settings.skypilot_endpoint, settings.skypilot_token
        if endpoint is None:
            self._local = LocalServer(os.environ if environ is None else environ, settings.skypilot_user_id, self._home)
            endpoint, token = self._local.endpoint, None
        self._client = SkyClient(endpoint, settings.skypilot_user_id, token)
        self._availability = AvailabilityCheck(self._client, self._local, redactor, clock)
        self._addresses = KeyedTTLCache[str, str](_ADDRESS_SECONDS, clock)
        self._refresh_asked = KeyedTTLCache[str, bool](refresh_seconds, clock)

    def close(self) -> None:
        self._client.close()

    def availability(self, provider: ProviderName, elapsed_seconds: float) -> Availability:
        """See Provider. Never waits for a server to start or for a check to end."""
        return self._availability.of(provider, elapsed_seconds)

    def submit(self, launch_spec: LaunchSpec) -> str | None:
        """See Provider. Adopts ended launches of that name too, even failed ones: `describe` says what became of it."""
        if launch_spec.submit_until is None:
            return self._submit(launch_spec)
        with time_limit((launch_spec.submit_until - self._clock.now()).total_seconds()):
            return self._submit(launch_spec)

    def _submit(self, launch_spec: LaunchSpec) -> str | None:
        name = launch_spec.cluster_name
        if self._local is not None and (copied := self._local.copied()) is not None:
            raise ProviderNotEnabledError(copied)
        try:
            self._ready()
            with _answers():
                requests = self._client.requests_of(name)
                if any(request.live and request.name == DOWN for request in requests):
                    raise ProviderUnavailableError(f"{name} is being deleted; it cannot be launched")
                if (launch := _launch(requests, None)) is not None:
                    return launch.request_id
                if self._cluster(name) is not None:
                    return None
            ports = open_ports(name, launch_spec.offer.provider, self._settings)
            task = task_for(launch_spec, self._script(), ports, self._settings.workspace)
            self._client.validate(task)
            if self._is_too_late(launch_spec.submit_until):
                raise ProviderUnavailableError(f"The SkyPilot server is too slow to launch {name} in time")
            return self._client.launch(task, name, NO_UPLOAD)
        except SkyRefusalError as refusal:
            raise ProviderNotEnabledError(str(refusal)) from refusal
        except SkyFailedError as failed:
            raise LaunchRefusedError(explain(failed, "", launch_spec.offer, self._redactor.text)) from failed

    def _is_too_late(self, submit_until: datetime | None) -> bool:
        """Whether a launch that begins now may still be under way when the submission has to be over."""
        return submit_until is not None and self._clock.now() + timedelta(seconds=ANSWER_SECONDS) > submit_until

    def describe(self, attempt_ref: AttemptRef) -> NodeView:
        """See Provider: two or three calls of 10 to 170 ms; the log is read only after a failure.

        A node that died behind SkyPilot's back stays in its records until they are compared with the cloud. This asks
        for that, without waiting, when they are older than REFRESH_SECONDS; one of the next calls then says so.
        """
        self._ready()
        with _answers():
            requests = self._client.requests_of(attempt_ref.cluster_name)
            cluster = self._cluster(attempt_ref.cluster_name)
            launch = _launch(requests, attempt_ref.request_id)
            request_id = launch.request_id if launch is not None else None
            if launch is not None and launch.live:
                said = launch.status_msg or (cluster.init_status_reason or cluster.last_event if cluster else None)
                detail = self._redactor.text(said or f"SkyPilot is starting {name_of(attempt_ref.offer)}")
                return NodeView(
                    state=NodeState.PENDING,
                    detail=detail[:500],
                    request_id=request_id,
                    created_at=_creation(cluster),
                    listed=cluster is not None,
                )
            if any(request.live and request.name == DOWN for request in requests):
                detail, listed = "The node is being deleted", cluster is not None
                return NodeView(state=NodeState.PENDING, detail=detail, request_id=request_id, listed=listed)
            failure = self._failure(attempt_ref, launch, cluster)
            if cluster is None:
                if failure is None and attempt_ref.listed:
                    check_history(self._client, attempt_ref.cluster_name)
                detail = "" if failure is not None else "SkyPilot does not know the node"
                # A restart forgets requests; the history tells whether there ever was a machine.
                had = launch is None and bool(self._client.history([attempt_ref.cluster_name]))
                absent = NodeView(state=NodeState.ABSENT, detail=detail, request_id=request_id, failure=failure)
                return replace(absent, listed=had)
            self._refresh_if_old(cluster)
            state = _STATES.get(cluster.status, NodeState.UP)
            address = self._address(attempt_ref, cluster) if state is NodeState.UP and failure is None else None
            detail = (
                "" if cluster.status in _STATES else (cluster.init_status_reason or "SkyPilot reports it as unhealthy")
            )
            return NodeView(
                state=state,
                detail=self._redactor.text(detail)[:500],
                address=address,
                request_id=request_id,
                failure=failure,
                created_at=_creation(cluster),
                listed=True,
            )

    def release(self, attempt_ref: AttemptRef) -> bool:
        """See Provider: True once no live request and no cluster of its name is left.

        Requests are read before clusters: a launch that ends in between shows as a cluster. Nothing is
        remembered here: a teardown under way is found by the cluster's name. A cluster is never just forgotten
        (`purge`): one that the cloud won't delete stays in SkyPilot's records, and this stays False or raises with the
        cloud's words.
        """
        deleted = self.delete(attempt_ref.cluster_name)
        if deleted and attempt_ref.listed:
            with _answers():
                check_history(self._client, attempt_ref.cluster_name)
        return deleted

    def delete(self, cluster_name: str) -> bool:
        self._ready()
        with _answers():
            requests = self._client.requests_of(cluster_name)
            cluster = self._cluster(cluster_name)
            live = [request for request in requests if request.live]
            if any(request.name == DOWN for request in live):
                return False
            if cluster is None and not live:
                return not self._settling(requests)
            if cluster is None:
                # `down` knows no cluster yet, so it would not stop the launch.
                self._client.cancel([request.request_id for request in live])
                return False
            self._report_failed_down(cluster_name, requests)
            # Cancels what is under way on that cluster, too.
            self._client.down(cluster_name)
            return False

    def clusters(self) -> Sequence[Cluster]:
        """See Provider. Where SkyPilot has never run there are none; its local server is not started to say so."""
        if self._local is not None and not self._local.ever_ran() and not self._client.healthy():
            return []
        self._ready()
        with _answers():
            found = [cluster for cluster in self._client.clusters() if _OURS.match(cluster.name)]
        return [
            Cluster(
                cluster_name=cluster.name,
                state=_STATES.get(cluster.status, NodeState.PENDING),
                created_at=None if cluster.launched_at is None else datetime.fromtimestamp(cluster.launched_at, UTC),
                gc_protected=is_gc_protected(cluster.labels or {}),
                deployment=(cluster.labels or {}).get(DEPLOYMENT_LABEL),
                provider=None if cluster.cloud is None else cluster.cloud.lower(),
                region=cluster.region,
                machine=cluster.resources_str_full or "",
                use_spot="[spot]" in (cluster.resources_str_full or "").lower(),
            )
            for cluster in found
        ]

    def lost(self, cluster_names: Sequence[str]) -> Mapping[str, str]:
        self._ready()
        with _answers():
            return lost(self._client, cluster_names)

    def log_tail(self, attempt_ref: AttemptRef, lines: int) -> list[str]:
        self._ready()
        with _answers():
            launch = _launch(self._client.requests_of(attempt_ref.cluster_name), attempt_ref.request_id)
            if launch is None or lines < 1:
                return []
            text = self._client.log(launch.request_id, lines)
        return self._redactor.lines([line.rstrip() for line in text.splitlines() if line.strip()][-lines:])

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _ready(self) -> None:
        """A server of our own runs, or is being started. Raises ProviderUnavailableError until it does."""
        if self._local is not None and not self._client.healthy():
            self._local.start()
            raise ProviderUnavailableError("The SkyPilot server on this machine is starting")

    def _cluster(self, name: str) -> SkyCluster | None:
        return next((cluster for cluster in self._client.clusters([name]) if cluster.name == name), None)

    def _failure(
        self, attempt_ref: AttemptRef, launch: SkyRequest | None, cluster: SkyCluster | None
    ) -> Failure | None:
        if launch is None:
            if cluster is None or cluster.status != "INIT":
                return None
            # A restart of the server forgets requests and ends them; what stays is a cluster that no request brings up.
            message = f"The SkyPilot server lost the launch of {name_of(attempt_ref.offer)}: it was restarted meanwhile"
            return Failure(reason=Reason.PROVIDER_UNAVAILABLE, message=message)
        if launch.status == "SUCCEEDED":
            return None
        error = self._client.failure_of(launch.request_id)
        if error is None:
            error = SkyFailedError("RequestCancelled", f"the request ended as {launch.status}")
        return explain(error, self._client.log(launch.request_id, _LOG_LINES), attempt_ref.offer, self._redactor.text)

    def _refresh_if_old(self, cluster: SkyCluster) -> None:
        if self._now() - (cluster.status_updated_at or 0.0) < self._refresh_seconds:
            return
        if self._refresh_asked.find(cluster.name):
            return
        self._refresh_asked.put(cluster.name, value=True)
        try:
            self._client.ask_for_refresh(cluster.name)
        except ProviderUnavailableError as error:
            # The look itself has its answer; the next one asks again.
            logger.info("No refresh of %s: %s", cluster.name, error)

    def _address(self, attempt_ref: AttemptRef, cluster: SkyCluster) -> str | None:
        node_address = CLOUDS[attempt_ref.offer.provider].node_address
        if node_address is not None:
            return node_address(self._home, attempt_ref.offer.region, cluster.node_names)
        address = self._addresses.find(cluster.name)
        if address is None and (ports := open_ports(cluster.name, attempt_ref.offer.provider, self._settings)):
            address = self._client.endpoint_address(cluster.name, ports[0])
            if address is not None:
                self._addresses.put(cluster.name, address)
        return address

    def _settling(self, requests: Sequence[SkyRequest]) -> bool:
        cancelled = [request for request in requests if request.name == LAUNCH and request.status == "CANCELLED"]
        return any(request.ended_for(self._now()) < _SETTLE_SECONDS for request in cancelled)

    def _report_failed_down(self, name: str, requests: Sequence[SkyRequest]) -> None:
        last = next((request for request in requests if request.name == DOWN), None)
        if last is None or last.status != "FAILED" or last.ended_for(self._now()) >= _DOWN_AGAIN_SECONDS:
            return
        error = self._client.failure_of(last.request_id)
        if error is None or error.kind == "ClusterDoesNotExist":
            return
        raise ProviderUnavailableError(f"SkyPilot could not delete {name}: {self._redactor.text(str(error))[:300]}")


def _launch(requests: Sequence[SkyRequest], request_id: str | None) -> SkyRequest | None:
    """The launch with that id, else the newest one; None when the server remembers none."""
    launches = [request for request in requests if request.name == LAUNCH]
    return next((launch for launch in launches if launch.request_id == request_id), launches[0] if launches else None)


def _creation(cluster: SkyCluster | None) -> datetime | None:
    """A moment just before a cluster's machine was created; None: not known any more.

    SkyPilot 0.14.1 writes `launched_at` before it asks the cloud (INIT), and again once the node is set up: by then it
    is minutes too late (`global_user_state.add_or_update_cluster`).
    """
    if cluster is None or cluster.status != "INIT" or cluster.launched_at is None:
        return None
    return datetime.fromtimestamp(cluster.launched_at, UTC)


@contextmanager
def _answers() -> Generator[None]:
    """Questions whose requests fail leave us knowing nothing."""
    try:
        yield
    except SkyFailedError as failed:
        raise ProviderUnavailableError(f"SkyPilot could not answer: {str(failed)[:300]}") from failed
