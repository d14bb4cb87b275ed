"""Money and what is counted: the workspace's ledger, an instance's reservation, and what each attempt has cost.

Amounts are whole micro-USD, so that sums are exact. A scope says what is counted together: a mode alone (`real`,
`simulation`), or a mode and a label (`real/team=a`); simulated money never mixes with real money.
"""

from datetime import date

from gpulaunch.models.base import Kept, UtcTime

MICRO = 1_000_000
"""Micro-USD in one USD."""


class Reservation(Kept):
    """What an instance holds of the ledger from its acceptance to its end; part of its record."""

    month: str
    """`2026-11`, UTC: the month of acceptance, to which all of its cost is booked."""
    scopes: tuple[str, ...]
    """The mode's scope and one for each of its labels that had a budget or a limit when it was accepted."""
    micro_usd: int
    """What it may cost at worst."""
    gpus: int


class Account(Kept):
    """The money of one scope in one month."""

    reserved: int = 0
    """What live instances may still cost at worst, micro-USD."""
    spent: int = 0
    """What ended instances have cost, micro-USD."""
    alerted: int = 0
    """The highest threshold, in percent, of which an alert has told."""

    def add(self, *, reserved: int = 0, spent: int = 0) -> "Account":
        """More money reserved or spent; not less than none is reserved, as an operator may delete the ledger's row."""
        return self.model_copy(update={"reserved": max(0, self.reserved + reserved), "spent": self.spent + spent})


class Usage(Kept):
    """What the live instances of one scope hold."""

    instances: int = 0
    gpus: int = 0

    def add(self, instances: int, gpus: int) -> "Usage":
        return self.model_copy(
            update={"instances": max(0, self.instances + instances), "gpus": max(0, self.gpus + gpus)}
        )


class Ledger(Kept):
    """Everything that admissions compete for; one row, so that one ETag decides."""

    accounts: dict[str, Account] = {}
    """By `<month>/<scope>`."""
    usage: dict[str, Usage] = {}
    """By scope."""
    launched: tuple[UtcTime, ...] = ()
    """When the launches of the last minute were accepted; kept only where their rate is limited."""


class CostEntry(Kept):
    """What one attempt has cost: written once, when nothing is left of it."""

    instance_id: str
    attempt: int
    mode: str
    provider: str
    region: str
    instance_type: str | None
    gpu: str
    gpu_count: int
    use_spot: bool
    model_name: str
    labels: dict[str, str]
    up_at: UtcTime
    """From when on it was counted: the machine's creation, or the submission where that is not known."""
    gone_at: UtcTime
    price_per_hour: float
    """The price really paid, USD for the whole node."""
    planned_per_hour: float
    """The price of the first planned offer, which the estimate was made of."""
    on_demand_per_hour: float | None
    """The on-demand price of the same machine in the same region at that time; None: none is known."""

    @property
    def day(self) -> date:
        """The day of its end, UTC, under which it is stored."""
        return self.gone_at.date()
