"""The idle-cost table of docs/azure.md: every resource of infra/ has a line, and the lines add up."""

import re

from tests.unit.infra.snapshots import container, of
from tests.unit.infra.templates import FILES, ROOT, parsed

LINES = {
    "Microsoft.Web/serverfarms": "Flex Consumption plan",
    "Microsoft.Web/sites": "Function App",
    "Microsoft.Storage/storageAccounts": "storage account",
    "Microsoft.OperationalInsights/workspaces": "Log Analytics workspace",
    "Microsoft.Insights/components": "Application Insights",
    "Microsoft.Insights/diagnosticSettings": "diagnostic settings",
    "Microsoft.Insights/scheduledQueryRules": "alert rules",
    "Microsoft.Insights/metricAlerts": "alert rules",
    "Microsoft.Insights/actionGroups": "action group",
    "Microsoft.Insights/workbooks": "workbook",
    "Microsoft.Consumption/budgets": "budget",
    "Microsoft.KeyVault/vaults": "key vaults",
    "Microsoft.Network/virtualNetworks": "virtual network",
    "Microsoft.Network/networkSecurityGroups": "network security groups",
    "Microsoft.Network/privateDnsZones": "private DNS zones",
    "Microsoft.ManagedIdentity/userAssignedIdentities": "managed identities",
    "Microsoft.Authorization/roleDefinitions": "role definitions",
    "Microsoft.Authorization/roleAssignments": "assignments",
    "Microsoft.Authorization/locks": "lock",
    "Microsoft.Insights/webtests": "availability test",
    "Microsoft.Resources/resourceGroups": "resource group",
    "Microsoft.App/containerApps": "Container App",
    "Microsoft.App/managedEnvironments": "Container Apps environment",
    "Microsoft.DBforPostgreSQL/flexibleServers": "Postgres Flexible Server",
    "Microsoft.ContainerRegistry/registries": "container registry",
}
"""Parts of these (`storageAccounts/queueServices`) cost what their whole does."""


def _table() -> list[list[str]]:
    text = (ROOT / "docs" / "azure.md").read_text("utf-8")
    section = text[text.index("| resource | basis |") :].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines()[2:]]


def _range(cell: str) -> tuple[float, float]:
    numbers = [float(number) for number in re.findall(r"[\d.]+", cell)] or [0.0]
    return numbers[0], numbers[-1]


def test_every_resource_of_the_template_should_have_a_line() -> None:
    used = {resource["type"] for path in FILES for resource in parsed(path).get("resources", {}).values()}
    wholes = {"/".join(kind.split("/")[:2]) for kind in used}
    assert wholes == set(LINES)
    names = "\n".join(row[0] for row in _table())
    assert [text for text in LINES.values() if text not in names] == []


def test_every_container_app_should_have_a_line_with_its_size() -> None:
    found = {
        name: f"Container App of the {text}, {size['cpu']} vCPU and {size['memory'].removesuffix('Gi')} GiB"
        for name, text in {"skypilot": "API server", "gateway": "gateway"}.items()
        if (size := container("everything", name)["resources"])
    }
    assert len(of("everything", "Microsoft.App/containerApps")) == len(found)
    names = [row[0] for row in _table()]
    assert [text for text in found.values() if text not in names] == []


def test_the_sums_should_be_those_of_the_lines() -> None:
    *lines, last = _table()
    assert last[0] == "**sum**"
    for column in (2, 3, 4, 5):
        least = sum(_range(line[column])[0] for line in lines)
        most = sum(_range(line[column])[1] for line in lines)
        assert _range(last[column]) == (round(least), round(most))


def test_the_readme_should_say_the_same_sums() -> None:
    readme = re.sub(r"\s+", " ", (ROOT / "README.md").read_text("utf-8"))
    always, sleeping, existing = (cell.strip("*") for cell in _table()[-1][2:5])
    said = [
        f"about {existing} US dollars",
        f"{sleeping} with its own server that sleeps",
        f"{always} with one that is always on",
    ]
    assert [text for text in said if text not in readme] == []
