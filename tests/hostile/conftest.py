"""A world of its own for each test that asks for one."""

from tests.functional.conftest import world

__all__ = ["world"]
