"""Every client gives up in time, whatever the other side does: silent, dripping in its headers, or in its body."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import httpx
import pytest
from azure.core.exceptions import AzureError
from azure.core.rest import HttpRequest
from azure.identity import ManagedIdentityCredential
from azure.storage.queue import ExponentialRetry

from deploy import arm
from gateway import report, table, upstream
from gateway.app import Gateway
from gateway.connect import table_of
from gateway.report import Reports, TableReportRow
from gateway.snapshot import Node
from gateway.table import poll, reader
from gateway.upstream import NodeUpstream, UpstreamTimeoutError
from gpulaunch.client import exchange
from gpulaunch.client.asynchronous import AsyncGpuLaunch
from gpulaunch.client.errors import NoAnswerError
from gpulaunch.client.synchronous import GpuLaunch
from gpulaunch.deadlines import time_limit, within
from gpulaunch.models.gateways import GatewayReport
from shared.agent.node.clouds import kubernetes
from shared.agent.node.clouds.base import MetadataService
from shared.agent.node.clouds.kubernetes import KubernetesPod
from shared.agent.node.transport import Http
from shared.azure_transport import LOGIN, RESOURCE_MANAGER, STORAGE, CallLimits, bounded_transport
from shared.backends import nodes
from shared.backends.nodes import HttpNodes
from shared.backends.skypilot import http as sky
from shared.backends.skypilot.client import SkyClient
from shared.clouds.azure import client as azure
from shared.domain.messages import StepMessage
from shared.domain.provider import NodeTarget, NodeUnreachableError, ProviderUnavailableError
from shared.errors import StoreUnavailableError
from shared.model_sources import web
from shared.model_sources.web import Web
from shared.settings import Settings
from shared.storage import connect
from shared.storage.base import Marker
from shared.storage.queues import StorageQueues
from shared.storage.tables import TableInstanceStore
from shared.webhooks import delivery
from tests.functional.gateway.desk import Scripted
from tests.standins.azure.certificate import make_certificates
from tests.standins.azure.credential import StaticCredential
from tests.standins.stalled import DRIPPING_BODY, DRIPPING_HEADERS, HEAD, SILENT, stalled
from tests.twins.clock import START, ManualClock
from tests.twins.factories import make_record

LIMIT = 0.06
TINY = CallLimits(connect=LIMIT, read=LIMIT, call=LIMIT)
TARGET = NodeTarget(
    instance_id="inst-1",
    cluster_name="gl-1",
    attempt=1,
    address="127.0.0.1",
    port=1,
    agent_port=1,
    agent_token="t",
    api_key="k",
)
INSTANCE = "inst-" + "0" * 26


def storage(url: str) -> Settings:
    """All of an account's services at one address."""
    connection = (
        f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;TableEndpoint={url}/a;QueueEndpoint={url}/a"
    )
    return Settings.model_validate({"AZURE_FUNCTIONS_ENVIRONMENT": "Development", "AzureWebJobsStorage": connection})


def store(url: str) -> TableInstanceStore:
    return TableInstanceStore(connect.table_client(storage(url), transport=connect.transport(TINY)), "w")


def queues(url: str) -> StorageQueues:
    at_once = ExponentialRetry(initial_backoff=0, increment_base=0, random_jitter_range=0, retry_total=1)
    service = connect.queue_service(storage(url), transport=connect.transport(TINY), retry_policy=at_once)
    return StorageQueues(service)


def table_of_the_gateway(url: str) -> Any:
    return table_of({"AzureWebJobsStorage": storage(url).storage_connection.get_secret_value()}, "t")  # pyright: ignore[reportOptionalMemberAccess]


def login(url: str, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{url}/msi")
    monkeypatch.setenv("IDENTITY_HEADER", "h")
    credential = ManagedIdentityCredential(transport=bounded_transport(TINY), retry_total=0)
    return credential.get_token("https://storage.azure.com/.default")


def ask_a_node(act: Callable[[NodeTarget], object]) -> Callable[[str], object]:
    def ask(url: str) -> object:
        port = int(url.rpartition(":")[2])
        return act(replace(TARGET, port=port, agent_port=port))

    return ask


def probe(target: NodeTarget) -> None:
    found = HttpNodes().probe([target])["gl-1"]
    if "in time" in found.message:
        raise TimeoutError


async def route(url: str) -> None:
    node = Node(instance_id="inst-1", attempt=1, base=url, key="k", model="m")
    async with upstream.session() as session:
        answer = await NodeUpstream(session).send(node, "/v1/models", {}, b"{}")
        try:
            async for _ in answer.chunks:
                pass
        finally:
            answer.close()


async def wait_for_the_app(url: str) -> None:
    async with AsyncGpuLaunch(url, timeout=httpx.Timeout(LIMIT / 4), sleep=no_pause) as gpu:
        await gpu.health()


async def no_pause(_: float) -> None: ...


def use_the_app(url: str) -> None:
    with GpuLaunch(url, timeout=httpx.Timeout(LIMIT / 4), sleep=lambda _: None) as gpu:
        gpu.health()


class Row:
    """The gateway's own report, which is written at once."""

    def write(self, report: GatewayReport) -> None: ...
    def remove(self) -> None: ...


def read_routes(url: str) -> None:
    async def once() -> None:
        gateway, woken = Gateway(Scripted()), asyncio.Event()
        gateway.room.wake = woken.set
        read = reader(table_of_the_gateway(url), "w")
        polling = asyncio.create_task(poll(gateway, read, lambda sealed: sealed, Reports(gateway, "g", Row())))
        await woken.wait()
        polling.cancel()
        if gateway.read_at is None:
            raise TimeoutError

    asyncio.run(once())


def write_a_report(url: str) -> None:
    reports = Reports(Gateway(Scripted()), "g", TableReportRow(table_of_the_gateway(url), "w", "g"))
    asyncio.run(reports.renew())
    if reports._written is None:  # pyright: ignore[reportPrivateUsage]
        raise TimeoutError


def send(url: str) -> object:
    return bounded_transport(TINY).send(HttpRequest("GET", f"{url}/subscriptions"))


def post(url: str) -> None:
    found = delivery._post(url, {}, b"{}")  # pyright: ignore[reportPrivateUsage]
    if found is not None and found[1]:
        raise TimeoutError


KINDS: dict[str, Callable[[str], object]] = {
    "table: read": lambda url: store(url).load(INSTANCE),
    "table: query": lambda url: list(store(url).live()),
    "table: transaction": lambda url: store(url).create(make_record(), [], None),
    "table: write": lambda url: store(url).put_marker(Marker(kind="k", key="k", at=START)),
    "queue: send": lambda url: queues(url).send("launches", StepMessage(instanceId=INSTANCE, epoch=1, step="advance")),
    "queue: receive": lambda url: queues(url).poisoned("launches"),
    "Azure's resource manager": send,
    "SkyPilot": lambda url: SkyClient(url, "abcdef01").live_checks(),
    "a model's store": lambda url: Web().get(url, {}, "a model"),
    "a webhook": post,
    "a node's agent": ask_a_node(HttpNodes().status),
    "a node's vLLM": ask_a_node(probe),
    "the gateway's table: routes": read_routes,
    "the gateway's table: report": write_a_report,
    "the command": use_the_app,
    "the asynchronous client": lambda url: asyncio.run(wait_for_the_app(url)),
    "the agent: control plane": lambda url: Http().json("GET", url, {}, timeout=LIMIT),
    "the agent: metadata of its cloud": lambda url: MetadataService(Http(), url).ask("/", {}, timeout=LIMIT),
}
GIVEN_UP = (
    StoreUnavailableError,
    AzureError,
    ProviderUnavailableError,
    NodeUnreachableError,
    NoAnswerError,
    UpstreamTimeoutError,
    TimeoutError,
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sky, "ANSWER_SECONDS", LIMIT)
    monkeypatch.setattr(sky, "_CONNECT_SECONDS", LIMIT)
    monkeypatch.setattr(web, "LONGEST_SECONDS", LIMIT)
    monkeypatch.setattr(delivery, "LONGEST_SECONDS", LIMIT)
    monkeypatch.setattr(nodes, "STATUS_SECONDS", LIMIT)
    monkeypatch.setattr(nodes, "PROBE_SECONDS", LIMIT)
    monkeypatch.setattr(report, "CALL_SECONDS", LIMIT)
    monkeypatch.setattr(table, "CALL_SECONDS", LIMIT)
    monkeypatch.setattr(upstream, "ANSWER_SECONDS", LIMIT)
    monkeypatch.setattr(upstream, "IDLE_SECONDS", LIMIT)


def is_given_up(act: Callable[[], object], *also: type[Exception]) -> bool:
    """Whether a call ends by itself, as one that got no answer; a call without a limit is left after five seconds."""
    begun = time.monotonic()
    with pytest.raises((*GIVEN_UP, *also)):
        within(5, act)
    return time.monotonic() - begun < 4


@pytest.mark.parametrize("answer", [SILENT, DRIPPING_HEADERS], ids=["silent", "dripping headers"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_client_should_give_up_in_time(kind: str, answer: tuple[bytes, bytes]) -> None:
    with stalled(*answer) as url:
        assert is_given_up(lambda: KINDS[kind](url))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "a webhook"])
def test_a_client_that_reads_a_body_should_give_up_one_that_drips(kind: str) -> None:
    with stalled(*DRIPPING_BODY) as url:
        assert is_given_up(lambda: KINDS[kind](url))


def test_a_webhook_that_has_taken_an_alert_should_not_be_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its status says all there is; whatever it goes on to say is not read."""
    monkeypatch.setattr(delivery, "LONGEST_SECONDS", 5.0)
    with stalled(*DRIPPING_BODY) as url:
        begun = time.monotonic()
        post(url)
        assert time.monotonic() - begun < 4


@pytest.mark.parametrize("answer", [SILENT, DRIPPING_HEADERS, (HEAD, b"")], ids=["silent", "headers", "silent body"])
def test_the_gateway_should_give_up_a_node_in_time(answer: tuple[bytes, bytes]) -> None:
    with stalled(*answer) as url:
        assert is_given_up(lambda: asyncio.run(route(url)))


def test_the_gateway_should_not_give_up_a_stream_that_comes_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "IDLE_SECONDS", 0.4)
    with stalled(HEAD, b" " * 400, pause=0.0015) as url:
        begun = time.monotonic()
        asyncio.run(route(url))
        assert time.monotonic() - begun > 0.4


def test_a_pod_should_give_up_its_cluster_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("token", "namespace"):
        (tmp_path / name).write_text("text")
    (tmp_path / "ca.crt").write_bytes(make_certificates(tmp_path, "127.0.0.1").ca.read_bytes())
    monkeypatch.setattr(kubernetes, "ACCOUNT", tmp_path)
    monkeypatch.setattr(kubernetes, "SECONDS", LIMIT)
    with stalled(*SILENT) as url:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", url.rpartition(":")[2])
        # The limit of the whole call and the socket's own come at about the same time.
        assert is_given_up(KubernetesPod().delete, URLError)


@pytest.mark.parametrize("answer", [SILENT, DRIPPING_HEADERS, DRIPPING_BODY], ids=["silent", "headers", "body"])
def test_a_login_should_give_up_in_time(answer: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    with stalled(*answer) as url:
        assert is_given_up(lambda: login(url, monkeypatch))


@pytest.mark.parametrize("kind", [name for name in KINDS if not name.startswith(("the agent", "a node"))])
def test_what_is_left_of_a_deadline_should_be_the_limit(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with stalled(*SILENT) as url, time_limit(LIMIT):
        assert is_given_up(lambda: KINDS[kind](url))


def limits_of(transport: Any) -> tuple[float, float, float]:
    config = transport.connection_config
    return (config.timeout, config.read_timeout, transport.call_limit)


def transport_of(client: Any) -> Any:
    """What carries a client's requests, through as many layers as the SDK puts around it."""
    while not hasattr(client, "connection_config"):
        client = next(getattr(client, name) for name in ("_pipeline", "_transport", "_client") if hasattr(client, name))
    return client


def expected(limits: CallLimits) -> tuple[float, float, float]:
    return (limits.connect, limits.read, limits.call)


def test_the_limits_should_be_what_the_transports_of_production_have(monkeypatch: pytest.MonkeyPatch) -> None:
    given = storage("http://127.0.0.1:1")
    for client in (connect.table_client(given), connect.queue_service(given)):
        assert limits_of(transport_of(client)) == expected(STORAGE)
    machines = azure.AzureClient("sub-1", ManualClock(), credential=StaticCredential())
    assert limits_of(transport_of(machines._client())) == expected(RESOURCE_MANAGER)  # pyright: ignore[reportPrivateUsage]
    deploying = arm.Arm(StaticCredential())
    for client in (deploying._client, deploying.compute("sub-1")):  # pyright: ignore[reportPrivateUsage]
        assert limits_of(transport_of(client)) == expected(RESOURCE_MANAGER)


@pytest.mark.parametrize("client_id", ["", "00000000-0000-0000-0000-000000000001"])
def test_a_login_of_production_should_have_its_limits(client_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[CallLimits] = []
    monkeypatch.setattr(connect, "bounded_transport", made.append)
    names = {"AzureWebJobsStorage__accountName": "acme", "AzureWebJobsStorage__clientId": client_id}
    names["AZURE_FUNCTIONS_ENVIRONMENT"] = "Development"
    connect._credential(Settings.model_validate(names))  # pyright: ignore[reportPrivateUsage]
    assert made == [LOGIN]


def test_silent_storage_should_cost_a_caller_less_than_twenty_seconds() -> None:
    retries: dict[str, Any] = connect._TABLE_RETRIES  # pyright: ignore[reportPrivateUsage]
    assert (retries["retry_connect"], retries["retry_read"]) == (1, 1)
    # The queue's pause before its repetition is two seconds at most.
    assert 2 * STORAGE.call + 2 < 20


def test_the_pause_that_an_answer_asks_for_should_have_a_limit() -> None:
    short = bounded_transport(replace(TINY, pause=0.01))
    begun = time.monotonic()
    short.sleep(3600)
    with time_limit(0.01):
        bounded_transport(TINY).sleep(3600)
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize("timeout", [exchange.TIMEOUT, httpx.Timeout(2.0)])
def test_a_client_of_ours_should_have_limits(timeout: httpx.Timeout) -> None:
    assert None not in (timeout.connect, timeout.read)
