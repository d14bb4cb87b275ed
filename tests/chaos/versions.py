"""The versions of the app that take turns: this checkout, an older commit, and this one with what a later one may add.

A later version is a copy of this checkout with a field more in each record and a step that no version has yet.
"""

import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).parents[2]
BACK = 100
"""Commits of the main line between this checkout and the older version, where there is no release to take."""
_LATER: Mapping[str, tuple[tuple[str, str], ...]] = {
    "shared/domain/instance.py": (
        ("    epoch: int = 1\n", "    epoch: int = 1\n    later_events: int = 0\n"),
        ("    # accepted\n", "    later: int\n    # accepted\n"),
    ),
    "shared/lifecycle/transition.py": (
        (
            "                data=data or {},",
            '                data={**(data or {}), "later": self.record.later_events + 1},',
        ),
        (
            "        self._set(event_count=self.record.event_count + 1)",
            "        self._set(event_count=self.record.event_count + 1, later_events=self.record.later_events + 1)",
        ),
    ),
    "shared/control/records.py": (
        (
            "    queues.send(queue_of(step.step), message, step.delay_seconds)",
            "    queues.send(queue_of(step.step), message, step.delay_seconds)\n"
            '    queues.send(queue_of(step.step), message.model_copy(update={"step": "inspect"}))',
        ),
    ),
}
"""By file: what is replaced, and by what. Each event counts in its record: a version that drops the field shows."""


class VersionError(Exception):
    """The version that was asked for cannot be had from this clone."""


def older(wanted: str | None, clone: Path = ROOT) -> str:
    """The commit of the older version: the one that was asked for, else the newest release, else some commits back.

    Raises:
        VersionError: It is not in this clone.
    """
    if wanted:
        return _git(clone, "rev-parse", "--verify", f"{wanted}^{{commit}}", why=f"CHAOS_OLDER={wanted} is not here")
    if _git(clone, "rev-parse", "--is-shallow-repository", why="This folder has no history; clone it") == "true":
        raise VersionError("This clone is shallow and has no older version: run `git fetch --unshallow`.")
    try:
        return _git(clone, "describe", "--tags", "--abbrev=0", "HEAD^", why="There is no release")
    except VersionError:
        line = _git(clone, "rev-list", "--first-parent", "HEAD", why="There is no history").split()
        return line[min(BACK, len(line) - 1)]


def describe(revision: str) -> str:
    """A commit in one line for people."""
    return _git(ROOT, "show", "--no-patch", "--format=%h of %cs, %s", revision, why=f"{revision} cannot be shown")


def export(revision: str, folder: Path) -> Path:
    """Put a commit's files into a folder.

    Raises:
        VersionError: It is not a version that can be run here.
    """
    folder.mkdir()
    packed = subprocess.run(["git", "archive", revision], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    if not (folder / "devhost").is_dir():
        raise VersionError(f"{revision} has no devhost to run it: set CHAOS_OLDER to a later commit.")
    return folder


def keeps_fields(version: Path) -> bool:
    """Whether a version writes back what it does not know; those before November 2026 do not."""
    base = version / "gpulaunch" / "models" / "base.py"
    return base.is_file() and "class Kept" in base.read_text("utf-8")


def later(folder: Path) -> Path:
    """Put this checkout into a folder as a later version may be."""
    ignored = shutil.ignore_patterns("__pycache__", "node_modules")
    for name in ("shared", "gpulaunch", "functions", "devhost"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("function_app.py", "host.json"):
        shutil.copy(ROOT / name, folder / name)
    for name, changes in _LATER.items():
        text = (folder / name).read_text("utf-8")
        for old, new in changes:
            if text.count(old) != 1:
                raise VersionError(f"{name} has changed: adapt what tests/chaos/versions.py replaces in it.")
            text = text.replace(old, new)
        (folder / name).write_text(text, "utf-8")
    return folder


def _git(clone: Path, *arguments: str, why: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=clone, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise VersionError(f"{why}.") from error
    return done.stdout.strip()
