"""The process in which the functions run, as under the real host: `python -m devhost.worker FOLDER THREADS DESCRIPTOR`.

It loads the app, sends what it found or the faults, one per line, through the socket, and then calls functions in
threads until the host's end of the socket is closed: the host has ended, and so does this process, whatever it does.
"""

import logging
import os
import pickle
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from types import FrameType, MappingProxyType
from typing import Any

from devhost.app import Function, HttpFunction, load
from devhost.config import HostError

LENGTH = 8
"""Bytes of a message's length, which goes before it."""
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

log = logging.getLogger("devhost.worker")


def call(function: Function, body: Callable[..., Any], value: object) -> Any:
    """Call a function as the Python worker does.

    Raises:
        RuntimeError: A function without an HTTP trigger returned a value, which the worker refuses.
    """
    result = body(**{function.argument: value})
    if result is not None and not isinstance(function, HttpFunction):
        raise RuntimeError(f"function '{function.name}' without a $return binding returned a non-None value")
    return result


def view_of(values: dict[str, str]) -> MappingProxyType[str, str]:
    """Make one of the views that requests hold of their parameters, and that can't be sent."""
    return MappingProxyType(values)


def _ignore(number: int, frame: FrameType | None) -> None:
    pass


def main() -> None:
    folder, threads, channel = Path(sys.argv[1]), int(sys.argv[2]), socket.socket(fileno=int(sys.argv[3]))
    channel.set_inheritable(False)
    for number in (signal.SIGINT, signal.SIGTERM):
        # The host, which the terminal sends them as well, decides when to stop. What the app starts ends by them.
        signal.signal(number, _ignore)
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    # One line for each request to storage is of no use here.
    logging.getLogger("azure").setLevel(logging.WARNING)
    lock = Lock()

    def send(message: object) -> None:
        content = pickle.dumps(message)
        with lock:
            channel.sendall(len(content).to_bytes(LENGTH) + content)

    try:
        functions, calls = load(folder, os.environ)
    except HostError as error:
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        send(str(error))
        return
    send(functions)

    def answer(number: int, function: Function, value: object) -> None:
        result, failure = None, ""
        try:
            result = call(function, calls[function.name], value)
        except Exception:
            failure = traceback.format_exc()
        try:
            # The real worker can't serialize lone surrogates: the call hangs until functionTimeout.
            failure.encode()
        except UnicodeEncodeError:
            log.warning("the failure of '%s' can't be sent to the host: %a", function.name, failure)
            return
        send((number, result, failure))

    pool = ThreadPoolExecutor(threads, thread_name_prefix="function")
    received = channel.makefile("rb")
    while len(length := received.read(LENGTH)) == LENGTH:
        message = received.read(int.from_bytes(length))
        if len(message) == int.from_bytes(length):
            pool.submit(answer, *pickle.loads(message))  # noqa: S301 - from the process that started this one
    os._exit(1)


if __name__ == "__main__":
    main()
