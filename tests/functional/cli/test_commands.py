"""Every command against the real functions: what it prints for people and for programs, and how it ends."""

import json
import re
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, cast

import pytest
import typer
from rich.console import Console
from typer.core import TyperGroup
from typer.testing import CliRunner

from gpulaunch import GpuLaunch
from gpulaunch.cli.app import app
from gpulaunch.cli.exits import Exit
from gpulaunch.cli.session import Session
from gpulaunch.cli.watch import Watch
from gpulaunch.models.instances import STARTING, Phase
from gpulaunch.models.offers import Offer
from gpulaunch.models.requests import Job, LaunchRequest
from shared.clouds.base import CloudCompute
from shared.domain.instance import cluster_name
from shared.domain.provider import ProviderUnavailableError
from shared.domain.quota import QuotaNeed, QuotaUsage, RegionUsage
from tests.contract.test_unreadable_rows import later_phase
from tests.functional.cli.conftest import ADDRESS, Terminal, WorldTime, WorldTransport
from tests.functional.scripted import NodeWorld
from tests.functional.test_adopt import listed, restore, saved
from tests.functional.test_bad_rows import document_with
from tests.functional.world import ADMIN, READER, World, settings
from tests.twins.clock import START

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
NOBODY = "inst-" + "0" * 26


def test_a_launch_should_print_what_was_planned_and_how_to_go_on(gpulaunch: Terminal, world: World) -> None:
    result = gpulaunch("launch", MODEL, "--instance-type", "Standard_NV36ads_A10_v5", "--region", "eastus")
    (instance_id,) = re.findall(r"^inst-\w{26}", result.stdout, re.MULTILINE)
    assert result.exit_code == Exit.OK
    assert result.stdout.splitlines()[:4] == [
        "GPU instance launch initiated (SIMULATION)",
        f"{instance_id}  simulation: GPULAUNCH_ORCHESTRATOR is set to simulation.",
        "  1. spot Standard_NV36ads_A10_v5 (A10) in azure/eastus, $0.80/h",
        "  2. on-demand Standard_NV36ads_A10_v5 (A10) in azure/eastus, $3.20/h",
    ]
    assert result.stdout.splitlines()[-1] == f"Watch it: gpulaunch watch {instance_id}"
    assert world.show(instance_id)["phase"] == "queued"


def test_every_field_of_a_launch_should_have_an_option_that_arrives(
    gpulaunch: Terminal, transport: WorldTransport, tmp_path: Path
) -> None:
    (tmp_path / "chat.jinja").write_text("{{ messages }}\n")
    answer = gpulaunch.json(
        "launch", MODEL, "--provider", "azure", "--region", "eastus", "--region", "westus2", "--gpu", "A10",
        "--no-use-spot", "--no-spot-fallback", "--model-source", "hf://a/b", "--max-hourly-cost", "9.5",
        "--max-lifetime-minutes", "60", "--idle-minutes", "10", "--budget-usd", "5", "--vllm-arg=--max-model-len=8192",
        "--vllm-arg=--dtype", "--vllm-arg", "half", "--label", "team=x", "--label", "empty=", "--name", "mine",
        "--job", "python 'my batch.py'", "--job-timeout-minutes", "5",
        "--disk-size", "500", "--force", "--chat-template", str(tmp_path / "chat.jinja"),
    )  # fmt: skip
    expected: dict[str, Any] = {
        "model_name": MODEL,
        "provider": "azure",
        "region": ["eastus", "westus2"],
        "gpu": "A10",
        "use_spot": False,
        "spot_fallback": False,
        "model_source": "hf://a/b",
        "max_hourly_cost": 9.5,
        "max_lifetime_minutes": 60,
        "idle_minutes": 10,
        "budget_usd": 5.0,
        "vllm_args": ["--max-model-len=8192", "--dtype", "half"],
        "labels": {"team": "x", "empty": ""},
        "name": "mine",
        "chat_template": "{{ messages }}\n",
        "disk_size": 500,
        "force": True,
        "job": {"command": ["python", "my batch.py"], "timeout_minutes": 5},
    }
    assert transport.bodies("POST") == [expected]
    assert set(expected) | {"instance_type"} == set(LaunchRequest.model_fields)
    assert set(expected["job"]) == set(Job.model_fields)
    assert {offer["use_spot"] for offer in answer["offers"]} == {False}


def test_missing_options_should_be_left_to_the_app(gpulaunch: Terminal, transport: WorldTransport) -> None:
    gpulaunch.json("launch", MODEL, "--gpu", "A10")
    assert transport.bodies("POST") == [{"model_name": MODEL, "gpu": "A10"}]


def test_wrong_fields_should_be_listed_by_option_with_the_nearest_values(gpulaunch: Terminal) -> None:
    result = gpulaunch("launch", MODEL, "--gpu", "A1O", "--region", "eastsu")
    assert result.exit_code == Exit.USAGE
    assert result.stdout == ""
    assert "error: The request has invalid fields" in result.stderr
    assert re.search(r"^  --gpu: .* Nearest: A10\.$", result.stderr, re.MULTILINE)
    assert re.search(r"^  --region: .* Nearest: eastus", result.stderr, re.MULTILINE)
    told = json.loads(gpulaunch("launch", MODEL, "--gpu", "A1O", "--json").stderr)["error"]
    assert (told["code"], told["status"], told["exit_code"]) == ("invalid_request", 422, 2)
    assert told["errors"][0]["nearest"] == ["A10"]


@pytest.mark.parametrize(
    "words",
    [
        ["launch"],
        ["launch", MODEL, "--gpu", "A10", "--label", "nothing"],
        ["launch", MODEL, "--gpu", "A10", "--job", "it's"],
        ["launch", MODEL, "--gpu", "A10", "--job-timeout-minutes", "5"],
        ["launch", MODEL, "--provider", "mars"],
        ["ls", "--phase", "sleeping"],
        ["ls", "--limit", "0"],
        ["terminate"],
        ["terminate", NOBODY],
        ["terminate", NOBODY, "--json"],
        ["nonsense"],
        ["launch", MODEL, "--token", "x"],
    ],
)
def test_wrong_usage_should_send_nothing(gpulaunch: Terminal, transport: WorldTransport, words: list[str]) -> None:
    assert gpulaunch(*words).exit_code == Exit.USAGE
    assert transport.sent == []


def test_a_watched_launch_should_print_every_phase_and_why_an_attempt_failed(gpulaunch: Terminal) -> None:
    result = gpulaunch("launch", MODEL, "--gpu", "A10", "--watch", "--label", "simulate.no-capacity=1")
    assert result.exit_code == Exit.OK, result.output
    assert "Simulated: no capacity for this offer. (no_capacity) [after 5 s]" in result.stdout
    phases = re.findall(r"^\d\d:\d\d:\d\d  \+.{12}  (\w+)", result.stdout, re.MULTILINE)
    assert list(dict.fromkeys(phases)) == [phase.value for phase in (*STARTING, Phase.READY)]
    assert re.search(r"^ready after 1 m 27 s: https://simulated-", result.stdout, re.MULTILINE)


@pytest.mark.parametrize("width", [80, 120])
def test_the_bars_should_show_phases_attempts_and_bytes(world: World, transport: WorldTransport, width: int) -> None:
    time, written = WorldTime(world), StringIO()
    terminal = Console(file=written, force_terminal=True, width=width, color_system=None, legacy_windows=False)
    session = Session(transport=transport, sleep=time.sleep, clock=time.clock, now=time.now, out=terminal)
    session.gpu = GpuLaunch(ADDRESS, ADMIN, transport=transport, sleep=time.sleep, clock=time.clock)
    instance_id = world.launch(labels={"simulate.no-capacity": "1"})
    watch = Watch(session, instance_id)

    def screen() -> list[str]:
        watch.changed(session.gpu.get(instance_id))
        written.seek(written.truncate(0))
        terminal.print(watch)
        return [re.sub("━+[╸╺]?━*|╺━+", "━", line).strip() for line in written.getvalue().splitlines()]

    world.run(20)
    rows = screen()
    assert rows[1].split() == ["✓", "validating", "━", "2", "s", "about", "2", "s"]
    assert rows[2].split()[1:] == ["provisioning", "━", "18", "s", "about", "30", "s"]
    assert rows[3].split() == ["·", "installing", "about", "15", "s"]
    assert rows[7].startswith("attempt 2: on-demand, $3.20/h, eastus, Standard_NV36ads_A10_v5")
    world.run(42)
    rows = screen()
    assert re.fullmatch(r"\S loading_model +━ +\d+ s about 20 s", rows[4])
    assert re.search(r"A10_v5; \d+\.\d of 16\.1 GB", rows[7])
    world.run(40)
    assert [row[0] for row in screen()[:7]] == ["✓"] * 7


def test_an_outage_should_be_a_line_among_the_bars_which_stand_still(world: World, transport: WorldTransport) -> None:
    time, written, errors = WorldTime(world), StringIO(), StringIO()
    terminal = Console(file=written, force_terminal=True, width=100, color_system=None, legacy_windows=False)
    session = Session(
        transport=transport, sleep=time.sleep, clock=time.clock, now=time.now, out=terminal, err=Console(file=errors)
    )
    session.gpu = GpuLaunch(ADDRESS, ADMIN, transport=transport, sleep=time.sleep, clock=time.clock)
    watch = Watch(session, world.launch())
    world.run(20)
    watch.changed(next(iter(session.gpu.list())))

    def screen() -> str:
        written.seek(written.truncate(0))
        terminal.print(watch)
        return written.getvalue()

    assert "trying again" not in screen()
    watch.lost("trying again in 2 s: Cannot reach http://app.test: nothing listens there.")
    before = screen()
    assert "trying again in 2 s: Cannot reach http://app.test" in before
    world.clock.advance(10)
    watch.lost("trying again in 2 s: Cannot reach http://app.test: nothing listens there.")
    assert re.findall(r"provisioning.* (\d+ s)", screen()) == re.findall(r"provisioning.* (\d+ s)", before)
    world.clock.advance(16)
    assert "trying again" not in screen()
    assert errors.getvalue() == ""


def test_a_watched_launch_in_json_should_be_the_answer_and_then_every_change(gpulaunch: Terminal) -> None:
    answer, *changes = gpulaunch.lines("launch", MODEL, "--gpu", "A10", "--watch")
    assert answer["message"] == "GPU instance launch initiated (SIMULATION)"
    assert {change["instance_id"] for change in changes} == {answer["instance_id"]}
    assert (changes[0]["phase"], changes[-1]["phase"]) == ("queued", "ready")


def test_a_watched_launch_that_fails_should_say_why_each_attempt_failed(gpulaunch: Terminal) -> None:
    words = ["launch", MODEL, "--instance-type", "Standard_NV36ads_A10_v5", "--region", "eastus"]
    result = gpulaunch(*words, "--label", "simulate.no-capacity=9", "--watch")
    assert result.exit_code == Exit.ENDED
    told = result.stderr.splitlines()
    assert [line.split(":")[0] for line in told[:2]] == [
        "attempt 1, spot Standard_NV36ads_A10_v5 (A10) in azure/eastus, $0.80/h",
        "attempt 2, on-demand Standard_NV36ads_A10_v5 (A10) in azure/eastus, $3.20/h",
    ]
    assert told[2].startswith("error: inst-")
    assert told[2].endswith("(no_offers_left)")
    ended = gpulaunch(*words, "--label", "simulate.no-capacity=9", "--watch", "--json")
    error = json.loads(ended.stderr)["error"]
    assert (ended.exit_code, error["code"], error["instance"]["phase"]) == (Exit.ENDED, "instance_ended", "failed")


def test_watching_should_be_resumed_and_run_out_of_time(gpulaunch: Terminal, world: World) -> None:
    instance_id = world.launch()
    result = gpulaunch("watch", instance_id, "--timeout", "20")
    assert result.exit_code == Exit.TIMEOUT
    assert f"error: {instance_id} is still provisioning after 20 s" in result.stderr
    assert gpulaunch("watch", instance_id).exit_code == Exit.OK
    assert gpulaunch("watch", instance_id, "--timeout", "0").exit_code == Exit.OK


def test_ls_should_list_by_filter_and_ended_ones_only_when_asked(gpulaunch: Terminal, world: World) -> None:
    gone, live = world.launch(labels={"team": "x"}, name="old"), world.launch(labels={"team": "y"}, name="new")
    world.delete(gone)
    world.run(120)
    shown = gpulaunch("ls").stdout
    assert live in shown and "new" in shown and "ready" in shown and "spot A10 in eastus, simulated" in shown
    assert gone not in shown
    assert [one["instance_id"] for one in gpulaunch.json("ls", "--all")] == [live, gone]
    assert [one["instance_id"] for one in gpulaunch.json("ls", "--phase", "terminated")] == [gone]
    assert [one["instance_id"] for one in gpulaunch.json("ls", "--label", "team=y", "--provider", "azure")] == [live]
    assert [one["instance_id"] for one in gpulaunch.json("ls", "-a", "-n", "1")] == [live]
    for text in ("TEAM=Y", live[-6:], "llama-3.1", "eastus"):
        assert [one["instance_id"] for one in gpulaunch.json("ls", text)] == [live], text
    assert gpulaunch.json("ls", "--all", "no-such-model") == []
    assert "No live instances with 'mistral'. Use --all" in gpulaunch("ls", "mistral").stderr
    assert gpulaunch.json("ls", "--label", "team=z") == []
    assert "No live instances. Use --all to include ended ones." in gpulaunch("ls", "--label", "team=z").stderr
    assert "There are more than 1" in gpulaunch("ls", "-a", "-n", "1").stderr


def test_an_instance_that_cannot_be_read_should_be_listed_and_terminated(
    gpulaunch: Terminal, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = world.launch(), world.launch()
    world.run(120)
    document_with(later_phase)(world, bad)
    listed = gpulaunch("ls")
    row = next(line for line in listed.stdout.splitlines() if line.startswith(bad))
    assert row.split()[1:] == ["unreadable", "azure"]
    assert f"{bad} cannot be read: " in listed.stderr
    assert "`gpulaunch terminate`" in listed.stderr
    assert [one["instance_id"] for one in gpulaunch.json("ls")] == [good, bad]
    shown = gpulaunch("show", bad)
    assert (shown.exit_code, "Its node is kept" in shown.stderr) == (Exit.ERROR, True)
    monkeypatch.setattr("gpulaunch.cli.commands.instances.interactive", lambda: True)
    asked = gpulaunch("terminate", bad, stdin="n\n")
    assert f"{bad}  unreadable  " in asked.stdout
    ended = gpulaunch("terminate", good, bad, "--yes", "--wait")
    assert ended.exit_code == Exit.OK, ended.output
    assert [line.split()[:2] for line in ended.stdout.splitlines()] == [[good, "terminated"], [bad, "terminating"]]
    assert gpulaunch.json("terminate", bad, "--yes")[0]["why"]
    world.run(120)
    assert world.simulation.provider.clusters() == []


def test_json_should_be_what_the_interface_answers(gpulaunch: Terminal, world: World) -> None:
    instance_id = world.launch()
    world.run(100)
    for command, path in (("show", ""), ("events", "/events"), ("logs", "/logs"), ("credentials", "/credentials")):
        answer = world.call("GET", f"/api/instances/{instance_id}{path}").json
        assert gpulaunch.json(command, instance_id) == answer
    listed = world.call("GET", "/api/instances").json["instances"]
    assert gpulaunch.json("ls") == listed
    offers = gpulaunch.json("catalog", "--gpu", "A10")["offers"]
    answer = world.call("GET", "/api/catalog?provider=azure&gpu=A10").json["offers"]
    assert sorted(map(str, offers)) == sorted(map(str, answer))


def test_show_should_print_attempts_with_reasons(gpulaunch: Terminal, world: World) -> None:
    instance_id = world.launch(labels={"simulate.no-capacity": "1", "team": "x"}, name="mine")
    world.run(100)
    lines = gpulaunch("show", instance_id).stdout.splitlines()
    assert f"id        {instance_id}" in lines
    assert "labels    simulate.no-capacity=1, team=x" in lines
    assert any(line.startswith("phase     ready for") for line in lines)
    assert any(re.match(r"attempt 1 spot .*no capacity for this offer\. \(no_capacity\)$", line) for line in lines)
    assert any(re.match(r"attempt 2 on-demand .*: submitted$", line) for line in lines)


def test_followed_events_and_logs_should_end_with_the_instance(gpulaunch: Terminal, world: World) -> None:
    instance_id = world.launch(max_lifetime_minutes=3)
    followed = gpulaunch.lines("events", instance_id, "-f")
    assert followed == world.events(instance_id)
    assert followed[-1]["phase"] == "terminated"
    assert len(gpulaunch("events", instance_id).stdout.splitlines()) == len(followed)
    logs = gpulaunch("logs", instance_id, "--follow").stdout.splitlines()
    assert logs == gpulaunch("logs", instance_id).stdout.splitlines()
    assert gpulaunch.lines("logs", instance_id, "-f") == [{"line": line} for line in logs]
    assert "Starting vLLM" in logs


def test_control_characters_of_a_node_should_not_reach_the_terminal(gpulaunch: Terminal, world: World) -> None:
    instance_id = world.launch()
    world.run(100)
    found = world.store.load(instance_id)
    assert found is not None
    evil = found.record.model_copy(update={"log_tail": ["\x1b]0;renamed\x07 [red]red[/red] \u009b2J"]})
    world.store.commit(found, evil, [])
    assert gpulaunch("logs", instance_id).stdout == "\ufffd]0;renamed\ufffd [red]red[/red] \ufffd2J\n"


def test_terminate_should_end_several_and_report_a_missing_one(gpulaunch: Terminal, world: World) -> None:
    one, two = world.launch(), world.launch()
    result = gpulaunch("terminate", one, NOBODY, two, one, "--yes", "--wait")
    assert result.exit_code == Exit.NOT_FOUND
    assert f"There is no instance {NOBODY}" in result.stderr
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [[one, "terminated"], [two, "terminated"]]


def test_down_should_be_a_hidden_alias_of_terminate(gpulaunch: Terminal, world: World) -> None:
    instance_id = world.launch()
    assert gpulaunch("down", instance_id, "--yes").exit_code == Exit.OK
    assert world.show(instance_id)["ending"]["reason"] == "user_request"
    assert " down " not in gpulaunch("--help").stdout


def test_terminate_should_end_nothing_without_confirmation(
    gpulaunch: Terminal, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance_id = world.launch()
    monkeypatch.setattr("gpulaunch.cli.commands.instances.interactive", lambda: True)
    declined = gpulaunch("terminate", instance_id, stdin="n\n")
    assert declined.exit_code == Exit.ERROR
    assert world.show(instance_id)["phase"] == "queued"
    assert gpulaunch("terminate", instance_id, stdin="y\n").exit_code == Exit.OK
    assert world.show(instance_id)["ending"]["reason"] == "user_request"


def test_credentials_should_be_ready_to_copy_or_a_conflict(gpulaunch: Terminal, world: World) -> None:
    instance_id = world.launch()
    early = gpulaunch("credentials", instance_id)
    assert (early.exit_code, early.stdout) == (Exit.CONFLICT, "")
    world.run(100)
    lines = gpulaunch("credentials", instance_id).stdout.splitlines()
    answer = gpulaunch.json("credentials", instance_id)
    assert lines[:2] == [
        f"export OPENAI_BASE_URL='{answer['endpoint']}'", f"export OPENAI_API_KEY='{answer['api_key']}'",
    ]  # fmt: skip
    name, address = answer["server_name"], answer["endpoint"].removeprefix("https://").removesuffix("/v1")
    port = address.rpartition(":")[2]
    assert lines[2] == (
        f"curl -sS --cacert <(gpulaunch credentials {instance_id} --ca) --connect-to ::{address} "
        f"https://{name}:{port}/v1/chat/completions \\"
    )
    assert lines[3].startswith('  -H "Authorization: Bearer $OPENAI_API_KEY"')
    assert gpulaunch("credentials", instance_id, "--ca").stdout == answer["ca_certificate"]
    exported = gpulaunch("credentials", instance_id, "--export")
    assert exported.stdout.splitlines() == lines[:2]
    assert f"certificate is for {name}" in exported.stderr


def test_a_catalog_should_be_sorted_by_price_and_say_what_there_is(gpulaunch: Terminal) -> None:
    rows = gpulaunch("catalog", "--gpu", "A10", "--region", "eastus", "--on-demand").stdout.splitlines()[2:]
    prices = [float(row.split("$")[1]) for row in rows]
    assert prices == sorted(prices) != []
    assert all("on-demand" in row for row in rows)
    assert "No offers match. Regions: " in gpulaunch("catalog", "--region", "mars").stderr


def test_a_launch_should_say_whether_the_model_fits(gpulaunch: Terminal) -> None:
    assert "GPU memory: needs about 19 GiB, the A10 has 24 GiB\n" in gpulaunch("launch", MODEL, "--gpu", "A10").stdout
    small = gpulaunch("launch", MODEL, "--gpu", "T4", "--watch").stdout
    assert "warning: The model may not fit: it needs about 19 GiB, has 16 GiB on the T4" in " ".join(small.split())
    assert gpulaunch.json("launch", MODEL, "--gpu", "T4")["gpu_memory"]["fits"] is False
    unknown = gpulaunch("launch", "my-model", "--gpu", "T4").stdout
    assert "GPU memory" not in unknown
    assert "warning" not in unknown


class Subscription:
    """Stands for Azure: eastus has an answer, other regions have none."""

    provider = "azure"

    def usage(self, region: str) -> RegionUsage:
        if region != "eastus":
            raise ProviderUnavailableError("Azure is busy")
        lines = (QuotaUsage("cores", 36, 100), QuotaUsage("StandardNVADSA10v5Family", 36, 72))
        return RegionUsage(region, START, lines)

    def quota_needs(self, offer: Offer) -> list[QuotaNeed]:
        raise AssertionError(f"no machine is rented here: {offer}")


def test_the_quota_should_be_shown_with_what_instances_hold(gpulaunch: Terminal, world: World) -> None:
    world.rebuild(clouds={"azure": cast(CloudCompute, Subscription())})
    assert "No live instance is on Azure" in gpulaunch("quota").stderr
    answer = gpulaunch.json("quota", "--region", "eastus", "--region", "westus2")
    assert answer == world.call("GET", "/api/quota?region=eastus,westus2").json
    shown = gpulaunch("quota", "--region", "eastus", "--region", "westus2")
    assert [row.split() for row in shown.stdout.splitlines()[2:]] == [
        ["eastus", "cores", "100", "36", "64", "0"],
        ["eastus", "StandardNVADSA10v5Family", "72", "36", "36", "0"],
    ]
    assert "westus2 was not checked: Azure is busy" in shown.stderr
    assert gpulaunch("quota", "--region", "mars").exit_code == Exit.USAGE


def test_a_quota_that_is_not_asked_for_should_say_why(gpulaunch: Terminal) -> None:
    shown = gpulaunch("quota")
    assert (shown.exit_code, shown.stdout) == (Exit.OK, "")
    assert "AZURE_SUBSCRIPTION_ID is not set" in shown.stderr
    assert gpulaunch.json("quota")["checked"] is False


def test_costs_should_be_summed_up_as_asked(gpulaunch: Terminal, world: World) -> None:
    world.launch(labels={"team": "x"})
    world.run(3682)
    answer = gpulaunch.json("costs", "--by", "label", "--label", "team", "--from", "2026-01-01", "--to", "2026-01-31")
    assert answer == world.call("GET", "/api/costs?by=label&label=team&from=2026-01-01&to=2026-01-31").json
    assert [group["key"] for group in answer["groups"]] == ["x"]
    lines = gpulaunch("costs").stdout.splitlines()
    assert lines[0] == "2026-01-01 to 2026-01-31, UTC"
    assert [line.split()[:3] for line in lines[3:]] == [["2026-01-31", "1.02", "$0.82"], ["total", "1.02", "$0.82"]]
    wrong = gpulaunch("costs", "--from", "2026-02-01", "--to", "2026-01-01")
    assert (wrong.exit_code, "--from" in wrong.stderr or "--to" in wrong.stderr) == (Exit.USAGE, True)


def test_garbage_that_waits_should_be_shown_and_deleted_once_confirmed(
    gpulaunch: Terminal, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Nothing waits" in gpulaunch("gc").stderr
    assert gpulaunch("gc", "--confirm").exit_code == Exit.OK
    ids = [world.launch() for _ in range(2)]
    world.run(90)
    with monkeypatch.context() as patch:
        patch.setattr(world.simulation.provider, "release", bool)
        for instance_id in ids:
            world.delete(instance_id)
        world.run(20 * 60)
    shown = gpulaunch("gc").stdout
    assert shown.count("waits for --confirm") == 2
    assert "more than half" in shown
    refused = gpulaunch("gc", "--confirm")
    assert (refused.exit_code, "--yes" in refused.stderr) == (Exit.USAGE, True)
    world.run(600)
    assert world.running() == 2
    answer = gpulaunch.json("gc", "--confirm", "--yes")
    assert [node["confirmed_until"] is not None for node in answer["waiting"]] == [True, True]
    world.run(600)
    assert world.running() == 0


def test_nodes_without_a_record_should_be_shown_and_adopted_once_confirmed(tmp_path: Path) -> None:
    push = NodeWorld()
    empty = saved(push)
    instance_id = push.to_ready()
    push.beating.clear()
    name = cluster_name(instance_id, 1)
    push.scripted.listed = [listed(push, name), listed(push, "gl-" + "0" * 26 + "-01", machine="Unheard_Of")]
    restore(push, empty)
    push.node(instance_id, "heartbeat", {})
    push.run(900)
    push.node(instance_id, "heartbeat", {})
    terminal = Terminal(push, WorldTransport(push), tmp_path)
    shown = terminal("adopt")
    assert (shown.exit_code, shown.stdout.count("waits for --confirm")) == (Exit.OK, 2)
    assert shown.stdout.count("it is alive") == 1
    refused = terminal("adopt", "--confirm")
    assert (refused.exit_code, "--yes" in refused.stderr) == (Exit.USAGE, True)
    assert push.call("GET", "/api/instances").json["instances"] == []
    done = terminal("adopt", "--confirm", "--yes", "--model-name", "org/model")
    assert done.exit_code == Exit.REFUSED
    assert f"{instance_id}  adopted {name}" in done.stdout
    assert "not adopted: The catalog does not know its machine" in done.stdout
    assert terminal("adopt", name, "--confirm", "--yes").exit_code == Exit.OK
    assert [one["model_name"] for one in push.call("GET", "/api/instances").json["instances"]] == ["org/model"]


def test_a_missing_or_forbidden_instance_should_have_its_own_exit_code(gpulaunch: Terminal, world: World) -> None:
    for command in ("show", "events", "logs", "credentials", "watch"):
        assert gpulaunch(command, NOBODY).exit_code == Exit.NOT_FOUND
    instance_id = world.launch()
    gpulaunch.environment["GPULAUNCH_TOKEN"] = READER
    refused = gpulaunch("terminate", instance_id, "--yes")
    assert refused.exit_code == Exit.REFUSED
    assert "The token comes from GPULAUNCH_TOKEN." in refused.stderr
    del gpulaunch.environment["GPULAUNCH_TOKEN"]
    nobody = gpulaunch("ls")
    assert nobody.exit_code == Exit.REFUSED
    assert "No token is set. Run `gpulaunch config set-token`" in nobody.stderr


@pytest.mark.parametrize(
    ("setting", "value", "status", "said"),
    [
        ("GPULAUNCH_MONTHLY_BUDGET_USD", "1", 402, "GPULAUNCH_MONTHLY_BUDGET_USD"),
        ("GPULAUNCH_MAX_INSTANCES", "0", 403, "GPULAUNCH_MAX_INSTANCES"),
    ],
)
def test_a_budget_or_limit_should_be_named_and_not_blamed_on_the_token(
    tmp_path: Path, setting: str, value: str, status: int, said: str
) -> None:
    world = World(given=settings(**{setting: value}))
    transport = WorldTransport(world)
    gpulaunch = Terminal(world, transport, tmp_path)
    result = gpulaunch("launch", MODEL, "--gpu", "A10", "--region", "eastus")
    told = json.loads(gpulaunch("launch", MODEL, "--gpu", "A10", "--region", "eastus", "--json").stderr)["error"]
    assert (result.exit_code, told["status"], told["limit"]["name"]) == (Exit.REFUSED, status, said)
    assert "token" not in result.stderr
    assert transport.statuses == [status, status]


def test_an_app_that_does_not_answer_should_have_its_own_exit_code(
    gpulaunch: Terminal, transport: WorldTransport
) -> None:
    transport.lost = 99
    result = gpulaunch("ls")
    assert result.exit_code == Exit.UNAVAILABLE
    assert result.stderr.count("trying again in") == 3
    told = json.loads(gpulaunch("ls", "--json").stderr)
    assert told == {"error": {"code": "no_answer", "detail": "http://app.test did not answer in time", "exit_code": 7}}


def test_doctor_should_check_app_token_and_mode(gpulaunch: Terminal) -> None:
    checks = {check["name"]: check for check in gpulaunch.json("doctor")}
    assert {name: checks[name]["state"] for name in ("address", "app", "token", "launches")} == {
        "address": "ok", "app": "ok", "token": "ok", "launches": "ok",
    }  # fmt: skip
    assert checks["token"]["detail"].startswith("admin")
    assert checks["launches"]["detail"].startswith("simulation only")
    gpulaunch.environment["GPULAUNCH_TOKEN"] = READER
    assert "read: read-only" in gpulaunch("doctor").stdout
    gpulaunch.environment["GPULAUNCH_TOKEN"] = "a-token-nobody-knows"
    unknown = gpulaunch("doctor")
    assert unknown.exit_code == Exit.ERROR
    assert "✗ token" in unknown.stdout


def test_doctor_should_tell_a_degraded_app_from_a_silent_one(
    gpulaunch: Terminal, world: World, transport: WorldTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shared.errors import StoreUnavailableError

    def unavailable(_: str) -> None:
        raise StoreUnavailableError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "markers", unavailable)
        degraded = gpulaunch("doctor")
    assert (degraded.exit_code, "storage unavailable" in degraded.stdout) == (Exit.ERROR, True)
    transport.lost = 99
    silent = gpulaunch("doctor")
    assert (silent.exit_code, "✗ app" in silent.stdout) == (Exit.ERROR, True)


def test_address_and_token_should_be_saved_and_shown_without_the_token(gpulaunch: Terminal, world: World) -> None:
    gpulaunch.environment = {"XDG_CONFIG_HOME": gpulaunch.environment["XDG_CONFIG_HOME"]}
    assert gpulaunch("config", "set-url", "http://app.test/").exit_code == Exit.OK
    assert "not encrypted" in gpulaunch("config", "set-url", "http://app.test/").stderr
    assert gpulaunch("config", "set-token", stdin=f"{ADMIN}\n").exit_code == Exit.OK
    world.launch()
    assert len(gpulaunch.json("ls")) == 1
    shown = gpulaunch.json("config", "show")
    assert (shown["url"], shown["token_set"]) == ("http://app.test", True)
    assert shown["url_from"] == shown["token_from"] == shown["file"]
    assert "was deleted" in gpulaunch("config", "set-url", "https://other.test").stderr
    assert gpulaunch.json("config", "show")["token_set"] is False
    assert gpulaunch("config", "set-token", stdin="\n").exit_code == Exit.USAGE
    assert gpulaunch("config", "set-url", "other.test").exit_code == Exit.USAGE


def options() -> dict[str, set[str]]:
    command = typer.main.get_command(app)
    assert isinstance(command, TyperGroup)
    return {
        name: {option for parameter in one.params for option in parameter.opts}
        for name, one in command.commands.items()
        if name != "config" and not one.hidden
    }


def test_every_command_should_take_json_and_nothing_secret() -> None:
    assert len(options()) == 25
    for name, known in options().items():
        assert "--json" in known, name
        assert not known & {"--token", "--admin-token", "--api-key", "--url", "--address"}, name


def test_ids_should_be_completed_and_a_silent_app_offer_none(
    world: World, transport: WorldTransport, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ids = [world.launch() for _ in range(2)]
    for name, value in (("URL", ADDRESS), ("TOKEN", ADMIN)):
        monkeypatch.setenv(f"GPULAUNCH_{name}", value)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("gpulaunch.cli.commands.instances.GpuLaunch", partial(GpuLaunch, transport=transport))
    words = {"_GPULAUNCH_COMPLETE": "complete_bash", "COMP_CWORD": "2"}

    def completed(text: str) -> list[str]:
        result = CliRunner().invoke(
            app, [], env={**words, "COMP_WORDS": f"gpulaunch show {text}"}, prog_name="gpulaunch"
        )
        return result.stdout.split()

    assert sorted(completed("inst-")) == sorted(ids)
    assert completed(ids[0]) == [ids[0]]
    assert completed("other") == []
    transport.lost = 99
    assert completed("inst-") == []


def test_ctrl_c_before_the_answer_should_say_how_to_find_out(
    gpulaunch: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(GpuLaunch, "launch", interrupted)
    result = gpulaunch("launch", MODEL, "--gpu", "A10")
    assert result.exit_code == Exit.INTERRUPTED
    assert "`gpulaunch ls` shows whether it was launched" in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_should_be_there(gpulaunch: Terminal, shell: str) -> None:
    result = gpulaunch("--show-completion", shell)
    assert result.exit_code == Exit.OK
    assert "GPULAUNCH_COMPLETE" in result.stdout or "_GPULAUNCH" in result.stdout
