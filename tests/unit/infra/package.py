"""What the deployment package of the Functions app holds."""

from pathlib import Path

from tests.unit.infra.templates import ROOT


def packaged() -> list[Path]:
    """Return the files and folders at the top of the package: what .funcignore leaves of the project."""
    ignored = {line.removeprefix("/") for line in (ROOT / ".funcignore").read_text("utf-8").split()}
    return [path for path in sorted(ROOT.iterdir()) if not path.name.startswith(".") and path.name not in ignored]
