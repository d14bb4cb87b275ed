"""What every twin has for tests: a list of calls, and failures on order."""

from collections import defaultdict, deque
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class _Fault:
    error: Exception
    applied: bool


@dataclass
class Calls:
    seen: list[str] = field(default_factory=list[str])
    """Names of the operations called, in order."""
    _faults: dict[str, deque[_Fault]] = field(default_factory=lambda: defaultdict(deque))

    def fail_next(self, operation: str, error: Exception, *, applied: bool = False) -> None:
        """Make the next call of an operation raise; `applied`: after it was carried out (an answer that got lost)."""
        self._faults[operation].append(_Fault(error, applied))

    def count(self, operation: str) -> int:
        return self.seen.count(operation)

    @contextmanager
    def call(self, operation: str) -> Generator[None]:
        self.seen.append(operation)
        fault = self._faults[operation].popleft() if self._faults[operation] else None
        if fault is not None and not fault.applied:
            raise fault.error
        yield
        if fault is not None:
            raise fault.error
