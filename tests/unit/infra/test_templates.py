"""The Bicep files fit together, and say nothing that they should not."""

import json
import re
from pathlib import Path

import pytest

from shared.queues import QUEUES
from shared.storage.connect import REPORTS, TABLE
from tests.unit.infra.templates import FILES, INFRA, ROOT, Tree, code, decorated, parsed

_SECRET = re.compile(r"password|secret|token(?!vault)|masterkey|connectionstring", re.IGNORECASE)
_NO_SECRET = {"token", "tokenVaultUri", "useHubToken", "GPULAUNCH_TOKEN_VAULT_NAME"}
"""`token` is the part of the resources' names that uniqueString makes."""


def _modules() -> list[tuple[Path, str, Path, set[str]]]:
    """Every call of a module: the caller, the name, the module's file, the parameters that it gets."""
    found: list[tuple[Path, str, Path, set[str]]] = []
    for path in FILES:
        for name, module in parsed(path).get("modules", {}).items():
            # A conditional module has its configuration one level deeper.
            config = module["config"].get("config", module["config"])
            found.append((path, name, path.parent / module["detail"]["path"], set(config["params"])))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_resource_should_have_a_type_and_a_pinned_version(path: Path) -> None:
    resources = parsed(path).get("resources", {})
    assert resources or parsed(path).get("modules")
    for resource in resources.values():
        assert re.fullmatch(r"\d{4}-\d\d-\d\d(-preview)?", resource["api_version"])
        assert resource["type"].startswith("Microsoft.")


def test_every_module_should_get_the_parameters_that_it_declares_and_no_others() -> None:
    called = _modules()
    assert len(called) >= 9
    for _, name, module, given in called:
        declared: Tree = parsed(module)["parameters"]
        needed = {key for key, value in declared.items() if value.get("default") is None}
        assert needed <= given <= set(declared), name


def test_every_output_that_is_read_should_be_declared() -> None:
    for path, name, module, _ in _modules():
        declared = set(parsed(module).get("outputs", {}))
        assert set(re.findall(rf"\b{name}\.outputs\.(\w+)", code(path))) <= declared, name


def test_every_parameter_and_variable_should_be_used() -> None:
    for path in FILES:
        for name in [*parsed(path).get("parameters", {}), *parsed(path).get("variables", {})]:
            assert len(re.findall(rf"\b{name}\b", code(path))) > 1, f"{path.name}: {name}"


def test_the_parameter_file_should_name_parameters_of_the_template_and_none_that_is_secret() -> None:
    given: Tree = json.loads((INFRA / "main.parameters.json").read_text("utf-8"))["parameters"]
    declared: Tree = parsed(INFRA / "main.bicep")["parameters"]
    assert {name for name, value in declared.items() if value.get("default") is None} <= set(given) <= set(declared)
    assert not [name for name in given if decorated(declared[name], "secure")]


def test_a_parameter_that_holds_a_secret_should_be_secure() -> None:
    for path in FILES:
        for name, parameter in parsed(path).get("parameters", {}).items():
            wanted = _SECRET.search(name) is not None and name not in _NO_SECRET
            assert decorated(parameter, "secure") == wanted, f"{path.name}: {name}"


def test_no_output_should_hold_a_secret() -> None:
    for path in FILES:
        secret = {name for name, value in parsed(path).get("parameters", {}).items() if decorated(value, "secure")}
        for name, output in parsed(path).get("outputs", {}).items():
            assert name in _NO_SECRET or not _SECRET.search(name), f"{path.name}: {name}"
            shown = [one for one in secret if re.search(rf"\b{one}\b", json.dumps(output))]
            assert decorated(output, "secure") == bool(shown), f"{path.name}: {name}"
        # The password of SkyPilot's database follows from one of them, and goes into a secure parameter.
        keys = re.findall(r"\blist(?:Keys|AccountSas|Credentials|AdminKeys)\b.*", code(path))
        assert len(keys) == (path.name == "skypilot.bicep"), path.name


def test_a_secret_setting_should_be_a_reference_into_a_vault() -> None:
    variables = parsed(INFRA / "modules" / "app.bicep")["variables"]
    for group in ("appSettings", "hubSettings", "webhookSettings", "r2Settings", "s3Settings"):
        for name, value in variables[group]["value"].items():
            if re.search(r"TOKEN|KEY|WEBHOOK", name):
                assert re.match(r"\$\{fromVault\}/|@Microsoft\.KeyVault\(", str(value)), name


def test_storage_should_have_the_queues_and_the_table_that_the_app_uses() -> None:
    text = code(INFRA / "modules" / "storage.bicep")
    made = set(re.findall(r"'(gpulaunch-[a-z-]+)'", text))
    assert made == {*QUEUES, *(f"{queue}-poison" for queue in QUEUES)}
    assert f"tableName = '{TABLE}'" in text
    assert f"reportsName = '{REPORTS}'" in text


def test_storage_should_take_no_shared_key() -> None:
    accounts = re.findall(r"storageAccounts@[\d-]+' = \{.*?\n\}", code(INFRA / "modules" / "storage.bicep"), re.DOTALL)
    assert len(accounts) == 2
    assert all("allowSharedKeyAccess: false" in account for account in accounts)


def test_roles_of_the_subscription_should_hold_no_wildcard_that_writes() -> None:
    text = code(INFRA / "modules" / "roles.bicep")
    actions = re.findall(r"^\s+'(Microsoft\.[^']+)'$", text, re.MULTILINE)
    assert len(actions) > 60
    assert [action for action in actions if "*" in action] == ["Microsoft.Compute/locations/*/read"]
    watcher = text[text.index("resource watcher") : text.index("resource watching")]
    assert not re.search(r"/write'|roleAssignments", watcher)


_VERBS = {"GET": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}


def _action(call: str) -> str | None:
    """What a management call needs, as role definitions write it; None: nothing, it asks how another one went on."""
    method, path = call.split()
    if path.startswith("/operations/"):
        return None
    if "/providers/" not in path:
        return f"Microsoft.Resources/subscriptions/resourceGroups/{_VERBS[method]}"
    parts = path.rpartition("/providers/")[2].split("/")
    # A namespace, then types and names in turn.
    types = [parts[0], *parts[1::2]]
    return "/".join([*types, _VERBS[method]])


def test_the_launcher_should_be_allowed_what_skypilot_was_seen_to_ask() -> None:
    seen = (ROOT / "tests" / "standins" / "azure" / "skypilot-calls.txt").read_text("utf-8")
    calls = [line.split(maxsplit=1)[1] for line in seen.splitlines() if not line.startswith("#")]
    needed = {action for call in calls if (action := _action(call)) is not None}
    assert len(needed) >= 12
    text = code(INFRA / "modules" / "roles.bicep")
    launcher = text[text.index("resource launcher") : text.index("resource launching")]
    allowed = re.findall(r"^\s+'(Microsoft\.[^']+)'$", launcher, re.MULTILINE)
    patterns = [re.compile(re.escape(action).replace(r"\*", ".+"), re.IGNORECASE) for action in allowed]
    assert sorted(action for action in needed if not any(pattern.fullmatch(action) for pattern in patterns)) == []


def test_every_file_that_is_loaded_should_be_there() -> None:
    loaded = [(path, name) for path in FILES for name in re.findall(r"loadTextContent\('([^']+)'\)", code(path))]
    assert len(loaded) == 12
    for path, name in loaded:
        assert (path.parent / name).read_text("utf-8").strip(), name


def test_the_workbook_should_be_one() -> None:
    workbook = json.loads((INFRA / "workbook.json").read_text("utf-8"))
    queries = [item["content"]["query"] for item in workbook["items"] if item["type"] == 3]
    assert workbook["version"] == "Notebook/1.0"
    assert len(queries) >= 5
