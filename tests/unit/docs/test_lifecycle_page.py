"""docs/internals/lifecycle.md against the code; `make docs` updates its tables."""

from tests.unit.docs.rendering import PAGE, rendered


def test_the_tables_of_the_lifecycle_should_be_those_of_the_code() -> None:
    text = PAGE.read_text("utf-8")
    assert text == rendered(text), "run `make docs`"
