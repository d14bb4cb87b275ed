"""The agent's own fetching, by itself: files from standard input, the seconds it took on standard output."""

import json
import sys
import threading
import time
from pathlib import Path

from shared.agent.agent import Clock, Fetcher, Http, Log, State


def main() -> None:
    """Fetch `[{path, url, size}, …]` into the folder that the first argument names."""
    files = json.load(sys.stdin)
    fetcher = Fetcher(
        folder=Path(sys.argv[1]), transport=Http(), clock=Clock(), state=State(Log()), stop=threading.Event()
    )
    began = time.perf_counter()
    fetcher.fetch(files)
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main()
