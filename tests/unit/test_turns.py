"""Waiting that ends, whatever the other side does."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from azure.core.exceptions import ServiceResponseTimeoutError
from azure.core.rest import HttpRequest

from shared.cache import TTLCache
from shared.clouds.azure import client as azure
from shared.domain.provider import LaunchRefusedError, ProviderUnavailableError
from shared.model_sources import web
from shared.turns import within
from shared.webhooks import delivery
from tests.standins.azure.credential import StaticCredential
from tests.twins.clock import ManualClock
from tests.unit.backends.test_sky_http import HEAD, dripping

LIMIT = 0.4
DRIPS = pytest.mark.parametrize(("at_once", "then"), [(HEAD, b" " * 400), (b"", HEAD * 9)], ids=["body", "headers"])


def seconds_of(act: Callable[[], object]) -> float:
    begun = time.monotonic()
    act()
    return time.monotonic() - begun


def test_work_should_be_left_when_its_time_is_over() -> None:
    over = threading.Event()
    with pytest.raises(TimeoutError):
        within(0.05, lambda: over.wait(30))
    over.set()
    assert within(5, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0)


def test_a_webhook_whose_headers_drip_should_be_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "LONGEST_SECONDS", LIMIT)
    with dripping(b"", HEAD * 9) as url:
        found: list[object] = []
        assert seconds_of(lambda: found.append(delivery._post(url, {}, b"{}"))) < 3 * LIMIT  # pyright: ignore[reportPrivateUsage]
        assert found == [("no answer within 0 s", True)]


@DRIPS
def test_a_model_store_that_drips_should_be_left_in_time(
    monkeypatch: pytest.MonkeyPatch, at_once: bytes, then: bytes
) -> None:
    monkeypatch.setattr(web, "LONGEST_SECONDS", LIMIT)
    with dripping(at_once, then) as url, pytest.raises(ProviderUnavailableError, match="too slow"):
        begun = time.monotonic()
        try:
            web.Web().get(url, {}, "a model")
        finally:
            assert time.monotonic() - begun < 3 * LIMIT


@DRIPS
def test_a_call_of_azure_that_drips_should_be_left_in_time(
    monkeypatch: pytest.MonkeyPatch, at_once: bytes, then: bytes
) -> None:
    monkeypatch.setattr(azure, "_CALL_SECONDS", LIMIT)
    with dripping(at_once, then) as url, azure.bounded_transport() as transport:
        begun = time.monotonic()
        with pytest.raises(ServiceResponseTimeoutError):
            transport.send(HttpRequest("GET", f"{url}/subscriptions"))
        assert time.monotonic() - begun < 3 * LIMIT


def test_the_client_of_azure_should_use_it() -> None:
    client = azure.AzureClient("sub-1", ManualClock(), credential=StaticCredential())
    made: Any = client._client()  # pyright: ignore[reportPrivateUsage]
    assert type(made._client._pipeline._transport).__name__ == "Bounded"
    client.close()


def test_whoever_waits_for_anothers_reading_should_give_up_in_time() -> None:
    cache, now = TTLCache[int](60, 0.1), datetime(2026, 1, 1, tzinfo=UTC)
    reads, over = threading.Event(), threading.Event()

    def slow() -> int:
        reads.set()
        over.wait(30)
        return 1

    reader = threading.Thread(target=lambda: cache.get(now, slow))
    reader.start()
    reads.wait(5)
    with pytest.raises(TimeoutError):
        cache.get(now, lambda: 2)
    over.set()
    reader.join()
    assert cache.get(now, lambda: 3) == 1


def test_a_refusal_should_pass_as_it_is() -> None:
    def refuse() -> None:
        raise LaunchRefusedError.__new__(LaunchRefusedError)

    with pytest.raises(LaunchRefusedError):
        within(5, refuse)
