"""An endpoint answers by TLS with the certificate of its assignment; its own agent and job trust it."""

import json
import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from gpulaunch import Credentials, node_client
from shared.auth import Deriver
from shared.certificates import node_name
from shared.domain.node import NodeTls
from shared.model_sources.assignment import node_tls
from shared.web.instance import samples
from tests.functional.agent.processes import Nodes, eventually
from tests.functional.agent.servers import API_KEY, ControlPlane, Store

DERIVER = Deriver(SecretStr("k" * 32))
INSTANCE = "inst-1"
CALL = """
import json, os, ssl, urllib.request
headers = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}
url = os.environ["OPENAI_BASE_URL"] + "/models"
context = ssl.create_default_context()
answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), context=context)
print(url.split(":")[0], json.load(answer)["data"][0]["id"], context.cert_store_stats()["x509_ca"] > 1)
"""


def tls() -> NodeTls:
    return node_tls(DERIVER, INSTANCE, 1)


def models(port: int | None, verify: ssl.SSLContext) -> Any:
    headers = {"Authorization": f"Bearer {API_KEY}"}
    extensions = {"sni_hostname": node_name(INSTANCE, 1)}
    with httpx.Client(verify=verify, headers=headers) as client:
        return client.get(f"https://127.0.0.1:{port}/v1/models", extensions=extensions).json()["data"][0]["id"]


@pytest.mark.parametrize("way", ["push", "pull"])
def test_an_endpoint_should_answer_with_the_certificate_of_its_assignment(
    nodes: Nodes, store: Store, control: ControlPlane, way: str, tmp_path: Path
) -> None:
    call = tmp_path / "call.py"
    call.write_text(CALL)
    job = {"command": [sys.executable, str(call)]}
    given = control.assignment = nodes.assignment([store.file("config.json", b"{}")], tls=tls(), job=job)
    node = nodes.start(push=control, GPULAUNCH_TLS="1") if way == "push" else nodes.start(pull=given, GPULAUNCH_TLS="1")
    log = node.work / "job.log"
    said = eventually(lambda: log.exists() and log.read_text())
    assert said.split() == ["https", "org/tiny", "True"], "the job trusts its node, and all that it trusted before"
    argv = json.loads((node.work / "vllm.argv").read_text())
    port = int(argv[argv.index("--port") + 1])
    assert models(port, ssl.create_default_context(cadata=DERIVER.authority_certificate())) == "org/tiny"
    shown = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", port)))
    assert shown == ssl.PEM_cert_to_DER_cert(DERIVER.certificate(INSTANCE, 1).certificate)
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        models(port, ssl.create_default_context(cadata=Deriver(SecretStr("l" * 32)).authority_certificate()))
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{port}/health")
    key = Path(argv[argv.index("--ssl-keyfile") + 1])
    assert key.stat().st_mode & 0o077 == 0
    assert "PRIVATE KEY" not in node.log() + "".join(argv)
    node.process.terminate()
    node.wait(40)
    assert not key.exists(), "a shared node keeps no key of what has ended"


def test_what_users_are_shown_should_reach_a_node_and_nothing_else(nodes: Nodes, store: Store, tmp_path: Path) -> None:
    given = tls()
    node = nodes.start(pull=nodes.assignment([store.file("config.json", b"{}")], tls=given))
    endpoint = f"https://127.0.0.1:{node.reaches('serving').port}/v1"
    for attempt, believed in ((1, True), (2, False)):
        name = node_name(INSTANCE, attempt)
        access = Credentials(
            instance_id=INSTANCE,
            endpoint=endpoint,
            api_key=API_KEY,
            model_name="org/tiny",
            server_name=name,
            ca_certificate=given.authority,
        )
        (tmp_path / "nodes.pem").write_text(given.authority)
        environ = {"PATH": os.environ["PATH"], "OPENAI_API_KEY": API_KEY}
        line = samples(endpoint, "org/tiny", name)["curl"]
        done = subprocess.run(
            ["sh", "-c", line], check=False, cwd=tmp_path, env=environ, capture_output=True, text=True
        )
        assert ("hello" in done.stdout, done.returncode == 0) == (believed, believed)
        with node_client(access) as client:
            try:
                answer = client.get(f"{endpoint}/models", headers={"Authorization": f"Bearer {API_KEY}"})
            except httpx.ConnectError:
                assert not believed
            else:
                assert (believed, answer.status_code) == (True, 200)


def test_an_agent_should_wait_for_a_control_plane_that_knows_of_certificates(
    nodes: Nodes, store: Store, control: ControlPlane
) -> None:
    """While the control plane is updated, either version may answer."""
    files = [store.file("config.json", b"{}")]
    control.assignment = nodes.assignment(files)
    node = nodes.start(push=control, GPULAUNCH_TLS="1")
    eventually(lambda: "the assignment has no certificate" in node.log())
    control.assignment = nodes.assignment(files, tls=tls())
    eventually(lambda: control.bodies("register"))
    assert "--ssl-certfile" in json.loads((node.work / "vllm.argv").read_text())
