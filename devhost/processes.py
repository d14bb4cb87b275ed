"""Ends what a run started, however the run ends.

A watcher that does nothing else stays above the run. Linux hands it every process whose own parent died, a detached
server's included, so that none is lost; and each of the two outlives a SIGKILL of the other for as long as it takes to
end the rest. Other systems have neither call: there a SIGKILL of the run leaves the app and Azurite behind.
"""

import ctypes
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None)
_GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL: running functions get 5 s from the host."""
_POLL_SECONDS = 0.2
"""Seconds between two polls of the children and the terminal."""
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_with_parent(parent: int) -> None:
    """Let Linux send this process SIGTERM when its parent dies, be it by SIGKILL."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            # It died before the call.
            os.kill(os.getpid(), signal.SIGTERM)


def watched(body: Callable[[], int]) -> int:
    """Run the body in a process of its own, and return its status when nothing that it started is left."""
    me = os.getpid()
    _adopt_orphans()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            # Out of the terminal's group: a Ctrl-C comes once, from the watcher.
            os.setsid()
            _adopt_orphans()
            end_with_parent(me)
            status = body()
        except Exception:
            traceback.print_exc()
        finally:
            # Whatever happens, this process must not return into the watcher's code.
            try:
                end_descendants()
                with suppress(OSError):
                    sys.stdout.flush()
            finally:
                os._exit(status)

    def pass_on(number: int, _: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    hears = heard()
    for number in hears:
        signal.signal(number, pass_on)
    terminal = _Terminal() if signal.SIGHUP in hears else None
    while True:
        ended, status = os.waitpid(-1, os.WNOHANG)
        if ended == child:
            break
        if terminal is not None and terminal.is_closed():
            # Only the first process of a terminal is sent a SIGHUP; `make`, where it is that one, keeps it to itself.
            pass_on(signal.SIGHUP, None)
            terminal = None
        time.sleep(_POLL_SECONDS)
    end_descendants()
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def heard() -> list[signal.Signals]:
    """Return the signals that end a run: SIGHUP is not one below `nohup`."""
    return [number for number in _PASSED_ON if signal.getsignal(number) != signal.SIG_IGN]


class _Terminal:
    """The terminal that this process belongs to, if any."""

    def __init__(self) -> None:
        self._poll = select.poll()
        with suppress(OSError):
            self._poll.register(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY), 0)

    def is_closed(self) -> bool:
        return bool(self._poll.poll(0))


def end_descendants(grace: float = _GRACE) -> None:
    """End all processes below this one, by SIGTERM and, after some seconds, by SIGKILL."""
    for number in _PASSED_ON:
        signal.signal(number, signal.SIG_IGN)
    asked = set[int]()
    deadline = time.monotonic() + grace
    while there := set(_descendants(os.getpid())):
        for pid in there:
            late = time.monotonic() > deadline
            if late or pid not in asked:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        asked |= there
        _reap()
        time.sleep(0.05)
    _reap()


def _adopt_orphans() -> None:
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def _descendants(root: int) -> Iterator[int]:
    """Yield the process ids below a process, without those that have ended and wait for their parent to see it."""
    children = dict[int, list[int]]()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name between the parentheses may have spaces and parentheses itself.
            state, parent = path.read_text("utf-8", "replace").rpartition(")")[2].split()[:2]
            if state not in "ZX":
                children.setdefault(int(parent), []).append(int(path.parent.name))
    found = [root]
    while found:
        below = children.get(found.pop(), [])
        found += below
        yield from below
