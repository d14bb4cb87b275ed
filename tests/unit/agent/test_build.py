"""The shipped file is the package, and needs nothing but Python 3.9."""

import ast
import gzip
import io
import re
import subprocess
import sys
import zipfile
from base64 import b64decode
from pathlib import Path

import pytest

from shared.agent.build import NODE, ROOT, agent_program
from shared.agent.task import run_script

SOURCES = sorted(NODE.rglob("*.py"))
MODULES = [path for path in SOURCES if path.name != "__main__.py"]


def test_the_task_should_ship_exactly_the_package() -> None:
    shipped = re.search(r"<<'GPULAUNCH_AGENT'.*\n([^']+)\nGPULAUNCH_AGENT\n", run_script())
    assert shipped is not None
    archive = zipfile.ZipFile(io.BytesIO(gzip.decompress(b64decode(shipped[1]))))
    files = {name: archive.read(name) for name in archive.namelist()}
    main = files.pop("__main__.py")
    sources = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in SOURCES}
    assert main == sources.pop("shared/agent/node/__main__.py")
    assert files == sources | {"shared/__init__.py": b"", "shared/agent/__init__.py": b""}


def test_another_process_should_build_the_same_bytes(tmp_path: Path) -> None:
    target = tmp_path / "agent.pyz"
    environ = {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "shared.agent.build", target], cwd=tmp_path, env=environ, check=True)
    assert target.read_bytes() == agent_program()


def test_every_module_should_be_importable_from_the_file_alone(tmp_path: Path) -> None:
    target = tmp_path / "agent.pyz"
    target.write_bytes(agent_program())
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in MODULES]
    code = f"""
import importlib, sys
sys.path.insert(0, {str(target)!r})
for name in {names!r}:
    assert importlib.import_module(name).__file__.startswith({str(target)!r}), name
"""
    subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=tmp_path, env={}, check=True)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(NODE).as_posix())
def test_a_module_should_be_python_3_9_and_import_only_the_standard_library_and_its_package(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    nodes = list(ast.walk(tree))
    imported = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    own = {name for name in imported if name.startswith("shared.agent.node.")}
    assert {name.partition(".")[0] for name in imported - own} <= sys.stdlib_module_names
