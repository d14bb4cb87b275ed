"""What stands between clients and nodes: this project's gateway, as it is deployed, and what one would use instead."""

import json
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from azure.data.tables import TableServiceClient
from pydantic import SecretStr

from bench.gateway.load import Target
from bench.peers import SKYPILOT, environment
from bench.processes import BenchError, Server
from bench.results import ROOT
from devhost import azurite
from devhost.azurite import free_ports
from gateway.table import REPORTS, TABLE
from gpulaunch.models.routes import ROW_AREA, hash_of_key
from shared.auth import Deriver

VLLM_ROUTER = "vllm-router==0.1.17"
LITELLM = "litellm[proxy]==1.108.0"
START_SECONDS = 180
MODEL = "bench/model"
NODES = 2
KEY = "gl-key-of-the-benchmark"
TLS_ENDPOINT = "bench-tls"
DERIVER = Deriver(SecretStr("master-key-of-the-benchmark-of-no-secrecy"))


@dataclass(frozen=True)
class Backends:
    """Two nodes without TLS, and two with."""

    ports: tuple[int, ...]
    tls_ports: tuple[int, ...]


@dataclass(frozen=True)
class Contender:
    name: str
    target: Target
    server: Server | None
    """None: the node itself."""


def environ(**given: str) -> dict[str, str]:
    home = os.environ.get("HOME", "/")
    path = os.environ.get("PATH", os.defpath)
    return {"PATH": path, "HOME": home, "PWD": str(ROOT), "LC_ALL": "C.UTF-8", **given}


def start_backends(folder: Path, stack: ExitStack) -> Backends:
    """Four processes, which are those of every contender."""
    plain, tls = free_ports(NODES), free_ports(NODES)
    replicas = " ".join(f"http://127.0.0.1:{port}" for port in plain)
    for number, port in enumerate((*plain, *tls)):
        more: list[Path] = []
        if number >= NODES:
            made = DERIVER.certificate(_instance(TLS_ENDPOINT, number - NODES), 1)
            more = [folder / f"{number}.pem", folder / f"{number}.key"]
            more[0].write_text(made.certificate, "utf-8")
            more[1].write_text(made.key, "utf-8")
        command = [sys.executable, "-m", "bench.gateway.backend", str(port), *more]
        server = Server.start(f"backend-{number}", command, environ(BENCH_REPLICAS=replicas), folder)
        stack.enter_context(server)
        if not more:
            server.wait_healthy(f"http://127.0.0.1:{port}/health", START_SECONDS)
    return Backends(plain, tls)


def node_itself(backends: Backends) -> Contender:
    return Contender("the node itself", Target(backends.ports[0], {}, MODEL), None)


def start_gateway(folder: Path, stack: ExitStack, backends: Backends) -> list[Contender]:
    """The gateway as a process, with an endpoint whose nodes speak plain HTTP, and one with TLS as all real ones do."""
    storage = azurite.start(folder / "azurite")
    stack.callback(storage.stop)
    service: Any = TableServiceClient.from_connection_string(storage.connection_string)
    for name in (TABLE, REPORTS):
        service.create_table_if_not_exists(name)
    table = service.get_table_client(TABLE)
    names = {"bench-plain": backends.ports, TLS_ENDPOINT: backends.tls_ports}
    for name, ports in names.items():
        document = json.dumps(_endpoint(name, ports))
        table.upsert_entity({"PartitionKey": "default", "RowKey": f"{ROW_AREA}|{name}", "doc": document})
    (port,) = free_ports(1)
    env = environ(
        AzureWebJobsStorage=storage.connection_string,
        GPULAUNCH_GATEWAY_KEY=DERIVER.gateway_key(),
        GATEWAY_PORT=str(port),
    )
    server = stack.enter_context(Server.start("gateway", [sys.executable, "-m", "gateway"], env, folder))
    server.wait_healthy(f"http://127.0.0.1:{port}/readyz", START_SECONDS)
    shown = {"bench-plain": "gpulaunch", TLS_ENDPOINT: "gpulaunch, TLS to nodes"}
    return [
        Contender(shown[name], Target(port, {"Authorization": f"Bearer {KEY}-{name}"}, name), server) for name in names
    ]


def _instance(endpoint: str, number: int) -> str:
    return f"inst-{endpoint}-{number}"


def _endpoint(name: str, ports: tuple[int, ...]) -> Mapping[str, object]:
    slots: list[Mapping[str, object]] = []
    for number, port in enumerate(ports):
        instance_id = _instance(name, number)
        certificate = DERIVER.certificate(instance_id, 1) if name == TLS_ENDPOINT else None
        route = {
            "attempt": 1,
            "address": "127.0.0.1",
            "port": port,
            "sealed_key": DERIVER.sealed(DERIVER.endpoint_key(instance_id, 1)),
            "server_name": None if certificate is None else certificate.name,
        }
        slots.append({"instance_id": instance_id, "generation": 1, "state": "active", "route": route})
    key = {
        "key_id": f"key-{name}",
        "name": "bench",
        "key_hash": hash_of_key(f"{KEY}-{name}"),
        "created_at": datetime.now(UTC).isoformat(),
    }
    template = {"model_name": MODEL, "vllm_args": ["--max-num-seqs", "1024"]}
    return {
        "name": name,
        "endpoint_id": name,
        "replicas": NODES,
        "generations": [{"number": 1, "template": template}],
        "slots": slots,
        "keys": [key],
        "authority": DERIVER.authority_certificate() if name == TLS_ENDPOINT else "",
    }


def start_nginx(folder: Path, stack: ExitStack, backends: Backends) -> Contender:
    """Debian's nginx with one worker, as good as it gets: it checks no key and tries no second node."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        raise BenchError("nginx is missing: apt-get install nginx-light")
    (port,) = free_ports(1)
    servers = "".join(f"server 127.0.0.1:{one};" for one in backends.ports)
    (folder / "nginx.conf").write_text(
        f"""daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  {"".join(f"{kind}_temp_path {folder}/nginx-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))}
  upstream nodes {{ least_conn; {servers} keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port}; keepalive_requests 1000000;
    location / {{
      proxy_pass http://nodes; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
""",
        "utf-8",
    )
    command = [program, "-c", str(folder / "nginx.conf"), "-p", str(folder)]
    server = stack.enter_context(Server.start("nginx", command, environ(), folder))
    server.wait_healthy(f"http://127.0.0.1:{port}/health", START_SECONDS)
    return Contender("nginx", Target(port, {}, MODEL), server)


def start_router(folder: Path, stack: ExitStack, backends: Backends) -> Contender:
    """vllm-router, vLLM's own, in Rust."""
    port, metrics = free_ports(2)
    workers = [f"http://127.0.0.1:{one}" for one in backends.ports]
    command = [environment(VLLM_ROUTER) / "vllm-router", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--policy", "round_robin", "--prometheus-port", str(metrics), "--log-level", "warning"]
    command += ["--worker-urls", *workers]
    server = stack.enter_context(Server.start("vllm-router", command, environ(), folder))
    server.wait_healthy(f"http://127.0.0.1:{port}/health", START_SECONDS)
    return Contender(_name(VLLM_ROUTER), Target(port, {}, MODEL), server)


def start_skyserve(folder: Path, stack: ExitStack, backends: Backends) -> Contender:
    """SkyServe's load balancer, of the SkyPilot that is locked here; it asks its controller for the replicas."""
    home, (port,) = folder / "skyserve-home", free_ports(1)
    home.mkdir()
    command = [sys.executable, "-m", "sky.serve.load_balancer", "--load-balancer-port", str(port)]
    command += ["--controller-addr", f"http://127.0.0.1:{backends.ports[0]}"]
    env = environ(SKYPILOT_DISABLE_USAGE_COLLECTION="1") | {"HOME": str(home)}
    server = stack.enter_context(Server.start("skyserve", command, env, folder))
    server.wait_healthy(f"http://127.0.0.1:{port}/health", START_SECONDS)
    return Contender(f"SkyServe's balancer ({SKYPILOT.partition('==')[2]})", Target(port, {}, MODEL), server)


def start_litellm(folder: Path, stack: ExitStack, backends: Backends) -> Contender:
    """LiteLLM's proxy with one worker and one key, without a database."""
    (port,) = free_ports(1)
    models = [
        {
            "model_name": MODEL,
            "litellm_params": {
                "model": f"openai/{MODEL}",
                "api_base": f"http://127.0.0.1:{one}/v1",
                "api_key": "none",
            },
        }
        for one in backends.ports
    ]
    config = {"model_list": models, "general_settings": {"master_key": f"sk-{KEY}"}}
    (folder / "litellm.yaml").write_text(json.dumps(config), "utf-8")  # JSON is YAML
    command = [environment(LITELLM) / "litellm", "--config", folder / "litellm.yaml", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    home = folder / "litellm-home"
    home.mkdir()
    env = environ(LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_LOG="ERROR") | {"HOME": str(home)}
    server = stack.enter_context(Server.start("litellm", command, env, folder))
    server.wait_healthy(f"http://127.0.0.1:{port}/health/liveliness", START_SECONDS)
    target = Target(port, {"Authorization": f"Bearer sk-{KEY}"}, MODEL)
    return Contender(_name(LITELLM).replace("[proxy]", "'s proxy"), target, server)


def _name(requirement: str) -> str:
    return requirement.replace("==", " ")
