"""What is deployed, and from which locked packages."""

import itertools
import re

import pytest

from tests.unit.infra.package import packaged
from tests.unit.infra.templates import ROOT

LOCKS = {
    "app": "requirements.txt",
    "local": "requirements-local.txt",
    "skypilot": "requirements-skypilot.txt",
    "dev": "requirements-dev.txt",
    "gateway": "requirements-gateway.txt",
    "node": "requirements-node.txt",
    "clients": "requirements-clients.txt",
    "skypilot-server": "infra/skypilot/requirements.txt",
}


def locked(name: str) -> dict[str, set[str]]:
    """The versions of each package in a lock; there are two where they depend on the Python."""
    found: dict[str, set[str]] = {}
    text = (ROOT / LOCKS[name]).read_text("utf-8")
    for package, version in re.findall(r"^([a-z0-9.-]+)(?:\[[a-z,]+\])?==([^ ;]+)", text, re.MULTILINE):
        found.setdefault(package, set()).add(version)
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_should_hold_what_was_asked_for(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.in").read_text("utf-8")
    if name == "app":  # locked for Flex Consumption's Python alone
        text = re.sub(r'.*; python_version < "3\.13"\n', "", text)
    asked = re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==([^\s;]+)", text, re.MULTILINE)
    assert asked
    found = locked(name)
    assert [one for one in asked if one[1] not in found.get(one[0], set())] == [], "run `make lock`"


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_should_have_hashes_and_no_address(name: str) -> None:
    text = (ROOT / LOCKS[name]).read_text("utf-8")
    entries = re.split(r"\n(?=[a-z])", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    assert not re.search(r"://|--(extra-)?index|--find-links", text)


def test_each_lock_should_hold_the_one_before_it() -> None:
    locks = [locked(name) for name in ("app", "local", "skypilot", "dev")]
    for smaller, larger in itertools.pairwise(locks):
        assert {name: versions for name, versions in smaller.items() if not versions <= larger.get(name, set())} == {}


def test_the_deployed_app_should_be_locked_for_one_python() -> None:
    """With a lock for several, a build with an older one passes, and every call of the app fails."""
    assert len(locked("local")["azure-functions"]) == 2
    assert [name for name, versions in locked("app").items() if len(versions) > 1] == []
    assert "python_full_version" not in (ROOT / LOCKS["app"]).read_text("utf-8")


@pytest.mark.parametrize("package", ["skypilot", "pandas", "boto3", "pytest", "ruff"])
def test_the_deployed_app_should_be_free_of(package: str) -> None:
    assert package not in locked("app")


def test_skypilots_server_should_be_installed_from_its_lock_alone() -> None:
    text = (ROOT / "infra" / "skypilot" / "Dockerfile").read_text("utf-8")
    installs = re.findall(r"pip install ([^&\\]+)", text)
    assert [line.strip() for line in installs] == ["--no-cache-dir --require-hashes --requirement /requirements.txt"]
    assert locked("skypilot-server")["skypilot"] == locked("skypilot")["skypilot"]


@pytest.mark.parametrize(
    "path", ["Dockerfile", "gateway/Dockerfile", "infra/skypilot/Dockerfile", "docker-compose.yml"]
)
def test_images_should_be_named_by_digest_or_say_why_not(path: str) -> None:
    """A tag is whatever its registry says it is."""
    lines = (ROOT / path).read_text("utf-8").splitlines()
    named = [place for place, line in enumerate(lines) if re.match(r"FROM |\s+image: ", line)]
    assert named
    for place in named:
        assert re.search(r"@sha256:[0-9a-f]{64}$", lines[place]) or "not by digest" in lines[place - 1], lines[place]


@pytest.mark.parametrize(
    "path", ["Dockerfile", "gateway/Dockerfile", "infra/skypilot/Dockerfile", "docker-compose.yml"]
)
def test_no_image_should_come_from_docker_hub(path: str) -> None:
    """It counts anonymous pulls by address, and the registry's builds share theirs with everybody's."""
    images = re.findall(r"^(?:FROM|\s+image:) (\S+)", (ROOT / path).read_text("utf-8"), re.MULTILINE)
    assert images
    assert [one for one in images if not one.startswith(("mcr.microsoft.com/", "public.ecr.aws/docker/library/"))] == []


def test_docker_builds_should_see_what_they_copy() -> None:
    files = (ROOT / "Dockerfile", ROOT / "gateway" / "Dockerfile")
    copied = [
        found for file in files for found in re.findall(r"^COPY (.+) \S+$", file.read_text("utf-8"), re.MULTILINE)
    ]
    names = {name for line in copied for name in line.split()}
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert names == {line[1:] for line in lines if line.startswith("!")}


def test_the_gateways_image_should_have_what_the_gateway_runs_with_elsewhere() -> None:
    gateway, local = locked("gateway"), locked("local")
    assert {"aiohttp", "azure-data-tables", "azure-identity", "cryptography", "pydantic", "uvicorn"} <= set(gateway)
    assert {name: local.get(name) for name in gateway} == gateway
    text = (ROOT / "gateway" / "Dockerfile").read_text("utf-8")
    assert "pip install --no-cache-dir --require-hashes --requirement /requirements-gateway.txt" in text


def test_the_gateway_in_compose_should_get_its_own_key_and_no_secret_of_the_app() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    service = text[text.index("\n  gateway:") : text.index("\nvolumes:")]
    assert "GPULAUNCH_GATEWAY_KEY" in service
    assert not re.search(r"MASTER_KEY|_TOKENS|HF_TOKEN|SKYPILOT", service)


def test_compose_should_open_nothing_to_other_machines_and_use_no_published_key() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    ports = re.findall(r"ports: \[(.+)\]", text)
    assert len(ports) == 2
    assert all(port.startswith('"127.0.0.1:') for port in ports)
    assert "Eby8vdM02x" not in text
    assert text.count("${GPULAUNCH_STORAGE_KEY:?") == 3


def test_what_is_left_out_should_be_named_from_the_root() -> None:
    """`docs` without a slash would also strip such folders from the libraries of a package that is built."""
    lines = (ROOT / ".funcignore").read_text("utf-8").split()
    assert {line for line in lines if not line.startswith("/")} == {".*", "!.python_packages", "__pycache__"}


def test_the_package_should_hold_the_functions_app_and_nothing_else() -> None:
    expected = {"function_app.py", "functions", "gpulaunch", "host.json", "requirements.txt", "shared"}
    assert {path.name for path in packaged()} == expected
