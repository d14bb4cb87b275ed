"""What `import gpulaunch` gives, and what it does not load."""

import subprocess
import sys
from pathlib import Path

import pytest

import gpulaunch
from gpulaunch.version import VERSION

ROOT = Path(__file__).parents[3]


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after a statement."""
    program = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["models.responses", "models.queries", "models.problems", "operations", "format"])
def test_the_contract_should_load_neither_the_client_nor_its_libraries(module: str) -> None:
    loaded = loaded_by(f"import gpulaunch.{module}")
    assert f"gpulaunch.{module}" in loaded
    assert not loaded & {"httpx", "tenacity", "rich", "typer", "gpulaunch.client", "gpulaunch.cli"}


def test_the_package_should_load_what_is_asked_for_and_no_more() -> None:
    assert not loaded_by("import gpulaunch") & {"httpx", "pydantic"}
    assert not loaded_by("from gpulaunch import LaunchRequest, Phase") & {"httpx", "tenacity"}
    assert {"httpx", "tenacity"} <= loaded_by("from gpulaunch import GpuLaunch")
    assert not loaded_by("from gpulaunch import GpuLaunch") & {"typer", "gpulaunch.cli"}


def test_every_public_name_should_be_there() -> None:
    assert [name for name in gpulaunch.__all__ if not hasattr(gpulaunch, name)] == []
    assert gpulaunch.GpuLaunch.__module__ == "gpulaunch.client.synchronous"
    assert gpulaunch.__version__ == VERSION
    with pytest.raises(AttributeError, match="module 'gpulaunch' has no attribute 'Nothing'"):
        _ = gpulaunch.Nothing  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("file", ["pyproject.toml", "package.json", "azure.yaml", "README.md", "docs/cli.md"])
def test_the_version_should_be_written_in_one_place(file: str) -> None:
    assert VERSION not in (ROOT / file).read_text("utf-8")
