"""The agent's log."""

from __future__ import annotations

import re
import time


class Log:
    """Lines on standard output, which becomes the job's log, with every known secret hidden."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()

    def hide(self, *secrets: str | None) -> None:
        self._secrets.update(secret for secret in secrets if secret)

    def clean(self, text: str) -> str:
        """The text without secrets and without the signatures of URLs."""
        for secret in self._secrets:
            text = text.replace(secret, "[hidden]")
        return re.sub(r"(https?://[^\s?\"']+)\?[^\s\"']+", r"\1?[hidden]", text)[:2000]

    def __call__(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} gpulaunch: {self.clean(text)}", flush=True)
