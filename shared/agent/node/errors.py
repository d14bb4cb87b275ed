"""The three ways in which work on the node ends early."""

from __future__ import annotations

import http.client

NETWORK_ERRORS = (OSError, http.client.HTTPException)
"""Everything that a request can raise."""


class FatalError(Exception):
    """The attempt failed: a code that the control plane knows, and a line for people."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class FetchError(FatalError):
    """The model cannot be fetched."""

    def __init__(self, detail: str) -> None:
        super().__init__("model_fetch_failed", detail)


class RetryableError(Exception):
    """A later try may succeed; wait at least `after` seconds."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class StoppedError(Exception):
    """The agent is ending; work in progress is abandoned."""
