"""Pages and errors call things by the names that people see."""

import re
from urllib.parse import quote

import pytest

from shared.web.launch_form import _FIELDS, LABELS  # pyright: ignore[reportPrivateUsage]
from tests.functional.web.test_pages import FORM, launch
from tests.functional.web.visitor import Visitor, text_of
from tests.functional.world import World, settings


@pytest.mark.parametrize(
    ("typed", "called"),
    [
        ({"max_lifetime_minutes": "soon"}, "Maximum lifetime"),
        ({"max_hourly_cost": "cheap"}, "Maximum price"),
        ({"budget_usd": "x"}, "Budget"),
        ({"disk_size": "1"}, "Disk"),
        ({"vllm_args": "--api-key=x"}, "vLLM arguments"),
    ],
)
def test_errors_should_call_a_field_as_the_form_does(admin: Visitor, typed: dict[str, str], called: str) -> None:
    (field,) = typed
    page = launch(admin, **typed)
    assert f'<a href="#{field}">{called}</a>' in page.body.decode()
    label = re.search(rf'<label for="{field}">([^<]*)', page.body.decode())
    assert label is not None
    assert label[1].strip() == called
    assert f"{called}: " in text_of(admin.post("/launch/plan", {**FORM, **typed}))


def test_every_field_of_the_form_should_have_a_name_for_errors() -> None:
    assert set(LABELS) == set(_FIELDS)


@pytest.mark.parametrize(
    ("field", "value", "most"),
    [
        ("model_name", "x" * 97, "96"),
        ("name", "x" * 41, "40"),
        ("region", "x" * 129, "128"),
        ("instance_type", "x" * 65, "64"),
        ("gpu", "x" * 41, "40"),
        ("model_source", "s3://" + "x" * 1100, "1032"),
        ("labels", {"x" * 64: "y"}, "63"),
    ],
)
def test_what_is_too_long_should_be_answered_with_how_long_it_may_be(
    world: World, field: str, value: object, most: str
) -> None:
    asked: dict[str, object] = {"model_name": "org/model", "instance_type": None, "gpu": "A10", field: value}
    if field == "instance_type":
        del asked["gpu"]
    body = {name: given for name, given in asked.items() if given is not None}
    errors = world.call("POST", "/api/instances/launch", body).json["errors"]
    assert any(f"t most {most} " in one["message"] for one in errors if one["field"].split(".")[0] == field), errors


def test_a_sign_in_should_speak_of_make_run_on_a_developers_machine_only() -> None:
    assert "make run" not in text_of(Visitor(World()).get("/signin"))
    local = World(settings(AZURE_FUNCTIONS_ENVIRONMENT="Development"))
    assert "make run" in text_of(Visitor(local).get("/signin"))


def test_offers_should_be_called_more_only_after_the_first_was_tried(world: World, admin: Visitor) -> None:
    instance_id = world.launch()
    page = f"/instances/{instance_id}"
    assert re.search(r"\d offers planned", text_of(admin.get(page)))
    assert "more offer" not in text_of(admin.get(page))
    world.run(10)
    assert re.search(r"\d more offers? planned", text_of(admin.get(page)))


@pytest.mark.parametrize("label", ["==", "=", "=x"])
def test_a_label_without_a_key_should_be_one_that_no_instance_has(world: World, admin: Visitor, label: str) -> None:
    world.launch(labels={"team": "x"})
    quoted = quote(label, safe="")
    assert world.call("GET", f"/api/instances?label={quoted}").json["instances"] == []
    assert "No instances match" in text_of(admin.get(f"/instances?label={quoted}"))
    assert world.call("GET", "/api/instances?label=").json["instances"] != []
