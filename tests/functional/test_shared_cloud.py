"""Two deployments with default settings on one Azure subscription and one SkyPilot server, for a day.

Whatever happens to the nodes and to a table, no deployment asks for the end of another's machine, and none leaves one
of its own behind: judged by what Azure and SkyPilot were asked for, not by what the deployments say.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest

from shared import app as runtime
from shared.domain.instance import cluster_prefix
from tests.functional.shared_cloud import FAILS, Deployed, SharedCloud
from tests.standins.sky_server import FULL, SkyServer
from tests.twins.clock import START
from tests.twins.store import MemoryInstanceStore

MINUTE, HOUR = 60.0, 3600.0
FATES = ("lifetime", "deleted", "evicted", "lifetime", "deleted", "fails", "full", "vanishes")
LATE = timedelta(minutes=6)
"""From the moment when a machine has to go until it has gone: a sweep, SkyPilot's 20 s, Azure's 45 s, their tries."""
SEEN = timedelta(minutes=15)
"""From a machine's start, or from the loss of its record, until the reports of garbage show it."""
PLENTY: dict[str, tuple[int, int]] = dict.fromkeys(
    ("cores", "lowPriorityCores", "virtualMachines", "StandardNVADSA10v5Family"), (0, 1000)
)
A_DAY = (24, 40)
pytestmark = pytest.mark.timeout(1200)


@dataclass
class Wish:
    """What a user wants of one launch, and what becomes of its first node."""

    fate: str
    lifetime: int
    happens: float
    """Minutes from the launch to its deletion, or to what ends its first node."""
    instance_id: str = ""
    launched_at: datetime = START
    deleted_at: datetime | None = None

    @property
    def deadline(self) -> datetime:
        return self.launched_at + timedelta(minutes=self.lifetime)

    @property
    def first(self) -> str:
        return f"{cluster_prefix(self.instance_id)}01"


@dataclass
class Users:
    """The users of one deployment, who launch so many instances over so many hours."""

    cloud: SharedCloud
    world: Deployed
    wishes: list[Wish] = field(default_factory=list[Wish])

    def plan(self, hours: float, launches: int) -> None:
        chance = Random(self.world.name)
        between = (hours - 3.5) * HOUR / launches
        for number in range(launches):
            wish = Wish(FATES[number % len(FATES)], chance.randrange(60, 170), chance.randrange(20, 55))
            self.cloud.after(between * (number + chance.random()), lambda wish=wish: self.launch(wish))

    def launch(self, wish: Wish) -> None:
        runtime.use(self.world.app)
        labels = {"fails": {FAILS: "yes"}, "full": {FULL: "yes"}}.get(wish.fate, {})
        wish.instance_id = self.world.launch(max_lifetime_minutes=wish.lifetime, labels=labels)
        wish.launched_at = self.cloud.clock.now()
        self.wishes.append(wish)
        self.cloud.after(wish.happens * MINUTE, lambda: self._befall(wish))

    def _befall(self, wish: Wish) -> None:
        runtime.use(self.world.app)
        match wish.fate:
            case "deleted" if self.world.delete(wish.instance_id).status == 202:
                wish.deleted_at = self.cloud.clock.now()
            case "evicted":
                self.cloud.evict(wish.first)
            case "vanishes":
                self.cloud.vanish(wish.first)
            case _:
                return

    def forget(self, since: datetime) -> None:
        """The table is that of an earlier time: what was deleted since then was not."""
        for wish in self.wishes:
            if wish.deleted_at is not None and wish.deleted_at >= since:
                wish.deleted_at = None


@dataclass
class Town:
    """Two deployments and their users; what happens to a table happens to the first one's."""

    cloud: SharedCloud
    hours: int
    launches: int
    strangers: set[str] = field(default_factory=set[str])
    """Clusters of the first deployment from before it got another identity."""

    def __post_init__(self) -> None:
        self.users = [Users(self.cloud, self.cloud.deploy(name)) for name in ("one", "two")]
        self.mine, self.other = self.cloud.worlds
        for users in self.users:
            users.plan(self.hours, self.launches)

    def live(self, hours: float) -> None:
        """Let hours pass, and judge once an hour."""
        for _ in range(round(hours)):
            self.cloud.run(HOUR)
            self.judge()

    def recorded(self) -> set[str]:
        """Clusters of all attempts in the first deployment's table."""
        runtime.use(self.mine.app)
        shown = self.mine.call("GET", "/api/instances?page_size=200").json["instances"]
        shown = [self.mine.show(one["instance_id"]) for one in shown]
        return {attempt["cluster_name"] for one in shown for attempt in one["attempts"]}

    def judge(self) -> None:
        cloud = self.cloud
        assert [one for one in cloud.deletions if one.by not in ("node", cloud.owners[one.cluster])] == []
        assert [one for one in cloud.deletions if one.cluster in self.strangers and one.by != "node"] == []
        for one, neighbour in ((self.mine, self.other), (self.other, self.mine)):
            foreign = reported(one, "foreign")
            assert {cloud.owners[name] for name in foreign - self.strangers} <= {neighbour.name}
            assert self._seen(neighbour.own()) <= foreign
        recorded, waiting = self.recorded(), reported(self.mine, "waiting")
        lost = self.mine.own() - recorded
        assert self._seen(lost & self.strangers) <= reported(self.mine, "foreign")
        assert self._seen(lost - self.strangers) <= waiting
        assert {cloud.owners[name] for name in waiting} <= {"one"}
        assert waiting & recorded == set()
        assert reported(self.other, "waiting") == set()

    def _seen(self, clusters: set[str]) -> set[str]:
        return {name for name in clusters if self.cloud.started[name] < self.cloud.clock.now() - SEEN}

    def judge_ends(self) -> None:
        """Every machine has gone when it had to, and none before."""
        for users in self.users:
            runtime.use(users.world.app)
            for wish in users.wishes:
                answer = users.world.call("GET", f"/api/instances/{wish.instance_id}")
                if answer.status == 404:
                    continue
                assert answer.json["phase"] in ("terminated", "failed"), answer.json
                for attempt in answer.json["attempts"]:
                    self._judge_end(wish, attempt)

    def _judge_end(self, wish: Wish, attempt: Any) -> None:
        ended, due = self.cloud.ended.get(attempt["cluster_name"]), wish.deleted_at or wish.deadline
        if ended is None:
            assert wish.fate == "full", (wish, attempt)
            return
        assert ended <= due + LATE, (wish, attempt, ended)
        # A restored table does not know what had befallen a node before its deadline passed.
        befell = wish.fate in ("evicted", "vanishes") and attempt["cluster_name"] == wish.first
        assert befell or attempt["failure"] is not None or ended >= due, (wish, attempt, ended)


def reported(world: Deployed, what: str) -> set[str]:
    runtime.use(world.app)
    return {node["cluster_name"] for node in world.call("GET", "/api/garbage").json[what]}


def health(world: Deployed) -> Any:
    runtime.use(world.app)
    return world.call("GET", "/api/health").json


@pytest.fixture
def cloud() -> Iterator[SharedCloud]:
    with SkyServer() as server:
        made = SharedCloud(server)
        made.manager.usages["eastus"] = dict(PLENTY)
        yield made
        runtime.use(None)
        assert made.manager.unknown == []
        for world in made.worlds:
            world.close()
            assert world.errors == []


@pytest.mark.parametrize(("hours", "launches"), [(3, 5), pytest.param(*A_DAY, marks=pytest.mark.slow)])
def test_two_deployments_should_end_their_own_nodes_alone(cloud: SharedCloud, hours: int, launches: int) -> None:
    town = Town(cloud, hours, launches)
    town.live(hours)
    assert [len(users.wishes) for users in town.users] == [launches] * 2
    town.judge_ends()
    assert cloud.left() == set()
    assert [health(world)["status"] for world in cloud.worlds] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("table", "hours", "launches"),
    [
        ("restored", 5, 5),
        pytest.param("restored", *A_DAY, marks=pytest.mark.slow),
        pytest.param("emptied", *A_DAY, marks=pytest.mark.slow),
    ],
)
def test_nodes_that_a_table_has_lost_should_run_until_they_are_confirmed(
    cloud: SharedCloud, table: str, hours: int, launches: int
) -> None:
    town = Town(cloud, hours, launches)
    mine, users = town.mine, town.users[0]
    town.live(hours // 4)
    copied_at = cloud.clock.now()
    backup = mine.copy_of_table() if table == "restored" else MemoryInstanceStore()
    wishes = [Wish("lasts", 60 * hours, 0) for _ in range(2)]
    for wish in wishes:
        users.launch(wish)
    lasting = {wish.first for wish in wishes}
    town.live(1)

    mine.store = backup
    mine.rebuild(store=backup)
    users.forget(copied_at)
    lost = mine.own() - town.recorded()
    assert lasting <= lost
    town.live(2)
    assert lasting <= mine.own()
    assert (health(mine)["status"], health(town.other)["status"]) == ("degraded", "ok")
    early = [one for one in cloud.deletions if one.cluster in lost and one.at < cloud.deadlines[one.cluster]]
    assert early == []

    waiting = reported(mine, "waiting")
    assert lasting <= waiting <= lost
    before = len(cloud.deletions)
    assert mine.call("POST", "/api/garbage/confirm", {"clusters": sorted(waiting)}).status == 200
    cloud.run(SEEN.total_seconds())
    assert waiting & cloud.left() == set()
    assert {one.cluster for one in cloud.deletions[before:]} & lost == waiting
    town.live(hours - hours // 4 - 3)
    town.judge_ends()
    assert cloud.left() == set()
    assert [health(world)["status"] for world in cloud.worlds] == ["ok", "ok"]


def test_nodes_of_a_lost_identity_should_run_to_their_deadline(
    cloud: SharedCloud, caplog: pytest.LogCaptureFixture
) -> None:
    """An app that is pointed at a new storage account knows none of its nodes, and takes them for another one's."""
    town = Town(cloud, 4, 4)
    mine = town.mine
    wish = Wish("lasts", 210, 0)
    town.users[0].launch(wish)
    lasting = wish.first
    town.live(1)
    town.strangers = set(mine.own())
    mine.restart(MemoryInstanceStore())
    assert lasting in town.strangers
    town.live(2)
    assert lasting in mine.own()
    assert lasting in reported(mine, "foreign")
    assert lasting in reported(town.other, "foreign")
    told = [line for line in caplog.messages if "another table launched them" in line]
    assert sum(lasting in line for line in told) == 1
    town.live(1)
    assert lasting not in mine.own()
