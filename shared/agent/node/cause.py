"""The cause of a failure in a log: rarely its last line. Pure.

Of vLLM, whose processes fail one after another, the first that failed is the cause, and of its chain of exceptions the
last one that is not a mere wrapper, which is the one that its authors wrote for people. `RuntimeError: Engine core
initialization failed. See root cause above.` is such a wrapper.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Sequence

MOST = 900
"""Characters of a cause; a record keeps a thousand units of it."""
_BEFORE, _AFTER, _END = 40, 15, 30
"""Lines of an excerpt before and after the cause, and from the log's end."""
_MESSAGE_LINES = 4
"""Of an exception; validation errors have their words in the second and third."""

_PREFIX = re.compile(
    r"^(\x1b\[[0-9;]*m)*(\([\w-]+( [\w-]+)*( pid=\d+)?\)\s*)*(\x1b\[[0-9;]*m)*(\s*\|\s+)?"
    r"((?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) +[\d-]+ +[\d:,.]+ +(\[[^\]]*\] ?)?)?"
)
"""What vLLM puts before each line: `(EngineCore_DP0 pid=1234) ERROR 11-26 10:00:00 [core.py:708] `."""
_EXCEPTION = re.compile(
    r"^(?P<name>[A-Za-z_][\w.]*(Error|Exception|Warning|Exit|Interrupt|Failure|Expired|Impossible))(: |$)"
)
_CHAIN = ("The above exception was the direct cause of", "During handling of the above exception")
_WRAPPERS = re.compile(
    r"Engine core initialization failed|Engine process failed to start|EngineCore encountered an issue|EngineDeadError"
    r"|WorkerProc initialization failed|Worker failed with error|ProcessRaisedException|ProcessExitedException"
    r"|EngineGenerateError|^SystemExit|^KeyboardInterrupt|CalledProcessError|^(\w+\.)*CancelledError"
)
_AFTERMATH = re.compile(
    r"^(\w+\.)*(BrokenPipeError|ConnectionResetError|ConnectionRefusedError|EOFError|DistStoreError)"
    r"|NCCL communicator was aborted|Connection closed by (remote )?peer|^(\w+\.)*ExceptionGroup: |^\w*Warning: "
)
"""What other processes say when the one with the cause has gone, and what is said in passing."""
_NATIVE = re.compile(
    r"^\s*what\(\):\s+(?P<what>.+)|^thread '.*' panicked at |error while loading shared libraries: "
    r"|symbol lookup error: |Assertion .* failed\.$"
)
"""How libraries in C++ and Rust end a process, without an exception in Python."""
_MORE = re.compile(r"^Last error:\s*$")
"""NCCL's own words for what it calls an unhandled error follow this line."""
_USAGE = re.compile(r"^(\S+ )*\S+: error: ")
_OUT_OF_MEMORY = "its process was killed, most likely because the machine's memory was used up"
_SIGNALS: dict[int, str] = {
    signal.SIGKILL: _OUT_OF_MEMORY,
    signal.SIGSEGV: "it crashed (segmentation fault)",
    signal.SIGILL: "it crashed: this machine's processor lacks an instruction that it uses",
    signal.SIGABRT: "it aborted",
    signal.SIGBUS: "it crashed (bus error): the shared memory or the disk may be full",
}


def of_server(lines: Sequence[str], code: int) -> tuple[str, int | None]:
    """The cause of a server's end and the index of its line; the index is None if no line tells."""
    plain = [_stripped(line) for line in lines]
    found = _first_exception(plain)
    if found is None:
        found = next((at for at, (text, _) in enumerate(plain) if _USAGE.match(text)), None)
    if found is not None:
        return _message(plain, found), found
    found = next((at for at, (text, _) in enumerate(plain) if _NATIVE.search(text)), None)
    if found is not None:
        return _native(plain, found), found
    number = -code if code < 0 else code - 128
    words = _SIGNALS.get(number)
    if words is not None:
        return words, None
    errors = [at for at, (text, level) in enumerate(plain) if level in ("ERROR", "CRITICAL") and text]
    at = errors[0] if errors else next((at for at in range(len(plain) - 1, -1, -1) if plain[at][0].strip()), None)
    return (plain[at][0], at) if at is not None else ("no output", None)


def _stripped(line: str) -> tuple[str, str | None]:
    found = _PREFIX.match(line)
    return (line, None) if found is None else (line[found.end() :].rstrip(), found["level"])


def _first_exception(plain: Sequence[tuple[str, str | None]]) -> int | None:
    """The exception that counts of the first chain that has one."""
    chains: list[list[int]] = []
    linked = False
    for at, (text, level) in enumerate(plain):
        if any(mark in text for mark in _CHAIN):
            linked = True
        elif _EXCEPTION.match(text) and level not in ("DEBUG", "INFO", "WARNING"):
            if linked and chains:
                chains[-1].append(at)
            else:
                chains.append([at])
            linked = False
    for chosen in (_is_cause, _is_aftermath):
        for chain in chains:
            at = next((at for at in reversed(chain) if chosen(plain[at][0])), None)
            if at is not None:
                return at
    return chains[0][-1] if chains else None


def _is_cause(text: str) -> bool:
    return _WRAPPERS.search(text) is None and _AFTERMATH.search(text) is None


def _is_aftermath(text: str) -> bool:
    return _WRAPPERS.search(text) is None


def _message(plain: Sequence[tuple[str, str | None]], at: int) -> str:
    """An exception's line with those that continue it."""
    words = [plain[at][0]]
    for text, _ in plain[at + 1 : at + _MESSAGE_LINES]:
        ended = not text.strip() or _EXCEPTION.match(text) or text.startswith(("Traceback", "[", "During", "The above"))
        if ended or _is_log_line(text):
            break
        words.append(text.strip())
    told = next((at + n for n, (text, _) in enumerate(plain[at + 1 : at + 9], 1) if _MORE.match(text)), None)
    if told is not None and told + 1 < len(plain):
        words.append(plain[told + 1][0].strip())
    return " ".join(words)[:MOST]


def _native(plain: Sequence[tuple[str, str | None]], at: int) -> str:
    """What a library said in C++, or in Rust, whose reason is in the line after the place."""
    found = _NATIVE.search(plain[at][0])
    if found is not None and found["what"]:
        return found["what"][:MOST]
    panicked = "panicked at " in plain[at][0] and at + 1 < len(plain)
    return " ".join([plain[at][0].strip(), *([plain[at + 1][0].strip()] if panicked else [])])[:MOST]


def _is_log_line(text: str) -> bool:
    return re.match(r"^(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b|^\s*File ", text) is not None


_UNREACHABLE = re.compile(r"connection broken by '?(?P<why>[^']*)'?", re.IGNORECASE)
_INSTALL_ERROR = re.compile("^\\s*(ERROR|error|fatal error|\u00d7):? ")
_COMPILER = re.compile(r"\bfatal error: |^\s*error: command ")
_FULL = re.compile(r"No space left on device|Disk quota exceeded")
_NOT_FOUND = re.compile(r"Could not find a version|No matching distribution|Could not fetch URL|Max retries exceeded")
"""What pip makes of an index that does not answer."""
_INSTALL_NOISE = re.compile(
    r"ResolutionImpossible|No matching distribution found|subprocess-exited-with-error|Failed building wheel"
)


def of_installation(lines: Sequence[str], code: int | None = None) -> tuple[str, int | None]:
    """The cause of a failed installation by uv or pip, which ended with a code, and the index of its line."""
    plain = [_stripped(line)[0] for line in lines]
    full = next((at for at, text in enumerate(plain) if _FULL.search(text)), None)
    if full is not None:
        return f"the disk is full: {plain[full].strip()}"[:MOST], full
    broken = next((at for at, text in enumerate(plain) if _UNREACHABLE.search(text)), None)
    later = [] if broken is None else [text for text in plain[broken:] if _INSTALL_ERROR.match(text)]
    # Another try may have worked; then what failed is something else.
    if broken is not None and (not later or any(map(_NOT_FOUND.search, later))):
        return f"the package index cannot be reached: {plain[broken].strip()}"[:MOST], broken
    compiler = next((at for at, text in enumerate(plain) if _COMPILER.search(text)), None)
    if compiler is not None:
        return plain[compiler].strip()[:MOST], compiler
    errors = [at for at, text in enumerate(plain) if _INSTALL_ERROR.match(text)]
    at = next((at for at in errors if not _INSTALL_NOISE.search(plain[at])), errors[0] if errors else None)
    words = None if code is None else _SIGNALS.get(-code if code < 0 else code - 128)
    if at is None and words is not None:
        return words, None
    if at is None:
        exception = _first_exception([(text, None) for text in plain])
        last = next((place for place in range(len(plain) - 1, -1, -1) if plain[place].strip()), None)
        at = exception if exception is not None else last
        return ("no output", None) if at is None else (plain[at].strip()[:MOST], at)
    return " ".join(_joined(plain, at))[:MOST], at


def _joined(plain: Sequence[str], at: int) -> Iterable[str]:
    """An error with what explains it: uv's `Caused by` and reasons, pip's list of conflicts."""
    yield plain[at].strip().removeprefix("\u00d7 ")
    for text in plain[at + 1 : at + 12]:
        if _INSTALL_ERROR.match(text) or text.startswith(("To fix this", "[notice]")):
            return
        if text.strip():
            yield text.strip().removeprefix("╰─▶ ")


def excerpt(lines: Sequence[str], at: int | None) -> list[str]:
    """The lines around the cause and the last ones."""
    if at is None:
        return list(lines[-_BEFORE - _AFTER - _END :])
    first, last = max(0, at - _BEFORE), at + _AFTER
    if last >= len(lines) - _END:
        return list(lines[first:])[-_BEFORE - _AFTER - _END :] if len(lines) - first > 85 else list(lines[first:])
    return [*lines[first:last], "…", *lines[-_END:]]
