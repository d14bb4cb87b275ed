"""Microsoft's compiler on infra/: nothing to remark, canonical format, and snapshots of what would be deployed now."""

import re
import shutil
from pathlib import Path

import pytest

from tests.unit.infra.compiler import NONE, bicep, compiler, snapshot
from tests.unit.infra.snapshots import CASES, NAMES
from tests.unit.infra.templates import FILES, INFRA, ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.skipif(compiler() is None, reason=NONE)]


def test_the_compiler_should_remark_nothing() -> None:
    done = bicep("build", str(INFRA / "main.bicep"), "--stdout")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_should_be_in_canonical_format(path: Path) -> None:
    done = bicep("format", str(path), "--stdout")
    assert done.stdout == path.read_text("utf-8"), f"run `bicep format {path.relative_to(ROOT)}`"


@pytest.mark.parametrize("name", NAMES)
def test_a_snapshot_should_be_what_would_be_deployed(name: str) -> None:
    done = snapshot(CASES / f"{name}.bicepparam", "validate")
    assert done.returncode == 0, f"run `make snapshots` and look at the difference:\n{_plain(done.stdout)}"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(INFRA, tmp_path / "infra")
    shutil.copytree(CASES, tmp_path / CASES.relative_to(ROOT))
    return tmp_path


def _change(path: Path, before: str, after: str) -> None:
    text = path.read_text("utf-8")
    assert text.count(before) == 1
    path.write_text(text.replace(before, after), "utf-8")


def test_a_changed_property_should_show_in_the_difference(copy: Path) -> None:
    _change(
        copy / "infra" / "main.bicep",
        "param storageSku string = 'Standard_ZRS'",
        "param storageSku string = 'Standard_LRS'",
    )
    done = snapshot(copy / CASES.relative_to(ROOT) / "dev.bicepparam", "validate")
    assert done.returncode == 1
    assert re.search(r'sku\.name:\s+"Standard_ZRS" => "Standard_LRS"', _plain(done.stdout))


@pytest.mark.parametrize(
    ("before", "after", "rule"),
    [
        ("sku: { name: 'Basic' }", "skew: { name: 'Basic' }", "BCP037"),
        ("var acrPull =", "var spare = 1\nvar acrPull =", "no-unused-vars"),
        ("registries@2025-04-01'", "registries@2023-07-01'", "use-recent-api-versions"),
        ("reader[place].id, acrPull", "reader[place].properties.principalId, acrPull", "BCP120"),
    ],
)
def test_the_compiler_should_find_a_mistake(copy: Path, before: str, after: str, rule: str) -> None:
    _change(copy / "infra" / "modules" / "registry.bicep", before, after)
    assert f"Error {rule}" in bicep("build", str(copy / "infra" / "modules" / "registry.bicep"), "--stdout").stderr


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
