"""How many replicas an endpoint needs. Pure: (bounds, memory, figures, replicas there are, now) -> decision.

Nodes take minutes to start, and that decides the shape. What runs and arrives calls for a number of replicas, the
*steady* one. What waits does not: a queue that builds up while nodes start says how much has to be worked off, not how
much load there is. So for requests that wait there is a *plan*: at the moment when a replica started now would be up,
and for `catch_up` after it, how much work is left after what the ready ones and those under way will have done?

    T  requests that a replica is to work on at once      S  seconds of a request      mu = T / S  requests/s of one
    L  expected start in seconds                           D  `catch_up` in seconds
    sure   = max over windows w of (n_w - 3 sqrt(n_w)) / w           a rate that is there, not noise
    load   = mean of running; if requests had to wait lately, at most 1.5 S max over w >= 60 of n_w / w
    steady = ceil(max(max(sure, n_60 / 60) / mu, load / T) - 0.1), at least 1 unless all is quiet
    plan   = ready + the starts, and further ones, that `held + sure (L + D) - ready mu (L + D)` still needs

`load` has a limit because replicas are full while they work off a queue, and that load does not last. S follows what
the gateways measure by a tenth at each look: theirs is over some fifty requests, so a tenth of it is noise, and since
the highest number that was called for is kept, noise of a tenth costs a tenth more nodes.

Replicas are given up only when for `quiet` no moment has called for them. Starts that are no longer needed are given
up only beyond what the plans of the last L seconds have called for: one that is about to land is not thrown away.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.autoscaling.figures import SIGMAS, Figures
from shared.autoscaling.presets import Preset, preset_of
from shared.domain.scaling import Peak, ScalerState, Scaling

TOLERANCE = 0.1
"""Of a replica: by so much one may be overloaded before there is another. Keeps noise from flapping."""
SHORTEST_WINDOW = 15.0
"""Seconds; a rate is not derived from less."""
SOONEST_LANDING = 5.0
"""Seconds that a start which should be up already is expected to need still."""
OVERDUE = 2.0
"""Times the expected start, after which nothing is expected of a start that is under way."""
FIRST_SERVICE_SECONDS = 10.0
"""Of a request, before any was timed."""
LATEST_SERVICE = 0.1
"""Weight of the service time that a look sees in the remembered one."""
CROWDED = 1.5
"""Times the requests that arrivals explain: so many may run and be load, since crowded replicas take longer."""
LOAD_WINDOW = 60
"""Seconds; shorter windows of arrivals do not explain what runs."""


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """The replicas that there are, without those that drain."""

    ready: int
    start_ages: Sequence[float] = ()
    """Seconds since each of the others was begun, in any order."""
    start_seconds: float
    """How long a start is expected to take."""
    concurrency: float
    """Requests that a replica is to work on at once."""

    @property
    def total(self) -> int:
        return self.ready + len(self.start_ages)


@dataclass(frozen=True, kw_only=True)
class Scaled:
    replicas: int
    """How many there are to be."""
    state: ScalerState
    reason: str
    """Why, in words."""


def scale(
    bounds: Scaling, state: ScalerState, figures: Figures, capacity: Capacity, before: int, now: datetime
) -> Scaled:
    """Decide how many replicas there are to be, when there were to be `before` until now.

    Figures that are not complete never lead to fewer.
    """
    preset, state = preset_of(bounds.preset), _remembered(state, figures, now)
    mu = capacity.concurrency / (state.service_seconds or FIRST_SERVICE_SECONDS)
    sure, rate = _rates(figures, state, now)
    load = _load(figures, state, now)
    steady = _steady(figures, rate / mu, load / capacity.concurrency)
    plan = _plan(figures.held, sure, mu, capacity, preset) if figures.held else 0

    called = _noted(state.steady, steady, now, preset.quiet)
    planned = _noted(state.planned, plan, now, timedelta(seconds=capacity.start_seconds))
    kept = min(capacity.total, called[0].replicas)
    wanted = max(steady, plan, kept)
    if not figures.complete:
        wanted = max(wanted, before)
    replicas = min(max(wanted, bounds.min_replicas), bounds.max_replicas)
    late = max(replicas, min(planned[0].replicas, bounds.max_replicas))
    releasable = max(0, capacity.total - late) if replicas < capacity.total else 0
    return Scaled(
        replicas=replicas,
        state=state.model_copy(update={"steady": called, "planned": planned, "releasable": releasable}),
        reason=_reason(
            bounds, figures, capacity, rate=rate, load=load, steady=steady, plan=plan, kept=kept, wanted=wanted
        ),
    )


def _remembered(state: ScalerState, figures: Figures, now: datetime) -> ScalerState:
    update: dict[str, object] = {}
    if figures.service_seconds is not None:
        known = state.service_seconds or figures.service_seconds
        latest = known + LATEST_SERVICE * (figures.service_seconds - known)
        update["service_seconds"] = float(f"{latest:.3g}")  # else it would change, and be written, for ever
    if state.first_at is None and not figures.quiet:
        update["first_at"] = now
    return state.model_copy(update=update) if update else state


def _rates(figures: Figures, state: ScalerState, now: datetime) -> tuple[float, float]:
    """Requests per second that surely come, and those that the last minute saw."""
    known = _known(state, now)
    sure = max((count - SIGMAS * math.sqrt(count)) / min(window, known) for window, count in figures.arrivals.items())
    return sure, max(sure, figures.arrivals[60] / min(60.0, known))


def _known(state: ScalerState, now: datetime) -> float:
    """Seconds that there has been traffic: no window is longer."""
    since = math.inf if state.first_at is None else (now - state.first_at).total_seconds()
    return max(SHORTEST_WINDOW, since)


def _load(figures: Figures, state: ScalerState, now: datetime) -> float:
    """Requests that run at once, without those that only do because they had to wait.

    The queue is that of earlier looks, since a queue of now must never lead to fewer.
    """
    if not any(one.replicas for one in state.planned):
        return figures.running_mean
    known = _known(state, now)
    rate = max(count / min(window, known) for window, count in figures.arrivals.items() if window >= LOAD_WINDOW)
    explained = CROWDED * rate * (state.service_seconds or FIRST_SERVICE_SECONDS) + figures.direct
    return min(figures.running_mean, explained)


def _steady(figures: Figures, *needs: float) -> int:
    return max(math.ceil(max(needs) - TOLERANCE), 0 if figures.quiet else 1)


def _plan(held: int, sure: float, mu: float, capacity: Capacity, preset: Preset) -> int:
    """How many replicas, with those under way, work off what waits by the horizon."""
    start, catch_up = capacity.start_seconds, preset.catch_up.total_seconds()
    horizon = start + catch_up
    needed = held + sure * horizon - capacity.ready * mu * horizon
    more = 0
    for age in sorted(capacity.start_ages, reverse=True):
        if needed <= 0:
            break
        more += 1
        if age < OVERDUE * start:
            needed -= mu * max(0.0, horizon - max(start - age, SOONEST_LANDING))
    if needed > 0:
        more += max(0, math.ceil(needed / (mu * catch_up) - TOLERANCE))
    return capacity.ready + more


def _noted(peaks: Sequence[Peak], replicas: int, now: datetime, window: timedelta) -> list[Peak]:
    """The numbers above `replicas` that were called for within the window, then `replicas` itself.

    The same as before, unless what is called for has changed or something has become too old.
    """
    higher = [one for one in peaks if one.replicas > replicas]
    ended = [one if one.until is not None else one.model_copy(update={"until": now}) for one in higher]
    recent = [one for one in ended if one.until is not None and one.until >= now - window]
    return [*recent, Peak(replicas=replicas)]


def _reason(
    bounds: Scaling,
    figures: Figures,
    capacity: Capacity,
    *,
    rate: float,
    load: float,
    steady: int,
    plan: int,
    kept: int,
    wanted: int,
) -> str:
    """Why it is so many, in words; the figures that it names are those that decided."""
    if wanted > max(steady, plan, kept):
        why = "a gateway has not reported for a minute, so none is given up"
    elif figures.held and wanted == max(plan, steady) and (plan == wanted or not capacity.ready):
        waits = "1 request waits" if figures.held == 1 else f"{figures.held} requests wait"
        why = f"{waits}, and a start takes about {capacity.start_seconds:.0f} s"
    elif wanted > steady:
        why = "the load of the last minutes called for as many"
    elif steady:
        fits = f"{capacity.concurrency:g} fit on a replica"
        beside = " beside those that had waited" if load < figures.running_mean else ""
        why = f"{load:.1f} requests run at once{beside}, {rate:.2f} come each second, {fits}"
    else:
        why = "no request runs, waits or has come lately"
    if wanted > bounds.max_replicas:
        return f"{why}; `max_replicas` is {bounds.max_replicas}"
    if wanted < bounds.min_replicas:
        return f"{why}; `min_replicas` is {bounds.min_replicas}"
    return why
