"""Requests that go to nodes past the gateways are load, and noise between probes and reports is not."""

import pytest

from gpulaunch.models.gateways import EndpointReport, GatewayReport
from shared.autoscaling.figures import Figures, figures_of
from tests.twins.clock import START


def seen(running: int, mean: float, probed: float) -> Figures:
    one = EndpointReport(endpoint_id="ep-1", version=1, running=running, running_mean=mean)
    return figures_of("ep-1", {"a": GatewayReport(gateway_id="a", at=START, endpoints=[one])}, START, probed)


def test_requests_of_no_gateway_should_all_be_direct() -> None:
    found = figures_of("ep-1", {}, START, probed=4.0)
    assert (found.direct, found.running, found.running_mean) == (4.0, 4.0, 4.0)


@pytest.mark.parametrize(("probed", "direct"), [(100.0, 0.0), (130.0, 0.0), (131.0, 31.0), (60.0, 0.0)])
def test_what_probes_find_should_be_direct_only_beyond_noise(probed: float, direct: float) -> None:
    """Of 100 requests on average, 130 at a moment are within three sigma."""
    found = seen(90, 100.0, probed)
    assert (found.direct, found.running, found.running_mean) == (direct, 90 + direct, 100 + direct)


def test_a_load_that_rises_should_not_be_direct_because_its_mean_is_behind() -> None:
    assert seen(100, 40.0, 100.0).direct == 0.0
