"""Ends this worker when the host that started it has ended.

A host that is killed leaves its worker behind, which would go on writing beside the worker of the next host.
"""

import os
import threading
import time

_POLL_SECONDS = 1.0


def end_with_host() -> None:
    """Watch the process that started this one; whatever runs here ends with it, as by a kill."""
    host = os.getppid()

    def watch() -> None:
        while os.getppid() == host:
            time.sleep(_POLL_SECONDS)
        # What runs is repeated by whoever takes its message next; nothing here may write once more.
        os._exit(1)

    threading.Thread(target=watch, name="host", daemon=True).start()
