"""Limits of keys: per minute and month, in one gateway and in several that learn of each other."""

import random
from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.key_limits import KeyLimits
from gpulaunch.models.key_usage import Use, month_of
from gpulaunch.models.routes import EndpointKey
from tests.twins.clock import START

MONTH = month_of(START)
DAYS_LEFT = 1
"""START is on the last day of a month."""


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def date(self) -> datetime:
        return START + timedelta(seconds=self.now)


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
def limits(clock: Seconds) -> KeyLimits:
    return KeyLimits(clock, clock.date)


def key(key_id: str = "a", **given: Any) -> EndpointKey:
    return EndpointKey.model_validate({"key_id": key_id, "name": "app", "key_hash": "h", "created_at": START, **given})


def refused(limits: KeyLimits, one: EndpointKey) -> tuple[str, str, int]:
    refusal = limits.take(one)
    assert refusal is not None
    return refusal.code, refusal.kind, refusal.retry_after


def taken(limits: KeyLimits, one: EndpointKey) -> int:
    """How many requests are let through until one is refused."""
    count = 0
    while limits.take(one) is None:
        count += 1
    return count


def test_a_key_should_have_its_requests_per_minute_and_no_more(limits: KeyLimits, clock: Seconds) -> None:
    limited = key(requests_per_minute=6)
    assert taken(limits, limited) == 6
    assert refused(limits, limited) == ("rate_limit_exceeded", "requests", 11)
    clock.now += 10
    assert taken(limits, limited) == 1


def test_a_key_without_limits_should_have_any_number(limits: KeyLimits) -> None:
    assert all(limits.take(key("b")) is None for _ in range(100))
    limits.used("b", 10**9)
    assert limits.take(key("b")) is None


def test_tokens_should_be_let_through_while_some_are_left_and_be_paid_back(limits: KeyLimits, clock: Seconds) -> None:
    limited = key(tokens_per_minute=600)
    assert limits.take(limited) is None
    limits.used("a", 599)
    assert limits.take(limited) is None, "one is left"
    limits.used("a", 301)
    assert refused(limits, limited) == ("rate_limit_exceeded", "tokens", 31)
    clock.now += 30
    assert limits.take(limited) is not None
    clock.now += 1
    assert limits.take(limited) is None


def test_a_client_should_never_be_asked_to_wait_for_longer_than_it_is_willing_to(limits: KeyLimits) -> None:
    limited = key(tokens_per_minute=1)
    assert limits.take(limited) is None
    limits.used("a", 100_000)
    assert refused(limits, limited) == ("rate_limit_exceeded", "tokens", 120)


def test_a_refused_request_should_not_count(limits: KeyLimits) -> None:
    limited = key(requests_per_minute=2, tokens_per_minute=10)
    assert limits.take(limited) is None
    limits.used("a", 20)
    assert [refused(limits, limited)[1] for _ in range(5)] == ["tokens"] * 5
    assert limits.unwritten() == {(MONTH, "a"): Use(requests=1, tokens=20)}


@pytest.mark.parametrize("name", ["requests_at_once", "requests_per_minute", "tokens_per_minute", "tokens_per_month"])
def test_a_limit_of_nothing_should_be_kept_and_not_fail(limits: KeyLimits, name: str) -> None:
    assert limits.take(key("a", **{name: 0})) is not None


def test_as_many_requests_as_a_key_may_have_should_be_let_through_at_once(limits: KeyLimits) -> None:
    limited, other = key("a", requests_at_once=2), key("b", requests_at_once=1)
    assert [limits.take(one) for one in (limited, limited, other)] == [None] * 3
    assert refused(limits, limited) == ("rate_limit_exceeded", "requests", 1)
    limits.ended("a")
    assert limits.take(limited) is None
    assert limits.take(limited) is not None
    assert limits.take(key("a")) is None, "the limit was lifted"
    for _ in range(3):
        limits.ended("a")
    assert [limits.take(limited) for _ in range(2)] == [None] * 2


def test_a_month_should_be_counted_and_begin_anew(limits: KeyLimits, clock: Seconds) -> None:
    limited = key(tokens_per_month=100)
    for _ in range(2):
        assert limits.take(limited) is None
        limits.used("a", 50)
    refusal = limits.take(limited)
    assert refusal is not None
    assert (refusal.code, refusal.final, refusal.retry_after) == ("insufficient_quota", True, 120)
    clock.now += 3600
    assert limits.take(limited) is not None
    clock.now += 24 * 3600 * DAYS_LEFT
    assert limits.take(limited) is None


def test_a_month_should_contain_what_was_used_before_a_restart_and_by_others(limits: KeyLimits) -> None:
    limited = key(tokens_per_month=100)
    limits.learn(MONTH, {"a": Use(tokens=99)}, 1)
    assert limits.take(limited) is None
    limits.used("a", 1)
    assert refused(limits, limited)[0] == "insufficient_quota"


def test_what_was_used_should_be_written_once_and_of_past_months_too(limits: KeyLimits, clock: Seconds) -> None:
    for _ in range(3):
        limits.take(key())
    limits.used("a", 7)
    assert limits.unwritten() == {(MONTH, "a"): Use(requests=3, tokens=7)}
    limits.wrote(MONTH, "a", Use(requests=3, tokens=7))
    assert limits.unwritten() == {}
    limits.used("a", 1)
    clock.now += 24 * 3600 * DAYS_LEFT
    limits.used("a", 2)
    later = month_of(clock.date())
    assert limits.unwritten() == {(MONTH, "a"): Use(requests=3, tokens=8), (later, "a"): Use(tokens=2)}
    limits.wrote(MONTH, "a", Use(requests=3, tokens=8))
    assert limits.unwritten() == {(later, "a"): Use(tokens=2)}


def test_a_gateway_that_was_taken_for_ended_should_count_on_from_there(limits: KeyLimits) -> None:
    limited = key(tokens_per_month=100)
    limits.take(limited)
    limits.used("a", 40)
    limits.wrote(MONTH, "a", Use(requests=1, tokens=40))
    limits.used("a", 5)
    assert limits.folded(MONTH, "a") == Use(tokens=5)
    limits.learn(MONTH, {"a": Use(requests=1, tokens=40)}, 1)
    limits.wrote(MONTH, "a", Use(tokens=5))
    limits.used("a", 54)
    assert limits.take(limited) is None, "99 are used"
    limits.used("a", 1)
    assert limits.take(limited) is not None


def test_with_many_keys_those_in_use_should_keep_their_count(limits: KeyLimits, clock: Seconds) -> None:
    def one(number: int) -> EndpointKey:
        return key(str(number), requests_per_minute=1)

    assert all(limits.take(one(number)) is None for number in range(10_000))
    clock.now += 59
    assert limits.take(one(10_000)) is None
    assert limits.take(one(0)) is not None
    clock.now += 59
    assert limits.take(one(10_001)) is None
    assert limits.take(one(10_000)) is not None


class Fleet:
    """Gateways that learn of each other when the test lets them."""

    def __init__(self, clock: Seconds, count: int) -> None:
        self._clock = clock
        self.all = [KeyLimits(clock, clock.date) for _ in range(count)]
        self.learn()

    def learn(self) -> None:
        parts = [one.unwritten().get((MONTH, "a"), Use()) for one in self.all]
        for place, one in enumerate(self.all):
            others = [part for other, part in enumerate(parts) if other != place]
            total = Use(requests=sum(p.requests for p in others), tokens=sum(p.tokens for p in others))
            one.learn(MONTH, {"a": total}, len(self.all))

    def wait(self, seconds: float) -> None:
        self._clock.now += seconds
        self.learn()


@pytest.mark.parametrize("count", [2, 3, 5])
def test_several_gateways_should_let_through_together_what_one_would(clock: Seconds, count: int) -> None:
    fleet, limited = Fleet(clock, count), key(requests_per_minute=60)
    assert sum(taken(one, limited) for one in fleet.all) == 60
    fleet.learn()
    assert [taken(one, limited) for one in fleet.all] == [0] * count
    got = 0
    for _ in range(120):
        fleet.wait(5)
        got += sum(taken(one, limited) for one in fleet.all)
    # A whole request fits each share, so that together they may be ahead by one each.
    assert got == pytest.approx(600, abs=count)


def test_one_of_several_gateways_should_get_what_the_others_do_not_use(clock: Seconds) -> None:
    fleet, limited = Fleet(clock, 3), key(requests_per_minute=60)
    got = 0
    for _ in range(240):
        got += taken(fleet.all[0], limited)
        fleet.wait(5)
    assert got == pytest.approx(60 * 20, rel=0.06)


@pytest.mark.parametrize("seed", range(20))
def test_whoever_asks_all_together_should_not_let_through_more_than_one_would(clock: Seconds, seed: int) -> None:
    dice = random.Random(seed)
    count, rate = dice.randrange(1, 5), dice.choice([1, 6, 60, 600])
    fleet, limited = Fleet(clock, count), key(requests_per_minute=rate)
    got, begun = 0, clock.now
    for _ in range(400):
        one = dice.choice(fleet.all)
        got += sum(one.take(limited) is None for _ in range(dice.randrange(40)))
        clock.now += dice.random()
        if dice.random() < 0.2:
            fleet.learn()
        assert got <= rate + (clock.now - begun) * rate / 60 + count


def test_tokens_that_others_used_should_be_missing_here(clock: Seconds) -> None:
    fleet, limited = Fleet(clock, 2), key(tokens_per_minute=100)
    for one in fleet.all:
        assert one.take(limited) is None
    fleet.all[0].used("a", 160)
    fleet.learn()
    assert refused(fleet.all[1], limited) == ("rate_limit_exceeded", "tokens", 37)
    fleet.wait(37)
    assert fleet.all[1].take(limited) is None


def test_what_others_used_before_this_gateway_began_should_be_of_no_account_for_its_minute(limits: KeyLimits) -> None:
    limited = key(requests_per_minute=6)
    assert limits.take(limited) is None
    limits.learn(MONTH, {"a": Use(requests=1000)}, 1)
    assert taken(limits, limited) == 5
    limits.learn(MONTH, {"a": Use(requests=1003)}, 1)
    assert limits.take(limited) is not None
