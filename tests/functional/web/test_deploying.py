"""The form that creates an endpoint, without scripts: its plan, its price, what is wrong, and what was shown."""

import html
import re

import pytest

from tests.functional.test_endpoints import CHAT, PATH, create, show
from tests.functional.web.visitor import Visitor, hidden_fields, text_of
from tests.functional.world import READER, Answer, World

FORM = {
    "endpoint": "chat",
    "replicas": "2",
    "drain_seconds": "",
    "provider": "azure",
    "machine": "gpu:A10",
    "spot": "fallback",
    "model_name": "meta-llama/Llama-3.1-8B-Instruct",
    "region": "eastus",
    "labels": "team=search",
}


@pytest.fixture
def admin(world: World) -> Visitor:
    return Visitor(world).sign_in()


def planned(visitor: Visitor, **typed: str) -> dict[str, str]:
    """What the plan of a form sends along with it."""
    return hidden_fields(visitor.post("/deploy/plan", {**FORM, **typed}))


def send(visitor: Visitor, shown: dict[str, str], **typed: str) -> Answer:
    return visitor.post("/deploy", {**FORM, **shown, "do": "launch", **typed})


def test_the_list_should_lead_to_the_form_and_the_form_to_the_endpoint(world: World, admin: Visitor) -> None:
    assert 'href="/deploy"' in admin.get("/endpoints").body.decode()
    form = admin.get("/deploy")
    assert form.status == 200
    assert 'hx-post="/deploy/plan"' in form.body.decode()
    made = send(admin, planned(admin))
    assert (made.status, made.headers["Location"]) == (303, "/endpoints/chat")
    found = show(world)
    assert (found["replicas"], found["drain_seconds"], found["launch"]["labels"]) == (2, 600, {"team": "search"})
    assert (found["launch"]["gpu"], found["launch"]["region"], found["launch"]["name"]) == ("A10", "eastus", None)


def test_the_form_should_have_no_field_that_a_replica_may_not_have(admin: Visitor) -> None:
    names = set(re.findall(r'name="(\w+)"', admin.get("/deploy").body.decode()))
    assert not names & {"name", "idle_minutes", "budget_usd"}
    assert {"endpoint", "replicas", "drain_seconds", "max_lifetime_minutes", "vllm_args"} <= names
    assert "endpoint" not in re.findall(r'name="(\w+)"', admin.get("/launch").body.decode())


def test_the_plan_should_show_what_all_replicas_cost_and_the_same_as_commands(admin: Visitor) -> None:
    plan = admin.post("/deploy/plan", {**FORM, "drain_seconds": "60"})
    text = html.unescape(text_of(plan))
    assert "$1.60/h for 2 replicas" in text
    assert "Worst case" not in text
    assert (
        "gpulaunch deploy chat meta-llama/Llama-3.1-8B-Instruct --provider azure --gpu A10 --region eastus "
        "--label team=search --replicas 2 --drain-seconds 60" in text
    )
    assert "/api/endpoints \\" in text
    assert '"replicas": 2, "drain_seconds": 60, "launch": {"model_name":' in text
    one = text_of(admin.post("/deploy/plan", {**FORM, "endpoint": "", "replicas": ""}))
    assert "$0.80/h for 1 replica" in one
    assert "gpulaunch deploy NAME" in one
    assert "$0.80/h for each replica" in text_of(admin.post("/deploy/plan", {**FORM, "replicas": "two"}))


def test_the_form_should_create_one_endpoint_however_often_it_is_sent(world: World, admin: Visitor) -> None:
    shown = planned(admin)
    assert [send(admin, shown).status for _ in range(2)] == [303, 303]
    assert len(world.call("GET", PATH).json["endpoints"]) == 1
    assert show(world)["generation"] == 1


@pytest.mark.parametrize("typed", [{"replicas": "3"}, {"machine": "gpu:A100-80GB"}, {"spot": "never"}])
def test_what_was_not_shown_should_be_shown_before_it_is_deployed(
    world: World, admin: Visitor, typed: dict[str, str]
) -> None:
    answer = send(admin, planned(admin), **typed)
    text = text_of(answer)
    assert (answer.status, "Nothing was deployed yet." in text) == (200, True)
    assert "it was $1.60/h for 2 replicas, and is now" in text
    assert world.call("GET", CHAT).status == 404
    assert send(admin, hidden_fields(answer), **typed).status == 303


def test_enter_should_plan_and_deploy_nothing(world: World, admin: Visitor) -> None:
    answer = admin.post("/deploy", {**FORM, **planned(admin), "do": "plan"})
    assert (answer.status, world.call("GET", CHAT).status) == (200, 404)
    assert 'value="chat"' in answer.body.decode()


@pytest.mark.parametrize(
    ("typed", "field", "message"),
    [
        ({"endpoint": ""}, "endpoint", "At most 40 lowercase letters"),
        ({"endpoint": "Chat"}, "endpoint", "At most 40 lowercase letters"),
        ({"replicas": "two"}, "replicas", "Must be a whole number."),
        ({"replicas": "101"}, "replicas", "Must be at most 100."),
        ({"drain_seconds": "-1"}, "drain_seconds", "Must be at least 0."),
        ({"max_hourly_cost": "-1"}, "max_hourly_cost", "Must be more than 0."),
        ({"labels": "=x"}, "labels", "At most 63 letters"),
        ({"region": "eastuss"}, "region", "eastuss"),
    ],
)
def test_what_is_wrong_should_stand_at_its_field_and_what_was_typed_stay(
    world: World, admin: Visitor, typed: dict[str, str], field: str, message: str
) -> None:
    answer = send(admin, planned(admin), **typed)
    body = answer.body.decode()
    assert answer.status == 422
    assert f'id="{field}-wrong-1"' in body
    assert message in text_of(answer)
    assert "Nothing was deployed." in text_of(answer)
    assert 'value="' + (typed.get("endpoint") or "") in body
    assert world.call("GET", PATH).json["endpoints"] == []


def test_a_name_that_is_taken_should_stand_at_its_field(world: World, admin: Visitor) -> None:
    create(world)
    answer = send(admin, planned(admin))
    assert (answer.status, 'id="endpoint-wrong-1"' in answer.body.decode()) == (409, True)
    assert show(world)["launch"]["labels"] == {}


def test_a_reader_should_see_the_plan_and_deploy_nothing(world: World) -> None:
    reader = Visitor(world).sign_in(READER)
    assert 'href="/deploy"' not in reader.get("/endpoints").body.decode()
    plan = reader.post("/deploy/plan", FORM)
    assert "Sign in with an admin token to deploy." in text_of(plan)
    assert send(reader, {}).status == 403
    assert world.call("GET", CHAT).status == 404


def test_a_form_of_an_earlier_session_should_be_shown_once_more(world: World, admin: Visitor) -> None:
    shown = planned(admin)
    admin.cookies.clear()
    admin.sign_in()
    answer = send(admin, shown, endpoint="mine")
    assert answer.status == 403
    assert "This form is from an earlier session. Nothing was deployed" in text_of(answer)
    assert 'value="mine"' in answer.body.decode()
    assert world.call("GET", PATH).json["endpoints"] == []
