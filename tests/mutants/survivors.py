"""The mutants that may survive, each with its reason: `survivors.toml`, matched by what changes, not by line."""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.mutants import Mutant

PATH = Path(__file__).with_name("survivors.toml")


@dataclass(frozen=True, kw_only=True)
class Survivor:
    module: str
    function: str
    before: str
    after: str
    reason: str

    def is_of(self, mutant: Mutant) -> bool:
        return (self.module, self.function, self.before, self.after) == mutant.identity


def read(text: str) -> list[Survivor]:
    """The explained survivors.

    Raises:
        TypeError: An entry lacks a value, or has one too many.
    """
    return [Survivor(**entry) for entry in tomllib.loads(text).get("survivor", [])]


def reason_of(mutant: Mutant, explained: Iterable[Survivor]) -> str:
    """Why a mutant may survive; empty where nothing explains it."""
    return next((one.reason for one in explained if one.is_of(mutant)), "")
