"""The agent's log."""

from __future__ import annotations

import json
import re
import time
import urllib.parse


class Log:
    """Lines on standard output, which becomes the job's log, with every known secret hidden."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()

    def hide(self, *secrets: str | None) -> None:
        """Hide secrets in the forms in which programs print them: as they are, or encoded for URLs, JSON or Python."""
        for secret in filter(None, secrets):
            quoted = {json.dumps(secret)[1:-1], repr(secret)[1:-1]}
            self._secrets |= {secret, urllib.parse.quote(secret), urllib.parse.quote(secret, safe=""), *quoted}

    def clean(self, text: str) -> str:
        """The text without secrets, the passwords of URLs and their signatures."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "[hidden]")
        text = re.sub(r"(?i)\b([a-z][a-z0-9+.-]*://[^/\s:@'\"]*):[^/\s@'\"]+@", r"\1:[hidden]@", text)
        return re.sub(r"(https?://[^\s?\"']+)\?[^\s\"']+", r"\1?[hidden]", text)[:2000]

    def __call__(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} gpulaunch: {self.clean(text)}", flush=True)
