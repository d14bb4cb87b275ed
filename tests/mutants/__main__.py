"""`make mutations`: change the deciding rooms in one place at a time, and see whether a test notices."""

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Iterable

from tests.mutants.coverage import CACHE, FOLDERS, measure
from tests.mutants.mutants import PURE, SHELL, Mutant, Mutations
from tests.mutants.runner import Result, run, trial
from tests.mutants.survivors import PATH, Survivor, read, reason_of

WANTED = {"pure": 0.95, "shell": 0.90}
"""Share of the mutants that a test must find."""
_LAST = CACHE / "survived.json"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.mutants", description=__doc__)
    parser.add_argument("--sample", type=int, default=600, help="how many mutants are tried; 0: all")
    parser.add_argument("--seed", type=int, default=1, help="which ones")
    parser.add_argument(
        "--only", nargs="+", default=[""], help="only those of modules whose path contains one of these"
    )
    parser.add_argument("--tests", nargs="+", default=FOLDERS, help="only the tests of these folders")
    parser.add_argument("--again", action="store_true", help="only those that survived the last run")
    chosen = parser.parse_args(arguments)
    mutations = Mutations((*PURE, *SHELL))
    mutants = _again(mutations) if chosen.again else _sample(mutations, chosen.only, chosen.sample, chosen.seed)
    covered = measure(chosen.tests)
    explained = read(PATH.read_text("utf-8"))
    results: list[Result] = []
    for result in run(trial(mutant, *mutations.sources(mutant.place), covered) for mutant in mutants):
        results.append(result)
        _show(result, len(results), len(mutants), explained)
    survived = [one.mutant for one in results if not one.found]
    _LAST.write_text(json.dumps([mutant.identity for mutant in survived]), "utf-8")
    failed = _report(results, explained)
    if len(results) < len(mutants):
        print(f"{len(mutants) - len(results)} mutants were not tried: a process of tests ended early", file=sys.stderr)
        failed = 1
    return failed


def _sample(mutations: Mutations, only: Iterable[str], size: int, seed: int) -> list[Mutant]:
    """A seeded sample, the pure rooms first."""
    places = [place for place in mutations.places() if any(one in place.module for one in only)]
    random.Random(seed).shuffle(places)
    found: list[Mutant] = []
    for place in places:
        mutant = mutations.mutant(place)
        if mutant is not None:
            found.append(mutant)
            if len(found) == size:
                break
    rooms = (*PURE, *SHELL)
    return sorted(found, key=lambda mutant: rooms.index(mutant.room))


def _again(mutations: Mutations) -> list[Mutant]:
    wanted = {tuple(identity) for identity in json.loads(_LAST.read_text("utf-8"))}
    modules = {identity[0] for identity in wanted}
    made = (mutations.mutant(place) for place in mutations.places() if place.module in modules)
    return [mutant for mutant in made if mutant is not None and mutant.identity in wanted]


def _show(result: Result, number: int, count: int, explained: Iterable[Survivor]) -> None:
    if result.found:
        how = "hangs" if result.outcome == "late" else result.by
        print(f"{number}/{count} found in {result.seconds:.1f} s: {result.mutant.module}: {how}", flush=True)
        return
    reason = reason_of(result.mutant, explained)
    print(f"{number}/{count} {result.outcome.upper()} {result.mutant}\n  {reason or 'unexplained'}", flush=True)


def _report(results: list[Result], explained: list[Survivor]) -> int:
    print("\nSurvivors without an explanation, as entries of tests/mutants/survivors.toml:\n")
    for one in results:
        if not one.found and not reason_of(one.mutant, explained):
            module, function, before, after = one.mutant.identity
            pairs = {"module": module, "function": function, "before": before, "after": after, "reason": ""}
            print("\n".join(["[[survivor]]", *(f"{key} = {json.dumps(value)}" for key, value in pairs.items())]), "\n")
    tried, found = Counter(one.mutant.room for one in results), Counter(one.mutant.room for one in results if one.found)
    why = Counter(one.mutant.room for one in results if not one.found and reason_of(one.mutant, explained))
    print(f"{'room':<20} {'mutants':>8} {'found':>8} {'explained':>10} {'score':>8}")
    failed = False
    for name, rooms in {"pure": PURE, "shell": SHELL}.items():
        for room in rooms:
            print(f"{room:<20} {tried[room]:>8} {found[room]:>8} {why[room]:>10} {_share(found[room], tried[room]):>8}")
        all_tried, all_found = sum(tried[room] for room in rooms), sum(found[room] for room in rooms)
        explained_here = sum(why[room] for room in rooms)
        print(f"{name:<20} {all_tried:>8} {all_found:>8} {explained_here:>10} {_share(all_found, all_tried):>8}")
        if all_found < WANTED[name] * all_tried:
            print(f"{name}: below {WANTED[name]:.0%}", file=sys.stderr)
            failed = True
    return int(failed)


def _share(found: int, tried: int) -> str:
    return f"{found / tried:.1%}" if tried else "-"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
