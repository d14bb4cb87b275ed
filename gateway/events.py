"""Streams as events: clients get whole ones, so that an error can follow where a node breaks off. Pure."""

MOST_EVENT = 1024 * 1024
"""Bytes for whose end is waited; longer events are passed on in pieces."""

_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")


class Cutter:
    """Cuts chunks, which end anywhere, at the ends of events."""

    def __init__(self) -> None:
        self.rest = b""
        """Begun, and not yet complete."""

    def add(self, chunk: bytes) -> bytes:
        """The events that are complete with this chunk."""
        if not self.rest and chunk.endswith(b"\n\n"):
            return chunk
        whole = self.rest + chunk
        end = max((whole.rfind(one) + len(one) for one in _ENDS if one in whole), default=0)
        if not end and len(whole) > MOST_EVENT:
            end = len(whole)
        self.rest = whole[end:]
        return whole[:end]
