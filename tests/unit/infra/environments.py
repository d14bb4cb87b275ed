"""Other people's tools, each in a folder of its own below .cache, since their pins would move half of the app's."""

import fcntl
import hashlib
import subprocess
from pathlib import Path

from tests.unit.infra.templates import ROOT


def environment(name: str, base: str, *arguments: str) -> Path:
    """Return the folder of programs that pip filled; made anew when what is wanted changes."""
    folder, mark = ROOT / ".cache" / name, hashlib.sha256(" ".join(arguments).encode()).hexdigest()
    stamp = folder / "wanted.sha256"
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text("ascii") != mark:
            subprocess.run([base, "-m", "venv", "--clear", str(folder)], check=True, timeout=120)
            install = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", *arguments]
            made = subprocess.run(install, check=False, timeout=700, capture_output=True, text=True)
            assert made.returncode == 0, made.stderr
            stamp.write_text(mark, "ascii")
    return folder / "bin"
