"""Limits: each refuses what is above it and nothing else, and says its name, its value and what to do."""

from datetime import timedelta
from typing import Any

import pytest

from shared.billing.ledger import reserve
from shared.billing.limits import AdmissionLimits, allowed, count_refusal, lifetime_refusal
from shared.domain.money import Ledger, Reservation, Usage
from tests.twins.clock import START
from tests.twins.factories import make_offer

HELD = Reservation(month="2026-01", scopes=("real", "real/team=a"), micro_usd=1, gpus=4)
OWN = make_offer(provider="slurm", region="*", instance_type=None, use_spot=False, price_per_hour=0)


def usage(instances: int, gpus: int, scope: str = "real") -> Ledger:
    return Ledger(usage={scope: Usage(instances=instances, gpus=gpus)})


class TestCounts:
    @pytest.mark.parametrize(
        ("limits", "fits", "full", "name"),
        [
            (AdmissionLimits(instances=3), usage(2, 99), usage(3, 0), "GPULAUNCH_MAX_INSTANCES"),
            (AdmissionLimits(gpus=8), usage(99, 4), usage(1, 5), "GPULAUNCH_MAX_GPUS"),
            (
                AdmissionLimits(label_instances={"team=a": 1}),
                usage(9, 9),
                usage(1, 0, "real/team=a"),
                "GPULAUNCH_LABEL_MAX_INSTANCES[team=a]",
            ),
            (
                AdmissionLimits(label_gpus={"team=a": 8}),
                usage(9, 4, "real/team=a"),
                usage(9, 5, "real/team=a"),
                "GPULAUNCH_LABEL_MAX_GPUS[team=a]",
            ),
        ],
    )
    def test_each_should_let_in_what_fits_and_refuse_what_does_not(
        self, limits: AdmissionLimits, fits: Ledger, full: Ledger, name: str
    ) -> None:
        assert limits.counted
        assert count_refusal(fits, HELD, limits, START) is None
        refusal = count_refusal(full, HELD, limits, START)
        assert refusal is not None
        assert (refusal.code, refusal.limit) == ("limit_reached", name)
        assert refusal.retry_after == 0

    def test_it_should_say_what_is_used_and_what_to_do(self) -> None:
        refusal = count_refusal(usage(3, 6), HELD, AdmissionLimits(gpus=8), START)
        assert refusal is not None
        assert (refusal.value, refusal.used, refusal.asked) == (8, 6, 4)
        assert refusal.detail == (
            "6 of 8 GPUs are in use, but this launch needs 4 more. Terminate an instance, or ask the operator to raise "
            "GPULAUNCH_MAX_GPUS."
        )

    def test_nought_should_mean_none(self) -> None:
        assert count_refusal(Ledger(), HELD, AdmissionLimits(instances=0), START) is not None

    def test_no_limit_should_refuse_nothing(self) -> None:
        assert not AdmissionLimits().counted
        assert count_refusal(usage(10_000, 10_000), HELD, AdmissionLimits(), START) is None


class TestRate:
    def full(self) -> Ledger:
        ledger = Ledger()
        for second in (0, 10, 20):
            ledger = reserve(ledger, HELD, START + timedelta(seconds=second), rated=True)
        return ledger

    def test_a_launch_too_many_in_a_minute_should_be_told_when_to_come_back(self) -> None:
        refusal = count_refusal(
            self.full(), HELD, AdmissionLimits(launches_per_minute=3), START + timedelta(seconds=30)
        )
        assert refusal is not None
        assert (refusal.code, refusal.limit) == ("too_many_launches", "GPULAUNCH_LAUNCHES_PER_MINUTE")
        assert (refusal.value, refusal.used, refusal.retry_after) == (3, 3, 31)

    def test_it_should_say_that_one_was_asked_for(self) -> None:
        refusal = count_refusal(self.full(), HELD, AdmissionLimits(launches_per_minute=3), START)
        assert refusal is not None
        assert (refusal.value, refusal.used, refusal.asked) == (3, 3, 1)

    def test_whoever_comes_back_then_should_be_let_in(self) -> None:
        limits = AdmissionLimits(launches_per_minute=3)
        assert count_refusal(self.full(), HELD, limits, START + timedelta(seconds=61)) is None
        assert count_refusal(self.full(), HELD, limits, START + timedelta(seconds=59)) is not None

    def test_fewer_than_the_limit_should_pass(self) -> None:
        assert (
            count_refusal(self.full(), HELD, AdmissionLimits(launches_per_minute=4), START + timedelta(seconds=30))
            is None
        )

    def test_nought_should_let_nothing_in(self) -> None:
        refusal = count_refusal(Ledger(), HELD, AdmissionLimits(launches_per_minute=0), START)
        assert refusal is not None
        assert refusal.retry_after == 60


class TestAllowed:
    @pytest.mark.parametrize(
        ("limits", "name", "value"),
        [
            ({"providers": ("aws", "slurm")}, "GPULAUNCH_ALLOWED_PROVIDERS", "aws, slurm"),
            ({"regions": ("westus",)}, "GPULAUNCH_ALLOWED_REGIONS", "westus"),
            ({"types": ("Standard_NC24ads_A100_v4",)}, "GPULAUNCH_ALLOWED_TYPES", "Standard_NC24ads_A100_v4"),
            ({"gpu_names": ("A100", "H100")}, "GPULAUNCH_ALLOWED_GPUS", "A100, H100"),
        ],
    )
    def test_a_launch_that_needs_something_else_should_be_refused_by_name(
        self, limits: dict[str, Any], name: str, value: str
    ) -> None:
        left, refusal = allowed([make_offer(), make_offer(use_spot=False)], AdmissionLimits(**limits))
        assert left == []
        assert refusal is not None
        assert (refusal.code, refusal.limit) == ("not_allowed", name)
        assert f"Only {value} may be used here" in refusal.detail

    @pytest.mark.parametrize(
        "limits",
        [
            {},
            {"providers": ("azure",)},
            {"regions": ("EastUS",)},
            {"types": ("standard_nv36ads_a10_v5",)},
            {"gpu_names": ("a10",)},
        ],
    )
    def test_what_is_allowed_should_stay_case_put_aside(self, limits: dict[str, Any]) -> None:
        assert allowed([make_offer()], AdmissionLimits(**limits)) == ([make_offer()], None)

    def test_of_several_offers_the_allowed_ones_should_be_left(self) -> None:
        offers = [make_offer(), make_offer(region="westus")]
        assert allowed(offers, AdmissionLimits(regions=("westus",))) == (offers[1:], None)

    def test_machines_of_one_s_own_should_have_neither_type_nor_region(self) -> None:
        limits = AdmissionLimits(regions=("westus",), types=("Standard_NC24ads_A100_v4",))
        assert allowed([OWN], limits) == ([OWN], None)
        assert allowed([OWN], AdmissionLimits(providers=("azure",)))[1] is not None

    def test_a_gpu_of_one_s_own_machines_should_be_allowed_like_any_other(self) -> None:
        assert allowed([OWN], AdmissionLimits(gpu_names=(OWN.gpu,)))[0] == [OWN]
        left, refusal = allowed([OWN], AdmissionLimits(gpu_names=("H100",)))
        assert (left, refusal is not None) == ([], True)

    def test_no_offer_should_be_no_refusal(self) -> None:
        assert allowed([], AdmissionLimits(regions=("westus",))) == ([], None)


class TestLifetime:
    def test_a_longer_lifetime_should_be_refused_and_the_longest_taken(self) -> None:
        limits = AdmissionLimits(lifetime_minutes=60)
        assert lifetime_refusal(60, limits) is None
        assert lifetime_refusal(43_200, AdmissionLimits()) is None
        refusal = lifetime_refusal(61, limits)
        assert refusal is not None
        assert (refusal.code, refusal.limit, refusal.value, refusal.asked) == (
            "not_allowed",
            "GPULAUNCH_MAX_LIFETIME_MINUTES",
            60,
            61,
        )
