from datetime import UTC, datetime, timedelta

import pytest

from devhost.schedule import parse

# A Thursday.
NOW = datetime(2026, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "first", "second"),
    [
        ("*/5 * * * * *", "2026-01-01 00:00:05", "2026-01-01 00:00:10"),
        ("30 */5 * * * *", "2026-01-01 00:00:30", "2026-01-01 00:05:30"),
        ("*/5 * * * *", "2026-01-01 00:05:00", "2026-01-01 00:10:00"),
        ("0 30 9 * * 1-5", "2026-01-01 09:30:00", "2026-01-02 09:30:00"),
        ("0 0 9 * Feb Monday", "2026-02-02 09:00:00", "2026-02-09 09:00:00"),
        # Both day fields have to match: the first Monday that is a 5th or a 12th.
        ("0 0 0 5,12 * 1", "2026-01-05 00:00:00", "2026-01-12 00:00:00"),
        ("0 0 0 6 * 1", "2026-04-06 00:00:00", "2026-07-06 00:00:00"),
        # A reversed range is swapped, not wrapped.
        ("0 0 22-21 * * *", "2026-01-01 21:00:00", "2026-01-01 22:00:00"),
        ("10/20 * * * * *", "2026-01-01 00:00:10", "2026-01-01 00:00:30"),
    ],
)
def test_a_cron_expression_should_occur_as_ncrontab_says(expression: str, first: str, second: str) -> None:
    following = parse(expression)
    one = following(NOW)
    assert [one, following(one)] == [datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (first, second)]


def test_a_time_span_should_count_from_the_last_run() -> None:
    assert parse("00:00:30")(NOW) == NOW + timedelta(seconds=30)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * *",
        "* * * * * * *",
        "60 * * * * *",
        "0 0 24 * * *",
        "0 0 0 0 * *",
        "0 0 0 * 13 *",
        "0 0 0 * * 7",
        "0 0 0 ? * *",
        "0 0 0 L * *",
        "0 0 0 * * 1#2",
        "@hourly",
        "a * * * * *",
        "*/x * * * * *",
        "1, * * * * *",
        "0 0 0 30 2 *",
        "00:00:00",
    ],
)
def test_what_the_host_cannot_read_should_be_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(expression)
