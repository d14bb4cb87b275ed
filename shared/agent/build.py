"""Build the one file that is shipped to a GPU node from the package `shared/agent/node/`.

The file is a zip application (https://docs.python.org/3/library/zipapp.html): Python runs it as it runs a script, also
with `-I`. Modules are in it byte for byte under their own names, so what is tested is what runs, a traceback names the
line of the source, and no text is taken apart as a concatenation would have to. The entries are stored, not compressed,
sorted, and without times: equal sources make an equal file, whatever the version of zlib.

It is built from the sources when it is first needed, in some milliseconds, and is not committed.
"""

import functools
import hashlib
import io
import sys
import zipfile
from pathlib import Path

NODE = Path(__file__).with_name("node")
ROOT = NODE.parents[2]
PACKAGES = ("shared/__init__.py", "shared/agent/__init__.py")


@functools.cache
def agent_program() -> bytes:
    sources = {path.relative_to(ROOT).as_posix(): path for path in NODE.rglob("*.py")}
    files = dict.fromkeys(PACKAGES, b"") | {name: path.read_bytes() for name, path in sources.items()}
    files["__main__.py"] = files.pop("shared/agent/node/__main__.py")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in sorted(files.items()):
            entry = zipfile.ZipInfo(name)
            entry.create_system = 3  # Unix: the default is the builder's own
            archive.writestr(entry, text)
    return buffer.getvalue()


def main() -> None:
    """Write the program to the path that the first argument names."""
    target = Path(sys.argv[1])
    target.write_bytes(agent_program())
    print(f"{target}: {len(agent_program())} bytes, SHA-256 {hashlib.sha256(agent_program()).hexdigest()}")


if __name__ == "__main__":
    main()
