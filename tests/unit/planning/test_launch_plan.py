"""What a launch would do and cost, from its candidates."""

from typing import Any

import pytest

from gpulaunch.models.offers import Offer
from shared.domain.catalog import Prices
from shared.planning.launch_plan import Candidates
from tests.twins.factories import make_offer, make_request

PRICES = Prices("snapshot", "List prices of 2026-01-01.")
SPOT = make_offer(price_per_hour=0.5)
WEST = make_offer(region="westus", price_per_hour=0.6)
ON_DEMAND = make_offer(use_spot=False, price_per_hour=2.0)
OFFERS = (ON_DEMAND, WEST, SPOT)


def candidates(failed: tuple[str, ...] = (), **asked: Any) -> Candidates:
    return Candidates(request=make_request(region=None, **asked), offers=OFFERS, failed=failed)


@pytest.mark.parametrize(
    ("failed", "excluded", "planned"),
    [
        ((), (), [SPOT, WEST, ON_DEMAND]),
        ((SPOT,), (), [WEST, ON_DEMAND, SPOT]),
        ((), (SPOT,), [WEST, ON_DEMAND]),
        ((WEST,), (WEST, ON_DEMAND), [SPOT]),
        ((), OFFERS, []),
    ],
)
def test_what_failed_should_come_last_and_what_is_excluded_not_at_all(
    failed: tuple[Offer, ...], excluded: tuple[Offer, ...], planned: list[Offer]
) -> None:
    found = candidates(tuple(one.key for one in failed))
    assert found.planned({one.key: "no quota" for one in excluded}) == planned


def test_a_plan_should_cost_its_first_offer_by_the_hour_and_its_dearest_at_worst() -> None:
    found = candidates()
    made = found.plan(found.planned(), 90, PRICES)
    assert (made.offers, made.estimate.lifetime_minutes) == ([SPOT, WEST, ON_DEMAND], 90)
    assert (made.estimate.hourly_usd, made.estimate.worst_case_usd, made.estimate.prices_as_of) == (
        0.5,
        3.0,
        PRICES.as_of,
    )


def test_a_plan_should_say_whether_the_model_fits_the_weakest_of_its_own_offers() -> None:
    small = make_offer(gpu="T4", gpu_memory_gib=16.0)
    found = candidates(model_name="meta-llama/Llama-3.1-8B-Instruct")
    fit = found.plan([SPOT, small], 60, PRICES).fit
    assert fit is not None
    assert (fit.gpu, fit.has_gib, fit.fits) == ("T4", 16.0, False)
    roomy = found.plan([SPOT], 60, PRICES).fit
    assert roomy is not None
    assert roomy.fits


def test_a_model_whose_name_says_nothing_should_get_no_judgement() -> None:
    found = candidates(model_name="acme/mystery")
    assert found.plan([SPOT], 60, PRICES).fit is None
