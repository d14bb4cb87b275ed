from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpulaunch.models.offers import Offer
from gpulaunch.models.requests import LaunchRequest
from gpulaunch.models.responses import Estimate
from shared.catalog.snapshot import snapshot
from shared.domain.catalog import Prices
from shared.planning.matching import match
from shared.planning.plan import (
    FALLBACK_PLACES,
    MAX_OFFERS,
    estimate,
    plan,
)

PRICES = Prices("snapshot", "yesterday")


def ask(**fields: Any) -> LaunchRequest:
    return LaunchRequest.model_validate({"model_name": "tiny", "gpu": "A10", **fields})


def offer(price: float, region: str = "eastus", spot: bool = True, name: str = "Standard_X", **more: Any) -> Offer:
    facts = {"provider": "azure", "gpu": "A10", "gpu_count": 1} | more
    return Offer.model_validate(
        {"region": region, "instance_type": name, "use_spot": spot, "price_per_hour": price} | facts
    )


def test_the_seed_is_tried_on_spot_and_then_on_demand() -> None:
    request = LaunchRequest(
        model_name="meta-llama/Llama-3.1-8B-Instruct",
        provider="azure",
        region="eastus",
        instance_type="Standard_NV36ads_A10_v5",
        use_spot=True,
    )
    planned = plan(match(request, snapshot()), request)
    assert [(one.key, one.price_per_hour) for one in planned] == [
        ("azure/eastus/Standard_NV36ads_A10_v5x1/spot", 0.8),
        ("azure/eastus/Standard_NV36ads_A10_v5x1/on-demand", 3.2),
    ]


class TestOrder:
    def test_the_user_s_regions_break_ties(self) -> None:
        offers = [offer(1, "eastus"), offer(1, "westus2"), offer(1, "westus")]
        planned = plan(offers, ask(region=["westus2", "WestUS", "eastus"]))
        assert [one.region for one in planned] == ["westus2", "westus", "eastus"]

    def test_an_offer_given_twice_is_tried_once(self) -> None:
        assert len(plan([offer(1), offer(1)], ask())) == 1

    @pytest.mark.parametrize(("replicas", "first"), [(0, "cheap"), (1, "cheap"), (2, "dear"), (3, "dear")])
    def test_two_replicas_share_the_cheapest_offer_and_the_third_takes_another(self, replicas: int, first: str) -> None:
        cheap, dear = offer(1, "cheap"), offer(2, "dear")
        assert plan([cheap, dear], ask(), crowd=Counter({cheap.key: replicas}))[0].region == first


class TestStruck:
    def test_above_the_price(self) -> None:
        planned = plan([offer(1), offer(3, spot=False)], ask(max_hourly_cost=2))
        assert [one.price_per_hour for one in planned] == [1]

    def test_not_at_the_price(self) -> None:
        assert plan([offer(2)], ask(max_hourly_cost=2))

    def test_not_a_machine_of_one_s_own_without_fallback(self) -> None:
        own = offer(0.5, "host", spot=False, provider="slurm", instance_type=None)
        assert plan([own], ask(provider="slurm", spot_fallback=False)) == [own]

    def test_on_demand_without_fallback(self) -> None:
        spot, on_demand = offer(1), offer(3, spot=False)
        assert plan([spot, on_demand], ask(spot_fallback=False)) == [spot]

    def test_another_region(self) -> None:
        planned = plan([offer(1, "eastus"), offer(1, "westus")], ask(region="EastUS"))
        assert [one.region for one in planned] == ["eastus"]

    def test_what_somebody_else_ruled_out(self) -> None:
        cheap, dear = offer(1), offer(2, "westus")
        planned = plan([cheap, dear], ask(), excluded={cheap.key})
        assert planned == [dear]

    def test_all_of_them_is_an_empty_plan(self) -> None:
        assert plan([offer(1)], ask(max_hourly_cost=0.5)) == []
        assert plan([], ask()) == []


class TestRecentFailures:
    def test_come_last_even_after_on_demand(self) -> None:
        refused, dear = offer(1), offer(5, spot=False)
        planned = plan([refused, dear], ask(), {refused.key})
        assert planned == [dear, refused]

    def test_keep_their_order_among_themselves(self) -> None:
        spot, on_demand = offer(2), offer(1, spot=False)
        assert plan([on_demand, spot], ask(), {spot.key, on_demand.key}) == [spot, on_demand]

    def test_are_all_that_is_left_at_times(self) -> None:
        refused = offer(1)
        assert plan([refused], ask(), {refused.key}) == [refused]

    def test_don_t_bring_back_what_was_ruled_out(self) -> None:
        refused = offer(3)
        assert plan([refused], ask(max_hourly_cost=1), {refused.key}) == []


class TestRoom:
    def test_never_more_than_the_maximum(self) -> None:
        planned = plan([offer(n, f"r{n}") for n in range(1, 21)], ask())
        assert [one.price_per_hour for one in planned] == list(range(1, MAX_OFFERS + 1))

    def test_many_spot_offers_leave_places_for_the_fallback(self) -> None:
        offers = [offer(n, f"r{n}", spot) for n in range(1, 21) for spot in (True, False)]
        planned = plan(offers, ask())
        assert [one.use_spot for one in planned] == [True] * (MAX_OFFERS - FALLBACK_PLACES) + [False] * FALLBACK_PLACES

    def test_few_fallbacks_take_only_the_places_they_need(self) -> None:
        offers = [offer(n, f"r{n}") for n in range(1, 21)] + [offer(9, "r1", spot=False)]
        planned = plan(offers, ask())
        assert [one.use_spot for one in planned] == [True] * (MAX_OFFERS - 1) + [False]

    def test_places_are_kept_for_fallbacks_that_failed_lately_too(self) -> None:
        offers = [offer(n, f"r{n}", spot) for n in range(1, 21) for spot in (True, False)]
        failed = {one.key for one in offers if not one.use_spot}
        planned = plan(offers, ask(), failed)
        assert [one.use_spot for one in planned] == [True] * (MAX_OFFERS - FALLBACK_PLACES) + [False] * FALLBACK_PLACES

    def test_fallbacks_that_failed_lately_give_way_to_those_that_did_not(self) -> None:
        offers = [offer(n, f"r{n}", spot) for n in range(1, 21) for spot in (True, False)]
        failed = {one.key for one in offers if not one.use_spot and one.price_per_hour <= 10}
        planned = plan(offers, ask(), failed)
        assert [one.price_per_hour for one in planned if not one.use_spot] == [11, 12, 13, 14]

    def test_no_place_is_kept_for_fallbacks_that_failed_lately_if_enough_others_are_left(self) -> None:
        fine = [offer(n, f"r{n}", spot=n > FALLBACK_PLACES + 1) for n in range(1, MAX_OFFERS)]
        spot, *on_demand = offer(50, "a"), offer(40, "b", spot=False), offer(40, "c", spot=False)
        planned = plan([*fine, spot, *on_demand], ask(), {one.key for one in (spot, *on_demand)})
        assert [one for one in planned if one not in fine] == [spot]

    def test_few_spot_offers_leave_the_rest_to_on_demand(self) -> None:
        offers = [offer(n, f"r{n}", spot=False) for n in range(1, 21)] + [offer(1, "r1")]
        assert [one.use_spot for one in plan(offers, ask())] == [True] + [False] * (MAX_OFFERS - 1)

    def test_what_failed_lately_goes_first_when_room_is_short(self) -> None:
        offers = [offer(n, f"r{n}") for n in range(1, MAX_OFFERS + 2)]
        planned = plan(offers, ask(), {offers[0].key})
        assert planned == offers[1:]


class TestEstimate:
    def test_the_seed_for_its_default_lifetime(self) -> None:
        made = estimate([offer(0.8), offer(3.2, spot=False)], 720, PRICES)
        assert made == Estimate(
            hourly_usd=0.8,
            lifetime_minutes=720,
            worst_case_usd=38.4,
            prices_as_of="yesterday",
            prices_source="snapshot",
        )

    @pytest.mark.parametrize(
        ("price", "minutes", "worst"),
        [
            (0.0, 720, 0.0),
            (0.6, 60, 0.6),  # exact cents stay
            (0.601, 60, 0.61),  # upwards, however little
            (0.062699, 1, 0.01),
            (0.1, 180, 0.3),  # 0.1 * 3 in binary is a little more than 0.3
            (1.0, 20, 0.34),
            (98.32, 43_200, 70_790.4),
        ],
    )
    def test_amounts_are_rounded_up_to_the_cent(self, price: float, minutes: int, worst: float) -> None:
        assert estimate([offer(price)], minutes, PRICES).worst_case_usd == worst

    def test_it_says_where_its_prices_are_from(self) -> None:
        made = estimate([offer(1)], 60, Prices("live", "today"))
        assert (made.prices_source, made.prices_as_of) == ("live", "today")

    def test_the_price_per_hour_stays_as_listed(self) -> None:
        assert estimate([offer(0.062699)], 60, PRICES).hourly_usd == 0.062699

    def test_the_highest_need_not_be_the_last(self) -> None:
        assert estimate([offer(1), offer(5), offer(2)], 60, PRICES).worst_case_usd == 5

    @pytest.mark.parametrize(("offers", "minutes"), [([], 60), ([offer(1)], 0), ([offer(1)], -5)])
    def test_nothing_to_estimate(self, offers: list[Offer], minutes: int) -> None:
        with pytest.raises(ValueError, match="at least one"):
            estimate(offers, minutes, PRICES)


AMOUNTS = st.sampled_from([0.062699, 0.5, 0.8, 1.0, 3.2, 6.98])
OFFERS = st.lists(
    st.builds(
        offer, AMOUNTS, st.sampled_from(["a", "b", "c", "d"]), st.booleans(), st.sampled_from(["X", "Y", "Z", "V", "W"])
    ),
    max_size=40,
    unique_by=lambda one: one.key,
)
REGIONS = st.none() | st.lists(st.sampled_from(["a", "B", "c", "d", "e"]), min_size=1, max_size=5)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Offer], LaunchRequest, set[str]]:
    offers = draw(OFFERS)
    refused = draw(st.lists(st.sampled_from(offers), max_size=6)) if offers else []
    request = ask(
        region=draw(REGIONS),
        use_spot=draw(st.booleans()),
        spot_fallback=draw(st.booleans()),
        max_hourly_cost=draw(st.none() | AMOUNTS),
    )
    return offers, request, {one.key for one in refused}


@settings(deadline=None)
@given(cases())
def test_a_plan_is_sorted_and_bounded_and_has_nothing_that_was_ruled_out(
    case: tuple[list[Offer], LaunchRequest, set[str]],
) -> None:
    offers, request, failed = case
    planned = plan(offers, request, failed)
    regions = [region.casefold() for region in request.regions]
    ranks = [
        (
            one.key in failed,
            not one.use_spot,
            one.price_per_hour,
            regions.index(one.region) if regions else 0,
        )
        for one in planned
    ]
    assert ranks == sorted(ranks)
    assert len(planned) <= MAX_OFFERS
    assert len({one.key for one in planned}) == len(planned)
    for one in planned:
        assert one in offers
        assert not regions or one.region in regions
        assert request.use_spot or not one.use_spot
        assert one.use_spot or not request.use_spot or request.spot_fallback
        assert request.max_hourly_cost is None or one.price_per_hour <= request.max_hourly_cost


@settings(deadline=None)
@given(cases(), st.randoms(use_true_random=False))
def test_a_plan_of_a_plan_is_the_same_and_the_order_given_does_not_matter(
    case: tuple[list[Offer], LaunchRequest, set[str]], random: Any
) -> None:
    offers, request, failed = case
    planned = plan(offers, request, failed)
    assert plan(planned, request, failed) == planned
    shuffled = list(offers)
    random.shuffle(shuffled)
    assert plan(shuffled, request, failed) == planned


@settings(deadline=None)
@given(st.lists(AMOUNTS, min_size=1, max_size=16), st.integers(1, 43_200))
def test_the_worst_case_covers_every_offer_and_is_less_than_a_cent_too_high(prices: list[float], minutes: int) -> None:
    made = estimate([offer(price, f"r{n}") for n, price in enumerate(prices)], minutes, PRICES)
    exact = max(Decimal(str(price)) * minutes / 60 for price in prices)
    assert 0 <= Decimal(str(made.worst_case_usd)) - exact < Decimal("0.01")
