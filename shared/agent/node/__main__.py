"""The agent as a program: the shipped file has this module at its root."""

from __future__ import annotations

import ctypes
import os
import sys

from shared.agent.node.agent import Agent
from shared.agent.node.clock import NodeClock
from shared.agent.node.config import Config
from shared.agent.node.log import Log
from shared.agent.node.process import try_lock
from shared.agent.node.transport import Http


def protect() -> None:
    """Hide this process' memory and first environment from other processes of the same user (PR_SET_DUMPABLE)."""
    try:
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
    except (OSError, AttributeError):
        return


def main() -> int:
    """Run the agent unless another one runs this attempt; return the exit code."""
    protect()
    log = Log()
    config = Config.take(os.environ)
    os.umask(0o077)
    config.work.mkdir(parents=True, exist_ok=True)
    with (config.work / "agent.lock").open("w") as lock:
        if not try_lock(lock):
            log("another agent runs this attempt")
            return 0
        return Agent(config, dict(os.environ), Http(), NodeClock(), log).run()


if __name__ == "__main__":
    sys.exit(main())
