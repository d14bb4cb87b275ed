"""Many launches at once against one budget on a real table: as many as fit are admitted, and each gets its answer."""

import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from uuid import uuid4

import pytest

from devhost.azurite import Azurite
from gpulaunch.models.instances import EventType
from gpulaunch.models.requests import LaunchRequest
from shared.adapters import Adapters
from shared.app import compose
from shared.domain.errors import AdmissionRefusedError
from shared.domain.money import Account, Usage
from shared.settings import Settings
from shared.storage.base import readable
from shared.storage.connect import ensure, queue_service, table_client
from shared.storage.tables import TableInstanceStore
from tests.functional.world import SEED, World
from tests.functional.world import settings as settings_with

PROCESSES = 4
"""Each has a client, a lock and threads of its own, as the app's processes have; they meet at the ledger's ETag."""
LAUNCHES = 200
ACCEPTED = "accepted"
ROOM = 50
WORST = 38_400_000
"""Micro-USD that the seed's launch may cost at worst."""


@dataclass(frozen=True)
class Outcome:
    admitted: int
    refused: Counter[str]
    seconds: float


def connection(azurite: Azurite) -> Settings:
    return Settings.model_validate(
        {"AzureWebJobsStorage": azurite.connection_string, "AZURE_FUNCTIONS_ENVIRONMENT": "Development"}
    )


@contextmanager
def processes(azurite: Azurite, given: Settings) -> Generator[list[Adapters]]:
    """The adapters of several processes on one new workspace."""
    workspace = f"race-{uuid4().hex[:12]}"
    with ExitStack() as closing:
        tables = [closing.enter_context(table_client(connection(azurite))) for _ in range(PROCESSES)]
        yield [
            replace(World(given=given).adapters, store=TableInstanceStore(table, workspace), sleep=time.sleep)
            for table in tables
        ]


def race(made: list[Adapters]) -> Outcome:
    """All launches at the same moment, spread over the processes."""
    gate = threading.Barrier(LAUNCHES)
    launchers = [compose(one).launcher for one in made]
    request = LaunchRequest.model_validate(SEED)

    def one(number: int) -> str:
        gate.wait(30)
        try:
            launchers[number % PROCESSES].launch(request)
        except AdmissionRefusedError as error:
            return error.refusal.code
        return ACCEPTED

    began = time.monotonic()
    with ThreadPoolExecutor(LAUNCHES) as pool:
        answers = Counter(pool.map(one, range(LAUNCHES)))
    return Outcome(answers.pop(ACCEPTED, 0), answers, time.monotonic() - began)


def check(azurite: Azurite) -> Outcome:
    """One run: exactly as many are admitted as the budget has room for, and the table says the same."""
    given = settings_with(GPULAUNCH_MONTHLY_BUDGET_USD=str(ROOM * WORST / 1e6))
    with processes(azurite, given) as made:
        outcome = race(made)
        assert (outcome.admitted, outcome.refused) == (ROOM, Counter({"budget_exceeded": LAUNCHES - ROOM}))
        store = made[0].store
        live = [found.record for found in readable(store.live())]
        assert len(live) == ROOM
        ledger = store.ledger().ledger
        assert ledger.accounts == {"2026-01/simulation": Account(reserved=ROOM * WORST, alerted=100)}
        assert ledger.usage == {"simulation": Usage(instances=ROOM, gpus=ROOM)}
        alerts = [
            event.data.get("threshold_percent", 0)
            for record in live
            for event in store.events(record.instance_id)
            if event.type is EventType.ALERT
        ]
        assert sorted(alerts) == [50, 80, 100]
    return outcome


@pytest.fixture(scope="module")
def storage(azurite: Azurite) -> Iterator[Azurite]:
    ensure(table_client(connection(azurite)), queue_service(connection(azurite)), [])
    yield azurite


def test_of_two_hundred_launches_at_once_exactly_fifty_should_be_admitted(storage: Azurite) -> None:
    for _ in range(2):
        check(storage)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_exactly_fifty_should_be_admitted_in_every_one_of_twenty_runs(
    storage: Azurite, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = [check(storage) for _ in range(20)]
    with capsys.disabled():
        print(f"\nadmitted: {[one.admitted for one in outcomes]}, seconds: {[round(o.seconds, 1) for o in outcomes]}")
