"""Run mutants, each in a fork of a process that has imported program and tests already.

A change in a function's body is made in the fork by giving the function its new code. A change that is seen on import
needs a fork without the program, which then imports it changed.
"""

import gc
import multiprocessing
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from inspect import CO_OPTIMIZED
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from select import select
from types import CodeType, FrameType, FunctionType
from typing import Literal

import pytest

from tests.mutants.coverage import ARGUMENTS, JOBS, Covered, Examples
from tests.mutants.mutants import ROOT, Mutant

BUDGET = 45.0
"""Seconds of tests per mutant, at their normal speed: the fastest ones that run the changed statement."""
_SLOWER = 4
"""How much longer tests may take than when they were measured; then the mutant counts as found, as one that hangs."""
_FIXTURES = 20.0
"""Seconds beside, for fixtures that were there when the tests were measured."""
_START = 120.0
"""Seconds for imports, before the first test."""
_BEGUN = "begun"
"""What a process says when its tests begin."""
_NEAR = 2
"""Files of tests that are imported at first, where each change needs its imports anew."""

Outcome = Literal["found", "late", "survived", "untested"]


@dataclass(frozen=True)
class Result:
    mutant: Mutant
    outcome: Outcome
    by: str
    """The test that found it."""
    seconds: float

    @property
    def found(self) -> bool:
        return self.outcome in ("found", "late")


@dataclass(frozen=True)
class Trial:
    mutant: Mutant
    before: str
    """The module's source."""
    after: str
    tests: list[str]
    limit: float


def trial(mutant: Mutant, before: str, after: str, covered: Covered) -> Trial:
    chosen: list[str] = []
    total = 0.0
    for name in covered.tests_of(mutant):
        total += covered.tests[name].seconds
        if chosen and total > BUDGET:
            break
        chosen.append(name)
    return Trial(mutant, before, after, chosen, _FIXTURES + min(total, BUDGET) * _SLOWER)


def run(trials: Iterable[Trial]) -> Iterator[Result]:
    """The results, as they come: trials run side by side, and of each process's those that are seen on import first."""
    waiting: list[Trial] = []
    for one in trials:
        if one.tests:
            waiting.append(one)
        else:
            yield Result(one.mutant, "untested", "", 0.0)
    context = multiprocessing.get_context("fork")
    processes: list[ForkProcess] = []
    reading: list[Connection] = []
    for number in range(min(JOBS, len(waiting))):
        ours, theirs = context.Pipe(duplex=False)
        processes.append(context.Process(target=_host, args=(waiting[number::JOBS], theirs)))
        processes[-1].start()
        theirs.close()
        reading.append(ours)
    left = len(waiting)
    try:
        while left and reading:
            for one in wait(reading):
                assert isinstance(one, Connection)
                try:
                    yield one.recv()
                    left -= 1
                except EOFError:
                    reading.remove(one)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _host(trials: list[Trial], answer: Connection) -> None:
    """Try changes: first those that need a program that was not imported, then the others, on tests collected once."""
    _be_silent()
    warm: list[Trial] = []
    for one in trials:
        if one.mutant.body is None or not _can_be_patched(one):
            answer.send(_forked(one, _import_and_run))
        else:
            warm.append(one)
    if warm:
        files = sorted({_file(name) for one in warm for name in one.tests})
        pytest.main([*ARGUMENTS, *files], plugins=[Examples(), _Forks(warm, answer.send)])
    os._exit(0)


class _Forks:
    """Runs trials in forks of a session that has collected all tests."""

    def __init__(self, trials: list[Trial], answer: Callable[[Result], None]) -> None:
        self._trials = trials
        self._answer = answer
        self._items: dict[str, pytest.Item] = {}
        self._functions: dict[tuple[str, str, int], list[FunctionType]] = defaultdict(list)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._items = {item.nodeid: item for item in session.items}
        for found in gc.get_objects():
            if isinstance(found, FunctionType) and found.__code__.co_filename.startswith(str(ROOT / "shared")):
                self._functions[_key(found.__code__)].append(found)
        for one in self._trials:
            self._answer(_forked(one, partial(self._patch_and_run, session)))
        return True

    def _patch_and_run(self, session: pytest.Session, one: Trial, tell: Callable[[str], None]) -> None:
        if _module(one.mutant) in sys.modules:
            self._patch(one)
        else:
            sys.meta_path.insert(0, _Changed(one))
        _run_items(session, [self._items[name] for name in one.tests if name in self._items], tell)

    def _patch(self, one: Trial) -> None:
        path = str(ROOT / one.mutant.module)
        before, after = compile(one.before, path, "exec"), compile(one.after, path, "exec")
        for old, new in zip(_outermost(before), _outermost(after), strict=True):
            for function in self._functions[_key(old)]:
                function.__code__ = new


def _can_be_patched(one: Trial) -> bool:
    """Whether functions take their new code: one that calls `super()` no more, or now, needs another closure."""
    before, after = (_outermost(compile(source, "", "exec")) for source in (one.before, one.after))
    return all(old.co_freevars == new.co_freevars for old, new in zip(before, after, strict=True))


def _key(code: CodeType) -> tuple[str, str, int]:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def _outermost(module: CodeType) -> Iterator[CodeType]:
    """The code of functions and methods, not of what is inside of them."""
    for inner in module.co_consts:
        if isinstance(inner, CodeType):
            if inner.co_flags & CO_OPTIMIZED:
                yield inner
            else:
                yield from _outermost(inner)


def _run_items(session: pytest.Session, items: list[pytest.Item], tell: Callable[[str], None]) -> None:
    tell(_BEGUN)
    for item, following in zip(items, [*items[1:], None], strict=True):
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.testsfailed:
            tell(item.nodeid)
            break
    session.config.hook.pytest_sessionfinish(session=session, exitstatus=session.testsfailed)


def _import_and_run(one: Trial, tell: Callable[[str], None]) -> None:
    """Run the tests, those of the fastest files first, in this process, which has not imported the program."""
    assert _module(one.mutant) not in sys.modules
    _be_silent()
    os.chdir(ROOT)
    sys.meta_path.insert(0, _Changed(one))
    near = list(dict.fromkeys(_file(name) for name in one.tests))[:_NEAR]
    stages = (
        [name for name in one.tests if _file(name) in near],
        [name for name in one.tests if _file(name) not in near],
    )
    for tests in filter(None, stages):
        code = pytest.main([*ARGUMENTS, *tests], plugins=[Examples(), _FirstFailure(tell)])
        if code in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR):
            tell("import")
        if code != pytest.ExitCode.OK:
            break


def _file(test: str) -> str:
    return test.partition("::")[0]


class _FirstFailure:
    """Runs the tests of a session until one fails."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            self._tell("import")
        else:
            order = {name: at for at, name in enumerate(session.config.args)}
            items = sorted(session.items, key=lambda item: order.get(item.nodeid, len(order)))
            _run_items(session, items, self._tell)
        return True


class _Changed(MetaPathFinder):
    """Finds one module, changed."""

    def __init__(self, one: Trial) -> None:
        self._name = _module(one.mutant)
        self._path = str(ROOT / one.mutant.module)
        self._source = one.after

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        return spec_from_file_location(fullname, self._path, loader=_ChangedLoader(fullname, self._path, self._source))


class _ChangedLoader(SourceFileLoader):
    def __init__(self, fullname: str, path: str, source: str) -> None:
        super().__init__(fullname, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source, self.path, "exec")


def _module(mutant: Mutant) -> str:
    return mutant.module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


class _LateError(BaseException):
    """The time of a mutant is up."""


def _forked(one: Trial, work: Callable[[Trial, Callable[[str], None]], None]) -> Result:
    begun = time.monotonic()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.setpgid(0, 0)
        try:
            signal.signal(signal.SIGTERM, _be_late)
            work(one, lambda name: _write(writing, name))
        except BaseException as error:
            _write(writing, f"crash: {error!r}")
        finally:
            os._exit(0)
    os.close(writing)
    by, late = _read(reading, child, one.limit)
    os.close(reading)
    os.waitpid(child, 0)
    seconds = time.monotonic() - begun
    return Result(one.mutant, "late" if late else "found" if by else "survived", by, seconds)


def _be_late(number: int, frame: FrameType | None) -> None:
    raise _LateError


def _write(pipe: int, name: str) -> None:
    os.write(pipe, f"{name}\n".encode())


def _read(pipe: int, child: int, limit: float) -> tuple[str, bool]:
    """What a process says when a test failed, before it ends, and whether it had to be ended."""
    text, late = b"", False
    signals = [signal.SIGTERM, signal.SIGKILL]
    until = time.monotonic() + _START
    while True:
        if select([pipe], [], [], max(0.0, until - time.monotonic()))[0]:
            more = os.read(pipe, 4096)
            if not more:
                break
            text += more
            if not late:
                until = time.monotonic() + limit
        elif signals:
            late, until = True, time.monotonic() + _FIXTURES
            os.killpg(child, signals.pop(0))
        else:
            break
    return _failed(text), late


def _failed(text: bytes) -> str:
    return next((line for line in text.decode().splitlines() if line != _BEGUN), "")


def _be_silent() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for one in (0, 1, 2):
        os.dup2(nowhere, one)
