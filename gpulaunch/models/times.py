"""How points in time are written."""

from datetime import UTC, datetime


def iso(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, such as `2026-01-31T09:00:00.000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds_between(earlier: datetime, later: datetime) -> float:
    """Seconds from one point in time to a later one, never negative."""
    return max(0.0, (later - earlier).total_seconds())
