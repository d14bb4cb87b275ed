"""Budgets, limits and costs, as a caller meets them.

The seed's launch may cost 38.40 USD at worst: 3.20 an hour, its on-demand offer, for the default twelve hours.
"""

import csv
import io
import logging
from collections import Counter
from collections.abc import Sequence
from datetime import date
from typing import Any

import pytest

from gpulaunch.models.instances import Phase
from shared.billing.gate import LedgerGate
from shared.billing.ledger import AttemptCosts
from shared.control.records import RecordWriter
from shared.domain.costs import micro_usd
from shared.domain.instance import Event, InstanceRecord
from shared.domain.money import Account, Usage
from shared.errors import StaleLedgerError, StoreUnavailableError
from shared.observability.instances import InstanceTelemetry
from shared.storage.base import Booking, IdempotencyEntry
from shared.webhooks.announcements import AlertQueue
from tests.functional.scripted import NodeWorld
from tests.functional.world import READER, SEED, Answer, World, settings
from tests.twins.factories import make_attempt, make_instance_id, make_record

PATH = "/api/instances/launch"


def world_with(**given: str) -> World:
    return World(given=settings(**{f"GPULAUNCH_{name}": value for name, value in given.items()}))


def ask(world: World, key: str | None = None, **changes: Any) -> Answer:
    headers = {"Idempotency-Key": key} if key else {}
    body = {name: value for name, value in (SEED | changes).items() if value is not None}
    return world.call("POST", PATH, body, headers=headers)


def account(world: World, scope: str = "simulation", month: str = "2026-01") -> Account:
    return world.store.ledger().ledger.accounts.get(f"{month}/{scope}", Account())


def costs(world: World, query: str = "") -> Any:
    answer = world.call("GET", f"/api/costs{query}", token=READER)
    assert answer.status == 200, answer.body
    return answer.json


class TestBudget:
    def test_launches_should_be_admitted_until_their_worst_cases_fill_it(self) -> None:
        world = world_with(MONTHLY_BUDGET_USD="100")
        assert [ask(world).status for _ in range(3)] == [202, 202, 402]
        assert account(world) == Account(reserved=76_800_000, alerted=100)

    def test_a_refusal_should_name_the_limit_its_value_what_is_used_and_what_to_do(self) -> None:
        world = world_with(MONTHLY_BUDGET_USD="50")
        world.launch()
        answer = ask(world)
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json["code"] == "budget_exceeded"
        limit = {"name": "GPULAUNCH_MONTHLY_BUDGET_USD", "value": 50, "used": 38.4, "asked": 38.4}
        assert answer.json["limit"] == limit
        assert "budget_usd to 11.60 or less" in answer.json["detail"]
        assert ask(world, budget_usd=11.60).status == 202
        assert ask(world, budget_usd=0.01).status == 402

    def test_a_refused_launch_should_leave_nothing_behind(self) -> None:
        world = world_with(MONTHLY_BUDGET_USD="10")
        assert ask(world, "one").status == 402
        assert list(world.store.live()) == []
        assert world.queues.calls.seen == []
        assert world.store.ledger().ledger.usage == {}
        assert ask(world, "one", budget_usd=10).status == 202  # the key was not used up

    def test_the_end_should_settle_what_was_reserved_once(self) -> None:
        world = world_with(MONTHLY_BUDGET_USD="100")
        instance_id = world.launch()
        world.run(3632)
        assert account(world).reserved == 38_400_000
        world.delete(instance_id)
        world.run(60)
        assert account(world) == Account(reserved=0, spent=806_667)  # 3,630 s on spot since its submission at 2 s
        assert world.store.ledger().ledger.usage == {"simulation": Usage()}
        world.delete(instance_id)
        world.run(600)
        assert account(world).spent == 806_667

    def test_an_ended_record_that_is_written_again_should_not_be_settled_again(self) -> None:
        world = world_with(MONTHLY_BUDGET_USD="100")
        instance_id = world.launch()
        world.delete(instance_id)
        world.run(60)
        ended = world.store.load(instance_id)
        assert ended is not None
        settled = world.store.ledger()
        gate = LedgerGate(world.store, world.adapters.sleep)
        writer = RecordWriter(world.store, gate, AttemptCosts(world.adapters.catalog), InstanceTelemetry())
        writer.write(ended, ended.record.model_copy(update={"log_tail": ["late"]}), [])
        assert world.store.ledger() == settled

    def test_a_launch_ended_before_it_ran_should_give_everything_back(self) -> None:
        world = world_with(MONTHLY_BUDGET_USD="40")
        world.delete(world.launch())
        world.run(120)
        assert account(world) == Account(alerted=80)
        assert ask(world).status == 202

    def test_without_a_budget_or_limit_the_ledger_should_not_be_touched(self) -> None:
        world = world_with()
        world.delete(world.launch())
        world.run(120)
        assert {"ledger", "book"}.isdisjoint(world.store.calls.seen)
        assert world.store.ledger().etag is None

    def test_an_admission_should_be_one_read_and_one_transaction(self) -> None:
        world = world_with(MONTHLY_BUDGET_USD="100")
        world.launch()
        assert world.store.calls.seen == ["ledger", "create"]

    def test_a_lost_race_should_be_run_again_on_the_new_ledger(self) -> None:
        world = world_with(MONTHLY_BUDGET_USD="100")
        for _ in range(5):
            world.store.calls.fail_next("create", StaleLedgerError("somebody else"))
        assert ask(world).status == 202
        assert account(world).reserved == 38_400_000

    def test_a_threshold_should_be_one_line_however_often_the_race_is_lost(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        world = world_with(MONTHLY_BUDGET_USD="40")
        for _ in range(3):
            world.store.calls.fail_next("create", StaleLedgerError("somebody else"))
        assert ask(world).status == 202
        assert [record.getMessage() for record in caplog.records if "80 % of the budget" in record.getMessage()] != []
        assert len([record for record in caplog.records if "% of the budget" in record.getMessage()]) == 1

    def test_a_ledger_that_never_rests_should_be_a_503(self) -> None:
        world = world_with(MONTHLY_BUDGET_USD="100")
        for _ in range(40):
            world.store.calls.fail_next("create", StaleLedgerError("somebody else"))
        answer = ask(world)
        assert (answer.status, answer.json["code"]) == (503, "unavailable")
        assert list(world.store.live()) == []

    def test_a_settlement_that_loses_the_race_should_be_made_good(self) -> None:
        world = world_with(MONTHLY_BUDGET_USD="100")
        instance_id = world.launch()
        world.run(100)
        world.delete(instance_id)
        for _ in range(3):
            world.store.calls.fail_next("commit", StaleLedgerError("somebody else"))
        world.run(120)
        assert world.show(instance_id)["phase"] == "terminated"
        assert account(world).reserved == 0

    def test_an_answer_lost_on_the_way_should_not_reserve_twice(self) -> None:
        world = world_with(MONTHLY_BUDGET_USD="100")
        world.store.calls.fail_next("create", StoreUnavailableError("no answer"), applied=True)
        assert ask(world, "one").status == 503
        assert ask(world, "one").status == 202
        assert account(world).reserved == 38_400_000

    def test_a_replay_should_be_answered_as_before_although_nothing_is_left(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world = world_with(MONTHLY_BUDGET_USD="40")
        first = ask(world, "one")
        assert ask(world, "one").body == first.body
        # Both came at once, and the other took the last of the budget after this one had looked for the key.
        really, early = world.store.idempotency, iter([None, None])

        def looked_too_early(key_hash: str) -> IdempotencyEntry | None:
            return next(early, really(key_hash))

        monkeypatch.setattr(world.store, "idempotency", looked_too_early)
        assert ask(world, "one").body == first.body


class TestAlerts:
    def test_each_threshold_should_be_an_event_and_a_line_in_the_log(self, caplog: pytest.LogCaptureFixture) -> None:
        world = world_with(MONTHLY_BUDGET_USD="192")
        with caplog.at_level(logging.WARNING, "gpulaunch.money"):
            launched = [world.launch() for _ in range(5)]
        told = {
            place: event["data"]["threshold_percent"]
            for place, instance_id in enumerate(launched, 1)
            for event in world.events(instance_id)
            if event["type"] == "alert"
        }
        assert told == {3: 50, 4: 80, 5: 100}  # 115.20, 153.60 and 192.00 of 192.00 USD
        assert [record.getMessage().split(" of the budget")[0] for record in caplog.records] == [
            "50 %",
            "80 %",
            "100 %",
        ]

    @pytest.mark.parametrize("error", [StaleLedgerError("another was first"), StoreUnavailableError("no answer")])
    def test_a_threshold_should_be_told_of_once_its_launch_is_written_and_not_before(
        self, error: Exception, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told: list[Sequence[Event]] = []

        def admitted(queue: AlertQueue, record: InstanceRecord, events: Sequence[Event]) -> None:
            told.append(events)

        monkeypatch.setattr(AlertQueue, "admitted", admitted)
        world = world_with(MONTHLY_BUDGET_USD="60")
        world.store.calls.fail_next("create", error)
        answer = ask(world)
        accepted = answer.status == 202
        assert accepted is isinstance(error, StaleLedgerError)
        assert [len(events) for events in told] == [1] * accepted


class TestHardCap:
    """A budget is really used up when it was lowered under what runs; here: a ledger in which more was spent."""

    def spend(self, world: World, usd: int) -> None:
        found = world.store.ledger()
        key = "2026-01/simulation"
        changed = found.ledger.accounts[key].model_copy(update={"spent": usd * 1_000_000})
        ledger = found.ledger.model_copy(update={"accounts": {**found.ledger.accounts, key: changed}})
        world.store.book(Booking(ledger, found.etag))

    def test_running_instances_should_be_ended_where_that_is_configured(self) -> None:
        world = world_with(MONTHLY_BUDGET_USD="100", BUDGET_ACTION="end")
        running = world.launch()
        world.run(300)
        assert world.show(running)["phase"] == "ready"
        self.spend(world, 100)
        world.run(60)
        shown = world.show(running)
        assert (shown["phase"], shown["ending"]["reason"]) == ("terminated", "budget")
        assert shown["ending"]["message"].startswith("The budget for 2026-01 is spent: 100.")

    def test_one_that_is_ending_already_should_not_be_ended_again(self) -> None:
        world = world_with(MONTHLY_BUDGET_USD="100", BUDGET_ACTION="end")
        world.launch()
        world.run(300)
        self.spend(world, 100)
        world.sweep()
        world.store.calls.seen.clear()
        world.sweep()
        assert {"load", "commit"}.isdisjoint(world.store.calls.seen)

    @pytest.mark.parametrize(("action", "reads"), [("end", 1), ("keep", 0)])
    def test_a_sweep_should_read_the_ledger_once_at_most(self, action: str, reads: int) -> None:
        world = world_with(MONTHLY_BUDGET_USD="500", BUDGET_ACTION=action)
        for _ in range(5):
            world.launch()
        world.run(200)
        world.store.calls.seen.clear()
        world.sweep()
        assert world.store.calls.count("ledger") == reads


class TestLimits:
    @pytest.mark.parametrize(
        ("given", "changes", "name"),
        [
            ({"MAX_INSTANCES": "1"}, {}, "GPULAUNCH_MAX_INSTANCES"),
            ({"MAX_GPUS": "1"}, {}, "GPULAUNCH_MAX_GPUS"),
            (
                {"LABEL_MAX_INSTANCES": '{"team=a": 1}'},
                {"labels": {"team": "a"}},
                "GPULAUNCH_LABEL_MAX_INSTANCES[team=a]",
            ),
            ({"LABEL_MAX_GPUS": "team=a:1"}, {"labels": {"team": "a"}}, "GPULAUNCH_LABEL_MAX_GPUS[team=a]"),
        ],
    )
    def test_one_too_many_at_once_should_be_refused_until_one_has_ended(
        self, given: dict[str, str], changes: dict[str, Any], name: str
    ) -> None:
        world = world_with(**given)
        first = world.launch(**changes)
        refused = ask(world, **changes)
        assert (refused.status, refused.json["code"]) == (403, "limit_reached")
        assert refused.json["limit"] == {"name": name, "value": 1, "used": 1, "asked": 1}
        world.delete(first)
        world.run(120)
        assert ask(world, **changes).status == 202

    def test_a_launch_too_many_in_a_minute_should_be_told_when_to_come_back(self) -> None:
        world = world_with(LAUNCHES_PER_MINUTE="2")
        assert [ask(world).status for _ in range(2)] == [202, 202]
        refused = ask(world)
        assert (refused.status, refused.json["code"]) == (429, "too_many_launches")
        world.clock.advance(int(refused.headers["Retry-After"]))
        assert ask(world).status == 202

    @pytest.mark.parametrize(
        ("given", "name"),
        [
            ({"ALLOWED_REGIONS": "westus,westus2"}, "GPULAUNCH_ALLOWED_REGIONS"),
            ({"ALLOWED_TYPES": "Standard_NC24ads_A100_v4"}, "GPULAUNCH_ALLOWED_TYPES"),
            ({"ALLOWED_GPUS": "H100"}, "GPULAUNCH_ALLOWED_GPUS"),
            ({"ALLOWED_PROVIDERS": "slurm"}, "GPULAUNCH_ALLOWED_PROVIDERS"),
            ({"MAX_LIFETIME_MINUTES": "60"}, "GPULAUNCH_MAX_LIFETIME_MINUTES"),
        ],
    )
    def test_what_is_not_allowed_should_be_refused_by_name(self, given: dict[str, str], name: str) -> None:
        world = world_with(**given)
        refused = ask(world, max_lifetime_minutes=61)
        assert (refused.status, refused.json["code"], refused.json["limit"]["name"]) == (403, "not_allowed", name)
        assert list(world.store.live()) == []


class TestSetUpThatHangs:
    """The machine is billed while SkyPilot sets it up, whether that ever ends or not; PENDING all the while."""

    def world(self) -> NodeWorld:
        world = NodeWorld()
        budget = settings(
            GPULAUNCH_ORCHESTRATOR="skypilot",
            GPULAUNCH_PUBLIC_URL="https://app.example.com",
            GPULAUNCH_MONTHLY_BUDGET_USD="100",
        )
        world.rebuild(settings=budget)
        return world

    def test_its_budget_should_end_it(self) -> None:
        world = self.world()
        instance_id = world.launch(budget_usd=0.2)
        world.run(1200)
        shown = world.show(instance_id)
        assert (shown["phase"], shown["ending"]["reason"]) == ("failed", "budget")
        assert shown["cost_usd"] == pytest.approx(0.2, abs=0.01)  # 0.80 USD an hour for a quarter of it

    def test_the_month_should_pay_for_it(self) -> None:
        world = self.world()
        instance_id = world.launch(spot_fallback=False)
        world.run(1600)
        shown = world.show(instance_id)
        assert (shown["phase"], shown["attempts"][0]["failure"]["reason"]) == ("failed", "provisioning_timeout")
        [entry] = world.store.costs(date(2026, 1, 1))
        spent = micro_usd(0.8, entry.up_at, entry.gone_at)
        assert account(world, "real") == Account(spent=spent)
        assert spent == pytest.approx(800_000 * 1500 / 3600, rel=0.02)
        assert costs(world)["total"]["actual_usd"] == spent / 1e6


class TestCosts:
    """A fleet with an eviction, an offer without room and a failed set-up; times from the simulation's own table.

    Accepted at 09:00 on 31 January, ended at 01:00 on 1 February, 57,600 s later, midnight at 54,000 s. Attempts
    cost from their submission, the first one's is at 2 s.

    | instance | offer | price | submitted | gone | seconds | USD | estimate | on-demand |
    |---|---|---|---|---|---|---|---|---|
    | a | eastus spot, evicted at 7,200 s | 0.80 | 2 | 7,200 | 7,198 | 1.599556 | 1.599556 | 6.398222 |
    | a | eastus on-demand | 3.20 | 7,200 | 57,600 | 50,400 | 44.800000 | 11.200000 | 44.800000 |
    | b | northcentralus spot, no room, so never a machine | 0.96 | 2 | 7 | 0 | 0 | 0 | 0 |
    | b | northcentralus on-demand | 3.84 | 7 | 57,600 | 57,593 | 61.432533 | 15.358133 | 61.432533 |
    | c | eastus spot, set-up failed at 40 s | 0.80 | 2 | 42 | 40 | 0.008889 | 0.008889 | 0.035556 |
    | c | westus spot | 1.04 | 42 | 57,600 | 57,558 | 16.627867 | 12.790667 | 66.511467 |
    | all | | | | | 172,789 | 124.468845 | 40.957245 | 179.177778 |

    The last hour, on 1 February, costs 3.20 + 3.84 + 1.04 = 8.08, the day before the rest.
    """

    def fleet(self) -> World:
        world = world_with(MONTHLY_BUDGET_USD="1000", LABEL_BUDGETS="team=a:100")
        shared: dict[str, Any] = {"max_lifetime_minutes": 1440}
        self.ids = [
            world.launch(labels={"simulate.evict-after": "7118", "team": "a"}, **shared),
            world.launch(labels={"simulate.no-capacity": "1", "team": "b"}, region="northcentralus", **shared),
            world.launch(labels={"simulate.setup-failure": "1"}, region=["eastus", "westus"], **shared),
        ]
        world.run(57_600)
        self.running = costs(world, "?from=2026-01-01&to=2026-02-28")
        for instance_id in self.ids:
            world.delete(instance_id)
        world.run(60)
        assert [world.show(instance_id)["phase"] for instance_id in self.ids] == ["terminated"] * 3
        return world

    def test_a_fleet_with_evictions_and_failovers_should_cost_what_was_computed_by_hand(self) -> None:
        world = self.fleet()
        assert [round(world.show(instance_id)["cost_usd"], 2) for instance_id in self.ids] == [46.40, 61.43, 16.64]

        by_day = costs(world, "?from=2026-01-01&to=2026-02-28")
        assert {day["key"]: day["actual_usd"] for day in by_day["groups"]} == {
            "2026-01-31": 116.388845,
            "2026-02-01": 8.08,
        }
        total = by_day["total"]
        assert total["actual_usd"] == 124.468845
        assert total["estimated_usd"] == 40.957245
        assert total["on_demand_usd"] == 179.177778
        assert total["spot_saving_usd"] == 54.708933  # 4.798667 + 0.026667 + 49.883600
        assert total["node_hours"] == round(172_789 / 3600, 4)
        assert total["simulated_usd"] == total["actual_usd"]
        # While they ran they cost the same: what is booked at the end is what accrued.
        assert (self.running["groups"], self.running["total"]) == (by_day["groups"], total)

        by_label = {group["key"]: group["actual_usd"] for group in costs(world, "?from=2026-01-01&by=label")["groups"]}
        assert (by_label["team=a"], by_label["team=b"]) == (46.399556, 61.432533)
        teams = costs(world, "?from=2026-01-01&by=label&label=team")["groups"]
        assert {group["key"]: group["actual_usd"] for group in teams} == {
            "(none)": 16.636756,
            "a": 46.399556,
            "b": 61.432533,
        }
        for by, key in (("model", SEED["model_name"]), ("provider", "azure")):
            groups = costs(world, f"?from=2026-01-01&by={by}")["groups"]
            assert [(group["key"], group["actual_usd"]) for group in groups] == [(key, 124.468845)]

        # The budgets paid the same, to the micro-USD, all of it in January.
        assert account(world) == Account(spent=124_468_845)
        assert account(world, "simulation/team=a") == Account(spent=46_399_556, alerted=50)
        entries = world.store.costs(date(2026, 1, 1))
        assert Counter(entry.instance_id for entry in entries) == dict(zip(self.ids, (2, 1, 2), strict=True))

    def test_csv_should_have_the_groups_and_add_up(self) -> None:
        world = self.fleet()
        answer = world.call("GET", "/api/costs?from=2026-01-01&format=csv")
        assert answer.headers["Content-Type"] == "text/csv"
        assert answer.headers["Content-Disposition"] == (
            'attachment; filename="gpulaunch-costs-2026-01-01-2026-02-01-by-day.csv"'
        )
        rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
        assert [row["day"] for row in rows] == ["2026-01-31", "2026-02-01"]
        assert round(sum(float(row["actual_usd"]) for row in rows), 6) == 124.468845

    def test_only_the_days_asked_for_should_count(self) -> None:
        world = self.fleet()
        assert costs(world)["total"]["actual_usd"] == 8.08  # from the first of the present month
        assert costs(world, "?from=2026-01-31&to=2026-01-31")["total"]["actual_usd"] == 116.388845
        assert costs(world, "?from=2026-01-01&to=2026-01-30")["groups"] == []

    def test_budgets_should_be_shown_as_they_stand(self) -> None:
        world = world_with(MONTHLY_BUDGET_USD="100", LABEL_BUDGETS="team=a:50")
        assert [(view["mode"], view["label"], view["left_usd"]) for view in costs(world)["budgets"]] == [
            ("real", None, 100),
            ("real", "team=a", 50),
        ]
        world.launch(labels={"team": "a"})
        found = {(view["mode"], view["label"]): view for view in costs(world)["budgets"]}
        assert found["simulation", "team=a"] == {
            "month": "2026-01",
            "mode": "simulation",
            "label": "team=a",
            "budget_usd": 50,
            "spent_usd": 0,
            "reserved_usd": 38.4,
            "left_usd": 11.6,
        }

    def test_without_anything_there_should_be_nothing(self) -> None:
        world = world_with()
        answer = costs(world)
        assert (answer["first_day"], answer["last_day"]) == ("2026-01-01", "2026-01-31")
        assert (answer["groups"], answer["budgets"], answer["total"]["actual_usd"]) == ([], [], 0)


def test_a_node_that_is_taken_over_should_count_against_the_limits_and_not_against_the_rate() -> None:
    world = world_with(MAX_INSTANCES="2", LAUNCHES_PER_MINUTE="1")
    taken = make_record(instance_id=make_instance_id(), phase=Phase.READY, attempts=[make_attempt()])
    world.app.adopter.admission.take(taken, [])
    assert ask(world).status == 202
    world.run(61)
    refused = ask(world)
    assert (refused.status, refused.json["limit"]["name"]) == (403, "GPULAUNCH_MAX_INSTANCES")
