"""The gateway as a Container App: infra/, the image, compose and the process agree."""

import json
import re
from typing import Any

from gateway.__main__ import GRACE_SECONDS
from gateway.app import HOLD_SECONDS
from gateway.key import KEY, KEY_URL
from tests.unit.infra.snapshots import NAMES, container, of, one, settings
from tests.unit.infra.templates import ROOT

INGRESS_SECONDS = 240
"""Container Apps' ingress ends a request without a byte after that (azure-container-apps#597)."""
GRACE_OF_AZURE = 600
"""The longest that Container Apps waits after SIGTERM."""
DOCKERFILE = (ROOT / "gateway" / "Dockerfile").read_text("utf-8")


def _app(case: str) -> dict[str, Any]:
    return one(case, "Microsoft.App/containerApps", "ca-gateway-")["properties"]


def _environment(case: str) -> dict[str, str]:
    return {item["name"]: item["value"] for item in container(case, "gateway")["env"]}


def test_it_should_be_deployed_where_it_is_asked_for_and_nowhere_else() -> None:
    kind = "Microsoft.App/containerApps"
    found = {case: {app["name"].split("-")[1] for app in of(case, kind)} for case in NAMES}
    assert found == {
        "dev": {"skypilot"},
        "everything": {"skypilot", "gateway"},
        "existing-server": set(),
        "prod": {"skypilot", "gateway"},
    }


def test_its_settings_should_be_those_that_it_reads_and_that_are_documented() -> None:
    pattern = r"[\"`]((?:GPULAUNCH|GATEWAY|AZURE|AzureWebJobs)\w*)[\"`]"
    sources = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "gateway").glob("*.py")))
    text = (ROOT / "docs" / "endpoints.md").read_text("utf-8")
    table = text[text.index("| variable | meaning |") :].split("\n\n")[0]
    documented = {name for line in table.splitlines() for name in re.findall(pattern, line.split("|")[1])}
    read = {*re.findall(pattern, sources)}
    assert read == documented
    # A connection string, or a key in the environment, would be a secret there.
    assert {*_environment("prod")} == read - {"AzureWebJobsStorage", KEY}


def test_it_should_follow_the_workspace_of_the_app() -> None:
    assert "GPULAUNCH_WORKSPACE" not in settings("prod")
    assert _environment("prod")["GPULAUNCH_WORKSPACE"] == "default"
    assert settings("everything")["GPULAUNCH_WORKSPACE"] == _environment("everything")["GPULAUNCH_WORKSPACE"] == "team"


def test_it_should_hold_no_secret_but_the_address_of_its_key() -> None:
    assert "secrets" not in _app("everything")["configuration"]
    assert re.search(r"^\[format\('\{0\}secrets/gateway-key', .*/vaults/kvg-", _environment("everything")[KEY_URL])


def test_endpoints_should_show_its_address() -> None:
    assert settings("everything")["GPULAUNCH_GATEWAY_URL"] == "https://llm.example.org"
    assert "/containerApps/ca-gateway-" in settings("prod")["GPULAUNCH_GATEWAY_URL"]
    assert "GPULAUNCH_GATEWAY_URL" not in settings("dev")


def test_applications_should_reach_it_by_https_alone() -> None:
    ingress = _app("prod")["configuration"]["ingress"]
    assert (ingress["external"], ingress["allowInsecure"], ingress["customDomains"]) == (True, False, [])
    place = one("prod", "Microsoft.App/managedEnvironments", "cae-gateway-")["properties"]
    assert place["vnetConfiguration"]["internal"] is False
    rules = one("prod", "Microsoft.Network/networkSecurityGroups", "nsg-gateway-")["properties"]["securityRules"]
    (open_to_all,) = [rule["properties"] for rule in rules if rule["properties"]["sourceAddressPrefix"] == "Internet"]
    assert open_to_all["destinationPortRanges"] == ["443", "31443"]


def test_a_domain_should_be_bound_with_a_certificate_that_azure_renews() -> None:
    kind = "Microsoft.App/managedEnvironments/managedCertificates"
    (certificate,) = of("everything", kind)
    assert certificate["properties"] == {"subjectName": "llm.example.org", "domainControlValidation": "CNAME"}
    domains = _app("everything")["configuration"]["ingress"]["customDomains"]
    assert domains == [{"name": "llm.example.org", "bindingType": "Auto"}]
    assert of("prod", kind) == []


def test_the_port_should_be_the_same_everywhere() -> None:
    (port,) = re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE)
    assert f"GATEWAY_PORT={port}" in DOCKERFILE
    probes = [probe.get("httpGet") or probe["tcpSocket"] for probe in container("prod", "gateway")["probes"]]
    assert {str(probe["port"]) for probe in probes} == {port}
    assert str(_app("prod")["configuration"]["ingress"]["targetPort"]) == port == _environment("prod")["GATEWAY_PORT"]


def test_it_should_get_requests_once_it_is_ready_and_not_be_killed_for_a_table_that_fails() -> None:
    probes = {probe["type"]: probe for probe in container("prod", "gateway")["probes"]}
    assert {kind: probe.get("httpGet", {}).get("path") for kind, probe in probes.items()} == {
        "Startup": "/readyz",
        "Readiness": "/readyz",
        "Liveness": None,
    }
    # Azure takes 1 to 10 of them.
    assert all(1 <= probe["failureThreshold"] <= 10 for probe in probes.values())


def test_it_should_end_by_itself_before_it_is_killed() -> None:
    template = _app("prod")["template"]
    (compose,) = re.findall(
        r"stop_grace_period: (\d+)m", (ROOT / "docker-compose.yml").read_text("utf-8").partition("\n  gateway:")[2]
    )
    assert template["terminationGracePeriodSeconds"] == GRACE_OF_AZURE
    # Its report is removed after the last request, with a limit of 20 s.
    assert min(GRACE_OF_AZURE, 60 * int(compose)) > GRACE_SECONDS + 20


def test_it_should_answer_before_the_ingress_ends_a_request() -> None:
    assert HOLD_SECONDS + 30 < INGRESS_SECONDS


def test_it_should_run_with_as_many_replicas_as_requests_need() -> None:
    scale = {case: _app(case)["template"]["scale"] for case in ("prod", "everything")}
    assert {case: (one["minReplicas"], one["maxReplicas"]) for case, one in scale.items()} == {
        "prod": (1, 4),
        "everything": (0, 10),
    }
    for found in scale.values():
        assert found["rules"] == [{"name": "requests", "http": {"metadata": {"concurrentRequests": "250"}}}]


def test_its_own_image_should_be_where_the_script_looks_for_it() -> None:
    assert "WORKDIR /opt/gpulaunch" in DOCKERFILE
    assert "cd /opt/gpulaunch && exec python -m gateway" in container("prod", "gateway")["command"][2]
    assert json.loads(re.findall(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE)[-1]) == ["python", "-m", "gateway"]
