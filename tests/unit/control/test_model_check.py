"""Which launches' models are inspected, and what follows from what is found."""

from dataclasses import dataclass
from typing import Any

import pytest

from gpulaunch.models.requests import LaunchRequest
from shared.catalog.snapshot import snapshot
from shared.control.model_check import ModelCheck
from shared.domain.instance import InstanceRecord
from shared.domain.model import ModelFacts
from shared.domain.provider import Availability, ProviderUnavailableError
from shared.lifecycle.observations import Checked
from tests.twins.factories import make_offer, make_record, make_request

GIB = 2**30
FITTING = ModelFacts(source="hf://o/m", total_bytes=26 * GIB, weight_bytes=2 * GIB)
SMALL = ModelFacts(source="hf://o/m", total_bytes=2 * GIB, weight_bytes=2 * GIB)
LARGE = ModelFacts(source="hf://o/m", total_bytes=40 * GIB, weight_bytes=40 * GIB)
HUGE = ModelFacts(source="hf://o/m", total_bytes=9000 * GIB, weight_bytes=9000 * GIB)
ENABLED = Availability(enabled=True, reason="it is enabled")
SMALLER = make_offer(gpu_memory_gib=16.0, region="westus")


@dataclass
class Inspecting:
    found: ModelFacts | Exception = SMALL
    asked: int = 0

    def inspect(self, request: LaunchRequest) -> ModelFacts:
        self.asked += 1
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def record(mode: str = "real", *, offers: Any = None, **request: Any) -> InstanceRecord:
    return make_record(mode=mode, request=make_request(**request), offers=offers or [make_offer()])


def check(found: ModelFacts | Exception, given: InstanceRecord) -> Checked:
    return ModelCheck(Inspecting(found), snapshot()).check(given, ENABLED)


@pytest.mark.parametrize(
    ("mode", "enabled", "wait", "asked"),
    [
        ("real", True, 0.0, 1),
        ("simulation", True, 0.0, 0),
        ("real", False, 0.0, 0),
        ("real", True, 0.1, 0),
        ("real", True, 1.0, 0),
        ("real", False, 5.0, 0),
    ],
)
def test_a_model_should_be_inspected_once_its_provider_can_be_used_for_a_real_launch(
    mode: str, wait: float, asked: int, *, enabled: bool
) -> None:
    inspecting = Inspecting()
    availability = Availability(enabled=enabled, reason="as it is", wait_seconds=wait)
    checked = ModelCheck(inspecting, snapshot()).check(record(mode), availability)
    assert (inspecting.asked, checked) == (asked, Checked(availability, SMALL if asked else None))


def test_without_an_inspector_it_should_not() -> None:
    assert ModelCheck(None, snapshot()).check(record(), ENABLED) == Checked(ENABLED)


def test_a_source_without_an_answer_should_be_waited_for_unless_the_launch_insists() -> None:
    silent = ProviderUnavailableError("no answer")
    with pytest.raises(ProviderUnavailableError):
        check(silent, record())
    assert check(silent, record(force=True)) == Checked(ENABLED, note="Not inspected, as `force` asks: no answer.")


def test_offers_that_cannot_serve_it_should_be_named_with_a_machine_that_can() -> None:
    checked = check(LARGE, record(offers=[make_offer(), SMALLER]))
    assert set(checked.unfit) == {make_offer().key, SMALLER.key}
    assert "and the A10 has 16 GiB" in checked.unfit[SMALLER.key]
    assert "It fits A100-80GB (Standard_NC24ads_A100_v4)" in checked.advice
    assert checked.advice.endswith("`force` launches it anyway.")


def test_where_no_machine_can_a_smaller_model_should_be_advised() -> None:
    assert "Choose a smaller or quantized model." in check(HUGE, record()).advice


def test_a_launch_that_insists_should_be_told_of_it_and_lose_no_offer() -> None:
    checked = check(LARGE, record(force=True))
    assert (checked.unfit, checked.advice, checked.model) == ({}, "", LARGE)
    assert checked.note.startswith("Launched by `force` though it needs at least ")
    assert check(SMALL, record(force=True)) == Checked(ENABLED, SMALL)


@pytest.mark.parametrize("disk", [65, 66])
def test_a_disk_that_is_too_small_should_be_advised_to_be_larger(disk: int) -> None:
    checked = check(FITTING, record(disk_size=disk))
    assert bool(checked.unfit) is (disk < 66)
    assert ("Set disk_size to 66 or more" in checked.advice) is (disk < 66)
