"""Settings as people paste them: with quotes, blanks, invisible characters, unresolved references."""

import pytest

from shared.domain.setting_values import check_secret, check_text, check_url, cleaned


@pytest.mark.parametrize(
    ("pasted", "meant"),
    [
        (" token\n", "token"),
        ("\ufefftoken\u200b", "token"),
        ('"token"', "token"),
        ("'\"token\"'", "token"),
        ('" token "', "token"),
        ('"', '"'),
        ('""', ""),
        ('""a"', '""a"'),
        ('"a""', '"a""'),
        ('"a" "b"', '"a" "b"'),
        ("\u201ctoken\u201d", "token"),
        ("\u201ca\u201cb\u201d", "\u201ca\u201cb\u201d"),
        ("\u201ca\u201db\u201d", "\u201ca\u201db\u201d"),
    ],
)
def test_what_copying_leaves_around_a_value_should_go_and_nothing_else(pasted: str, meant: str) -> None:
    assert cleaned(pasted) == meant


@pytest.mark.parametrize("text", ["to\u200bken", "to\x00ken", "token\ufeff2"])
def test_a_character_that_cannot_be_seen_should_be_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invisible character"):
        check_text(text)


@pytest.mark.parametrize("text", ["token", "two words", "a\tb\r\nc", "é🚀"])
def test_what_can_be_seen_should_pass(text: str) -> None:
    check_text(text)


def test_only_a_secret_that_may_have_spaces_should_have_them() -> None:
    check_secret("one two three", spaces=True)
    check_secret("one-two-three", spaces=False)
    with pytest.raises(ValueError, match="without blanks"):
        check_secret("one two three", spaces=False)


def test_only_an_address_that_may_have_a_path_should_have_one() -> None:
    check_url("https://example.com/a/b", path=True)
    check_url("https://example.com/", path=False)
    with pytest.raises(ValueError, match="remove the path"):
        check_url("https://example.com/a", path=False)
