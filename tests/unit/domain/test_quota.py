"""What is left of a quota."""

import pytest

from shared.domain.quota import QuotaUsage


@pytest.mark.parametrize(("used", "limit", "free"), [(0, 36, 36), (35, 36, 1), (36, 36, 0), (72, 36, 0)])
def test_what_is_left_of_a_quota_should_be_none_where_it_was_lowered_under_its_use(
    used: int, limit: int, free: int
) -> None:
    assert QuotaUsage(name="cores", used=used, limit=limit).free == free
