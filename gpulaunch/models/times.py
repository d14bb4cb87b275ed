"""Times as text."""

from datetime import UTC, datetime


def iso(moment: datetime) -> str:
    """Format as RFC 3339 in UTC with milliseconds, such as `2026-01-31T09:00:00.000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds_between(earlier: datetime, later: datetime) -> float:
    """Return the seconds between two times, never negative."""
    return max(0.0, (later - earlier).total_seconds())
