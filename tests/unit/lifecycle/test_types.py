"""What pyright has to refuse in every call of the core: some seconds of pyright, so among the slow tests."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SNIPPET = """
from datetime import UTC, datetime

from gpulaunch.models.instances import Phase
from shared.lifecycle.transition import Transition


def wrong(transition: Transition) -> None:
    transition.change(deadline_att=None)  # error
    transition.change(phase=Phase.READY)  # error
    transition.change(ends_as="no-such-phase")  # error
    transition.change_attempt(node_fase="serving")  # error
    transition.change_attempt(port="not a port")  # error
    transition.move("no-such-phase", "never")  # error
    transition.move(Phase.REDDY, "never")  # error


def right(transition: Transition) -> None:
    transition.change(poisoned=1, ends_as="failed")
    transition.change_attempt(port=8000, gone_at=datetime.now(UTC))
    transition.move(Phase.READY, "now")
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_pyright_should_refuse_misspelt_fields_and_wrong_values(request: pytest.FixtureRequest) -> None:
    snippet = ROOT / "tests" / "unit" / "lifecycle" / "_snippet.py"
    request.addfinalizer(lambda: snippet.unlink(missing_ok=True))
    snippet.write_text(SNIPPET, encoding="utf-8")
    pyright = ROOT / "node_modules" / "pyright" / "index.js"
    done = subprocess.run(["node", pyright, snippet], cwd=ROOT, capture_output=True, text=True, check=False)
    wrong = {int(line) for line in re.findall(r"_snippet\.py:(\d+):\d+ - error", done.stdout)}
    assert wrong == {number for number, line in enumerate(SNIPPET.splitlines(), 1) if line.endswith("# error")}
