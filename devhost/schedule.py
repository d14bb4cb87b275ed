"""Timer schedules: NCRONTAB with six or five fields, or a TimeSpan."""

from collections.abc import Callable
from datetime import datetime, timedelta

from croniter import CroniterError, croniter

from devhost.config import timespan

Next = Callable[[datetime], datetime]

_MONTHS = ["january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
           "november", "december"]  # fmt: skip
_DAYS = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"]
_FIELDS: list[tuple[str, int, int, list[str]]] = [
    ("second", 0, 59, []),
    ("minute", 0, 59, []),
    ("hour", 0, 23, []),
    ("day", 1, 31, []),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 6, _DAYS),
]


def parse(expression: str) -> Next:
    """Return the function that gives the first occurrence after a time (both aware, of the same zone).

    Raises ValueError, with what is wrong, for anything the real host's parser refuses, and for a date that never comes.
    """
    fields = expression.split()
    if len(fields) not in {5, 6}:
        if len(fields) == 1 and (period := _period(fields[0])) is not None:
            return lambda now: now + period
        raise ValueError(f"{expression!r} is neither a cron expression of six (or five) fields nor a time span")
    if len(fields) == 5:
        fields.insert(0, "0")
    # Plain lists leave croniter nothing to read in its own dialect (L, #, ?, wrapped ranges, Sunday as 7).
    plain = " ".join(_plain(text, *field) for text, field in zip(fields, _FIELDS, strict=True))

    def following(now: datetime) -> datetime:
        # Unlike Unix cron, NCRONTAB wants day of month and day of week both to match.
        return croniter(plain, now, second_at_beginning=True, day_or=False).get_next(datetime)

    try:
        following(datetime.now().astimezone())
    except CroniterError as error:
        raise ValueError(f"{expression!r} never occurs") from error
    return following


def _period(text: str) -> timedelta | None:
    try:
        period = timespan(text)
    except ValueError:
        return None
    return period if period > timedelta(0) else None


def _plain(text: str, name: str, low: int, high: int, words: list[str]) -> str:
    values: set[int] = set()
    for part in text.split(","):
        span, slash, step_text = part.partition("/")
        if slash and not (step_text.isascii() and step_text.isdigit()):
            raise ValueError(f"{part!r} is no step of the {name}")
        first_text, dash, last_text = span.partition("-")
        if span == "*":
            first, last = low, high
        else:
            first = _value(first_text, name, low, high, words)
            last = _value(last_text, name, low, high, words) if dash else (high if slash else first)
        first, last = min(first, last), max(first, last)
        values.update(range(first, last + 1, max(int(step_text or 1), 1)))
    return "*" if len(values) == high - low + 1 else ",".join(map(str, sorted(values)))


def _value(text: str, name: str, low: int, high: int, words: list[str]) -> int:
    if text.isascii() and text.isdigit():
        value = int(text)
    else:
        matches = [low + index for index, word in enumerate(words) if text and word.startswith(text.lower())]
        value = matches[0] if matches else low - 1
    if not low <= value <= high:
        raise ValueError(f"{text!r} is no {name} (from {low} to {high})")
    return value
