"""Attempts and recoveries are bounded: by round, by offer, by lifetime; and what is hopeless is not tried again."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.simulation.oracles.facts import ENDED, Attempt, Event, Oracle, Record, World, name
from tests.simulation.oracles.promises import HOPELESS, LATER, SAME_OFFER, SAME_OFFER_REASONS


@dataclass
class _Story:
    recoveries: int = 0
    offers: list[str] = field(default_factory=list[str])
    """Keys of the offers tried in this round, in order; another try of the same one follows it at once."""
    turns: int = 0
    tries: int = 0
    """Of the offer that is tried now."""


class Rounds(Oracle):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._stories: dict[str, _Story] = {}

    def changed(self, before: Record, record: Record, events: Sequence[Event]) -> None:
        story = self._stories.setdefault(record.instance_id, _Story())
        if record.phase == "recovering" and before.phase != "recovering":
            story.recoveries += 1
            story.offers, story.turns, story.tries = [], 0, 0
            if story.recoveries > self.world.terms.recoveries:
                self.world.violated(f"{name(record)} recovers {story.recoveries} times")
        for attempt in record.attempts[len(before.attempts) :]:
            self._begun(before, record, story, attempt)
        self._shows_reasons(record)

    def _begun(self, before: Record, record: Record, story: _Story, attempt: Attempt) -> None:
        # With the reason as it stood when the next one was begun: a later version may know it by another name since.
        last = next((one for one in (*before.attempts, *record.attempts) if one.number == attempt.number - 1), None)
        why = last.failure.reason if last is not None and last.failure is not None else ""
        if why in HOPELESS:
            self.world.violated(f"{name(record)} tries again after {why}")
        again = bool(story.offers) and story.offers[-1] == attempt.offer.key and why in SAME_OFFER_REASONS
        story.offers.append(attempt.offer.key)
        if again and story.tries < SAME_OFFER:
            story.tries += 1
        elif again and any(one.failure is not None and one.failure.reason in LATER for one in before.attempts):
            story.tries = 1  # what a later version has renamed meanwhile no longer counts as another try of the offer
        else:
            story.turns, story.tries = story.turns + 1, 1
        most = min(self.world.terms.attempts_per_round, len(record.offers))
        if story.turns > most:
            self.world.violated(f"{name(record)} tries {story.turns} offers in a round of {most}: {story.offers}")

    def _shows_reasons(self, record: Record) -> None:
        """Whatever is over says why, so that nothing ends for no reason that is shown."""
        for attempt in record.attempts[:-1]:
            if attempt.failure is None or not attempt.failure.message:
                self.world.violated(f"{name(record)}: attempt {attempt.number} is over and nothing says why")
        if record.phase in ENDED and (record.ending is None or not record.ending.message):
            self.world.violated(f"{name(record)} ended and nothing says why")
