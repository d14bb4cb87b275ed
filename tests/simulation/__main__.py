"""`make simulate`: many seeds, or one with its trace."""

import argparse
import sys
import time
from collections import Counter

from tests.simulation.chaos import KINDS
from tests.simulation.reached import REACHED, REACHED_WITH_ENDPOINTS
from tests.simulation.seeds import ALL_MUTATIONS, planted, play_all
from tests.simulation.simulator import Outcome, play


def show(outcome: Outcome, *, trace: bool) -> None:
    if trace:
        details = iter([*outcome.details, (len(outcome.trace) + 1, 0, "", "")])
        detail = next(details)
        for place, (at, who, what) in enumerate(outcome.trace):
            while detail[0] <= place:
                print(f"{detail[1] / 1000:9.3f}  {detail[2]:32}      {detail[3]}")
                detail = next(details)
            print(f"{at / 1000:9.3f}  {who:32}  {what}")
    print(f"seed {outcome.seed}: {outcome.summary}; faults: {outcome.rates}; trace {outcome.digest[:16]}")
    for violation in outcome.violations:
        print(f"  VIOLATION {violation}")


def main() -> int:
    """Exit code 1 when a seed showed a violation."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many")
    parser.add_argument("--from", type=int, default=1, dest="first", help="the first one")
    parser.add_argument("--seed", type=int, help="only this one, with its trace")
    parser.add_argument("--stop-after", type=int, default=5, help="violations after which it stops")
    parser.add_argument("--mutation", choices=sorted(ALL_MUTATIONS), help="with this planted bug")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the seeds")
    parser.add_argument("--without", nargs="*", default=(), choices=KINDS, help="kinds of faults that don't happen")
    parser.add_argument("--endpoints", action="store_true", help="seeds with endpoints, gateways and clients")
    given = parser.parse_args()
    if given.seed is None:
        return simulate(given)
    with planted(given.mutation):
        outcome = play(given.seed, detailed=True, without=given.without, endpoints=given.endpoints)
    show(outcome, trace=True)
    return 1 if outcome.violations else 0


def simulate(given: argparse.Namespace) -> int:
    began, bad = time.monotonic(), 0
    came_to: Counter[str] = Counter()
    seeds = range(given.first, given.first + given.seeds)
    outcomes = play_all(seeds, given.jobs, given.mutation, given.without, endpoints=given.endpoints)
    for count, outcome in enumerate(outcomes, 1):
        came_to.update(outcome.reached)
        if outcome.violations:
            bad += 1
            show(outcome, trace=False)
            if bad >= given.stop_after:
                outcomes.close()
                break
        if count % 1000 == 0 or count == given.seeds:
            took = time.monotonic() - began
            print(f"{count} seeds, {bad} with a violation, {took / count * 1000:.0f} ms each", flush=True)
    print("what the seeds came to, and how many of them:")
    for name in (*REACHED, *(REACHED_WITH_ENDPOINTS if given.endpoints else ())):
        print(f"{came_to[name]:8}  {name}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
