"""A node that works on its requests all at once, as vLLM does: processor sharing with slots.

A request alone gets `REQUEST_SPEED`; a node makes no more than `NODE_SPEED` in all, so from the eleventh request on
each gets less. Work is in tokens to be generated; a token that is only read costs a twentieth of one.
"""

import heapq
import math

SLOTS = 16
"""Requests on a node at once, as `--max-num-seqs` limits them."""
TARGET = 11
"""Requests that a node is to work on at once: 0.7 of its slots."""
NODE_SPEED, REQUEST_SPEED = 300.0, 30.0
"""Tokens per second, of a node and of one request."""
READ_TOKENS = 20
"""Tokens of a prompt that cost as much as one that is generated."""


class Node:
    """Times in seconds since the trace began."""

    def __init__(self, begun_at: float, ready_at: float) -> None:
        self.begun_at, self.ready_at = begun_at, ready_at
        self.ready = self.draining = self.released = False
        self.running = 0
        self.turn = 0
        """Changes whenever `next_end` does."""
        self._done, self._moved_at = 0.0, ready_at
        self._ends: list[tuple[float, int]] = []

    @property
    def next_end(self) -> float:
        """When the next request ends if none is added; infinite without requests."""
        if not self.running:
            return math.inf
        return self._moved_at + max(0.0, self._ends[0][0] - self._done) / self._speed

    def serve(self, request: int, work: float, now: float) -> None:
        self._move(now)
        self.running += 1
        self.turn += 1
        heapq.heappush(self._ends, (self._done + work, request))

    def finish(self, now: float) -> int:
        """End the next request and return it."""
        self._move(now)
        _, request = heapq.heappop(self._ends)
        self.running -= 1
        self.turn += 1
        if not self.running:
            self._done = 0.0  # so that sums do not lose digits over a day
        return request

    @property
    def _speed(self) -> float:
        return min(REQUEST_SPEED, NODE_SPEED / self.running)

    def _move(self, now: float) -> None:
        """Work on all requests until `now`: `_done` is what each would have got that was there all the time."""
        if self.running:
            self._done += (now - self._moved_at) * self._speed
        self._moved_at = now
