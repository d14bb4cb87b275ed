"""The table of the benchmarks: medians, spreads, and targets that are met or not."""

import json
from pathlib import Path

import pytest

from bench.fleet import address, instance_id
from bench.results import figure, machine, ratios, table, write
from shared.storage.rows import is_instance_id


def test_a_figure_should_be_the_median_with_its_spread() -> None:
    one = figure("s", "w", [3.0, 1.0, 10.0], "ms")
    assert (one.value, one.low, one.high, one.measured, one.met) == (3.0, 1.0, 10.0, 3, None)


def test_a_figure_of_nothing_should_not_be_made() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        figure("s", "w", [], "ms")


@pytest.mark.parametrize(
    ("value", "better", "met"),
    [(1.5, "lower", True), (1.51, "lower", False), (5, "higher", True), (4.9, "higher", False)],
)
def test_a_target_should_be_met_on_its_good_side_only(value: float, better: str, met: bool) -> None:
    target = 1.5 if better == "lower" else 5.0
    one = figure("s", "w", [value], "x", target=target, better="lower" if better == "lower" else "higher")
    assert one.met is met
    assert ("MISSED" in table([one])) is not met


def test_ratios_should_be_of_neighbours() -> None:
    assert ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]
    with pytest.raises(ValueError, match="zip"):
        ratios([1.0], [1.0, 2.0])


def test_a_section_should_be_written_beside_the_others(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    for section, value in (("a", 1.0), ("b", 2.0), ("a", 3.0)):
        write(path, section, [figure(section, "w", [value], "s", target=2.0)], machine())
    kept = json.loads(path.read_text())
    assert {name: one["figures"][0]["value"] for name, one in kept.items()} == {"a": 3.0, "b": 2.0}
    assert kept["a"]["figures"][0]["met"] is False
    assert kept["a"]["machine"]["cores"]


def test_every_instance_of_a_fleet_should_have_an_id_and_an_address_of_its_own() -> None:
    numbers = [0, 1, 31, 32, 249, 250, 62_499, 62_500, 109_999]
    ids = [instance_id(number) for number in numbers]
    assert all(is_instance_id(one) for one in ids)
    assert ids == sorted(set(ids))
    assert len({address(number) for number in range(10_000)}) == 10_000
    assert all(int(part) < 256 for number in numbers for part in address(number).split("."))
