"""No node of another deployment is touched, and none of ours before its record gives it up."""

from tests.simulation.oracles.facts import ENDED, TRYING, Machine, Oracle, Record, lifetime_ends
from tests.simulation.oracles.promises import DEFAULT_LIFETIME_MINUTES


class Owners(Oracle):
    def deletion_asked(self, name: str) -> None:
        if name in self.world.neighbours():
            self.world.violated(f"{name} is another deployment's and is to be deleted")
        elif self._is_wanted(name) is not None:
            self.world.violated(f"{name} is to be deleted, which its record has not given up")

    def machine_ended(self, machine: Machine) -> None:
        if machine.name in self.world.neighbours():
            self.world.violated(f"{machine.name} is another deployment's and was deleted")

    def node_told_to_end(self, name: str) -> None:
        record = self._is_wanted(name)
        if record is None or record.phase == "terminating":
            return
        # A lease is whole seconds: in the last one there is nothing left to renew.
        left = (lifetime_ends(record, DEFAULT_LIFETIME_MINUTES) - self.world.now()).total_seconds()
        if left > 1 + self.world.terms.clocks.total_seconds():
            self.world.violated(f"{name} gets the answer to end itself, which its record has not given up")

    def _is_wanted(self, name: str) -> Record | None:
        """The live record whose attempt has that cluster, if it is not given up."""
        for record in self.world.records():
            if record.phase in ENDED or not record.attempts:
                continue
            last = record.attempts[-1]
            if last.cluster_name == name:
                return record if last.state in TRYING else None
        return None
