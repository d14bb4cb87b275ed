"""Tasks that find nothing to do, or whose work is not counted, say so: the sweep's figures are read by people."""

from datetime import datetime, timedelta

import pytest

from shared.control.sweep.burning import LateReleases
from shared.control.sweep.price_refresh import PriceRefresh
from tests.twins.clock import START
from tests.unit.control.test_sweep_tasks import Deployment


@pytest.mark.parametrize("wait", [timedelta(0), timedelta(minutes=1)])
def test_without_a_late_release_no_alert_should_be_counted(wait: timedelta) -> None:
    deployment = Deployment()
    deployment.wait(wait)
    deployment.create()
    assert deployment.sweep(LateReleases(deployment.store, deployment.records, lambda _, __: None)) == 0


def test_a_look_at_prices_should_be_made_and_count_for_nothing() -> None:
    seen: list[datetime] = []
    deployment = Deployment()
    assert deployment.sweep(PriceRefresh(seen.append)) == 0
    assert seen == [START]
    assert PriceRefresh(None).begin(START) is None
