"""The pages."""

import gzip
import html
import json
import re
from datetime import date, timedelta
from typing import Any
from unittest.mock import Mock

import pytest

from gpulaunch.models.instances import Reason
from gpulaunch.models.requests import LaunchRequest
from shared.domain.instance import Failure
from shared.errors import StoreUnavailableError
from shared.storage.base import RecordPage, Versioned
from shared.web.rendering import static_files
from tests.functional.web.visitor import Visitor, hidden_fields, text_of
from tests.functional.world import READER, SEED, World, settings
from tests.twins.clock import START
from tests.twins.factories import make_attempt, make_event, make_record

TIMES = "\N{MULTIPLICATION SIGN}"
FORM = {
    "model_name": "meta-llama/Llama-3.1-8B-Instruct",
    "provider": "azure",
    "machine": "type:Standard_NV36ads_A10_v5",
    "region": "eastus",
    "spot": "fallback",
}


def launch(visitor: Visitor, **changes: str) -> Any:
    """Fill in the form, wait for its plan, and press Launch."""
    form = {**FORM, **changes}
    return visitor.post(
        "/launch", {**form, **hidden_fields(visitor.post("/launch/plan", form)), "do": "launch", **changes}
    )


def test_every_page_should_be_html_with_strict_headers(world: World, admin: Visitor) -> None:
    instance_id = world.launch()
    for path in ("/launch", "/instances", f"/instances/{instance_id}", "/costs", "/settings", "/api/docs", "/nothing"):
        page = admin.get(path) if path != "/nothing" else admin.get("/instances/inst-0")
        policy = page.headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["Content-Type"] == "text/html"
        # Nothing in the body that the policy would block.
        body = page.body.decode()
        assert not re.search(r"\sstyle=|\son[a-z]+=|<style|<script(?![^>]*\ssrc=)|javascript:|hx-on|hx-vals=.js:", body)
        assert not re.search(r'(src|href)="(https?:)?//', body)
        assert body.count("<h1") == 1
        assert '<html lang="en"' in body


def test_the_form_should_launch_what_the_api_would(world: World, admin: Visitor) -> None:
    answer = launch(admin, max_lifetime_minutes="90", budget_usd="2.5", labels="team=search\nstage=test", name="mine")
    assert answer.status == 303
    instance_id = answer.headers["Location"].removeprefix("/instances/")
    asked = {**SEED, "max_lifetime_minutes": 90, "budget_usd": 2.5, "name": "mine"}
    labels = {"team": "search", "stage": "test"}
    shown = LaunchRequest.model_validate(world.show(instance_id)["request"])
    assert shown == LaunchRequest.model_validate({**asked, "labels": labels})


def test_a_form_sent_twice_should_launch_once(world: World, admin: Visitor) -> None:
    plan = hidden_fields(admin.post("/launch/plan", FORM))
    form = {**FORM, **hidden_fields(admin.get("/launch")), **plan, "do": "launch"}
    assert admin.post("/launch", form).headers["Location"] == admin.post("/launch", form).headers["Location"]
    assert len(world.call("GET", "/api/instances").json["instances"]) == 1


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"region": "eastus9"}, "region", "eastus"),
        ({"machine": "type:Standard_NV36ads_A10"}, "machine", "Standard_NV36ads_A10_v5"),
        ({"machine": "gpu:A11"}, "machine", "A10"),
        ({"labels": "simulate.no-capacity=many"}, "labels", "whole number"),
        ({"labels": "9=x"}, "labels", "<code>9</code>: At most 63 letters, digits"),
        ({"max_lifetime_minutes": "a while"}, "max_lifetime_minutes", "Must be a whole number."),
        ({"budget_usd": "NaN"}, "budget_usd", "Must be a number."),
        ({"vllm_args": "--api-key=x"}, "vllm_args", "set by gpulaunch; remove it"),
        ({"model_source": "ftp://x"}, "model_source", "hf://org/model"),
        ({"max_hourly_cost": "0.01"}, "max_hourly_cost", "costs"),
        ({"provider": "aws"}, "provider", "kubernetes"),
    ],
)
def test_an_invalid_field_should_be_explained_beside_it_and_keep_its_value(
    world: World, admin: Visitor, changes: dict[str, str], field: str, says: str
) -> None:
    answer = launch(admin, **changes)
    body = answer.body.decode()
    assert answer.status == 422
    assert "Nothing was launched." in body
    beside = re.search(rf'id="{field}-wrong-1">(.*?)</small>', body, re.DOTALL)
    assert beside is not None
    assert says in html.unescape(beside[1])
    assert html.escape(next(iter(changes.values())).partition(":")[2] or next(iter(changes.values()))) in body
    assert world.call("GET", "/api/instances").json["instances"] == []


def test_the_plan_should_follow_the_form_and_launch_nothing(world: World, admin: Visitor) -> None:
    plan = admin.part("/launch/plan?provider=azure&machine=gpu:A100-80GB&model_name=x&spot=never&region=")
    text = text_of(plan)
    assert "A100-80GB" in text
    assert "on-demand" in text
    assert " spot " not in text.split("As curl or CLI command")[0]
    assert 'id="place" hx-swap-oob' in plan.body.decode()
    assert world.store.calls.count("create") == 0
    planned = world.call("POST", "/api/instances/launch", {"model_name": "x", "gpu": "A100-80GB", "use_spot": False})
    assert f"${planned.json['estimate']['worst_case_usd']:,.2f}" in text


@pytest.mark.parametrize(
    ("machine", "model", "shown"),
    [
        ("gpu:A10", "meta-llama/Llama-3.1-8B", "needs about 19 GiB, has 24 GiB"),
        ("gpu:T4", "meta-llama/Llama-3.1-8B", "The model may not fit: it needs about 19 GiB, has 16 GiB on the T4"),
        ("gpu:T4", "meta-llama/Llama-3.1-8B-AWQ", "needs about 7 GiB, has 16 GiB"),
        ("gpu:A10", "my-model", "GPU memory 24 GiB"),
    ],
)
def test_the_plan_should_show_whether_the_model_fits(admin: Visitor, machine: str, model: str, shown: str) -> None:
    text = text_of(admin.part(f"/launch/plan?provider=azure&machine={machine}&model_name={model}&spot=fallback"))
    assert shown in text
    assert ("may not fit" in text) is ("may not fit" in shown)


def test_the_plan_of_an_invalid_form_should_say_why(admin: Visitor) -> None:
    assert "No plan yet." in text_of(admin.part("/launch/plan?provider=azure&machine=gpu:A10&model_name="))


def test_without_scripts_the_plan_should_be_shown_on_request(world: World, admin: Visitor) -> None:
    answer = launch(admin, do="plan", region="westus3")
    assert answer.status == 200
    assert "westus3" in text_of(answer)
    assert world.store.calls.count("create") == 0


def test_the_curl_command_should_send_the_forms_request(admin: Visitor) -> None:
    plan = admin.part("/launch/plan?provider=azure&machine=gpu:A10&model_name=it&spot=only&labels=a%3Db")
    found = re.search(r"-d '(\{.*?\})'", html.unescape(plan.body.decode()))
    assert found is not None
    body = {"model_name": "it", "provider": "azure", "gpu": "A10", "use_spot": True, "spot_fallback": False}
    assert json.loads(found[1]) == {**body, "labels": {"a": "b"}}
    line = "gpulaunch launch it --provider azure --gpu A10 --no-spot-fallback --label a=b --watch"
    assert line in text_of(plan)


def test_own_machines_should_be_requested_by_gpu_and_count(world: World, admin: Visitor) -> None:
    answer = launch(admin, provider="slurm", machine="gpu:A10", gpu_count="2", region="")
    instance_id = answer.headers["Location"].removeprefix("/instances/")
    assert world.show(instance_id)["request"]["gpu"] == "A10:2"


def test_launch_another_should_start_from_the_earlier_request(world: World, admin: Visitor) -> None:
    instance_id = world.launch(labels={"team": "search"}, budget_usd=3, use_spot=False, vllm_args=["--max-model-len=1"])
    body = admin.get(f"/launch?like={instance_id}").body.decode()
    assert 'name="budget_usd" inputmode="decimal" value="3"' in body
    assert "team=search" in body
    assert "--max-model-len=1" in body
    assert 'value="never" checked' in body
    assert admin.get("/launch?like=nonsense").status == 200


def test_the_live_page_should_show_progress_and_why_an_attempt_failed(world: World, admin: Visitor) -> None:
    instance_id = world.launch(labels={"simulate.no-capacity": "1"})
    world.run(12)
    text = text_of(admin.get(f"/instances/{instance_id}"))
    assert "Provisioning (in progress)" in text.replace("provisioning", "Provisioning")
    assert "no capacity : Simulated: no capacity for this offer." in text
    assert "about 30 s" in text
    world.run(90)
    text = text_of(admin.get(f"/instances/{instance_id}"))
    assert "loading model (done) 20 s about 20 s" in text
    assert "OPENAI_API_KEY" in text
    assert "Application startup complete" in text


def test_the_key_should_be_shown_only_on_request(world: World, admin: Visitor) -> None:
    instance_id = world.launch()
    world.run(90)
    key = world.call("GET", f"/api/instances/{instance_id}/credentials").json["api_key"]
    for path in (f"/instances/{instance_id}", "/instances", "/settings"):
        assert key not in admin.get(path).body.decode()
    assert key not in admin.part(f"/instances/{instance_id}/live").body.decode()
    assert key in admin.get(f"/instances/{instance_id}/key").body.decode()
    assert admin.get(f"/instances/{world.launch()}/key").status == 409


def test_polling_an_unchanged_instance_should_be_one_read_and_a_304(world: World, admin: Visitor) -> None:
    instance_id = world.launch()
    world.run(90)
    first = admin.part(f"/instances/{instance_id}/live")
    world.store.calls.seen.clear()
    again = admin.part(f"/instances/{instance_id}/live", first.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    assert world.store.calls.seen == ["load"]
    world.delete(instance_id)
    changed = admin.part(f"/instances/{instance_id}/live", first.headers["ETag"])
    assert changed.status == 200
    assert "terminating" in text_of(changed)


def test_the_etag_of_a_page_should_be_the_one_its_part_polls_with(world: World, admin: Visitor) -> None:
    instance_id = world.launch()
    for page, part in ((f"/instances/{instance_id}", f"/instances/{instance_id}/live"), ("/instances", "/instances")):
        found = re.search(r"hx-headers='(\{.*?\})'", admin.get(page).body.decode())
        assert found is not None
        assert admin.part(part, json.loads(found[1])["If-None-Match"]).status == 304


def test_a_reader_should_not_get_an_admins_part_for_unchanged(world: World, admin: Visitor, reader: Visitor) -> None:
    instance_id = world.launch()
    seen = admin.part(f"/instances/{instance_id}/live")
    assert reader.part(f"/instances/{instance_id}/live", seen.headers["ETag"]).status == 200


def test_a_page_should_poll_less_often_when_ready_and_never_when_ended(world: World, admin: Visitor) -> None:
    instance_id = world.launch()
    assert 'hx-trigger="every 2s"' in admin.get(f"/instances/{instance_id}").body.decode()
    world.run(90)
    assert 'hx-trigger="every 10s"' in admin.get(f"/instances/{instance_id}").body.decode()
    world.delete(instance_id)
    world.run(60)
    ended = admin.get(f"/instances/{instance_id}").body.decode()
    assert "hx-trigger" not in ended
    assert 'http-equiv="refresh"' not in ended


def test_terminating_should_ask_first_and_work_without_scripts(world: World, admin: Visitor) -> None:
    instance_id = world.launch(name="mine")
    page = f"/instances/{instance_id}/terminate"
    assert "Terminate mine?" in text_of(admin.get(page))
    assert world.show(instance_id)["phase"] == "queued"
    answer = admin.send(page, page, {})
    assert answer.headers["Location"] == f"/instances/{instance_id}"
    world.run(60)
    assert world.show(instance_id)["phase"] == "terminated"


def test_the_list_should_filter_and_page(world: World, admin: Visitor) -> None:
    for number in range(27):
        world.launch(name=f"n{number}", labels={"half": str(number % 2)})
    first = admin.get("/instances").body.decode()
    assert first.count('scope="row"') == 20
    older = re.search(r'href="([^"]+)" rel="next"', first)
    assert older is not None
    second = admin.get(html.unescape(older[1])).body.decode()
    assert second.count('scope="row"') == 7
    assert ">n0<" in second
    assert admin.get("/instances?label=half%3D1").body.decode().count('scope="row"') == 13
    assert admin.get("/instances?phase=ready").body.decode().count('scope="row"') == 0
    assert "No instances match these filters" in text_of(admin.get("/instances?state=ended"))
    assert admin.get("/instances?phase=nonsense").status == 422
    assert admin.get("/instances?continuation_token=nonsense").status == 422


def test_the_list_should_show_health_requests_and_what_runs_now(world: World, admin: Visitor) -> None:
    world.launch(labels={"simulate.busy-until": "1000"})
    world.run(150)
    text = text_of(admin.get("/instances"))
    assert "healthy 1 / 0" in text
    assert "/h" in text


@pytest.mark.parametrize(("orchestrator", "said"), [("simulation", False), ("auto", True)])
def test_simulated_instances_should_be_marked_where_real_ones_are_possible(
    world: World, admin: Visitor, orchestrator: str, said: bool
) -> None:
    instance_id = world.launch()
    world.rebuild(settings=settings(GPULAUNCH_ORCHESTRATOR=orchestrator))
    assert ("All of these are simulated: you pay nothing" in text_of(admin.get("/instances"))) is said
    assert ("nothing costs money. Reason: " in text_of(admin.get(f"/instances/{instance_id}"))) is said


@pytest.mark.parametrize(("orchestrator", "banner", "note"), [("simulation", True, False), ("auto", False, True)])
def test_a_simulation_should_be_announced(orchestrator: str, banner: bool, note: bool) -> None:
    text = text_of(Visitor(World(settings(GPULAUNCH_ORCHESTRATOR=orchestrator))).sign_in().get("/launch"))
    assert ("No machine is rented" in text) is banner
    assert ("the launch is a simulation" in text) is note


def test_a_node_that_resists_deletion_should_be_an_alert_until_it_is_deleted(world: World, admin: Visitor) -> None:
    instance_id = world.launch(labels={"simulate.teardown-tries": "30"})
    world.run(90)
    world.delete(instance_id)
    world.run(120)
    assert "Needs attention." not in text_of(admin.get(f"/instances/{instance_id}"))
    world.run(600)
    assert "Needs attention." in text_of(admin.get(f"/instances/{instance_id}"))
    world.run(3600)
    assert world.show(instance_id)["phase"] == "terminated"
    assert "Needs attention." not in text_of(admin.get(f"/instances/{instance_id}"))


def test_costs_should_be_those_of_the_api(world: World, admin: Visitor) -> None:
    world.launch()
    world.run(3600 * 30)
    admin.sign_in()
    total = world.call("GET", "/api/costs?by=model&from=2026-01-25&to=2026-02-03").json["total"]
    text = text_of(admin.get("/costs"))
    assert f"Spent ${total['actual_usd']:,.2f}" in text
    assert f"Saved by spot ${total['spot_saving_usd']:,.2f}" in text
    assert "is simulated: you pay nothing" in text
    assert str(SEED["model_name"]) in text


def test_a_budget_should_show_what_is_left() -> None:
    visitor = Visitor(World(settings(GPULAUNCH_MONTHLY_BUDGET_USD="100"))).sign_in()
    visitor.world.launch()
    assert "$100.00 $0.00 $38.40 $61.60" in text_of(visitor.get("/costs"))


@pytest.mark.parametrize(("asked", "days"), [("", 14), ("?days=30", 30), ("?days=90", 90), ("?days=31", 14)])
def test_costs_should_be_those_of_the_period_that_is_asked_for(admin: Visitor, asked: str, days: int) -> None:
    body = admin.get(f"/costs{asked}").body.decode()
    assert f"in the last {days} days" in body
    assert body.count("<rect ") == days
    assert f'href="/costs?days={days}" aria-current="page"' in body
    assert 3 <= len(re.findall(r'<text [^>]*y="196"', body)) <= 15
    assert f"from={date(2026, 1, 31) - timedelta(days=days - 1)}&amp;to=2026-01-31" in body


def test_the_costs_should_be_read_at_most_once_a_minute(world: World, admin: Visitor) -> None:
    admin.get("/costs")
    world.store.calls.seen.clear()
    admin.get("/costs")
    assert world.store.calls.seen == ["markers"], "only whether the session was ended"
    world.clock.advance(60)
    admin.get("/costs")
    assert world.store.calls.count("costs") == 2


EVIL = "<script>alert(1)</script>\"'{{7*7}}"


def test_foreign_text_should_be_escaped(world: World, admin: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    # Requests refuse such words in names, so that no store gives them back; the pages don't rely on it.
    request = make_record().request.model_copy(update={"model_name": EVIL, "name": EVIL, "labels": {EVIL: EVIL}})
    failure = Failure(reason=Reason.SETUP_FAILED, message=EVIL)
    record = make_record(
        attempts=[make_attempt(failure=failure, detail=EVIL, node_up_at=START)],
        ending=failure,
        mode_reason=EVIL,
        log_tail=[EVIL, "</pre>" + EVIL],
    ).model_copy(update={"request": request})
    found = Versioned(record, "1")
    monkeypatch.setattr(world.store, "load", Mock(return_value=found))
    monkeypatch.setattr(world.store, "page", Mock(return_value=RecordPage([found], None)))
    monkeypatch.setattr(world.store, "events", Mock(return_value=[make_event(0, message=EVIL)]))
    world.clock.advance(60)
    shown = f"/instances/{record.instance_id}"
    for path in (shown, "/instances", "/launch?like=x", f"{shown}/terminate"):
        body = admin.get(path).body.decode()
        assert "&lt;script&gt;alert(1)" in body, path
        assert "<script>alert" not in body
        assert "{{7*7}}" in html.unescape(body)


@pytest.mark.parametrize(
    "field", ["model_name", "region", "machine", "labels", "name", "spot", "provider", "gpu_count"]
)
def test_form_values_should_be_escaped(admin: Visitor, field: str) -> None:
    answer = launch(admin, **{field: EVIL})
    assert answer.status in (422, 303)
    assert "<script>alert" not in answer.body.decode()
    assert "<script>alert" not in admin.get(f"/launch?like={EVIL}").body.decode()


def test_an_unknown_instance_should_be_a_404_page(admin: Visitor) -> None:
    answer = admin.get("/instances/inst-01ARZ3NDEKTSV4RRFFQ69G5FAV")
    assert answer.status == 404
    assert "There is no instance" in text_of(answer)


def test_unavailable_storage_should_be_a_503_page(world: World, admin: Visitor) -> None:
    world.store.calls.fail_next("page", StoreUnavailableError("no answer"))
    answer = admin.get("/instances")
    assert answer.status == 503
    assert "Retry-After" in answer.headers
    assert "no answer" not in answer.body.decode()


def test_static_files_should_be_cached_forever_under_their_version_only(world: World) -> None:
    stranger = Visitor(world)
    for name, (content, kind, version) in static_files().items():
        answer = stranger.get(f"/static/{name}?v={version}")
        assert (answer.status, answer.body, answer.headers["Content-Type"]) == (200, content, kind)
        assert "immutable" in answer.headers["Cache-Control"]
        assert stranger.get(f"/static/{name}?v=old").headers["Cache-Control"] == "no-cache"
    for name in ("session.py", "..%2Fsession.py", "base.html", "nothing.js"):
        assert stranger.get(f"/static/{name}").status == 404


def test_static_files_should_be_compressed_for_whoever_takes_gzip(world: World) -> None:
    plain = sent = 0
    for name, (content, kind, version) in static_files().items():
        answer = Visitor(world).get(f"/static/{name}?v={version}", **{"Accept-Encoding": "br;q=1.0, gzip;q=0.8"})
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["Vary"] == "Accept-Encoding"
        assert answer.headers["Content-Type"] == kind
        assert gzip.decompress(answer.body) == content
        plain, sent = plain + len(content), sent + len(answer.body)
    assert sent < plain / 3


@pytest.mark.parametrize("accepted", ["", "br", "gzip;q=0", "gzip; q=0.000, br", "gzipped", "identity"])
def test_static_files_should_be_plain_for_others(world: World, accepted: str) -> None:
    answer = Visitor(world).get("/static/app.css", **{"Accept-Encoding": accepted})
    assert answer.body == static_files()["app.css"][0]
    assert "Content-Encoding" not in answer.headers
    assert answer.headers["Vary"] == "Accept-Encoding"


def test_lists_should_be_polled_only_while_something_in_them_can_change(world: World, admin: Visitor) -> None:
    for path in ("/instances", "/endpoints", "/instances?state=all"):
        assert "every" not in re.findall(r'hx-trigger="(\w+)', admin.get(path).body.decode())
    instance_id = world.launch()
    spec = {"name": "chat", "replicas": 0, "launch": {"model_name": "org/model", "gpu": "A10"}}
    assert world.call("POST", "/api/endpoints", spec).status == 201
    for path in ("/instances", "/endpoints", "/instances?state=all"):
        assert 'hx-trigger="every 5s"' in admin.get(path).body.decode()
    world.delete(instance_id)
    world.run(60)
    ended = admin.get("/instances?state=all").body.decode()
    assert instance_id in ended
    assert 'hx-trigger="every' not in ended
    # Seen again, it is asked for once.
    assert 'hx-trigger="seen"' in ended


def test_the_api_page_should_render_the_openapi_document_and_need_no_sign_in(world: World) -> None:
    page = Visitor(world).get("/api/docs")
    assert page.status == 200
    assert 'id="redoc" data-document="/api/openapi.json"' in page.body.decode()
    # The only page whose policy differs from the others', and by two hashes of styles alone.
    policy = re.sub(r" 'sha256-[^']+'", "", page.headers["Content-Security-Policy"])
    assert policy == Visitor(world).get("/signin").headers["Content-Security-Policy"]


def test_costs_should_be_a_file_for_whoever_is_signed_in(world: World, reader: Visitor) -> None:
    world.launch()
    world.run(3600)
    reader.sign_in(READER)
    links = re.findall(r'href="(/costs\.csv[^"]*)"', reader.get("/costs").body.decode())
    assert len(links) == 2
    for link in map(html.unescape, links):
        answer = reader.get(link)
        assert answer.headers["Content-Type"] == "text/csv"
        assert answer.body == world.call("GET", link.replace("/costs.csv?", "/api/costs?format=csv&")).body
        assert answer.headers["Content-Disposition"].startswith("attachment")
    assert Visitor(world).get("/costs.csv").status == 303
    assert reader.get("/costs.csv?by=nonsense").status == 422


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({}, "None: any launch that the catalog has is accepted."),
        ({"GPULAUNCH_MONTHLY_BUDGET_USD": "1200"}, "Monthly budget GPULAUNCH_MONTHLY_BUDGET_USD $1,200.00"),
        ({"GPULAUNCH_LABEL_BUDGETS": "team=a:100"}, "team=a: $100.00"),
        ({"GPULAUNCH_MAX_INSTANCES": "0"}, "Live instances GPULAUNCH_MAX_INSTANCES at most 0"),
        ({"GPULAUNCH_ALLOWED_GPUS": "A10,T4"}, "Allowed GPUs GPULAUNCH_ALLOWED_GPUS A10, T4"),
        ({"GPULAUNCH_MAX_LIFETIME_MINUTES": "90"}, "GPULAUNCH_MAX_LIFETIME_MINUTES 1 h 30 m"),
    ],
)
def test_what_may_refuse_a_launch_should_be_among_the_settings(given: dict[str, str], shown: str) -> None:
    text = text_of(Visitor(World(settings(**given))).sign_in().get("/settings"))
    assert shown in text
    assert ("None: any launch" in text) is (not given)


def test_a_choice_of_rented_machines_should_become_one_of_own_machines(admin: Visitor) -> None:
    chosen = {"model_name": "x", "provider": "slurm", "machine": "gpu:A100-80GB:4", "spot": "only", "region": ""}
    body = admin.post("/launch/plan", chosen).body.decode()
    assert 'name="gpu_count" inputmode="numeric" value="4"' in body
    assert "not available" not in body
    assert f"4 {TIMES} A100-80GB" in html.unescape(body)
    assert 'type="radio"' not in body
    assert "list prices" not in body
    back = admin.post("/launch/plan", {**chosen, "provider": "azure"}).body.decode()
    assert 'value="only" checked' in back
    assert "list prices" in back


def test_a_machine_of_several_gpus_should_say_how_much_memory_each_has(admin: Visitor) -> None:
    text = text_of(admin.get("/launch"))
    assert f"2 {TIMES} A10 · 24 GiB each · from" in text
    assert f"1 {TIMES} A10 · 24 GiB · from" in text


def test_a_reader_should_not_be_offered_what_is_refused(world: World, admin: Visitor, reader: Visitor) -> None:
    instance_id = world.launch()
    assert "Launch another" in text_of(admin.get(f"/instances/{instance_id}"))
    assert "Launch another" not in text_of(reader.get(f"/instances/{instance_id}"))


def test_a_model_that_may_not_fit_should_be_warned_of_on_its_page(world: World, admin: Visitor) -> None:
    small = world.launch(model_name="meta-llama/Llama-3.3-70B-Instruct")
    enough = world.launch()
    assert "The model may not fit: it needs about 146 GiB, has 24 GiB" in text_of(admin.get(f"/instances/{small}"))
    assert "may not fit" not in text_of(admin.get(f"/instances/{enough}"))
    world.run(120)
    assert "may not fit" not in text_of(admin.get(f"/instances/{small}"))


@pytest.mark.parametrize(("failed", "folded"), [(2, False), (5, True)])
def test_many_attempts_should_be_folded(world: World, admin: Visitor, failed: int, folded: bool) -> None:
    instance_id = world.launch(labels={"simulate.no-capacity": str(failed)}, region=None)
    world.run(60)
    page = admin.get(f"/instances/{instance_id}")
    assert page.body.decode().count("no capacity</strong>: Simulated") == failed
    assert (f"{failed + 1 - 3} earlier attempts" in text_of(page)) is folded
