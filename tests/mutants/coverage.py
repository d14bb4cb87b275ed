"""Which tests run which lines, measured once per test file and state of the program."""

import hashlib
import json
import multiprocessing
import os
import re
import time
from collections import defaultdict
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import pytest
from coverage import Coverage

from tests.mutants.mutants import PURE, ROOT, SHELL, Mutant, modules

CACHE = ROOT / ".cache" / "mutants"
FOLDERS = ("tests/unit", "tests/contract", "tests/functional", "tests/hostile")
_SKIPPED = ("agent", "catalog", "cli", "deploy", "devhost", "docs", "infra", "model_sources", "mutants")
"""Folders whose tests need none of the deciding rooms, or read them as text."""
JOBS = min(4, os.cpu_count() or 1)
"""Processes side by side; each needs 300 MiB."""
ARGUMENTS = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly", "--rootdir", str(ROOT))


@dataclass(frozen=True)
class TestRun:
    seconds: float
    lines: dict[str, list[int]]
    """The lines that ran, by module."""


@dataclass(frozen=True)
class Covered:
    tests: dict[str, TestRun]

    @cached_property
    def _by_line(self) -> dict[tuple[str, int], set[str]]:
        found: dict[tuple[str, int], set[str]] = defaultdict(set)
        for name, test in self.tests.items():
            for module, lines in test.lines.items():
                for line in lines:
                    found[module, line].add(name)
        return found

    def tests_of(self, mutant: Mutant) -> list[str]:
        """The tests that run the changed statement, fastest first.

        What is changed outside of a function's body runs on import; the tests are then those of the lines that
        mention what the changed statement defines.
        """
        first, last = mutant.lines
        names = self._running((mutant.module, line) for line in range(first, last + 1)) if mutant.body else None
        names = names or self._running(self._mentions(mutant))
        return sorted(names, key=lambda name: (self.tests[name].seconds, name))

    def _running(self, lines: Iterable[tuple[str, int]]) -> set[str]:
        return {name for line in lines for name in self._by_line.get(line, ())}

    def _mentions(self, mutant: Mutant) -> Iterable[tuple[str, int]]:
        if mutant.body:
            return [(mutant.module, line) for line in range(mutant.body[0], mutant.body[1] + 1)]
        wanted = re.compile(rf"\b({'|'.join(map(re.escape, mutant.names))})\b") if mutant.names else re.compile("(?!)")
        return [
            (module, number)
            for module in modules((*PURE, *SHELL))
            for number, line in enumerate((ROOT / module).read_text("utf-8").splitlines(), 1)
            if wanted.search(line)
        ]


def measure(folders: Iterable[str] = FOLDERS) -> Covered:
    """Run every test once that was not run with the program as it is now; one that fails finds no mutant."""
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("test_*.py"))]
    files = [path for path in files if not set(_SKIPPED) & set(path.relative_to(ROOT).parts)]
    helpers = [path for path in sorted((ROOT / "tests").rglob("*.py")) if not path.name.startswith("test_")]
    program = [*sorted((ROOT / "shared").rglob("*.py")), *sorted((ROOT / "gpulaunch").rglob("*.py"))]
    base = _digest([*program, *(path for path in helpers if "mutants" not in path.parts)])
    CACHE.mkdir(parents=True, exist_ok=True)
    stored = CACHE / "coverage.json"
    known: dict[str, Any] = json.loads(stored.read_text("utf-8")) if stored.exists() else {}
    found: dict[str, dict[str, TestRun]] = {}
    for path in files:
        entry = known.get(f"{base} {_digest([path])} {path.relative_to(ROOT)}")
        if entry is not None:
            found[str(path.relative_to(ROOT))] = {name: TestRun(**test) for name, test in entry.items()}
    for folder in folders:
        names = [str(path.relative_to(ROOT)) for path in files if path.is_relative_to(ROOT / folder)]
        missing = [name for name in names if name not in found]
        if missing:
            print(f"measuring what the tests of {len(missing)} files in {folder} run …", flush=True)
            found |= _in_processes(missing)
            text = {
                f"{base} {_digest([ROOT / name])} {name}": {one: vars(test) for one, test in tests.items()}
                for name, tests in found.items()
            }
            stored.write_text(json.dumps(known | text), "utf-8")
    return Covered({name: test for tests in found.values() for name, test in tests.items()})


def _digest(paths: Iterable[Path]) -> str:
    state = hashlib.sha256()
    for path in paths:
        state.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return state.hexdigest()[:16]


def _in_processes(files: list[str]) -> dict[str, dict[str, TestRun]]:
    """Measure in processes of their own, so that this one stays without the program."""
    context = multiprocessing.get_context("fork")
    begun: list[tuple[ForkProcess, Connection]] = []
    for number in range(min(JOBS, len(files))):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_measure, args=(files[number::JOBS], theirs))
        process.start()
        theirs.close()
        begun.append((process, ours))
    runs: dict[str, dict[str, TestRun]] = {}
    for process, ours in begun:
        found, failed = ours.recv()
        process.join()
        for name in sorted(failed):
            print(f"left out, since it fails without any change: {name}", flush=True)
        runs |= {name: {one: TestRun(*test) for one, test in tests.items()} for name, tests in found.items()}
    return runs


def _measure(files: list[str], answer: Connection) -> None:
    os.chdir(ROOT)
    data = CACHE / f"coverage.{os.getpid()}"
    measured = Coverage(data_file=str(data), source=[str(ROOT / room) for room in (*PURE, *SHELL)], config_file=False)
    plugin = _Contexts(measured)
    measured.start()
    pytest.main([*ARGUMENTS, *files], plugins=[Examples(), plugin])
    measured.stop()
    result = measured.get_data()
    lines: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for path in result.measured_files():
        module = str(Path(path).relative_to(ROOT))
        for line, contexts in result.contexts_by_lineno(path).items():
            for context in contexts:
                if context:
                    lines[context][module].append(line)
    data.unlink(missing_ok=True)
    found: dict[str, dict[str, tuple[float, dict[str, list[int]]]]] = {file: {} for file in files}
    for name, seconds in plugin.seconds.items():
        if name in lines and name not in plugin.failed:
            found[name.split("::")[0]][name] = (round(seconds, 4), dict(lines[name]))
    answer.send((found, plugin.failed))
    answer.close()
    os._exit(0)


class Examples:
    """Makes hypothesis draw the same examples each time, and keep and shrink none of them."""

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self) -> None:
        from hypothesis import HealthCheck, Phase, settings

        settings.register_profile(
            "mutants",
            database=None,
            deadline=None,
            derandomize=True,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=tuple(HealthCheck),
        )
        settings.load_profile("mutants")


class _Contexts:
    """Names the running test to coverage, and takes its time."""

    def __init__(self, measured: Coverage) -> None:
        self._measured = measured
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self._measured.switch_context(item.nodeid)
        begun = time.perf_counter()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.perf_counter() - begun
            self._measured.switch_context("")
