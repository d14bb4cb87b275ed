"""What the launch form shows is what it launches."""

import html
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import Mock

import pytest

from gpulaunch.models.requests import LaunchRequest, ProviderName
from shared.control.quota_check import Preflight
from shared.domain.catalog import Catalog, Listing
from shared.domain.cloud import CloudsByProvider
from shared.errors import StoreUnavailableError
from shared.web.launch_form import _FIELDS, body_of, fields, fields_of  # pyright: ignore[reportPrivateUsage]
from tests.functional.web.test_pages import FORM, launch
from tests.functional.web.visitor import Visitor, hidden_fields, text_of
from tests.functional.world import Answer, World, settings

BIG = "meta-llama/Llama-3.3-70B-Instruct"
TEMPLATE = "{% for message in messages %}\n{{ message.content }}\n{% endfor %}"


def press_launch(visitor: Visitor, shown: dict[str, str], **typed: str) -> Answer:
    """Press Launch over a plan that was shown, with what was typed since."""
    return visitor.post("/launch", {**FORM, **shown, "do": "launch", **typed})


def launched(world: World) -> list[Any]:
    return world.call("GET", "/api/instances").json["instances"]


@dataclass
class Dearer:
    """A catalog at twice the prices."""

    before: Catalog

    @property
    def clouds(self) -> CloudsByProvider:
        return self.before.clouds

    def listing(self, provider: ProviderName) -> Listing:
        found = self.before.listing(provider)
        offers = [one.model_copy(update={"price_per_hour": one.price_per_hour * 2}) for one in found.offers]
        return replace(found, offers=offers)


@pytest.fixture
def shown(admin: Visitor) -> dict[str, str]:
    return {**hidden_fields(admin.get("/launch")), **hidden_fields(admin.post("/launch/plan", FORM))}


def test_what_was_shown_should_be_launched(world: World, admin: Visitor, shown: dict[str, str]) -> None:
    assert press_launch(admin, shown).status == 303
    assert len(launched(world)) == 1


@pytest.mark.parametrize(
    "typed",
    [
        {"model_name": BIG},
        {"machine": "gpu:A100-80GB"},
        {"region": "westus3"},
        {"spot": "never"},
        {"max_lifetime_minutes": "1440"},
        {"budget_usd": "3"},
        {"idle_minutes": "5"},
        {"max_hourly_cost": "1"},
        {"disk_size": "1000"},
        {"vllm_args": "--max-model-len=4096"},
        {"chat_template": TEMPLATE},
        {"force": "yes"},
        {"model_source": "hf://other/model"},
    ],
)
def test_what_was_typed_since_should_be_shown_and_asked_first(
    world: World, admin: Visitor, shown: dict[str, str], typed: dict[str, str]
) -> None:
    asked = press_launch(admin, shown, **typed)
    assert asked.status == 412
    assert "Nothing was launched yet." in text_of(asked)
    assert launched(world) == []
    assert press_launch(admin, hidden_fields(asked), **typed).status == 303
    request = launched(world)[0]["request"]
    assert {name: request[name] for name in body_of(fields({**FORM, **typed}))} == body_of(fields({**FORM, **typed}))


@pytest.mark.parametrize("typed", [{"name": "mine"}, {"labels": "team=search"}])
def test_names_and_labels_should_not_be_asked_about(
    world: World, admin: Visitor, shown: dict[str, str], typed: dict[str, str]
) -> None:
    assert press_launch(admin, shown, **typed).status == 303
    assert len(launched(world)) == 1


def test_a_price_that_changed_since_should_be_shown_and_asked(
    world: World, admin: Visitor, shown: dict[str, str]
) -> None:
    world.rebuild(catalog=Dearer(world.app.catalog))
    asked = press_launch(admin, shown)
    assert asked.status == 412
    assert "it was $0.80/h, at most $38.40, and is now $1.60/h, at most $76.80" in text_of(asked)
    assert launched(world) == []
    assert press_launch(admin, hidden_fields(asked)).status == 303
    assert launched(world)[0]["estimated_hourly_usd"] == 1.6


def test_a_form_without_a_plan_should_be_asked_about(world: World, admin: Visitor, shown: dict[str, str]) -> None:
    asked = press_launch(admin, {**shown, "shown": ""})
    assert (asked.status, launched(world)) == (412, [])


def test_enter_should_plan_and_never_rent(world: World, admin: Visitor, shown: dict[str, str]) -> None:
    form = admin.get("/launch").body.decode().partition('<form method="post" action="/launch"')[2]
    first = form[form.index("<button") :].partition(">")[0]
    assert 'name="do" value="plan"' in first
    for do in ({"do": "plan"}, {}):
        answer = admin.post("/launch", {**FORM, **shown, "model_name": BIG, **do})
        assert answer.status == 200
        assert "may not fit" in text_of(answer)
    assert launched(world) == []


def test_the_plan_should_follow_typing(admin: Visitor) -> None:
    page = admin.get("/launch").body.decode()
    assert 'hx-post="/launch/plan" hx-trigger="change, input delay:400ms"' in page


def test_long_arguments_should_be_planned(admin: Visitor) -> None:
    args = "\n".join(["--served-model-name", *(f"name-{number}-" + "x" * 400 for number in range(40))])
    assert "$0.80/h" in text_of(admin.post("/launch/plan", {**FORM, "vllm_args": args}))


def test_a_plan_should_be_for_visitors_of_this_site(world: World, admin: Visitor, reader: Visitor) -> None:
    assert Visitor(world).post("/launch/plan", FORM).status == 303
    plan = text_of(reader.post("/launch/plan", FORM))
    assert "$0.80/h" in plan
    assert "read-only" in plan


def test_every_field_of_the_form_should_survive_launch_another(world: World, admin: Visitor) -> None:
    given = {
        "chat_template": TEMPLATE,
        "force": "yes",
        "disk_size": "300",
        "name": "",
        "labels": "team=search",
        "vllm_args": "--max-model-len=4096",
    }
    answer = launch(admin, **given)
    instance_id = answer.headers["Location"].removeprefix("/instances/")
    request = world.show(instance_id)["request"]
    assert (request["chat_template"], request["force"], request["disk_size"]) == (TEMPLATE, True, 300)
    again = fields_of(LaunchRequest.model_validate(request))
    assert {name: again[name] for name in given} == given
    page = admin.get(f"/launch?like={instance_id}").body.decode()
    assert TEMPLATE in html.unescape(page)
    assert 'name="force" value="yes" checked' in page


def test_a_launch_without_an_answer_of_storage_should_keep_the_form_and_launch_once(
    world: World, admin: Visitor, shown: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Storage takes the launch and fails to say so."""
    create = world.store.create

    def unheard(*given: Any, **more: Any) -> None:
        create(*given, **more)
        raise StoreUnavailableError("planted")

    with monkeypatch.context() as silent:
        silent.setattr(world.store, "create", unheard)
        again = press_launch(admin, {**shown, "labels": "team=typed"})
    assert again.status == 503
    assert "No answer yet whether it was launched" in text_of(again)
    assert "team=typed" in again.body.decode()
    assert hidden_fields(again)["key"] == shown["key"]
    assert press_launch(admin, {**hidden_fields(again), "labels": "team=typed"}).status == 303
    assert len(launched(world)) == 1


def test_a_form_should_keep_its_key_and_launch_anew_only_what_is_different(
    world: World, admin: Visitor, shown: dict[str, str]
) -> None:
    assert press_launch(admin, shown).status == 303
    assert press_launch(admin, shown).status == 303
    assert len(launched(world)) == 1
    other = press_launch(admin, {**shown, "name": "other"})
    assert other.status == 303
    assert len(launched(world)) == 2


def test_a_template_typed_in_a_browser_should_have_no_carriage_returns(world: World, admin: Visitor) -> None:
    answer = launch(admin, chat_template=TEMPLATE.replace("\n", "\r\n"))
    instance_id = answer.headers["Location"].removeprefix("/instances/")
    assert world.show(instance_id)["request"]["chat_template"] == TEMPLATE


def test_every_field_of_a_request_should_have_a_place_in_the_form() -> None:
    elsewhere = {"instance_type", "gpu", "use_spot", "spot_fallback", "job"}
    assert set(LaunchRequest.model_fields) - elsewhere <= set(_FIELDS)


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ({"budget_usd": "0"}, "Must be more than 0."),
        ({"max_lifetime_minutes": "soon"}, "Must be a whole number."),
        ({"disk_size": "1"}, "Must be at least 64."),
        ({"idle_minutes": "99999999"}, "Must be at most 43200."),
        ({"max_hourly_cost": "cheap"}, "Must be a number."),
    ],
)
def test_what_is_wrong_with_a_number_should_be_in_plain_words(admin: Visitor, typed: dict[str, str], says: str) -> None:
    answer = launch(admin, **typed)
    assert answer.status == 422
    assert says in text_of(answer)
    assert "Input should" not in text_of(answer)


def test_quotas_should_be_in_a_plan_that_is_shown_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(settings())
    visitor = Visitor(world).sign_in()
    shown = hidden_fields(visitor.post("/launch/plan", FORM))
    quota, spot = world.app.preparation.quota, "azure/eastus/Standard_NV36ads_A10_v5x1/spot"
    preflight = Preflight({spot: "No quota."}, [f"{spot} is left out"])
    monkeypatch.setattr(type(quota), "preflight", Mock(return_value=preflight))
    asked = press_launch(visitor, shown)
    assert asked.status == 412
    assert "it was $0.80/h, at most $38.40, and is now $3.20/h, at most $38.40" in text_of(asked)
    assert press_launch(visitor, hidden_fields(asked)).status == 303
