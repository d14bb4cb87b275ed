"""Text of nodes and providers: cleaned, and cut in stored size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.text import LOG_LINES, LOG_UNITS, clean, last_lines, shorten, stored_units


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("plain é 🚀", "plain é 🚀"),
        ("\x1b[1;32mok\x1b[0m", "ok"),
        ("\x1b]0;title\x07ok", "ok"),
        ("\x1b]8;;https://evil.test\x1b\\link", "link"),
        ("two\nlines\u2028three", "two lines three"),
        ("a\tb\r", "a b"),
        ("\u202egnp.exe\u2069\u200f\u061c", "gnp.exe"),
        ("\x00\x9b\x7f\ud800", ""),
    ],
)
def test_a_text_should_be_cleaned(said: str, kept: str) -> None:
    assert clean(said) == kept


@given(st.text(max_size=60), st.integers(1, 40))
def test_a_short_text_should_fit_and_be_clean(said: str, units: int) -> None:
    short = shorten(said, units)
    assert stored_units(short) <= units
    assert clean(short) == short
    assert short == clean(said) if stored_units(clean(said)) <= units else short.endswith("…")


@pytest.mark.parametrize(
    ("said", "units", "short"),
    [
        ("abcd", 4, "abcd"),
        ("abcde", 4, "abc…"),
        ("abcde", 1, "…"),
        ('""', 4, '""'),
        ('"""', 5, '""…'),
        ('"""', 4, '"…'),
        ("\\\\\\", 5, "\\\\…"),
        ("🚀🚀🚀", 5, "🚀🚀…"),
        ("🚀🚀🚀", 4, "🚀…"),
        ("\uffff\uffff\uffff", 2, "\uffff…"),  # the last character of the basic plane
        ('ab"', 3, "ab…"),
        ("ab\ncd", 4, "ab …"),
    ],
)
def test_a_text_should_be_cut_to_as_much_as_there_is_room_for(said: str, units: int, short: str) -> None:
    assert shorten(said, units) == short


@pytest.mark.parametrize(("first", "kept"), [(997, 64), (998, 63)])
def test_a_log_should_fill_its_room_in_the_row_to_the_last_unit(first: int, kept: int) -> None:
    # With its quotes and a comma, a line of 997 characters takes 1000 units of JSON.
    assert len(last_lines(["x" * first, *["x" * 997] * 63])) == kept
    assert len(last_lines(["x" * 997] * 65)) == 64


@pytest.mark.parametrize("character", ["x", '"', "🚀"])
def test_a_log_should_keep_its_last_lines_and_fit(character: str) -> None:
    kept = last_lines([character * 2000] * 200)
    assert kept[-1] == character * 2000
    assert LOG_UNITS - 4100 < sum(stored_units(line) + 3 for line in kept) <= LOG_UNITS


def test_a_log_should_have_no_more_lines_than_are_kept() -> None:
    assert last_lines([str(number) for number in range(300)]) == [str(number) for number in range(200, 300)]
    assert LOG_LINES == 100


@pytest.mark.parametrize(("said", "units"), [("", 0), ("abc", 3), ('"', 2), ("\\", 2), ("🚀", 2), ("é", 1)])
def test_a_stored_unit_should_be_two_bytes_of_the_row(said: str, units: int) -> None:
    assert stored_units(said) == units
