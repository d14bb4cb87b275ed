"""The versions that `make chaos` lets take turns."""

import subprocess
from pathlib import Path

import pytest

from tests.chaos.versions import BACK, VersionError, later, older


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=test", "-c", "user.email=test@example.com")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "clone"
    folder.mkdir()
    git(folder, "init", "-q")
    for number in range(3):
        git(folder, "commit", "-q", "--allow-empty", "-m", str(number))
    return folder


def test_a_later_version_should_be_made_of_this_checkout(tmp_path: Path) -> None:
    text = (later(tmp_path / "later") / "shared" / "domain" / "instance.py").read_text("utf-8")
    assert "later_events" in text


def test_the_named_commit_should_be_the_older_version(clone: Path) -> None:
    assert older("HEAD~1", clone) == git(clone, "rev-parse", "HEAD~1")


def test_a_commit_that_is_not_here_should_be_refused(clone: Path) -> None:
    with pytest.raises(VersionError, match="CHAOS_OLDER=v99 is not here"):
        older("v99", clone)


def test_the_newest_release_before_this_commit_should_be_the_older_version(clone: Path) -> None:
    git(clone, "tag", "v1", "HEAD~1")
    git(clone, "tag", "v2", "HEAD")
    assert older(None, clone) == "v1"


def test_without_a_release_the_first_commit_of_a_short_line_should_be_it(clone: Path) -> None:
    assert BACK > 3
    assert older(None, clone) == git(clone, "rev-list", "--max-parents=0", "HEAD")


def test_a_shallow_clone_should_be_refused_with_what_to_do(clone: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--depth", "1", clone.as_uri(), "shallow")
    with pytest.raises(VersionError, match="git fetch --unshallow"):
        older(None, tmp_path / "shallow")


def test_a_folder_that_is_no_clone_should_be_refused(tmp_path: Path) -> None:
    with pytest.raises(VersionError, match="has no history"):
        older(None, tmp_path)
