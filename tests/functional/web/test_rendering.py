"""Formats of amounts and durations; the pages' script uses the same."""

import pytest

from gpulaunch.format import duration, usd
from shared.web.rendering import size


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "$0.00"), (0.00123, "$0.0012"), (0.0999, "$0.0999"), (0.1, "$0.10"), (38.4, "$38.40"), (1234.5, "$1,234.50")],
)
def test_dollars_should_show_small_amounts_move(amount: float, text: str) -> None:
    assert usd(amount) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (0, "0 s"),
        (0.26, "0.3 s"),
        (8.02, "8 s"),
        (59.9, "59 s"),
        (60, "1 m"),
        (82, "1 m 22 s"),
        (3600, "1 h"),
        (11_100, "3 h 5 m"),
        (187_200, "2 d 4 h"),
    ],
)
def test_a_length_of_time_should_have_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(12, "12 B"), (2_500, "2.5 kB"), (577_400_000, "577.4 MB"), (16.1e9, "16.1 GB")]
)
def test_bytes_should_have_the_unit_that_suits_them(count: float, text: str) -> None:
    assert size(count) == text
