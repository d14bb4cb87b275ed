"""Tokens of answers, as nodes report them. Streams report theirs only when asked, so the gateway asks. Pure."""

import json
from dataclasses import dataclass
from typing import Any, cast

_ASKED = frozenset({"/v1/chat/completions", "/v1/completions"})
"""The other interfaces report the tokens of their streams in any case."""
_TAIL = 8 * 1024
"""Bytes at the end of an answer in which its usage is looked for."""
_PROMPT = ("prompt_tokens", "input_tokens")
_COMPLETION = ("completion_tokens", "output_tokens")
_DECODER = json.JSONDecoder()


def asking(path: str, given: dict[str, Any]) -> dict[str, Any]:
    """A request that asks for usage; the same one if it asks already, or if its kind reports usage anyway."""
    options: object = given.get("stream_options") or {}
    if path not in _ASKED or given.get("stream") is not True or not isinstance(options, dict):
        return given
    known = cast("dict[str, Any]", options)
    if known.get("include_usage"):
        return given
    # Without its own `include_usage`, the client's request for usage in every chunk has no effect.
    kept = {name: value for name, value in known.items() if name != "continuous_usage_stats"}
    return given | {"stream_options": kept | {"include_usage": True}}


@dataclass
class Meter:
    """Reads usage off an answer as it passes."""

    is_stream: bool
    hidden: bool
    """Whether the chunk with usage is taken out, since the client did not ask for it."""
    events: int = 0
    _tail: bytes = b""
    _prompt: int = 0
    _completion: int = 0

    def add(self, part: bytes) -> bytes:
        """What the client gets of a part; of a stream, parts are whole events."""
        if not self.is_stream:
            self._tail = (self._tail + part)[-_TAIL:]
            return part
        self.events += part.count(b"data: {")
        if b'"usage"' not in part:
            return part
        kept: list[bytes] = []
        for event in part.split(b"\n\n"):
            if b'"usage"' not in event or not self._is_usage_alone(event):
                kept.append(event)
        return b"\n\n".join(kept)

    @property
    def tokens(self) -> dict[str, int]:
        """Of prompt and completion. A stream whose client leaves reports none: each of its events is taken for one."""
        if not self.is_stream and (start := self._tail.rfind(b'"usage"')) >= 0:
            self._read(b"{" + self._tail[start:])
        return {"prompt": self._prompt, "completion": self._completion or self.events}

    def _is_usage_alone(self, event: bytes) -> bool:
        """Count an event, and decide whether it is the one that the gateway asked for."""
        found = self._read(event.partition(b"data:")[2])
        return self.hidden and found.get("choices") == [] and isinstance(found.get("usage"), dict)

    def _read(self, text: bytes) -> dict[str, Any]:
        try:
            document, _ = _DECODER.raw_decode(text.decode(errors="replace").lstrip())
        except (ValueError, RecursionError):
            return {}
        if not isinstance(document, dict):
            return {}
        found = cast("dict[str, Any]", document)
        for holder in (found, found.get("response"), found.get("message")):
            usage = cast("dict[str, Any]", holder).get("usage") if isinstance(holder, dict) else None
            if isinstance(usage, dict):
                self._prompt = _most(cast("dict[str, Any]", usage), _PROMPT, self._prompt)
                self._completion = _most(cast("dict[str, Any]", usage), _COMPLETION, self._completion)
        return found


def _most(usage: dict[str, Any], names: tuple[str, ...], known: int) -> int:
    for name in names:
        value = usage.get(name)
        if isinstance(value, int) and value > known:
            known = value
    return known
