"""What a key may use: requests at once and per minute, tokens per minute and per month. Pure.

Save the first, the limits hold for all gateways together. Each counts what it lets through at once, and learns every
few seconds what the others did (`gateway.key_usage`). Until it learns more, it lets through no more than its share of
what was left.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from gpulaunch.models.key_usage import Use, month_of, summed
from gpulaunch.models.routes import EndpointKey

_MOST = 10_000
"""Buckets that are kept without looking for some to forget: those that have filled up again."""
LONGEST_RETRY_AFTER = 120
"""Seconds; the official clients do not retry at all when they are asked to wait longer."""


_MINUTE = 60.0
"""Seconds after which any bucket is full again, unless it was overdrawn."""
_NOTHING = Use()


def _requests(use: Use) -> int:
    return use.requests


def _tokens(use: Use) -> int:
    return use.tokens


def _since(after: Use, before: Use) -> Use:
    """What was added, never less than nothing."""
    return Use(requests=max(0, after.requests - before.requests), tokens=max(0, after.tokens - before.tokens))


@dataclass(frozen=True)
class KeyRefusal:
    """A limit that is reached, as OpenAI's clients know it."""

    message: str
    code: str
    kind: str
    retry_after: int
    """Seconds, from 1 to 120."""
    final: bool = False
    """Whether another try within minutes is of no use."""


@dataclass
class _Bucket:
    rate: float
    """Per minute; as much fits into the bucket."""
    level: float
    """What all gateways together may still let through, as far as this one knows."""
    share: float
    """What this one may let through of it until it learns what the others did."""
    at: float

    def refill(self, now: float, gateways: int) -> None:
        gained = (now - self.at) * self.rate / 60
        self.level = min(self.rate, self.level + gained)
        self.share = min(self.level, self.share + gained / gateways)
        self.at = now

    def take(self, amount: float) -> None:
        self.level -= amount
        self.share -= amount

    def learn(self, others: float, gateways: int) -> None:
        """Take what the others let through, and share what is left. Of a small limit a whole request fits the share."""
        self.level -= others
        self.share = self.level if self.level <= 0 else max(self.level / gateways, min(self.level, 1.0))

    def is_full(self, now: float) -> bool:
        return self.level + (now - self.at) * self.rate / 60 >= self.rate

    def seconds_until(self, least: float) -> float:
        return max(0.0, least - self.share) * 60 / self.rate


@dataclass
class _Counted:
    """What this gateway let through for one key in one month."""

    requests: int = 0
    tokens: int = 0
    written: Use = _NOTHING
    """As much of it as is in the row."""
    folded: Use = _NOTHING
    """As much of it as others have counted among ended gateways."""

    @property
    def part(self) -> Use:
        """What this gateway's part of the row has to be."""
        return Use(requests=self.requests - self.folded.requests, tokens=self.tokens - self.folded.tokens)


class KeyLimits:
    def __init__(self, clock: Callable[[], float], now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock, self.now = clock, now
        self._running: Counter[str] = Counter()
        self._requests: dict[str, _Bucket] = {}
        self._tokens: dict[str, _Bucket] = {}
        self._counted: dict[tuple[str, str], _Counted] = {}
        self._others: dict[tuple[str, str], Use] | None = None
        """What other gateways let through, by month and key, as last learned; None: nothing was learned yet."""
        self._recent: list[tuple[float, Mapping[str, Use]]] = []
        """What was learned within the last minute, when, and by key: for buckets that do not exist yet."""
        self._gateways = 1
        self._month, self._month_known_at = "", -1

    def take(self, key: EndpointKey) -> KeyRefusal | None:
        """Count a request that begins, unless a limit is reached. One that is counted has to be given to `ended`."""
        month = self._this_month()
        refusal = self._running_refusal(key) or self._month_refusal(key, month) or self._minute_refusal(key)
        if refusal is None:
            self._running[key.key_id] += 1
            if (bucket := self._requests.get(key.key_id)) is not None:
                bucket.take(1)
            self._of(month, key.key_id).requests += 1
        return refusal

    def ended(self, key_id: str) -> None:
        """Note that a request has ended, whatever became of it."""
        self._running[key_id] -= 1
        if not self._running[key_id]:
            del self._running[key_id]

    def used(self, key_id: str, tokens: int) -> None:
        """Count the tokens of an answer, when it ends: until then they are not known."""
        if tokens:
            if (bucket := self._tokens.get(key_id)) is not None:
                bucket.refill(self._clock(), self._gateways)
                bucket.take(tokens)
            self._of(self._this_month(), key_id).tokens += tokens

    def unwritten(self) -> dict[tuple[str, str], Use]:
        """What this gateway's part of rows has to be, by month and key, where it is something else."""
        found = {name: one for name, one in self._counted.items() if one.part != one.written}
        return {name: one.part for name, one in found.items()}

    def wrote(self, month: str, key_id: str, part: Use) -> None:
        """Note that this gateway's part of a row is now as given."""
        one = self._of(month, key_id)
        one.written = part
        if month != month_of(self.now()) and one.part == part:
            del self._counted[month, key_id]

    def folded(self, month: str, key_id: str) -> Use:
        """Note that others took this gateway for ended, and its part of a row away. Return what it has to be now."""
        one = self._of(month, key_id)
        one.folded = summed([one.folded, one.written])
        one.written = _NOTHING
        return one.part

    def learn(self, month: str, others: Mapping[str, Use], gateways: int) -> None:
        """Take into account what all other gateways let through this month, by key, and how many gateways there are."""
        now, self._gateways = self._clock(), max(1, gateways)
        # Of the time before this gateway began, its buckets know nothing.
        known = {(month, key_id): use for key_id, use in others.items()} if self._others is None else self._others
        more = {key_id: _since(use, known.get((month, key_id), _NOTHING)) for key_id, use in others.items()}
        for buckets, amount in ((self._requests, _requests), (self._tokens, _tokens)):
            for key_id, bucket in buckets.items():
                bucket.refill(now, self._gateways)
                bucket.learn(amount(more.get(key_id, _NOTHING)), self._gateways)
        self._recent = [(at, uses) for at, uses in self._recent if now - at < _MINUTE] + [(now, more)]
        self._others = {(month, key_id): use for key_id, use in others.items()}

    def _this_month(self) -> str:
        """The month, which is looked up once a second."""
        second = int(self._clock())
        if second != self._month_known_at:
            self._month, self._month_known_at = month_of(self.now()), second
        return self._month

    def _of(self, month: str, key_id: str) -> _Counted:
        counted = self._counted.get((month, key_id))
        if counted is None:
            counted = self._counted[month, key_id] = _Counted()
        return counted

    def _running_refusal(self, key: EndpointKey) -> KeyRefusal | None:
        limit = key.requests_at_once
        if limit is None or self._running[key.key_id] < limit:
            return None
        message = f"This key's limit of {limit} requests at once is reached."
        return KeyRefusal(message, "rate_limit_exceeded", "requests", 1)

    def _month_refusal(self, key: EndpointKey, month: str) -> KeyRefusal | None:
        limit = key.tokens_per_month
        if limit is None:
            return None
        own = self._counted.get((month, key.key_id))
        mine = 0 if own is None else own.tokens - own.folded.tokens
        if mine + (self._others or {}).get((month, key.key_id), _NOTHING).tokens < limit:
            return None
        message = f"This key's limit of {limit} tokens per month is reached; it counts anew on the first, UTC."
        # OpenAI's code for a quota that is used up; its clients would retry a 429 in vain.
        return KeyRefusal(message, "insufficient_quota", "insufficient_quota", LONGEST_RETRY_AFTER, final=True)

    def _minute_refusal(self, key: EndpointKey) -> KeyRefusal | None:
        asked = (
            ("requests", self._requests, _requests, key.requests_per_minute, 1.0),
            ("tokens", self._tokens, _tokens, key.tokens_per_minute, 1e-9),
        )
        for kind, buckets, amount, rate, least in asked:
            if rate is None:
                continue
            wait = 60.0 if rate < 1 else self._bucket(buckets, amount, key.key_id, rate).seconds_until(least)
            if wait:
                after = min(LONGEST_RETRY_AFTER, int(wait) + 1)
                message = f"This key's limit of {rate} {kind} per minute is reached."
                return KeyRefusal(message, "rate_limit_exceeded", kind, after)
        return None

    def _bucket(self, buckets: dict[str, _Bucket], amount: Callable[[Use], int], key_id: str, rate: int) -> _Bucket:
        now = self._clock()
        bucket = buckets.get(key_id)
        if bucket is None or bucket.rate != rate:
            bucket = buckets[key_id] = _Bucket(float(rate), float(rate), 0.0, now - _MINUTE)
            for at, uses in self._recent:
                bucket.refill(max(at, bucket.at), self._gateways)
                bucket.learn(amount(uses.get(key_id, _NOTHING)), self._gateways)
            bucket.refill(now, self._gateways)
            bucket.learn(0, self._gateways)
            if len(buckets) > _MOST:
                for name in [name for name, one in buckets.items() if one.is_full(now) and one is not bucket]:
                    del buckets[name]
        bucket.refill(now, self._gateways)
        return bucket
