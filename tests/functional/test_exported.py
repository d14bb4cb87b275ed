"""Queries, alert rules and workbook ask for what the app really sends: by Microsoft's exporter, to a stand-in.

Kusto's language is not run here; every name and value that a query asks for is looked up in what was sent.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest

from gpulaunch.models.instances import Mode, Phase
from shared.observability import base
from tests.functional.world import ADMIN
from tests.standins.ingestion import TABLES, Ingestion, Row

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "observability.md").read_text("utf-8")
_OF_THE_HOST = {"to queue 'gpulaunch-", "-poison'"}
"""Texts of the Functions host's own lines, which is not here."""


@dataclass(frozen=True)
class Sent:
    rows: list[Row]
    text: str
    instance: str


def _queries() -> Iterator[tuple[str, str]]:
    for number, text in enumerate(re.findall(r"```kql\n(.*?)```", DOCUMENT, re.DOTALL)):
        yield f"docs-{number}", text
    for path in sorted((ROOT / "infra" / "queries").glob("*.kql")):
        yield f"alert-{path.stem}", re.sub(r"(?m)^//.*$", "", path.read_text("utf-8"))
    for item in json.loads((ROOT / "infra" / "workbook.json").read_text("utf-8"))["items"]:
        if "AppTraces" in (text := item["content"].get("query", "")) or re.search(r"\bApp[A-Z]", text):
            yield f"workbook-{item['name']}", text


QUERIES = dict(_queries())


@pytest.fixture(scope="module")
def sent() -> Sent:
    with Ingestion() as ingestion:
        done = subprocess.run(
            [sys.executable, "-m", "tests.functional.exporting", ingestion.address],
            cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        said: Any = json.loads(done.stdout)
        return Sent(ingestion.rows, "".join(ingestion.texts), said["instance"])


def _missing(query: str, rows: list[Row]) -> list[str]:
    """What a query asks for that no row has."""
    tables = set(re.findall(r"\b(App[A-Z]\w+)", query))
    ours = [row for row in rows if row.table in tables]
    missing = [f"table {table}" for table in tables - set(TABLES.values())]
    known = {name for row in ours for name in row.properties}
    missing += [
        name for name in re.findall(r"Properties\.(\w+)", query) if tables != {"AppRequests"} and name not in known
    ]
    for name, value in re.findall(r'Properties\.(\w+)\) == "([^"]+)"', query):
        values = set(get_args(Mode)) if name == "mode" else {row.properties.get(name) for row in ours}
        missing += [] if value in values else [f"{name} {value}"]
    names = {row.name for row in ours}
    missing += [name for name in re.findall(r'\bName == "([^"]+)"', query) if name not in names]
    starts: list[str] = re.findall(r'\bName startswith "([^"]+)"', query)
    missing += [start for start in starts if not any(name.startswith(start) for name in names)]
    texts = set(re.findall(r'\bMessage has "([^"]+)"', query)) - _OF_THE_HOST
    missing += [text for text in texts if not any(text in name for name in names)]
    for listed in re.findall(r"phase !in \(([^)]*)\)", query):
        missing += set(re.findall(r'"(\w+)"', listed)) - set(Phase)
    return missing


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_should_ask_for_what_is_sent(name: str, sent: Sent) -> None:
    assert _missing(QUERIES[name], sent.rows) == []


@pytest.mark.parametrize(
    "query",
    [
        'AppTraces | where tostring(Properties.event) == "sweeps"',
        "AppTraces | extend x = tostring(Properties.instanceId)",
        'AppMetrics | where Name == "gpulaunch.launch"',
        'AppDependencies | where Name startswith "phases "',
        'AppTraces | where Message has "is not confirmed away after"',
        'AppLogs | where Name == "launch"',
        'AppTraces | where phase !in ("done")',
    ],
)
def test_a_name_that_nobody_sends_should_be_found(query: str, sent: Sent) -> None:
    assert _missing(query, sent.rows)


def _first_cells(heading: str) -> set[str]:
    section = DOCUMENT[DOCUMENT.index(f"## {heading}") :].split("\n## ")[0]
    return {
        name
        for line in section.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([^`]+)`", line.split("|")[1])
    }


def test_metrics_should_be_documented_as_they_are_sent(sent: Sent) -> None:
    made = {value.name for value in vars(base).values() if isinstance(value, base.Metric)}
    seen = {row.name for row in sent.rows if row.table == "AppMetrics"} - {"_OTELRESOURCE_"}
    assert seen == made == _first_cells("Counters")


def test_spans_should_be_documented_as_they_are_sent(sent: Sent) -> None:
    seen = {row.name for row in sent.rows if row.table == "AppDependencies"}
    phases = {name for name in seen if name.startswith("phase ")}
    assert (seen - phases) | {"phase <name>"} == _first_cells("One trace")
    assert {name.removeprefix("phase ") for name in phases} <= set(Phase)


def test_a_story_should_be_one_operation_with_its_lines(sent: Sent) -> None:
    of = [row for row in sent.rows if row.properties.get("instance_id") == sent.instance and row.name != "planted"]
    spans = [
        row for row in of if row.table == "AppDependencies" and row.name.startswith(("launch", "phase ", "provider "))
    ]
    (operation,) = {row.operation for row in spans}
    lines = [row for row in of if row.table == "AppTraces" and row.properties["event"] == "phase"]
    assert {row.properties["phase"] for row in lines} >= {"provisioning", "ready", "terminating"}
    assert {row.operation for row in lines} == {operation}


def test_no_secret_should_be_sent_not_even_in_a_traceback(sent: Sent) -> None:
    assert ADMIN not in sent.text
    assert "refused with [redacted]" in sent.text
