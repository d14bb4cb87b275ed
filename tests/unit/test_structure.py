"""The structure that docs/internals/README.md describes: who imports whom, how long files are, names used once.

An import contract: every import of the program is read from its source, those inside functions too.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = ("gateway", "gpulaunch", "shared", "functions", "deploy", "devhost", "function_app.py")
CONTRACT = ("gpulaunch.models", "gpulaunch.errors")
PROTOCOLS = (
    "shared.backends.base",
    "shared.clouds.base",
    "shared.storage.base",
    "shared.storage.endpoints",
    "shared.observability.base",
    "shared.observability.instances",
)
LEAVES = (
    "gpulaunch.deadlines",
    "gpulaunch.trust",
    "shared.agent.task",
    "shared.auth",
    "shared.azure_transport",
    "shared.cache",
    "shared.certificates",
    "shared.clock",
    "shared.errors",
    "shared.queues",
    "shared.redaction",
    "shared.settings",
    "shared.table_errors",
    "shared.turns",
)
"""Small modules that every room but the pure ones may use; a clock is a Protocol here."""
PURE_BILLING = ("budget", "ledger", "limits", "report")
EDGE = ("gpulaunch", "shared.api", "shared.app", "shared.clouds.registry", "shared.control", "shared.domain")
RIM = (*CONTRACT, "shared.domain", *PROTOCOLS, *LEAVES)
ALLOWED: dict[str, tuple[str, ...]] = {
    "gpulaunch": ("gpulaunch",),
    "gateway": ("gpulaunch.models", "gpulaunch.deadlines", "gpulaunch.trust", "gateway"),
    "shared.domain": (*CONTRACT, "shared.domain"),
    "shared.lifecycle": (*CONTRACT, "shared.domain", "shared.lifecycle"),
    "shared.planning": (*CONTRACT, "shared.domain", "shared.planning"),
    "shared.autoscaling": (*CONTRACT, "shared.domain", "shared.autoscaling"),
    "shared.billing": (*RIM, "shared.billing"),
    "shared.control": (
        *RIM,
        "gpulaunch.version",
        "shared.control",
        "shared.lifecycle",
        "shared.planning",
        "shared.autoscaling",
        "shared.billing",
    ),
    "shared.api": (*EDGE, *PROTOCOLS, *LEAVES, "shared.webhooks.alert"),
    "shared.web": (*EDGE, *PROTOCOLS, *LEAVES, "shared.planning.launch_plan", "shared.web"),
    "functions": (*EDGE, *LEAVES, "shared.web", "functions"),
    "shared.backends": (*RIM, "shared.backends", "shared.clouds", "shared.catalog"),
    "shared.clouds": (*RIM, "shared.clouds"),
    "shared.storage": (*RIM, "shared.storage"),
    "shared.catalog": (*RIM, "shared.catalog", "shared.clouds"),
    "shared.model_sources": (*RIM, "shared.model_sources"),
    "shared.webhooks": (*RIM, "shared.webhooks"),
    "shared.observability": (*RIM, "gpulaunch.version", "shared.observability"),
    "shared.agent": (*CONTRACT, "shared.agent", "shared.auth", "shared.clouds", "shared.domain", "shared.settings"),
    "shared.settings": (*CONTRACT, "gpulaunch.proxies", "shared.domain", "shared.errors"),
}
"""What each room may import of ours; a prefix stands for all below it. Only `shared/app.py` and `shared/adapters.py`,
which put the program together, may import from everywhere."""


def modules(*roots: str) -> Iterator[Path]:
    for root in roots:
        path = ROOT / root
        yield from [path] if path.suffix == ".py" else sorted(path.rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {one if _is_module(one) else node.module for one in inner}
    return {
        one
        for one in found
        if one.split(".")[0] in ("gateway", "gpulaunch", "shared", "functions", "deploy", "devhost")
    }


def _is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").exists()


def within(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes)


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_should_import_only_what_the_contract_allows(room: str) -> None:
    root = room.replace(".", "/")
    found = modules(root if (ROOT / root).is_dir() else f"{root}.py")
    broken = [f"{name_of(p)} imports {one}" for p in found for one in imports(p) if not within(one, ALLOWED[room])]
    assert not broken, "\n".join(broken)


def test_the_contract_should_notice_an_import_inside_a_function(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text("def late():\n    from shared import app\n    from shared.api.http import Request\n")
    found = imports(planted)
    assert found == {"shared.app", "shared.api.http"}
    assert not any(within(one, ALLOWED["shared.control"]) for one in found)


@pytest.mark.parametrize("name", PURE_BILLING)
def test_the_pure_half_of_billing_should_import_only_the_domain(name: str) -> None:
    path = ROOT / "shared" / "billing" / f"{name}.py"
    pure = (*CONTRACT, "shared.domain", *(f"shared.billing.{one}" for one in PURE_BILLING))
    assert [one for one in imports(path) if not within(one, pure)] == []


@pytest.mark.parametrize("room", ["shared/domain", "shared/lifecycle", "shared/planning", "shared/autoscaling"])
def test_a_pure_room_should_read_no_clock_and_do_no_io(room: str) -> None:
    for path in modules(room):
        text = path.read_text("utf-8")
        names = {node.attr for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)}
        used = {
            alias.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for alias in node.names
        }
        assert not names & {"utcnow", "today", "environ", "getenv"}, path
        assert not used & {"os", "time", "random", "socket", "subprocess", "threading", "httpx", "requests"}, path


def test_no_file_of_the_program_should_be_longer_than_350_lines() -> None:
    lines = {name_of(path): len(path.read_text("utf-8").splitlines()) for path in modules(*PROGRAM)}
    assert {name: count for name, count in lines.items() if count > 350} == {}


def test_no_two_classes_of_the_program_should_share_a_name() -> None:
    names = Counter(
        node.name
        for path in modules(*PROGRAM)
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in names.items() if count > 1] == []
