"""The pages of endpoints."""

import html
import json
import re
from typing import Any

import pytest

from gpulaunch.models.routes import hash_of_key
from shared.domain.endpoint import EndpointRecord
from shared.web.endpoint import without_ids
from tests.functional.test_endpoints import CHAT, create, served, show
from tests.functional.web.visitor import Visitor, hidden_fields, text_of
from tests.functional.world import Answer, World, settings
from tests.twins.factories import make_record

PAGE = "/endpoints/chat"
GATEWAY = "https://gateway.test"


def change(visitor: Visitor, what: str, **typed: str) -> Answer:
    """Answer the question of a change as a browser without scripts does."""
    asked = visitor.get(f"{PAGE}/changes/{what}")
    assert asked.status == 200
    return visitor.post(f"{PAGE}/changes/{what}", {**hidden_fields(asked), **typed})


def test_endpoints_should_be_listed_with_their_status_in_words(world: World, reader: Visitor) -> None:
    assert "No endpoints yet" in text_of(reader.get("/endpoints"))
    create(world)
    assert "No replica serves yet." in text_of(reader.get("/endpoints"))
    world.run(120)
    text = text_of(reader.get("/endpoints"))
    assert "chat meta-llama/Llama-3.1-8B-Instruct ready All 2 replicas serve. 2 / 2 $1.60/h" in text


def test_an_unreadable_endpoint_should_be_listed_with_the_reason(world: World, reader: Visitor) -> None:
    served(world)
    revision, row = world.endpoints.rows["endpoint|chat"]
    world.endpoints.rows["endpoint|chat"] = (revision, row | {"doc": "{"})
    text = text_of(reader.get("/endpoints"))
    assert "chat cannot be read." in text
    assert "may cost money" in text


def test_the_page_should_show_address_samples_and_replicas(world: World, reader: Visitor) -> None:
    world.rebuild(settings=settings(GPULAUNCH_GATEWAY_URL=GATEWAY))
    members = served(world)["members"]
    page = reader.get(PAGE)
    body, text = html.unescape(page.body.decode()), text_of(page)
    assert f"curl -sS {GATEWAY}/v1/chat/completions" in body
    assert f"OpenAI(base_url='{GATEWAY}/v1')" in body
    assert f'new OpenAI({{ baseURL: "{GATEWAY}/v1" }})' in body
    assert body.count('"model": "chat"') + body.count("model='chat'") + body.count('model: "chat"') == 3
    assert "#1 serving 1 \N{MULTIPLICATION SIGN} A10 Standard_NV36ads_A10_v5 spot · eastus · $0.80/h" in text
    assert all(f'href="/instances/{one["instance_id"]}"' in body for one in members)


def test_without_a_gateway_the_page_should_say_what_is_missing(world: World, reader: Visitor) -> None:
    served(world)
    assert "GPULAUNCH_GATEWAY_URL" in text_of(reader.get(PAGE))


def test_instance_ids_should_appear_in_the_strip_of_replicas_only(world: World, admin: Visitor) -> None:
    members = served(world)["members"]
    world.delete(members[0]["instance_id"])
    world.call("PATCH", CHAT, {"launch": {"use_spot": False}})
    for _ in range(12):
        world.run(30)
        body = admin.get(PAGE).body.decode()
        outside = re.sub(r'<ol class="strip">.*?</ol>', "", body, flags=re.DOTALL)
        assert "inst-" not in outside
        assert "inst-" not in admin.get("/endpoints").body.decode()
    assert "An earlier replica" in text_of(admin.get(PAGE))


def test_ids_in_texts_should_become_places(world: World) -> None:
    served(world)
    record = stored(world)
    slot = record.slots[0]
    gone = make_record().instance_id
    assert without_ids(f"Replica {slot.instance_id} drains.", record) == f"Replica #{slot.number} drains."
    assert without_ids(f"{gone} ended, inst-1", record) == "an earlier replica ended, inst-1"


def stored(world: World) -> EndpointRecord:
    found = world.endpoints.load("chat")
    assert found is not None
    return found.record


class TestPolling:
    def test_an_unchanged_endpoint_should_be_a_304(self, world: World, admin: Visitor) -> None:
        served(world)
        world.run(61)
        for path in (f"{PAGE}/live", "/endpoints"):
            first = admin.part(path)
            assert first.status == 200
            assert "<html" not in first.body.decode()
            again = admin.part(path, first.headers["ETag"])
            assert (again.status, again.body) == (304, b"")
            world.call("POST", f"{CHAT}/keys", {"name": f"app-{len(path)}"})
            world.call("PATCH", CHAT, {"drain_seconds": 60 + len(path)})
        assert admin.part(f"{PAGE}/live", first.headers["ETag"]).status == 200

    @pytest.mark.parametrize(("change", "seconds"), [("", 10), ("pause", 10), ("rollout", 2)])
    def test_what_changes_should_be_polled_more_often(
        self, world: World, admin: Visitor, change: str, seconds: int
    ) -> None:
        served(world)
        if change:
            world.call("POST", f"{CHAT}/{change}")
            world.run(5)
        assert f'hx-trigger="every {seconds}s"' in admin.get(PAGE).body.decode()

    def test_a_signed_out_poll_should_leave_the_page(self, world: World) -> None:
        served(world)
        for path in (f"{PAGE}/live", "/endpoints"):
            assert Visitor(world).part(path).status == 401


class TestChanges:
    @pytest.mark.parametrize(
        ("what", "cost", "status"),
        [
            ("pause", "", "paused"),
            ("resume", "2 replicas on the first offer: $1.60 per hour, $0.80 each.", "ready"),
            ("rollout", "1 replica on the first offer: $0.80 per hour.", "rolling"),
            ("delete", "", "deleting"),
        ],
    )
    def test_a_change_should_be_asked_about_with_what_it_costs(
        self, world: World, admin: Visitor, what: str, cost: str, status: str
    ) -> None:
        served(world)
        before = show(world)
        asked = admin.get(f"{PAGE}/changes/{what}")
        assert cost in text_of(asked)
        assert ("per hour" in text_of(asked)) == bool(cost)
        assert show(world) == before
        assert change(admin, what).headers["Location"] == PAGE
        world.run(2)
        assert show(world)["status"] == status
        assert admin.get(PAGE).status == 200

    def test_a_number_of_replicas_should_be_asked_about_before_it_is_started(
        self, world: World, admin: Visitor
    ) -> None:
        served(world)
        asked = change(admin, "scale", replicas="5")
        assert "3 more are started" in text_of(asked)
        assert "3 replicas on the first offer: $2.40 per hour, $0.80 each." in text_of(asked)
        assert show(world)["replicas"] == 2
        assert admin.post(f"{PAGE}/changes/scale", hidden_fields(asked)).status == 303
        assert show(world)["replicas"] == 5

    def test_what_was_agreed_to_should_be_what_is_started(self, world: World, admin: Visitor) -> None:
        served(world)
        asked = hidden_fields(change(admin, "scale", replicas="3"))
        assert admin.post(f"{PAGE}/changes/scale", {**asked, "replicas": "50"}).status == 200
        assert show(world)["replicas"] == 2

    @pytest.mark.parametrize("typed", ["", "many", "-1", "101", "1.5", "1e99", "<script>"])
    def test_a_wrong_number_should_be_refused_at_the_field_and_kept(
        self, world: World, admin: Visitor, typed: str
    ) -> None:
        served(world)
        refused = change(admin, "scale", replicas=typed)
        body = refused.body.decode()
        assert refused.status == 422
        assert f'name="replicas" required inputmode="numeric" value="{html.escape(typed)}"' in body
        assert 'aria-invalid="true"' in body
        assert 'id="replicas-wrong"' in body
        assert "<script>" not in body

    @pytest.mark.parametrize("what", ["pause", "rollout", "delete", "scale"])
    def test_a_change_by_others_meanwhile_should_be_shown_first(self, world: World, admin: Visitor, what: str) -> None:
        served(world)
        asked = hidden_fields(admin.get(f"{PAGE}/changes/{what}"))
        world.call("PATCH", CHAT, {"replicas": 3})
        answer = admin.post(f"{PAGE}/changes/{what}", {**asked, "replicas": "4", "agreed": "4"})
        assert answer.status == 412
        assert "Nothing was changed." in text_of(answer)
        assert "has been changed since" in text_of(answer)
        assert (show(world)["replicas"], show(world)["paused"], show(world)["generation"]) == (3, False, 1)

    @pytest.mark.parametrize("what", ["explode", "Pause", "scale2"])
    def test_there_should_be_no_other_changes(self, world: World, admin: Visitor, what: str) -> None:
        served(world)
        assert admin.get(f"{PAGE}/changes/{what}").status == 404

    def test_a_question_of_an_earlier_session_should_change_nothing(self, world: World, admin: Visitor) -> None:
        served(world)
        old = hidden_fields(admin.get(f"{PAGE}/changes/scale"))
        admin.cookies.clear()
        admin.sign_in()
        again = admin.post(f"{PAGE}/changes/scale", {**old, "replicas": "7", "agreed": "7"})
        assert again.status == 403
        assert 'value="7"' in again.body.decode()
        assert show(world)["replicas"] == 2


class TestTraffic:
    def report(self, world: World, gateway_id: str, **given: Any) -> None:
        endpoint_id = json.loads(world.endpoints.rows["endpoint|chat"][1]["doc"])["endpoint_id"]
        held = [
            {"endpoint_id": endpoint_id, "version": 1, "held": 3},
            {"endpoint_id": "other", "version": 1, "held": 50},
        ]
        document = {"gateway_id": gateway_id, "at": world.clock.now().isoformat(), "endpoints": held, **given}
        row = {"RowKey": f"gateway|{gateway_id}", "doc": json.dumps(document)}
        world.endpoints.rows[row["RowKey"]] = ("", row)

    def test_requests_of_all_gateways_should_be_shown_and_none_of_other_endpoints(
        self, world: World, admin: Visitor
    ) -> None:
        world.rebuild(settings=settings(GPULAUNCH_GATEWAY_URL=GATEWAY))
        ids = [one["instance_id"] for one in served(world)["members"]]
        self.report(world, "a", in_flight={ids[0]: 1200, "inst-other": 7})
        self.report(world, "b", in_flight={ids[1]: 4})
        text = text_of(admin.get(PAGE))
        assert "Requests in flight 1,204 Requests waiting 6" in text
        assert "No gateway has reported" not in text

    def test_what_a_silent_gateway_reported_last_should_not_be_shown(self, world: World, admin: Visitor) -> None:
        world.rebuild(settings=settings(GPULAUNCH_GATEWAY_URL=GATEWAY))
        served(world)
        self.report(world, "a")
        world.run(31)
        text = text_of(admin.get(PAGE))
        assert "Requests in flight" not in text
        assert "No gateway has reported for half a minute" in text

    def test_without_an_address_no_gateway_should_be_missed(self, world: World, admin: Visitor) -> None:
        served(world)
        assert "No gateway has reported" not in text_of(admin.get(PAGE))


class TestKeys:
    def test_a_key_should_be_shown_once(self, world: World, admin: Visitor) -> None:
        world.rebuild(settings=settings(GPULAUNCH_GATEWAY_URL=GATEWAY))
        served(world)
        limits = {"requests_per_minute": "60", "tokens_per_minute": "", "tokens_per_month": "5000000"}
        limits |= {"requests_at_once": "4"}
        made = admin.send(PAGE, f"{PAGE}/keys", {"name": "search", **limits})
        assert made.status == 201
        [key] = re.findall(r"gl-[\w-]{43}", made.body.decode())
        assert f"export OPENAI_BASE_URL='{GATEWAY}/v1'" in html.unescape(made.body.decode())
        assert made.headers["Cache-Control"] == "no-store"
        assert hash_of_key(key) in str(world.endpoints.rows["endpoint|chat"][1]["doc"])
        page = admin.get(PAGE)
        assert key not in page.body.decode()
        assert hash_of_key(key) not in page.body.decode()
        assert "search Revoke" in text_of(page)
        assert "This month 0 of 5,000,000 tokens in 0 requests · 4 at once · 60 requests per minute" in text_of(page)

    @pytest.mark.parametrize(
        ("typed", "field"),
        [
            ({"name": "No Good"}, "name"),
            ({"name": ""}, "name"),
            ({"name": "search"}, "name"),
            ({"name": "other", "requests_per_minute": "lots"}, "requests_per_minute"),
            ({"name": "other", "requests_per_minute": "0"}, "requests_per_minute"),
            ({"name": "other", "tokens_per_minute": "1.5"}, "tokens_per_minute"),
            ({"name": "other", "tokens_per_month": "-1"}, "tokens_per_month"),
        ],
    )
    def test_what_is_wrong_should_stand_at_its_field_and_what_was_typed_stay(
        self, world: World, admin: Visitor, typed: dict[str, str], field: str
    ) -> None:
        served(world)
        world.call("POST", f"{CHAT}/keys", {"name": "search"})
        refused = admin.send(PAGE, f"{PAGE}/keys", typed)
        body = refused.body.decode()
        assert refused.status in (409, 422)
        assert f'id="key-{field}-wrong"' in body
        assert all(f'value="{value}"' in body for value in typed.values())
        assert len(world.call("GET", f"{CHAT}/keys").json["keys"]) == 1

    def test_a_key_should_be_revoked_when_that_is_agreed_to(self, world: World, admin: Visitor) -> None:
        served(world)
        key_id = world.call("POST", f"{CHAT}/keys", {"name": "search"}).json["key_id"]
        where = f"{PAGE}/keys/{key_id}/revoke"
        assert "search can no longer call chat" in text_of(admin.get(where))
        assert len(world.call("GET", f"{CHAT}/keys").json["keys"]) == 1
        assert admin.send(where, where, {}).headers["Location"] == f"{PAGE}#keys"
        assert world.call("GET", f"{CHAT}/keys").json["keys"] == []
        assert admin.get(where).status == 404

    def test_a_form_of_an_earlier_session_should_make_no_key_and_keep_what_was_typed(
        self, world: World, admin: Visitor
    ) -> None:
        served(world)
        old = hidden_fields(admin.get(PAGE))
        admin.cookies.clear()
        admin.sign_in()
        again = admin.post(f"{PAGE}/keys", {**old, "name": "search"})
        assert (again.status, 'value="search"' in again.body.decode()) == (403, True)
        assert world.call("GET", f"{CHAT}/keys").json["keys"] == []


def test_a_roll_out_that_stopped_should_say_why(world: World, admin: Visitor) -> None:
    served(world)
    world.call("PATCH", CHAT, {"launch": {"labels": {"simulate.setup-failure": "9"}}})
    world.run(900)
    text = text_of(admin.get(PAGE))
    assert show(world)["status"] == "stopped", show(world)
    assert "Generation 2 cannot start. 2 of 2 replicas serve." in text
    assert "2. meta-llama/Llama-3.1-8B-Instruct stopped 0 serving" in text
    assert "1. meta-llama/Llama-3.1-8B-Instruct proven 2 serving" in text
    assert 'changes/resume"' in admin.get(PAGE).body.decode()


def test_a_reader_should_see_the_page_and_change_nothing(world: World, reader: Visitor) -> None:
    served(world)
    key_id = world.call("POST", f"{CHAT}/keys", {"name": "search"}).json["key_id"]
    body = reader.get(PAGE).body.decode()
    assert "/changes/" not in body
    assert "/revoke" not in body
    assert "<button>" not in body
    mark = hidden_fields(reader.get(PAGE))
    for path in (f"{PAGE}/changes/delete", f"{PAGE}/changes/scale", f"{PAGE}/keys/{key_id}/revoke"):
        assert reader.get(path).status == 403
        assert reader.post(path, {**mark, "replicas": "9", "agreed": "9"}).status == 403
    assert reader.post(f"{PAGE}/keys", {**mark, "name": "mine"}).status == 403
    assert (show(world)["status"], show(world)["replicas"]) == ("ready", 2)


@pytest.mark.parametrize(
    "path", ["/endpoints/none", "/endpoints/No", "/endpoints/none/live", "/endpoints/none/changes/pause"]
)
def test_an_endpoint_that_does_not_exist_should_be_a_404(admin: Visitor, path: str) -> None:
    answer = admin.get(path)
    assert (answer.status, "There is no endpoint" in text_of(answer)) == (404, True)


def test_text_from_nodes_and_users_should_be_harmless(world: World, admin: Visitor) -> None:
    bad = "<script>alert(1)</script>"
    create(world)
    found = world.endpoints.load("chat")
    assert found is not None
    noted = found.record.noted(world.clock.now(), bad).model_copy(update={"failure": bad})
    world.endpoints.commit(found, noted)
    for path in (PAGE, "/endpoints", f"{PAGE}/changes/scale"):
        assert "<script>alert" not in admin.get(path).body.decode()
    assert html.escape(bad) in admin.get(PAGE).body.decode()


def test_an_instance_should_lead_to_its_endpoint(world: World, reader: Visitor) -> None:
    member = served(world)["members"][0]["instance_id"]
    assert '<a href="/endpoints/chat">chat</a>' in reader.get(f"/instances/{member}").body.decode()
