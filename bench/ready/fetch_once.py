"""The agent's own fetching, by itself: files from standard input, the seconds it took on standard output."""

import json
import sys
import threading
import time
from pathlib import Path

from shared.agent.node.clock import NodeClock
from shared.agent.node.fetch import Fetcher
from shared.agent.node.log import Log
from shared.agent.node.state import State
from shared.agent.node.transport import Http


def main() -> None:
    """Fetch `[{path, url, size}, …]` into the folder that the first argument names."""
    files = json.load(sys.stdin)
    fetcher = Fetcher(
        folder=Path(sys.argv[1]), transport=Http(), clock=NodeClock(), state=State(Log()), stop=threading.Event()
    )
    began = time.perf_counter()
    fetcher.fetch(files)
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main()
